"""``tensorboard``: losses as files for TensorBoard."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dakit.errors import DakitError
from dakit.interfaces import JobInfo, Positive
from dakit.parameters import checked


@checked
class TensorBoard:
    """Write losses as event files below ``tensorboard`` in the run's folder: ``tensorboard --logdir runs``.

    Each stage result is a series of its own, called ``stage/row-seed-fold``. One that goes on from a checkpoint
    takes the place of what was written beyond it. Needs ``pip install 'dakit[tensorboard]'``.

    Args:
        every: write every so many steps, and the first.

    Raises:
        DakitError: TensorBoard is not installed.
    """

    def __init__(self, folder: Path, *, every: Positive = 10) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise DakitError(f"needs TensorBoard: pip install 'dakit[tensorboard]' ({error})") from error
        self.folder = folder / "tensorboard"
        self.every = every
        self._make = SummaryWriter
        self._stage: JobInfo | None = None
        self._writer: Any = None

    def stage_started(self, stage: JobInfo) -> None:
        """The next steps are this stage's."""
        self._stage = stage

    def step(self, done: int, losses: Mapping[str, float]) -> None:
        """Write the losses; nothing for a stage that has none."""
        if not losses or self._stage is None:
            return
        first = self._writer is None
        if first:
            stage = self._stage
            series = self.folder / stage.name / f"{stage.row}-{stage.seed}-{stage.fold}"
            self._writer = self._make(str(series), purge_step=done)
        if first or done % self.every == 0:
            for name, value in losses.items():
                self._writer.add_scalar(name, value, done)

    def stage_finished(self, stage: JobInfo, seconds: float) -> None:
        """Close the files."""
        self._close()

    def stage_failed(self, stage: JobInfo, error: BaseException) -> None:
        """Close the files; what was written stays."""
        self._close()

    def _close(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._writer = self._stage = None
