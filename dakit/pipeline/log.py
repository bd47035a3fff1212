"""What a run does, in Python's own log: the logger ``dakit``, which is silent until the caller sets one up."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from dakit.interfaces import JobInfo, Observer

LOGGER = logging.getLogger("dakit")


class Log(Observer):
    """One INFO line for each job that starts and each that is finished, WARNING for doubts, ERROR for what failed.

    Jobs whose results are already there are not told, as to every observer.
    """

    def __init__(self) -> None:
        self._warned: list[str] = []

    def run_started(self, recipe: str, total: int) -> None:
        """The recipe, and how many results it needs."""
        LOGGER.info("%s: %d results are needed", recipe, total)

    def stage_started(self, stage: JobInfo) -> None:
        """A job begins."""
        LOGGER.info("[%d/%d] %s: started", stage.number, stage.total, stage)

    def message(self, text: str) -> None:
        """A note, or a doubt."""
        if text.startswith("warning: "):
            self._warned.append(text.removeprefix("warning: "))
            LOGGER.warning("%s", self._warned[-1])
        else:
            LOGGER.info("%s", text)

    def stage_finished(self, stage: JobInfo, seconds: float) -> None:
        """A job has ended well."""
        LOGGER.info("[%d/%d] %s: finished, %.1f s", stage.number, stage.total, stage, seconds)

    def stage_failed(self, stage: JobInfo, error: BaseException) -> None:
        """A job has not."""
        LOGGER.error("[%d/%d] %s: %s: %s", stage.number, stage.total, stage, type(error).__name__, error)

    def warn_of(self, warnings: Iterable[str]) -> None:
        """The warnings of a whole run; those that were told already are not told again."""
        for text in warnings:
            if not any(text == warning or text.endswith(f": {warning}") for warning in self._warned):
                LOGGER.warning("%s", text)
