"""The questions dakit asks a plugin: one hook per kind, each answered with ``{name: factory}``, and one for commands.

A factory is a class or a function. Its signature is its schema: a recipe may set exactly the keyword
parameters that it names. Arguments that dakit itself passes come first and are listed in each docstring.

Stable are the names of ``dakit``, these hooks, ``dakit.interfaces`` and ``dakit.testing``. A plugin's module may state
``dakit_interface = 1``, the version it was written for; a dakit with another one leaves it out and says so. A
module without it is taken to fit. New kinds, and new optional methods, leave the version as it is. A hook of a
newer dakit, marked ``@hookimpl(optionalhook=True)``, is left unasked by an older one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pluggy

hookspec = pluggy.HookspecMarker("dakit")
hookimpl = pluggy.HookimplMarker("dakit")

INTERFACE_VERSION = 1
"""Raised when a plugin written for the old contract would no longer work."""

Factories = Mapping[str, Callable[..., Any]]


@hookspec
def dakit_datasets() -> Factories:  # type: ignore[empty-body]
    """Datasets: ``factory(size, classes, *, ...) -> ImageSet``."""


@hookspec
def dakit_translators() -> Factories:  # type: ignore[empty-body]
    """Image translators: ``factory(*, ...) -> Translator``."""


@hookspec
def dakit_discriminators() -> Factories:  # type: ignore[empty-body]
    """Discriminators of real and generated images: ``factory(*, ...) -> Discriminator``."""


@hookspec
def dakit_classifiers() -> Factories:  # type: ignore[empty-body]
    """Classifiers with maps: ``factory(classes, *, ...) -> Classifier``; ``classes`` is their number."""


@hookspec
def dakit_transfer_losses() -> Factories:  # type: ignore[empty-body]
    """Losses between two predictions: ``factory(*, ...) -> TransferLoss``."""


@hookspec
def dakit_selectors() -> Factories:  # type: ignore[empty-body]
    """Selectors of pool images for anchors: ``factory(*, ...) -> Selector``."""


@hookspec
def dakit_estimators() -> Factories:  # type: ignore[empty-body]
    """What is fitted on features of a frozen network: ``factory(*, ...) -> Estimator``."""


@hookspec
def dakit_observers() -> Factories:  # type: ignore[empty-body]
    """Observers of a run: ``factory(folder, *, ...) -> Observer``; ``folder`` is where its results go."""


@hookspec
def dakit_stages() -> Factories:  # type: ignore[empty-body]
    """Stages, the verbs of a recipe: ``factory(*, ...) -> Stage``."""


@hookspec
def dakit_preparations() -> Factories:  # type: ignore[empty-body]
    """What is done to images before a recipe: commands of ``dakit prepare``, whose signatures typer reads."""
