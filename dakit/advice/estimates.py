"""How long a recipe will take and how much memory, from a few measured steps of every stage."""

from __future__ import annotations

import math
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import psutil
import torch

from dakit.advice.doctor import images_of
from dakit.data.sets import Sealed, Subset, Unlabelled, Withheld
from dakit.errors import DakitError
from dakit.interfaces import Context, Observer
from dakit.pipeline import run as pipeline
from dakit.recipe.plans import DataPlan, Recipe
from dakit.signatures import stage_outputs
from dakit.training.surroundings import undisturbed

_STEPS = 4
_IMAGES = 128


@dataclass(frozen=True)
class Estimate:
    """What one stage will need.

    Attributes:
        stage: its name.
        results: how many of it are to be made, over rows, seeds and folds; what is there already is not counted.
        seconds: of one; None = could not be measured.
        megabytes: the most memory that was in use while it was measured: of this process, on a GPU of the GPU.
        problem: why it could not be measured.
    """

    stage: str
    results: int
    seconds: float | None
    megabytes: int | None
    problem: str = ""


class _Clock(Observer):
    """An observer that remembers when each step was done."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def step(self, done: int, losses: Mapping[str, float]) -> None:
        self.times.append(time.perf_counter())


@undisturbed()
def estimate(recipe: Recipe, *, rows: list[str] | None = None, out: str | Path | None = None) -> list[Estimate]:
    """Run the recipe's method on a few images of each role, its training stages for 4 steps, and scale up.

    A few are 128, or as many as the largest batch of a stage, and what a part of them for validation takes besides.

    Steps are taken from a stage's parameter ``steps``; a stage without one is taken to be linear in its images,
    which is too little for t-SNE. The test labels stay closed: training images stand in for the test's.

    Args:
        recipe: whose row ``method`` is measured.
        rows: how many results there will be is counted for these; None = the recipe's own choice.
        out: folder of results, in which results that are there already count as made.

    Raises:
        DakitError: the data cannot be opened.
    """
    jobs = pipeline.plan(recipe, rows=rows, out=out)
    missing = Counter(job.stage.name for job, state in jobs if state != "cached")
    plan = recipe.plan(str(recipe.document["method"]))
    outputs: dict[str, Any] = {}
    factor: dict[str, float] = {}
    few = max([_IMAGES, *(_needed(stage.spec.params) for stage in plan.stages)])
    for data in plan.data.values():
        for part, (images, whole) in _few(data, recipe.seeds[0], few).items():
            outputs[f"{data.role}.{part}"] = images
            factor[f"{data.role}.{part}"] = whole / len(images)
    estimates: list[Estimate] = []
    with TemporaryDirectory() as folder:
        for stage in plan.stages:
            results = missing[stage.name]
            missing_inputs = [str(ref) for ref in stage.inputs.values() if str(ref) not in outputs]
            if missing_inputs:
                estimates.append(Estimate(stage.name, results, None, None, f"needs {missing_inputs[0]}"))
                continue
            scale = max((factor[str(ref)] for ref in stage.inputs.values()), default=1.0)
            place = Path(folder) / stage.name
            place.mkdir()
            clock = _Clock()
            total = stage.spec.params.get("steps")
            params = {**stage.spec.params, "steps": min(total, _STEPS)} if total else stage.spec.params
            started = time.perf_counter()
            try:
                with _memory() as peak:
                    result = replace(stage.spec, params=params).build().run(
                        Context(place, 0, recipe.engine, (clock,)),
                        **{name: outputs[str(ref)] for name, ref in stage.inputs.items()},
                    )  # fmt: skip
            except DakitError as error:
                estimates.append(Estimate(stage.name, results, None, None, str(error)))
                continue
            seconds = time.perf_counter() - started
            if not total:
                seconds *= scale
            elif len(clock.times) > 1:
                each = (clock.times[-1] - clock.times[0]) / (len(clock.times) - 1)
                seconds += each * (total - params["steps"])
            estimates.append(Estimate(stage.name, results, seconds, peak[0]))
            outputs[stage.name], factor[stage.name] = result, scale
            for name in stage_outputs(stage.spec.factory):
                outputs[f"{stage.name}.{name}"], factor[f"{stage.name}.{name}"] = getattr(result, name), scale
    return estimates


def _needed(params: Mapping[str, Any]) -> int:
    """How many images a stage with these parameters must be given for one batch."""
    batch = params.get("batch_size", 1) if "steps" in params else 1  # one that trains, whose batches are whole
    share = params["validation"] if params.get("choose") == "validation" else 0
    return math.ceil(batch / (1 - share)) + 1 if 0 < share < 1 else int(batch)


def _few(data: DataPlan, seed: int, most: int) -> dict[str, tuple[Any, int]]:
    """Up to ``most`` images of each part, and how many it has."""
    images = images_of(data)
    images = Unlabelled(images) if data.unlabelled else images
    if data.split is None:
        return {"all": (Subset(images, _spread(range(len(images)), most)), len(images))}
    sides = data.split.apply(images, 0, seed)
    train = Subset(Withheld(images, sides["train"]), _spread(sides["train"], most))
    return {"train": (train, len(sides["train"])), "test": (Sealed(train), len(sides["test"]))}


def _spread(indices: Any, most: int) -> list[int]:
    every = np.asarray(indices)
    return [int(i) for i in every[np.linspace(0, len(every) - 1, min(most, len(every))).astype(int)]]


@contextmanager
def _memory() -> Iterator[list[int]]:
    """The most megabytes in use inside the block, filled in at its end."""
    peak = [0]
    over = threading.Event()
    process = psutil.Process()

    def watch() -> None:
        while not over.wait(0.02):
            peak[0] = max(peak[0], process.memory_info().rss >> 20)

    peak[0] = process.memory_info().rss >> 20
    gpu = torch.cuda.is_available()
    if gpu:
        torch.cuda.reset_peak_memory_stats()
    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield peak
    finally:
        over.set()
        watcher.join()
        if gpu:
            peak[0] = torch.cuda.max_memory_allocated() >> 20
