"""Tells observers what a run does; none of them can harm it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from dakit.errors import DakitError
from dakit.interfaces import JobInfo, Observer, Spec
from dakit.optional import misspelt


class Observers:
    """All observers of a run as one :class:`~dakit.interfaces.Observer`.

    One that raises is named to the others, is told nothing more, and the run goes on.

    Args:
        observers: (name, observer); each has some of the methods of :class:`~dakit.interfaces.Observer`.

    Attributes:
        failures: what was said of those that raised.

    Raises:
        DakitError: an event is misspelt in one.
    """

    def __init__(self, observers: Iterable[tuple[str, Any]]) -> None:
        self._observers = list(observers)
        for name, kind in ((name, type(observer)) for name, observer in self._observers):
            if wrong := misspelt("observer", kind):
                raise DakitError(f"observer {name}: {wrong}")
        self.failures: list[str] = []

    def __getattr__(self, event: str) -> Callable[..., None]:
        if event.startswith("_") or event not in vars(Observer):
            raise AttributeError(event)
        return partial(self._tell, event)

    def _tell(self, event: str, *facts: object) -> None:
        left, failed = [], []
        for name, observer in self._observers:
            try:
                if method := getattr(observer, event, None):
                    method(*facts)
                left.append((name, observer))
            except Exception as error:  # whatever a stranger's observer raises is theirs, and is told
                failed.append(
                    f"observer {name} fails in {event} and is told nothing more: {type(error).__name__}: {error}"
                )
        self._observers = left
        self.failures += failed
        for text in failed:
            self._tell("message", f"warning: {text}")

    @contextmanager
    def of_run(self, recipe: str, total: int) -> Iterator[None]:
        """Tell of a run's start and, whatever happens in the block, of its end."""
        self._tell("run_started", recipe, total)
        try:
            yield
        except BaseException as error:
            self._tell("run_ended", error)
            raise
        self._tell("run_ended", None)

    @contextmanager
    def of_stage(self, stage: JobInfo) -> Iterator[None]:
        """Tell of a stage's start, and of its end or failure."""
        self._tell("stage_started", stage)
        started = time.monotonic()
        try:
            yield
        except BaseException as error:
            self._tell("stage_failed", stage, error)
            raise
        self._tell("stage_finished", stage, time.monotonic() - started)


def build(spec: Spec[Observer], folder: Path) -> Observer:
    """The observer that a recipe names.

    Raises:
        DakitError: it cannot be made, such as for want of a library.
    """
    try:
        observer: Observer = spec.build(folder)
    except Exception as error:  # as above; before anything ran, so the run can be refused
        what = str(error) if isinstance(error, DakitError) else f"{type(error).__name__}: {error}"
        raise DakitError(f"observer {spec.name}: {what}") from error
    return observer
