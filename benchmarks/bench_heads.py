"""Frozen features and heads: rows, folds and seeds of ``fit_head`` beside one pass in plain torch and the same fits."""

from __future__ import annotations

import os
import resource
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from dakit.data.sets import Sealed, Subset, TensorImages
from dakit.data.splits import Split
from dakit.interfaces import Context, Engine, Spec
from dakit.plugins import find_plugins
from dakit.registry import Registry
from dakit.stages.evaluate import Evaluate
from dakit.stages.head import FitHead
from dakit.training.frozen import starting_network
from dakit.training.trainer import Trainer

REGISTRY = Registry(find_plugins())
SOURCE, TARGET, CLASSES, FOLDS, SEEDS = 300, 200, 7, 5, 3
CHANCE = 4.0
"""The standard deviation of noise beside a difference of 1 between classes."""


def images(count: int, size: int, seed: int) -> TensorImages:
    """Noise over a picture of each class."""
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % CLASSES
    pictures = np.random.default_rng(9).normal(size=(CLASSES, 3, size, size))
    noise = generator.normal(size=(count, 3, size, size)) * CHANCE
    pixels = np.clip(128 + 16 * (pictures[labels] + noise), 0, 255).astype(np.uint8)
    return TensorImages(torch.from_numpy(pixels), labels.tolist(), classes=tuple("abcdefg"))


def by_dakit(folder: Path, spec: Spec[Any], source: TensorImages, target: TensorImages, engine: Engine) -> np.ndarray:
    """Every row, seed and fold through the stages, from an empty memory of features: predictions (3, seeds, N)."""
    starting_network.cache_clear()
    os.environ["DAKIT_CACHE"] = str(folder / f"cache {time.monotonic_ns()}")
    for one in (source, target):
        vars(one).pop("_fingerprint", None)
    fit = FitHead(classifier=spec, estimator=REGISTRY.spec("estimator", "logistic", {"C": 0.01}))
    answers = np.zeros((3, SEEDS, len(target)), np.int64)
    for seed in range(SEEDS):
        for fold in range(FOLDS):
            sides = Split(folds=FOLDS).apply(target, fold, seed)
            train, test = Subset(target, sides["train"]), Sealed(Subset(target, sides["test"]))
            rows: list[dict[str, Any]] = [{"train": source}, {"train": train}, {"train": train, "extra": source}]
            for row, inputs in enumerate(rows):
                ctx = Context(folder, seed=seed, engine=engine)
                model = fit.run(ctx, **inputs).model
                said = Evaluate().run(ctx, model=model, test=test).evaluation
                answers[row, seed, said.indices] = said.predictions
    return answers


def by_hand(trainer: Trainer, spec: Spec[Any], source: TensorImages, target: TensorImages) -> np.ndarray:
    """The same by one pass over either domain in plain torch, and scikit-learn."""
    torch.manual_seed(0)
    network = spec.build(CLASSES).to(trainer.device).eval()
    rows = []
    for one in (source, target):
        parts = []
        for start in range(0, len(one), 64):
            pixels = torch.as_tensor(one.images[start : start + 64]).to(trainer.device)
            with torch.no_grad(), trainer.autocast():
                parts.append(network(pixels.float() / 127.5 - 1).features.float().cpu())
        rows.append(torch.cat(parts).numpy())
    (of_source, of_target), (named, truth) = rows, (np.asarray(source.labels), np.asarray(target.labels))
    answers = np.zeros((3, SEEDS, len(target)), np.int64)
    for seed in range(SEEDS):
        for fold in range(FOLDS):
            sides = Split(folds=FOLDS).apply(target, fold, seed)
            train, test = np.asarray(sides["train"]), np.asarray(sides["test"])
            fits = [
                (of_source, named),
                (of_target[train], truth[train]),
                (np.concatenate([of_target[train], of_source]), np.concatenate([truth[train], named])),
            ]
            for row, (features, labels) in enumerate(fits):
                model = LogisticRegression(C=0.01, class_weight="balanced", max_iter=1000).fit(features, labels)
                answers[row, seed, test] = model.predict(of_target[test])
    return answers


@pytest.mark.parametrize("what", ["stage/fit_head"])
def bench_heads(
    what: str, size: int, trainer: Trainer, tmp_path: Path, benchmark: Any, monkeypatch: pytest.MonkeyPatch,
    ceilings: dict[str, float],
) -> None:  # fmt: skip
    """Source, target and both x five folds x three seeds, in turn with the same by hand.

    Beside it the share of equal predictions, and by how much the process's peak of memory grew in the second round, in
    features of the labelled images.
    """
    monkeypatch.setenv("DAKIT_CACHE", os.environ.get("DAKIT_CACHE", ""))
    spec = REGISTRY.spec("classifier", "timm", {"arch": "tf_efficientnet_lite0"})
    source, target = images(SOURCE, size, 0), images(TARGET, size, 1)
    others: list[float] = []
    theirs: list[np.ndarray] = []

    def timed_by_hand() -> None:
        start = time.perf_counter()
        theirs.append(by_hand(trainer, spec, source, target))
        others.append(time.perf_counter() - start)

    run = lambda: by_dakit(tmp_path, spec, source, target, trainer.ctx.engine)  # noqa: E731
    timed_by_hand()
    ours = run()
    others.clear()
    peak = _peak()
    benchmark.pedantic(run, setup=timed_by_hand, rounds=3)
    grown = _peak() - peak
    benchmark.extra_info.update(
        what=what, size=size, images=SOURCE + TARGET, ceilings=ceilings, flops=0, peak=0,
        reference="one pass in plain torch and the same fits", reference_median=statistics.median(others),
        reference_peak=0,
        ratios=[other / own for other, own in zip(others, benchmark.stats.stats.data, strict=True)],
        also={
            "equal predictions": float((ours == theirs[0]).mean()),
            "times the features of the labelled images by which the peak of memory grew": grown
            / (4 * 1280 * (SOURCE + TARGET)),
        },
    )  # fmt: skip


def _peak() -> int:
    """Bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
