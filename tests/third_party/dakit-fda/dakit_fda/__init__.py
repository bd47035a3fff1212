"""Fourier domain adaptation for dakit: a translator without training, and the stage that fits it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from dakit import hookimpl


@hookimpl
def dakit_translators() -> Mapping[str, Callable[..., Any]]:
    """The translator."""
    from dakit_fda.translator import FDA

    return {"fda": FDA}


@hookimpl
def dakit_stages() -> Mapping[str, Callable[..., Any]]:
    """The stage."""
    from dakit_fda.stage import FitFDA

    return {"fit_fda": FitFDA}
