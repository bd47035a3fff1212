"""Macro accuracy, the "Ave." of the paper, with intervals that say how much of it is luck."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

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
        groups: str ``(N,)``, such as the person in the image; None = every image is its own group.

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
    groups: Array | None = None

    def __post_init__(self) -> None:
        n, k = len(self.labels), len(self.classes)
        shapes = [a.shape for a in (self.indices, self.labels, self.predictions, self.probabilities)]
        if shapes != [(n,), (n,), (n,), (n, k)] or (self.groups is not None and self.groups.shape != (n,)):
            raise ValueError(f"shapes of indices, labels, predictions, probabilities or groups do not fit: {shapes}")
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
        arrays = {field: value for field, value in vars(self).items() if isinstance(value, np.ndarray)}
        np.savez(folder / f"{name}.npz", **arrays)  # type: ignore[arg-type]  # none is called allow_pickle
        write_json(folder / f"{name}.json", {"classes": list(self.classes)})

    @classmethod
    def load(cls, folder: Path, name: str) -> Evaluation:
        """Read what :meth:`save` wrote."""
        classes = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))["classes"]
        with np.load(folder / f"{name}.npz", allow_pickle=False) as arrays:
            return cls(tuple(classes), **{key: arrays[key] for key in arrays.files})


class Round(NamedTuple):
    """One evaluation of one row of the table.

    ``fold`` counts through all repeats of the split: with k folds, fold k is the first of repeat 1.
    """

    seed: int
    fold: int
    evaluation: Evaluation
    repeat: int = 0


@dataclass(frozen=True, eq=False)
class Summary:
    """One row of the table. All rates are in [0, 1].

    Attributes:
        classes: K names.
        per_class: ``(K,)``, recall, mean over seeds and repeats; NaN for a class that was never tested.
        macro: mean over seeds and repeats of the macro accuracy of the pooled folds.
        low: lower end of the interval of ``macro``,
        high: and its upper end.
        seeds: that were run.
        folds: that were run, counted through all repeats.
        repeats: how many of the split there are among them.
        images: distinct test images.
        grouped: whether some of them are of one group, such as one person.
        confusion: ``(K, K)`` counts, rows = truth, summed over seeds and folds.
        per_seed: macro accuracy of each seed, mean over its repeats.
    """

    classes: tuple[str, ...]
    per_class: Array
    macro: float
    low: float
    high: float
    seeds: tuple[int, ...]
    folds: tuple[int, ...]
    repeats: int
    images: int
    grouped: bool
    confusion: Array
    per_seed: dict[int, float]

    @property
    def resampled(self) -> str:
        """What the bootstrap behind the interval drew anew, for people."""
        what = "whole groups of test images" if self.grouped else "test images within their class"
        if len(self.seeds) > 1:
            return f"{what}, and seeds"
        if self.repeats > 1:
            return f"{what}, and repeats of the split"
        return f"{what}; one seed, so what training anew would change is left out"


def summarise(rounds: Sequence[Round], *, confidence: float = 0.95, resamples: int = 2000, seed: int = 0) -> Summary:
    """One row of the table, with a bootstrap interval.

    Within a seed (and a repeat of its split) the folds are pooled: with k folds every image is tested once, and
    recall is taken over all of them. What is reported is the mean over seeds and repeats. So ``seeds: [0, 1, 2]``
    with ``folds: 5`` is a repeated 5-fold cross-validation in which everything is trained anew, and
    ``repeats: 3`` one in which only what reads the target is. The interval holds the middle ``confidence`` of
    ``resamples`` such means. Each is computed from test images drawn with replacement within their class, the
    same images for all seeds and repeats (testing an image again makes no new image), and from seeds drawn with
    replacement, each with all its repeats; where there is one seed, from repeats drawn with replacement.

    Images of one group (a person, a film) are alike, and many of one say less than as many of different ones. So
    where groups hold several images, whole groups are drawn instead: within their class where each has but one,
    else from all of them, and then a class that was not drawn is left out of that draw's mean.

    Where seeds test different images (a holdout drawn anew for each seed) the images are drawn from the
    union, and a seed's recall is over those of the drawn images that it tested; a class without any is left
    out of that seed's mean. An image tested several times within a repeat counts several times.

    With two or three seeds the spread over seeds is known only roughly, and the interval is rather too
    narrow; where every image is right (or wrong) it has no width.

    Raises:
        DakitError: there are no rounds, or they are of different data.
    """
    tally = Tally.of(rounds)
    rng = np.random.default_rng(seed)
    macros = tally.macros()
    low, high = interval(draw_runs(bootstrap([tally], resamples, rng)[0], tally.runs, rng), confidence)
    seeds = np.array([run[0] for run in tally.runs])
    return Summary(
        classes=tally.classes,
        per_class=_mean(tally.recall(), axis=1),
        macro=float(_mean(macros)),
        low=low,
        high=high,
        seeds=tuple(np.unique(seeds).tolist()),
        folds=tuple(sorted({one.fold for one in rounds})),
        repeats=len({one.repeat for one in rounds}),
        images=len(tally.labels),
        grouped=tally.grouped,
        confusion=np.sum([one.evaluation.confusion for one in rounds], axis=0),
        per_seed={int(one): float(_mean(macros[seeds == one])) for one in np.unique(seeds)},
    )


class Tally(NamedTuple):
    """Who got which of M images right: ``right`` and ``tested`` are counts ``(M, S)``, by image and run.

    A run is a (seed, repeat): its folds test every image once. ``groups`` are numbers ``(M,)`` from 0.
    """

    classes: tuple[str, ...]
    runs: tuple[tuple[int, int], ...]
    labels: Array
    groups: Array
    right: Array
    tested: Array

    @classmethod
    def of(cls, rounds: Sequence[Round]) -> Tally:
        """Count.

        Raises:
            DakitError: there are no rounds, or they are of different data.
        """
        if not rounds:
            raise DakitError("there is nothing to summarise: no evaluation was made")
        classes = rounds[0].evaluation.classes
        if any(one.evaluation.classes != classes for one in rounds):
            raise DakitError(f"the evaluations have different classes: {[one.evaluation.classes for one in rounds]}")
        runs = tuple(sorted({(one.seed, one.repeat) for one in rounds}))
        truth = np.concatenate([one.evaluation.labels for one in rounds])
        said = np.concatenate([one.evaluation.predictions for one in rounds])
        images, row = np.unique(np.concatenate([one.evaluation.indices for one in rounds]), return_inverse=True)
        column = np.repeat(
            [runs.index((one.seed, one.repeat)) for one in rounds], [len(one.evaluation.labels) for one in rounds]
        )
        labels = np.zeros(len(images), np.int64)
        labels[row] = truth
        if (labels[row] != truth).any():
            raise DakitError("the evaluations are of different data: an image has two labels")
        groups = np.arange(len(images))
        if all(one.evaluation.groups is not None for one in rounds):
            _, group = np.unique(np.concatenate([one.evaluation.groups for one in rounds]), return_inverse=True)
            groups[row] = group
        right, tested = np.zeros((2, len(images), len(runs)))
        np.add.at(tested, (row, column), 1)
        np.add.at(right, (row, column), said == truth)
        return cls(classes, runs, labels, groups, right, tested)

    @property
    def grouped(self) -> bool:
        """Whether a group holds several images."""
        return bool(self.groups.max() + 1 < len(self.groups))

    def recall(self) -> Array:
        """``(K, S)``, by class and run."""
        member = np.eye(len(self.classes))[:, self.labels]
        return _ratio(member @ self.right, member @ self.tested)

    def macros(self) -> Array:
        """``(S,)``, mean recall of each run over the classes that it tested."""
        return _mean(self.recall(), axis=0)


def bootstrap(tallies: Sequence[Tally], resamples: int, rng: np.random.Generator) -> list[Array]:
    """Macro accuracies ``(resamples, S)`` of each tally, from groups of images drawn for all alike.

    Groups are drawn within their class where each has but one, else from all. Groups that met the same fate everywhere
    are interchangeable, so what is drawn is how often each fate occurs, and fates are few: two for images that are
    their own group, one model and one run, where this is binomial sampling.
    """
    one = tallies[0]
    fates = np.hstack([counts for tally in tallies for counts in (tally.right, tally.tested)])
    of_one_class = len(np.unique([one.groups, one.labels], axis=1).T) == one.groups.max() + 1
    strata = one.labels if of_one_class else np.zeros_like(one.labels)
    counts = np.zeros((resamples, len(one.classes), fates.shape[1]))
    for stratum in np.unique(strata):
        here = strata == stratum
        groups, group = np.unique(one.groups[here], return_inverse=True)
        classes, column = np.unique(one.labels[here], return_inverse=True)
        met = np.zeros((len(groups), len(classes), fates.shape[1]))
        np.add.at(met, (group, column), fates[here])
        fate, times = np.unique(met.reshape(len(groups), -1), axis=0, return_counts=True)
        step = max(1, 2**22 // len(times))  # bounds the memory where fates are many
        for start in range(0, resamples, step):
            some = slice(start, min(start + step, resamples))
            drawn = rng.multinomial(len(groups), times / len(groups), size=some.stop - start) @ fate
            counts[some, classes] = drawn.reshape(len(drawn), len(classes), -1)
    right, tested = np.split(counts.reshape(resamples, len(one.classes), len(tallies), 2, -1), 2, axis=3)
    macros = _mean(_ratio(right, tested)[:, :, :, 0], axis=1)
    return [macros[:, i] for i in range(len(tallies))]


def draw_runs(drawn: Array, runs: Sequence[tuple[int, int]], rng: np.random.Generator) -> Array:
    """The mean over runs of each of ``(resamples, S)``, over seeds (else repeats) drawn with replacement."""
    seeds = np.array([run[0] for run in runs])
    if len(set(seeds.tolist())) > 1:
        drawn = np.stack([_mean(drawn[:, seeds == seed], axis=1) for seed in np.unique(seeds)], axis=1)
    resamples, units = drawn.shape
    times = rng.multinomial(units, np.full(units, 1 / units), size=resamples)
    return _mean(drawn, times, axis=1)


def interval(drawn: Array, confidence: float) -> tuple[float, float]:
    """The middle ``confidence`` of what was drawn."""
    low, high = np.nanquantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def _ratio(part: Array, whole: Array) -> Array:
    ratio: Array = np.divide(part, whole, out=np.full(np.shape(part), np.nan), where=whole > 0)
    return ratio


def _mean(values: Array, weights: Array | float = 1.0, axis: int | None = None) -> Array:
    """A weighted mean that leaves NaN out, and is NaN where nothing is left."""
    weights = np.where(np.isnan(values), 0.0, weights)
    return _ratio(np.asarray((np.nan_to_num(values) * weights).sum(axis)), np.asarray(weights.sum(axis)))
