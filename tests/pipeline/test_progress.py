from __future__ import annotations

import pytest
from rich.console import Console

from dakit.errors import DakitError
from dakit.interfaces import JobInfo
from dakit.pipeline.progress import TerminalProgress

STAGE = JobInfo("adapt", "train_classifier", "cycleat", 0, 1, 2, 5)


def test_without_a_terminal_messages_and_finished_stages_are_told_on_standard_error(capsys):
    display = TerminalProgress()
    display.work_started("training on [3] images", 4)
    display.step(1, {"loss": 0.5})
    display.message("a [note]")
    display.stage_finished(STAGE, 1.25)
    display.stage_finished(STAGE, 0.5)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "    a [note]",
        "[2/5] adapt (for cycleat, seed 0, fold 1): training on [3] images, 1.2 s",
        "[2/5] adapt (for cycleat, seed 0, fold 1), 0.5 s",
    ]


@pytest.mark.parametrize("steps", [4, None])
def test_a_terminal_shows_steps_and_losses(capsys, monkeypatch, steps):
    display = TerminalProgress()
    display.console = Console(stderr=True, width=120, force_terminal=True)
    display.work_started("training [x]", steps)
    monkeypatch.setattr("time.monotonic", lambda: 1e9)
    display.step(3, {"cross-entropy": 0.1234, "[b]": 2.0})
    display.stage_failed(STAGE, DakitError("x"))
    err = capsys.readouterr().err
    assert "training [x]" in err
    assert "3/4" in err if steps else "3/?" in err
    assert "cross-entropy 0.123  [b] 2" in err
    assert display._progress is None


@pytest.mark.parametrize(("widgets", "live"), [(None, False), (object(), True)])
def test_a_notebook_without_widgets_has_no_line_that_moves(monkeypatch, widgets, live):
    monkeypatch.setattr("dakit.pipeline.progress.find_spec", lambda name: widgets if name == "ipywidgets" else None)
    display = TerminalProgress()
    display.console = Console(stderr=True, width=120, force_jupyter=True)
    assert display._live() is live
