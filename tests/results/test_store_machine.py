"""Two runs in one folder, in any order, each killed anywhere: whatever calls itself complete is valid.

A run is a thread that stops before each thing it does to the disk, until the test lets it do that one thing, or
kills it: from then on it does nothing more, as a process would, but for its lock, which the system lets go.
"""

from __future__ import annotations

import builtins
import io
import os
import shutil
import tempfile
import threading
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from dakit.data.sets import TensorImages
from dakit.errors import DakitError
from dakit.results.store import Store, digest
from dakit.results.verify import verify

STAGES = ("one", "two")


class Made(NamedTuple):
    images: Any


class Killed(BaseException):
    """The thread is no more."""


class Running(threading.Thread):
    """One run of two stages, a step at a time."""

    def __init__(self, root: Path, registry: Any, fresh: bool) -> None:
        super().__init__(daemon=True)
        self.store = Store(root, registry)
        self.fresh = fresh
        self.turn, self.stopped = threading.Semaphore(0), threading.Semaphore(0)
        self.dead = self.over = False
        self.refused = ""
        self.fault: BaseException | None = None
        self.start()
        self.stopped.acquire()

    def pause(self) -> None:
        """Before something is done to the disk."""
        if not self.dead:
            self.stopped.release()
            self.turn.acquire()
        if self.dead:
            raise Killed

    def run(self) -> None:
        try:
            self.pause()
            with self.store.writing():
                for stage in STAGES:
                    if self.fresh:
                        self.store.discard(stage, digest(stage))
                    if not self.store.has(stage, digest(stage)):
                        self.store.make(stage, digest(stage), {"stage": stage}, {}, self.work)
        except Killed:
            pass
        except DakitError as error:
            self.refused = str(error)
        except BaseException as error:
            self.fault = error
        self.over = True
        self.stopped.release()

    def work(self, folder: Path) -> tuple[Made, dict[str, Any]]:
        """Two halves, the first of them kept."""
        kept = folder / "checkpoint.npy"
        if not kept.exists():
            with open(folder / ".checkpoint.npy.part", "wb") as file:
                np.save(file, np.full(5, 3, np.uint8))
            os.replace(folder / ".checkpoint.npy.part", kept)
        value = np.load(kept).sum()
        (folder / "picture.png").write_bytes(b"picture")
        return Made(TensorImages(np.full((2, 3, 2, 2), value, np.uint8), [0, 1], classes=("a", "b"))), {}

    def step(self) -> None:
        self.turn.release()
        self.stopped.acquire()
        if self.fault is not None:
            raise self.fault

    def kill(self) -> None:
        self.dead = True
        self.turn.release()
        self.join()


def stops(call: Any, writes: Any = lambda *given, **named: True) -> Any:
    """``call``, before which a run pauses."""

    def paused(*given: Any, **named: Any) -> Any:
        this = threading.current_thread()
        if isinstance(this, Running) and writes(*given, **named):
            this.pause()
        return call(*given, **named)

    return paused


@pytest.fixture(scope="module", autouse=True)
def _every_write_pauses():
    def to_write(path: Any, mode: str = "r", *rest: Any, **named: Any) -> bool:
        return bool(set(mode) & set("wax+"))

    with pytest.MonkeyPatch.context() as patch:
        for module, name in ((os, "replace"), (os, "unlink"), (os, "mkdir"), (os, "rmdir"), (shutil, "rmtree")):
            patch.setattr(module, name, stops(getattr(module, name)))
        for module in (builtins, io):
            patch.setattr(module, "open", stops(open, to_write))
        patch.setattr(os, "fsync", lambda handle: None)  # no power is cut here, and it costs most of the time
        yield


class TwoRuns(RuleBasedStateMachine):
    registry: Any

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.root = Path(self.folder.name) / "store"
        self.runs: dict[int, Running] = {}

    @rule(which=st.integers(0, 1), fresh=st.booleans(), steps=st.integers(1, 60), then_killed=st.integers(0, 2))
    def go(self, which: int, fresh: bool, steps: int, then_killed: int) -> None:
        if which not in self.runs:
            self.runs[which] = Running(self.root, self.registry, fresh)
        run = self.runs[which]
        for _ in range(steps):
            run.step()
            if run.over:
                self._over(which, run)
                return
        if then_killed == 2:
            self.runs.pop(which).kill()

    def _over(self, which: int, run: Running) -> None:
        del self.runs[which]
        if run.refused:
            assert "another run is writing here" in run.refused
            assert self.runs
        else:
            self.whole()

    def whole(self) -> None:
        store = Store(self.root, self.registry)
        for stage in STAGES:
            assert store.has(stage, digest(stage))
            assert not store.part(stage, digest(stage)).exists()

    @invariant()
    def what_is_complete_is_valid(self) -> None:
        if not self.root.is_dir():
            return
        store = Store(self.root, self.registry)
        for checked in verify(self.root):
            stage = checked.folder.partition("-")[0]
            if checked.complete and store.has(stage, digest(stage)):
                assert checked.damage == []
                assert checked.files == 5
                images = store.open(stage, digest(stage), {}).output("images")
                assert images[1].image.unique().tolist() == [15]

    def teardown(self) -> None:
        while self.runs:
            self.runs.popitem()[1].kill()
        last = Running(self.root, self.registry, fresh=False)
        while not last.over:
            last.step()
        assert not last.refused
        self.whole()
        self.what_is_complete_is_valid()
        self.folder.cleanup()


def test_any_order_of_two_runs_and_their_deaths(registry):
    TwoRuns.registry = registry
    run_state_machine_as_test(
        TwoRuns,
        settings=settings(
            max_examples=40, stateful_step_count=12, deadline=None, derandomize=True, database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )  # fmt: skip
