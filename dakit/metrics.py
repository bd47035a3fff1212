"""Macro accuracy, the "Ave." of the paper, with intervals that say how much of it is luck."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from dakit.errors import DakitError
from dakit.files import write_json

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What a classifier said of N test images of K classes.

    Attributes:
        classes: K names, in the order of the labels.
        indices: int64 ``(N,)``, each image's position in its whole data set, whatever the seed and the fold.
        labels: int64 ``(N,)``, in [0, K).
        predictions: int64 ``(N,)``, in [0, K).
        probabilities: float32 ``(N, K)``.

    Raises:
        DakitError: there are no test images, or one has no label.
        ValueError: shapes do not fit, or a class number is out of range.

    >>> said = np.array([0, 1, 1])
    >>> evaluation = Evaluation(("a", "b"), np.arange(3), np.array([0, 0, 1]), said, np.eye(2)[said])
    >>> evaluation.recall.tolist(), evaluation.macro, round(evaluation.accuracy, 3)
    ([0.5, 1.0], 0.75, 0.667)
    """

    classes: tuple[str, ...]
    indices: Array
    labels: Array
    predictions: Array
    probabilities: Array

    def __post_init__(self) -> None:
        n, k = len(self.labels), len(self.classes)
        shapes = [a.shape for a in (self.indices, self.labels, self.predictions, self.probabilities)]
        if shapes != [(n,), (n,), (n,), (n, k)]:
            raise ValueError(f"shapes of indices, labels, predictions, probabilities do not fit: {shapes}")
        if n == 0:
            raise DakitError("there are no test images")
        if (self.labels < 0).any():
            raise DakitError(f"{(self.labels < 0).sum()} of {n} test images have no label")
        if max(self.labels.max(), self.predictions.max()) >= k or self.predictions.min() < 0:
            raise ValueError(f"labels and predictions must be in [0, {k})")

    @property
    def confusion(self) -> Array:
        """int64 ``(K, K)``: how many images of class i (row) were taken for class j (column)."""
        k = len(self.classes)
        return np.bincount(self.labels * k + self.predictions, minlength=k * k).reshape(k, k)

    @property
    def recall(self) -> Array:
        """float64 ``(K,)`` in [0, 1]: n_kk / sum_j n_kj; NaN for a class without test images."""
        confusion = self.confusion
        return _ratio(np.diag(confusion), confusion.sum(1))

    @property
    def macro(self) -> float:
        """Mean recall over the classes that occur, in [0, 1].

        Ave. = 1/K sum_k (n_kk / sum_j n_kj). The paper gives no formula, but the last column of its
        Tables 2, 5 and 6 is this mean of the others.
        """
        return float(_mean(self.recall))

    @property
    def accuracy(self) -> float:
        """The share of images classified right (top-1), in [0, 1]."""
        return float((self.predictions == self.labels).mean())

    def save(self, folder: Path, name: str) -> None:
        """Write ``<name>.npz`` (the arrays) and ``<name>.json`` (the classes) into ``folder``."""
        np.savez(
            folder / f"{name}.npz",
            indices=self.indices,
            labels=self.labels,
            predictions=self.predictions,
            probabilities=self.probabilities,
        )
        write_json(folder / f"{name}.json", {"classes": list(self.classes)})

    @classmethod
    def load(cls, folder: Path, name: str) -> Evaluation:
        """Read what :meth:`save` wrote."""
        classes = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))["classes"]
        with np.load(folder / f"{name}.npz", allow_pickle=False) as arrays:
            return cls(tuple(classes), **{key: arrays[key] for key in arrays.files})


class Round(NamedTuple):
    """One evaluation of one row of the table."""

    seed: int
    fold: int
    evaluation: Evaluation


@dataclass(frozen=True, eq=False)
class Summary:
    """One row of the table. All rates are in [0, 1].

    Attributes:
        classes: K names.
        per_class: ``(K,)``, recall, mean over the seeds; NaN for a class that was never tested.
        macro: mean over the seeds of the macro accuracy of the pooled folds.
        low: lower end of the interval of ``macro``,
        high: and its upper end.
        seeds: that were run.
        folds: that were run.
        images: distinct test images.
        confusion: ``(K, K)`` counts, rows = truth, summed over seeds and folds.
        per_seed: macro accuracy of each seed.
    """

    classes: tuple[str, ...]
    per_class: Array
    macro: float
    low: float
    high: float
    seeds: tuple[int, ...]
    folds: tuple[int, ...]
    images: int
    confusion: Array
    per_seed: dict[int, float]


