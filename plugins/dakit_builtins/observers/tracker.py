"""``tracker``: losses to any experiment tracker that accelerate knows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dakit.errors import DakitError, did_you_mean
from dakit.interfaces import JobInfo, Positive
from dakit.parameters import checked


@checked
class Tracker:
    """Send losses to a tracker by accelerate: wandb, mlflow, comet_ml, trackio, tensorboard and others.

    A value is called ``stage/loss``. Steps are counted over the whole call, as most trackers want them to rise.
    The tracker's own library must be installed; what it needs (an account, a server) it takes from its own
    environment variables.

    Args:
        name: of the tracker, as accelerate calls it.
        project: that the tracker files the run under.
        every: send every so many steps.

    Raises:
        DakitError: accelerate knows no such tracker, or its library is not installed.
    """

    def __init__(self, folder: Path, *, name: str, project: str = "dakit", every: Positive = 10) -> None:
        from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers

        if name not in LOGGER_TYPE_TO_CLASS:
            raise DakitError(f'accelerate knows no tracker "{name}"{did_you_mean(name, LOGGER_TYPE_TO_CLASS)}')
        if name not in map(str, get_available_trackers()):
            raise DakitError(f'the library of the tracker "{name}" is not installed')
        self._make = LOGGER_TYPE_TO_CLASS[name]
        self.folder = folder
        self.project = project
        self.every = every
        self._tracker: Any = None
        self._stage = ""
        self._steps = 0

    def run_started(self, recipe: str, total: int) -> None:
        """Connect."""
        where = {"logging_dir": self.folder / "tracker"} if self._make.requires_logging_directory else {}
        self._tracker = self._make(self.project, **where)
        self._tracker.start()
        self._tracker.store_init_configuration({"recipe": recipe})

    def stage_started(self, stage: JobInfo) -> None:
        """The next steps are this stage's."""
        self._stage = stage.name

    def step(self, done: int, losses: Mapping[str, float]) -> None:
        """Send the losses; nothing for a stage that has none."""
        if losses:
            if self._steps % self.every == 0:
                self._tracker.log({f"{self._stage}/{n}": value for n, value in losses.items()}, step=self._steps)
            self._steps += 1

    def run_ended(self, error: BaseException | None) -> None:
        """Disconnect."""
        self._tracker.finish()
