"""The contract of observers."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from dakit.interfaces import Observer, Spec
from dakit.testing.contract import FIRST, Check, wanted

EVENTS = tuple(name for name in vars(Observer) if not name.startswith("_"))


def hears_what_dakit_tells(spec: Spec[Any]) -> None:
    """Its methods are named after events; one that is misspelt would never be called."""
    with tempfile.TemporaryDirectory() as folder:
        observer = spec.build(Path(folder))
    heard = [name for name in EVENTS if callable(getattr(observer, name, None))]
    wanted(heard, f"it has none of the methods {', '.join(EVENTS)}")


def writes_nothing_before_the_run(spec: Spec[Any]) -> None:
    """A recipe is only checked, or refused, while observers are already built: folders are made when the run starts."""
    with tempfile.TemporaryDirectory() as folder:
        spec.build(Path(folder))
        wanted(not list(Path(folder).iterdir()), "it wrote a file when it was made")


CHECKS: tuple[Check, ...] = (*FIRST, hears_what_dakit_tells, writes_nothing_before_the_run)
