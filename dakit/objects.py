"""Components that the caller gives as objects, such as a class in a notebook's cell: what they are, and their code.

They are entries of a registry under a distribution of their own, :data:`HERE`, and recipes name them like any other.
"""

from __future__ import annotations

import inspect
import re
import secrets
from collections.abc import Callable, Mapping
from typing import Any

from dakit import processes
from dakit.codes import Untold, code_of
from dakit.errors import DakitError, did_you_mean
from dakit.interfaces import Observer
from dakit.plugins import Plugin
from dakit.registry import KINDS, Entry, Registry
from dakit.signatures import shown, union_members

HERE = "here"
"""The distribution of what the caller gives: ``use: mine`` or ``use: here/mine``."""

_EVENTS = frozenset(name for name in vars(Observer) if not name.startswith("_"))


def entries_of(components: Mapping[str, Any]) -> tuple[list[Entry], list[str]]:
    """The registry's entries of components that were given as objects.

    Args:
        components: name -> class or function. ``"kind/name"`` says of which kind it is; with a name alone the kind is
            that which its shape allows, where that is one alone (see :func:`kinds_of`).

    Returns:
        The entries, with the digest of their code; and of those whose code cannot be told a warning each: they get a
        code that nothing else has, so that no result of theirs is reused later.

    Raises:
        DakitError: one is no class or function, or its kind is not clear; all of them are told.
    """
    entries: list[Entry] = []
    problems: list[str] = []
    warnings: list[str] = []
    for given, factory in components.items():
        try:
            kind, name = _named(given, factory)
        except DakitError as error:
            problems.append(f"components: {given!r}: {error}")
            continue
        try:
            code = "" if kind == "observer" else code_of(factory)  # on an observer no result depends
        except Untold as error:
            if processes.count() > 1:  # each would take it for another one
                problems.append(f"components: {given!r}: cannot be used by several processes: {error}")
                continue
            code = secrets.token_hex(32)
            warnings.append(
                f'the {kind} "{name}", given as an object, is taken for another one each time the recipe is loaded, '
                f"and no result of it is reused: {error}"
            )
        entries.append(Entry(kind, name, HERE, factory, code))
    if problems:
        raise DakitError("\n".join(problems))
    return entries, warnings


def with_components(registry: Registry, components: Mapping[str, Any]) -> Registry:
    """A registry that has the caller's components as well."""
    entries, doubts = entries_of(components)
    return Registry(registry.plugins, (*registry.given, *entries), (*registry.doubts, *doubts))


def as_plugin(entry: Entry) -> Plugin:
    """How a record of a run names a component that was given as an object."""
    return Plugin(entry.name, f"{HERE}/{entry.name}", "", (), "active", code=entry.code)


def refuse_changed(registry: Registry) -> None:
    """Refuse to run what is another now than when it was given: its results would be taken for those of what it was.

    Raises:
        DakitError: a component, or a global that it reads, was changed since.
    """
    for entry in registry.given:
        try:
            now = code_of(entry.factory) if entry.code else ""
        except Untold:  # no result of it is reused
            continue
        if now != entry.code:
            raise DakitError(
                f'the {entry.kind} "{entry.name}", or something that it reads, is another now than when the recipe was '
                "loaded: load the recipe again"
            )


def _named(given: Any, factory: Any) -> tuple[str, str]:
    """Kind and name of one component."""
    if not isinstance(given, str):
        raise DakitError("expected a name, such as 'mine' or 'transfer_loss/mine'")
    kind, slash, name = given.rpartition("/")
    if not re.fullmatch(r"[A-Za-z_][\w-]*", name):
        raise DakitError("a name is letters, digits, _ and -; before it may stand a kind and a /")
    if slash and kind not in KINDS:
        raise DakitError(f'there is no kind "{kind}"{did_you_mean(kind, KINDS)}')
    if not (inspect.isclass(factory) or inspect.isroutine(factory)):
        what = f"{type(factory).__name__}(...)"
        raise DakitError(f"expected a class or function, not {what}: give the class, and its parameters in the recipe")
    if slash:
        return kind, name
    kinds = kinds_of(factory)
    if len(kinds) != 1:
        choices = " or ".join(f'"{kind}/{name}"' for kind in kinds or KINDS)
        why = f"it has the shape of a {' and of a '.join(kinds)}" if kinds else "its shape is that of no kind"
        raise DakitError(f"{why}: say which it is, {choices}")
    return kinds[0], name


def kinds_of(factory: Callable[..., Any]) -> list[str]:
    """The kinds that the shape of a class or function allows.

    A class with ``run(ctx, ...)`` is a stage, with an event of :class:`~dakit.interfaces.Observer` an observer, with
    ``__len__`` and ``__getitem__`` a dataset. Of those that are called (``__call__``, of a module ``forward``) one
    with ``classifier`` and ``device`` by keyword is a selector, one of two arguments a transfer loss, one of one
    argument with ``fit(known, unlabelled)`` an estimator, and one of one argument that returns a ``Prediction`` a
    classifier; any other network could be a translator or a discriminator. A function is what it says it returns, or
    a dataset where its first parameters are ``size`` and ``classes``.
    """
    if not inspect.isclass(factory):
        return _kinds_of_function(factory)
    kinds = []
    if "ctx" in _parameters(getattr(factory, "run", None)):
        kinds.append("stage")
    if any(callable(getattr(factory, event, None)) for event in _EVENTS):
        kinds.append("observer")
    if hasattr(factory, "__len__") and hasattr(factory, "__getitem__") and not hasattr(factory, "forward"):
        kinds.append("dataset")
    call = getattr(factory, "forward", None) or vars(factory).get("__call__") or _call(factory)
    parameters = _parameters(call)
    positional = [p for p in list(parameters.values())[1:] if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    if {"classifier", "device"} <= parameters.keys():
        kinds.append("selector")
    elif len(positional) == 2:
        kinds.append("transfer_loss")
    elif len(positional) == 1 and {"known", "unlabelled"} <= _parameters(getattr(factory, "fit", None)).keys():
        kinds.append("estimator")
    elif len(positional) == 1:
        kinds += ["classifier"] if _returned(call) == {"Prediction"} else ["translator", "discriminator"]
    return kinds


def _call(kind: type) -> Any:
    """``__call__`` of a class or its bases; that of its metaclass, which makes objects, is none."""
    return next((vars(base)["__call__"] for base in kind.__mro__ if "__call__" in vars(base)), None)


def _kinds_of_function(factory: Callable[..., Any]) -> list[str]:
    parameters = list(_parameters(factory))
    returned = _returned(factory)
    interfaces = {about.interface.__name__: kind for kind, about in KINDS.items()}
    named = [interfaces[name] for name in returned if name in interfaces]
    return named or (["dataset"] if parameters[:2] == ["size", "classes"] else [])


def _parameters(function: Any) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(function).parameters
    except (TypeError, ValueError):
        return {}


def _returned(function: Any) -> set[str]:
    """The names of the types that a function says it returns."""
    annotation = getattr(function, "__annotations__", {}).get("return")
    if annotation is None:
        return set()
    if isinstance(annotation, str):
        return {name.strip().rpartition(".")[2].strip("'\"") for name in annotation.split("|")}
    return {shown([member]).rpartition(".")[2] for member in union_members(annotation)} - {"nothing"}
