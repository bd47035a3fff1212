"""The terminal display of every command, on standard error; recipes call it ``terminal``."""

from __future__ import annotations

import time
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from dakit.interfaces import JobInfo, Observer
from dakit.parameters import checked


@checked
class TerminalProgress(Observer):
    """One line per stage with steps, losses, time and an estimate of what is left, on standard error.

    ``dakit run`` shows it unasked, and so does ``dakit.run`` in a notebook. Without a terminal, and in a notebook
    without ipywidgets, only messages and finished stages are told.
    """

    def __init__(self, folder: Path | None = None) -> None:
        stderr = Console(stderr=True)
        self.console = stderr if stderr.is_terminal else Console(stderr=True, width=200)
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        self._shown = 0.0
        self._title = ""

    def work_started(self, title: str, steps: int | None) -> None:
        """Open the stage's line."""
        self.close()
        self._title = title
        if not self._live():
            return
        self._progress = Progress(
            TextColumn("  {task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
            TextColumn("left"), TimeRemainingColumn(), TextColumn("{task.fields[losses]}"),
            console=self.console, transient=True,
        )  # fmt: skip
        self._progress.start()
        self._task = self._progress.add_task(escape(title), total=steps, losses="")

    def _live(self) -> bool:
        """Whether a line can be drawn anew: on a terminal, and in a notebook that has widgets."""
        return find_spec("ipywidgets") is not None if self.console.is_jupyter else self.console.is_terminal

    def step(self, done: int, losses: Mapping[str, float]) -> None:
        """Move the bar; a few times a second is enough."""
        if self._progress is None or self._task is None or time.monotonic() - self._shown < 0.2:
            return
        self._shown = time.monotonic()
        shown = "  ".join(f"{escape(name)} {value:.3g}" for name, value in list(losses.items())[:4])
        self._progress.update(self._task, completed=done, losses=shown)

    def message(self, text: str) -> None:
        """Print a remark above the bar."""
        self.console.print(f"    {escape(text)}", style="yellow" if text.startswith("warning: ") else None)

    def stage_finished(self, stage: JobInfo, seconds: float) -> None:
        """Close the line."""
        self.close()
        done = f"[{stage.number}/{stage.total}] {stage}{self._title and ': '}{self._title}, {seconds:.1f} s"
        self.console.print(escape(done))
        self._title = ""

    def stage_failed(self, stage: JobInfo, error: BaseException) -> None:
        """Close the line; the error itself is told by the command."""
        self.close()

    def close(self) -> None:
        """Take the open line away, without a word."""
        if self._progress is not None:
            self._progress.stop()
        self._progress = self._task = None
