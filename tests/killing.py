"""Kills runs of a recipe, for ``test_kill.py``: python killing.py FOLDER SEED KILLS (write|clock).

Everything is imported once, and every run is a forked child. Its life is a row of events: each step's backward
passes and its end, each file or folder opened for writing, renamed or removed in FOLDER, each half of a weight
file. One child is left alone, in FOLDER/whole, and counts them. Others run in FOLDER/0, FOLDER/1, ...: each dies by
SIGKILL before a random one of its events ("write") or after a random time ("clock"), the next one goes on in the
same folder, until one gets to the end; then comes the next folder, until there were KILLS deaths.
Prints JSON: the events of the run that was left alone, and where the others died.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import kornia.augmentation  # noqa: F401  what a run imports late, a child would import each time
import openTSNE  # noqa: F401

import dakit.report.pictures
import dakit.results.store
import dakit.training.checkpoint
import dakit.training.trainer
from dakit.pipeline import run as pipeline
from dakit.recipe.load import load_recipe
from dakit.recipe.plans import Recipe

SMALL = [
    "engine.device=cpu", "engine.checkpoint_steps=2", "engine.channels_last=true", "pretrain.steps=5",
    "pretrain_shallow.steps=3", "pretrain_shallow.choose=validation",
    "stage_1.steps=3", "stage_2.steps=5", "stage_2.pool=3", "adapt.steps=3",
    "synthesise.batch_size=3", "seeds=[0]",
]  # fmt: skip


def load() -> Recipe:
    """Every kind of stage that there is, in the sizes of the smoke profile."""
    return load_recipe("cycleat_sfew", profile="smoke", overrides=SMALL)


class Life:
    """Counts the events of this process and ends it at one of them; also an observer."""

    def __init__(self, out: Path, die_at: int | None, tell: int) -> None:
        self.out = str(out)
        self.die_at = die_at
        self.tell = tell
        self.count = 0
        sys.addaudithook(self._audit)
        for module in (dakit.results.store, dakit.training.checkpoint):
            module.save_file = self._in_two_halves(module.save_file)  # type: ignore[attr-defined]
        backward = dakit.training.trainer.Trainer.backward

        def counted(trainer: Any, losses: Any) -> None:
            self.event("backward")
            backward(trainer, losses)

        dakit.training.trainer.Trainer.backward = counted  # type: ignore[method-assign]

    def event(self, what: str) -> None:
        self.count += 1
        if self.count == self.die_at:
            os.write(self.tell, what.encode())
            os.kill(os.getpid(), signal.SIGKILL)

    def _audit(self, event: str, given: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(given[1], str) and set(given[1]) & set("wax+"):
            self._touched("open", given[0])
        elif event in ("os.rename", "os.remove", "os.mkdir", "os.rmdir"):
            self._touched(event, given[0])

    def _touched(self, what: str, path: Any) -> None:
        if isinstance(path, (str, os.PathLike)) and self.out in os.fspath(path):
            self.event(f"{what} {Path(path).name}")

    def _in_two_halves(self, save: Callable[..., None]) -> Callable[..., None]:
        def halves(tensors: Any, path: Path, **more: Any) -> None:
            save(tensors, path, **more)
            if self.count + 1 == self.die_at:
                os.truncate(path, path.stat().st_size // 2)
            self.event(f"half of {path.name}")

        return halves

    def step(self, done: int, losses: Mapping[str, float]) -> None:
        self.event("step")


def child(recipe: Recipe, out: Path, *, die_at: int | None = None, die_after: float | None = None) -> tuple[int, str]:
    """Run in a child: (signal that ended it or 0, what it said last)."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            life = Life(out, die_at, write)
            if die_after is not None:
                signal.setitimer(signal.ITIMER_REAL, die_after)  # nobody handles its signal, so it kills
            pipeline.run(recipe, rows=["cycleat", "lp_ft"], fold=0, out=out, observers=[life])
            signal.setitimer(signal.ITIMER_REAL, 0)
            os.write(write, str(life.count).encode())
            os._exit(0)
        except BaseException as error:
            os.write(write, repr(error).encode())
            os._exit(1)
    os.close(write)
    with os.fdopen(read) as said:
        last = said.read()
    _, status = os.waitpid(pid, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        raise SystemExit(f"a run in {out} ended in {last}")
    return (os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0), last


def main(folder: Path, seed: int, kills: int, how: str) -> None:
    recipe = load()
    rng = random.Random(seed)
    started = time.monotonic()
    events = int(child(recipe, folder / "whole")[1])
    seconds = time.monotonic() - started
    deaths: list[str] = []
    chains = 0
    while len(deaths) < kills:
        while True:
            # About five deaths in a life; a long one, too, so that a chain ends.
            share = rng.uniform(0, 0.4)
            when = {"die_at": 1 + int(share * events)} if how == "write" else {"die_after": share * seconds + 1e-3}
            number, last = child(recipe, folder / str(chains), **when)  # type: ignore[arg-type]
            if number == 0:
                break
            deaths.append(last if how == "write" else signal.Signals(number).name)
        chains += 1
    sys.stdout.write(json.dumps({"events": events, "deaths": deaths, "chains": chains}))


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