@dataclass(frozen=True)
class Comparison:
    """Macro accuracy of one model minus that of another, on the same images.

    Attributes:
        difference: in [-1, 1]; positive where the first is better.
        low: lower end of its interval,
        high: and its upper end.
        p_value: of McNemar's exact test; see :func:`compare` for what it leaves out.
        verdict: of the first model: whether the interval lies above, around or below 0.
    """

    difference: float
    low: float
    high: float
    p_value: float
    verdict: Literal["better", "not distinguishable", "worse"]


def summarise(rounds: Sequence[Round], *, confidence: float = 0.95, resamples: int = 2000, seed: int = 0) -> Summary:
    """One row of the table, with a bootstrap interval.

    Within a seed the folds are pooled: with k folds every image is tested once, and recall is taken over all
    of them. What is reported is the mean over the seeds. The interval holds the middle ``confidence`` of
    ``resamples`` such means. Each is computed from test images drawn with replacement within their class, the
    same images for all seeds, and, where there are several seeds, from seeds drawn with replacement.

    Where seeds test different images (a holdout drawn anew for each seed) the images are drawn from the
    union, and a seed's recall is over those of the drawn images that it tested; a class without any is left
    out of that seed's mean. An image tested several times within a seed counts several times.

    With two or three seeds the spread over seeds is known only roughly, and the interval is rather too
    narrow; where every image is right (or wrong) it has no width.

    Raises:
        DakitError: there are no rounds, or they are of different data.
    """
    tally = _tally(rounds)
    rng = np.random.default_rng(seed)
    macros = _mean(tally.recall(), axis=0)
    low, high = _interval(_bootstrap([tally], resamples, rng)[0], confidence, rng)
    return Summary(
        classes=tally.classes,
        per_class=_mean(tally.recall(), axis=1),
        macro=float(_mean(macros)),
        low=low,
        high=high,
        seeds=tally.seeds,
        folds=tuple(sorted({one.fold for one in rounds})),
        images=len(tally.labels),
        confusion=np.sum([one.evaluation.confusion for one in rounds], axis=0),
        per_seed=dict(zip(tally.seeds, macros.tolist(), strict=True)),
    )


