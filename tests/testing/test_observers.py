from __future__ import annotations

from pathlib import Path
from typing import Any

from dakit.interfaces import Spec
from dakit.registry import Registry
from dakit.testing import check_observer
from dakit.testing.contract import run
from dakit.testing.observers import CHECKS


class Counts:
    """Counts steps."""

    def __init__(self, folder: Path, *, early: bool = False) -> None:
        if early:
            (folder / "log").touch()

    def step(self, done: int, losses: Any) -> None: ...


class Misspelt:
    """Counts nothing."""

    def __init__(self, folder: Path) -> None: ...

    def stpe(self, done: int, losses: Any) -> None: ...


def failed(factory: Any, **params: Any) -> set[str]:
    return {result.check for result in run(CHECKS, Spec("observer", "x", params, factory)) if result.problem}


def test_every_registered_observer_keeps_the_contract(registry: Registry) -> None:
    for entry in registry.entries("observer"):
        check_observer(entry.factory, **({"name": "tensorboard"} if entry.name == "tracker" else {}))


def test_broken_observers_fail_their_check() -> None:
    assert failed(Counts) == set()
    assert failed(Misspelt) == {"hears_what_dakit_tells", "spells_optional_parts_right"}
    assert failed(Counts, early=True) == {"is_described", "writes_nothing_before_the_run"}
