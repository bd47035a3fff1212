from __future__ import annotations

import sys

import pytest

from dakit.errors import DakitError
from dakit.interfaces import JobInfo
from dakit_builtins.observers.tensorboard import TensorBoard

pytest.importorskip("tensorboard")
STAGE = JobInfo("adapt", "train_classifier", "cycleat", 0, 1, 2, 5)


def written(folder, name="loss"):
    """(step, value) of a loss as TensorBoard reads it."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "tensorboard" / "adapt" / "cycleat-0-1"))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars(name)]


def tell(folder, steps, *, every=1):
    board = TensorBoard(folder, every=every)
    board.stage_started(STAGE)
    for n in steps:
        board.step(n, {"loss": n / 2, "accuracy": 0.0})
    board.stage_finished(STAGE, 1.0)


def test_losses_are_written_for_tensorboard(tmp_path):
    tell(tmp_path, range(1, 8), every=3)
    assert written(tmp_path) == [(1, 0.5), (3, 1.5), (6, 3.0)]
    assert [step for step, _ in written(tmp_path, "accuracy")] == [1, 3, 6]


def test_a_stage_that_goes_on_replaces_what_lies_beyond_its_checkpoint(tmp_path, monkeypatch):
    tell(tmp_path, range(1, 6))
    monkeypatch.setattr("time.time", lambda: 2e9)  # files are read in the order of their second
    tell(tmp_path, range(3, 5))
    assert [step for step, _ in written(tmp_path)] == [1, 2, 3, 4]


def test_nothing_is_written_without_losses(tmp_path):
    board = TensorBoard(tmp_path)
    board.stage_started(STAGE)
    board.step(10, {})
    board.stage_failed(STAGE, KeyError())
    assert list(tmp_path.iterdir()) == []


def test_the_extra_is_named_where_it_is_missing(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(DakitError, match=r"needs TensorBoard: pip install 'dakit\[tensorboard\]'"):
        TensorBoard(tmp_path)
