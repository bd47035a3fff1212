from __future__ import annotations

import accelerate.tracking
import pytest

from dakit.errors import DakitError
from dakit.interfaces import JobInfo
from dakit_builtins.observers.tracker import Tracker

STAGE = JobInfo("adapt", "train_classifier", "cycleat", 0, 1, 2, 5)


class Service(accelerate.tracking.GeneralTracker):
    """Stands for a service on the network."""

    name = "wandb"
    requires_logging_directory = False
    tracker = None

    def __init__(self, run_name):
        super().__init__()
        self.heard = [run_name]

    def store_init_configuration(self, values):
        self.heard.append(values)

    def log(self, values, step=None):
        self.heard.append((step, values))

    def finish(self):
        self.heard.append("finish")


def test_losses_reach_a_tracker_of_accelerate(tmp_path, monkeypatch):
    monkeypatch.setitem(accelerate.tracking.LOGGER_TYPE_TO_CLASS, "wandb", Service)
    monkeypatch.setattr(accelerate.tracking, "get_available_trackers", lambda: [accelerate.tracking.LoggerType.WANDB])
    tracker = Tracker(tmp_path, name="wandb", project="faces", every=2)
    tracker.run_started("toy", 3)
    for _ in range(2):
        tracker.stage_started(STAGE)
        for n in range(1, 4):
            tracker.step(n, {"loss": float(n)})
            tracker.step(n, {})
    tracker.run_ended(None)
    assert tracker._tracker.heard == [
        "faces",
        {"recipe": "toy"},
        (0, {"adapt/loss": 1.0}),
        (2, {"adapt/loss": 3.0}),
        (4, {"adapt/loss": 2.0}),
        "finish",
    ]


def test_a_tracker_that_writes_files_gets_a_folder(tmp_path):
    pytest.importorskip("tensorboard")
    tracker = Tracker(tmp_path, name="tensorboard")
    tracker.run_started("toy", 3)
    tracker.step(1, {"loss": 1.0})
    tracker.run_ended(None)
    assert list((tmp_path / "tracker").rglob("events*"))


def test_trackers_that_are_not_there(tmp_path, monkeypatch):
    with pytest.raises(DakitError, match='knows no tracker "wandbb", did you mean "wandb"'):
        Tracker(tmp_path, name="wandbb")
    monkeypatch.setattr(accelerate.tracking, "get_available_trackers", lambda: [])
    with pytest.raises(DakitError, match='the library of the tracker "wandb" is not installed'):
        Tracker(tmp_path, name="wandb")