def compare(
    rounds_a: Sequence[Round],
    rounds_b: Sequence[Round],
    *,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Comparison:
    """Whether model A is better than model B: a paired bootstrap of the difference in macro accuracy.

    As :func:`summarise`, with the same images and the same seeds drawn for both, so that what makes an image
    or a seed hard for both cancels out. The verdict is the interval's alone.

    The p-value is that of McNemar's exact test, two-sided: of the pairs (image, seed) that one model alone
    gets right, how unlikely is A's share if a fair coin decided? It is about top-1 accuracy, not about the
    macro, and it takes one image under several seeds for several images: with more than one seed it is too
    small.

    Raises:
        DakitError: the two were not run with the same seeds and folds on the same test images.
    """
    a, b = ({(one.seed, one.fold): one.evaluation for one in rounds} for rounds in (rounds_a, rounds_b))
    if a.keys() != b.keys():
        raise DakitError(
            f"a comparison needs the same seeds and folds for both: (seed, fold) {sorted(a)} against {sorted(b)}"
        )
    wins = losses = 0
    for key in a:
        orders = [np.argsort(one.indices, kind="stable") for one in (a[key], b[key])]
        if not np.array_equal(a[key].indices[orders[0]], b[key].indices[orders[1]]):
            raise DakitError(f"a comparison needs the same test images: seed, fold {key} has others")
        right_a, right_b = (
            (e.predictions == e.labels)[order] for e, order in zip((a[key], b[key]), orders, strict=True)
        )
        wins += int((right_a & ~right_b).sum())
        losses += int((right_b & ~right_a).sum())

    from scipy.stats import binomtest

    tallies = [_tally(rounds_a), _tally(rounds_b)]
    rng = np.random.default_rng(seed)
    macros = [_mean(tally.recall(), axis=0) for tally in tallies]
    drawn = _bootstrap(tallies, resamples, rng)
    low, high = _interval(drawn[0] - drawn[1], confidence, rng)
    return Comparison(
        difference=float(_mean(macros[0] - macros[1])),
        low=low,
        high=high,
        p_value=float(binomtest(wins, wins + losses).pvalue) if wins + losses else 1.0,
        verdict="better" if low > 0 else "worse" if high < 0 else "not distinguishable",
    )


class _Tally(NamedTuple):
    """Who got which of M images right: ``right`` and ``tested`` are counts ``(M, S)``, by image and seed."""

    classes: tuple[str, ...]
    seeds: tuple[int, ...]
    labels: Array
    right: Array
    tested: Array

    def recall(self) -> Array:
        """``(K, S)``, by class and seed."""
        member = np.eye(len(self.classes))[:, self.labels]
        return _ratio(member @ self.right, member @ self.tested)


def _tally(rounds: Sequence[Round]) -> _Tally:
    if not rounds:
        raise DakitError("there is nothing to summarise: no evaluation was made")
    classes = rounds[0].evaluation.classes
    if any(one.evaluation.classes != classes for one in rounds):
        raise DakitError(f"the evaluations have different classes: {[one.evaluation.classes for one in rounds]}")
    seeds = tuple(sorted({one.seed for one in rounds}))
    truth = np.concatenate([one.evaluation.labels for one in rounds])
    said = np.concatenate([one.evaluation.predictions for one in rounds])
    images, row = np.unique(np.concatenate([one.evaluation.indices for one in rounds]), return_inverse=True)
    column = np.repeat([seeds.index(one.seed) for one in rounds], [len(one.evaluation.labels) for one in rounds])
    labels = np.zeros(len(images), np.int64)
    labels[row] = truth
    if (labels[row] != truth).any():
        raise DakitError("the evaluations are of different data: an image has two labels")
    right, tested = np.zeros((2, len(images), len(seeds)))
    np.add.at(tested, (row, column), 1)
    np.add.at(right, (row, column), said == truth)
    return _Tally(classes, seeds, labels, right, tested)


def _bootstrap(tallies: Sequence[_Tally], resamples: int, rng: np.random.Generator) -> list[Array]:
    """Macro accuracies ``(resamples, S)`` of each tally, from images drawn within their class for all alike.

    Images of a class that met the same fate everywhere are interchangeable, so what is drawn is how often
    each fate occurs, and fates are few: two for one model and one seed, where this is binomial sampling.
    """
    labels = tallies[0].labels
    fates = np.hstack([counts for tally in tallies for counts in (tally.right, tally.tested)])
    recalls = []
    for label in np.unique(labels):
        fate, images = np.unique(fates[labels == label], axis=0, return_counts=True)
        n = images.sum()
        step = max(1, 2**22 // len(images))  # bounds the memory where fates are many
        drawn = np.concatenate(
            [
                rng.multinomial(n, images / n, size=min(step, resamples - start)) @ fate
                for start in range(0, resamples, step)
            ]
        )
        right, tested = np.split(drawn.reshape(resamples, len(tallies), 2, -1), 2, axis=2)
        recalls.append(_ratio(right, tested))
    macros = _mean(np.stack(recalls), axis=0)[:, :, 0]
    return [macros[:, i] for i in range(len(tallies))]


def _interval(drawn: Array, confidence: float, rng: np.random.Generator) -> tuple[float, float]:
    """The middle ``confidence`` of the means of ``(resamples, S)`` over seeds drawn with replacement."""
    resamples, seeds = drawn.shape
    times = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=resamples)
    low, high = np.nanquantile(_mean(drawn, times, axis=1), [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def _ratio(part: Array, whole: Array) -> Array:
    ratio: Array = np.divide(part, whole, out=np.full(np.shape(part), np.nan), where=whole > 0)
    return ratio


def _mean(values: Array, weights: Array | float = 1.0, axis: int | None = None) -> Array:
    """A weighted mean that leaves NaN out, and is NaN where nothing is left."""
    weights = np.where(np.isnan(values), 0.0, weights)
    return _ratio(np.asarray((np.nan_to_num(values) * weights).sum(axis)), np.asarray(weights.sum(axis)))
