"""A metric of a row (macro accuracy, the "Ave." of the paper, where nothing else is said), and how much of it is luck.

It is one thing: a number and its interval come from the same counts.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from dakit.data.splits import own_groups
from dakit.errors import DakitError
from dakit.files import write_json
from dakit.statistics.measures import MACRO_ACCURACY, Metric, Pooled

Array = npt.NDArray[Any]
ONE_SEED: Final = "one seed: of these networks only"
"""What stands in a verdict's place where nothing is known of another training."""


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What a classifier said of N test images of K classes.

    Attributes:
        classes: K names, in the order of the labels.
        indices: int64 ``(N,)``, each image's position in its whole data set, whatever the seed and the fold.
        labels: int64 ``(N,)``, in [0, K).
        predictions: int64 ``(N,)``, in [0, K).
        probabilities: float32 ``(N, K)``.
        groups: str ``(N,)``, such as the person in the image; "" = the image is its own group; None = all are.

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
        per_class: ``(K,)``, recall or what the metric has in its place, mean over seeds and repeats; NaN for a class
            that was never tested, or of which the metric says nothing.
        macro: mean over seeds and repeats of the macro accuracy of the pooled folds, whatever the metric is.
        value: the same mean of the metric.
        low: lower end of the interval of ``value``,
        high: and its upper end.
        seeds: that were run.
        folds: that were run, counted through all repeats.
        repeats: how many of the split there are among them.
        images: distinct test images.
        grouped: whether some of them are of one group, such as one person.
        confusion: ``(K, K)`` counts, rows = truth, summed over seeds and folds.
        per_seed: the metric of each seed, mean over its repeats.
        metric: which it is.
    """

    classes: tuple[str, ...]
    per_class: Array
    macro: float
    value: float
    low: float
    high: float
    seeds: tuple[int, ...]
    folds: tuple[int, ...]
    repeats: int
    images: int
    grouped: bool
    confusion: Array
    per_seed: dict[int, float]
    metric: Metric = MACRO_ACCURACY

    @property
    def resampled(self) -> str:
        """What the interval takes to have been drawn by chance, for people."""
        what = "whole groups of test images" if self.grouped else "test images within their class"
        if len(self.seeds) > 1:
            return f"{what}, and seeds"
        if self.repeats > 1:
            return f"{what}, and repeats of the split; {ONE_SEED}"
        return f"{what}; {ONE_SEED}"


def summarise(
    rounds: Sequence[Round],
    *,
    metric: Metric = MACRO_ACCURACY,
    confidence: float = 0.95,
    resamples: int = 100_000,
    seed: int = 0,
) -> Summary:
    """One row of the table, with an interval of its macro accuracy, or of another metric.

    Within a seed (and a repeat of its split) the folds are pooled: with k folds every image is tested once, and
    recall is taken over all of them. What is reported is the mean over seeds and repeats. So ``seeds: [0, 1, 2]``
    with ``folds: 5`` is a repeated 5-fold cross-validation in which everything is trained anew, and
    ``repeats: 3`` one in which only what reads the target is.

    With several seeds the interval is of the method: of its mean over trainings, on images such as these. It is
    that of :class:`Estimate`: what differs from seed to seed counts as much as so few seeds allow (a t
    distribution with S - 1 degrees of freedom; with two seeds it is very wide), and test images, which all seeds
    share, on top of it. With one seed it is of these trained networks only, on images such as these; where that seed
    has repeats of the split, their differences count as those of seeds do.

    Images of one group (a person, a film) are alike, and many of one say less than as many of different ones. So it
    is whole groups that count: within their class where each has but one, else among all. An image that a seed
    has not tested (a holdout drawn anew for each seed) says nothing about that seed, a class that it has not tested
    is left out of its mean, and an image tested several times within a repeat counts several times.

    In simulations (docs/measured.md) 95 % intervals held the truth in 93 % or more, with 90 to 10,000 images and
    luck of training of 0 to 4 points that is about normal. Seeds that all did well say nothing of a training that
    fails one time in ten.

    A metric that is no mean over images has, in an image's place, the influence of that image (see
    :mod:`dakit.statistics.measures`); where few images make it too high, the interval reaches further down by as much.

    Args:
        rounds: every evaluation of the row.
        metric: of :data:`dakit.statistics.measures.METRICS`.
        confidence: in (0, 1), of the interval.
        resamples: so many errors are drawn for it.
        seed: of the draws.

    Raises:
        DakitError: there are no rounds, they are of different data, or the metric cannot be had of it.
    """
    tally = Tally.of(rounds)
    figures = Figures.of(rounds, metric, tally)
    estimate = figures.estimate()
    half, _ = estimate.test(confidence, resamples, seed)
    seeds = np.array([run[0] for run in tally.runs])
    return Summary(
        classes=tally.classes,
        per_class=_mean(figures.per_class, axis=1),
        macro=estimate.value if metric is MACRO_ACCURACY else tally.estimate().value,
        value=estimate.value,
        low=max(0.0, estimate.value - half - estimate.over),
        high=min(1.0, estimate.value + half + estimate.under),
        seeds=tuple(np.unique(seeds).tolist()),
        folds=tuple(sorted({round_.fold for round_ in rounds})),
        repeats=len({round_.repeat for round_ in rounds}),
        images=len(tally.labels),
        grouped=tally.grouped,
        confusion=np.sum([round_.evaluation.confusion for round_ in rounds], axis=0),
        per_seed={
            int(training_seed): float(_mean(figures.values[seeds == training_seed]))
            for training_seed in np.unique(seeds)
        },
        metric=metric,
    )


class Estimate(NamedTuple):
    """A mean over U units, and how far chance may have moved it. Units are seeds, or the repeats of the only one.

    Attributes:
        value: the mean.
        images: variance of its error by test images, as far as all units share it.
        freedom: degrees of freedom of ``images``.
        units: variance of its error by what differs from unit to unit; 0 with one.
        number: U.
        over: by at most so much the value is too high in the mean, because images are few,
        under: or too low.
    """

    value: float
    images: float
    freedom: float
    units: float
    number: int
    over: float = 0.0
    under: float = 0.0

    def test(self, confidence: float, resamples: int, seed: int) -> tuple[float, float]:
        """Half the width of the mean's interval, and the two-sided p-value of the mean being 0.

        Errors are drawn as sqrt(images) t_freedom + sqrt(units) t_(U - 1), the sum of two independent errors whose
        variances are themselves estimates (Behrens and Fisher; known to be rather too wide than too narrow). What the
        value may be too high or too low by is taken off before it is called different from 0.
        """
        rng = np.random.default_rng(seed)
        errors = np.sqrt(self.images) * rng.standard_t(self.freedom, resamples)
        if self.number > 1:
            errors += np.sqrt(self.units) * rng.standard_t(self.number - 1, resamples)
        errors = np.abs(errors)
        distance = max(0.0, abs(self.value) - (self.over if self.value > 0 else self.under))
        p_value = float((errors >= distance).sum() + 1) / (resamples + 1)
        return float(np.quantile(errors, confidence)), p_value

    @classmethod
    def of(cls, values: Array, effects: Array, weights: Array, strata: Array) -> Estimate:
        """The mean of a quantity over units, from what each group of test images did to it.

        With e_gu the effect of group g in unit u the covariance of the units' errors by images is
        C_uv = sum_g e_gu e_gv. The mean of C off its diagonal is what all units share; the mean of its diagonal less
        that, E, is what images do to each unit alone. Units differ by that too, so their variance is
        (E + luck of training) / U: it is estimated by s^2 / U, s^2 being the variance of the values, or by E / U
        where that is more.

        Where few images make the difference their number is known badly, and where none does it is not zero. So
        each stratum has some more of them: 3 / (number of strata), but at least 1/2, times their squared effect
        (sum_g e^4 / sum_g e^2; where none has one, that of a whole group). For two models of which one alone is right
        on a + b images and each on one image as likely, z = (a - b) / sqrt(a + b + 3) exceeds 1.96 where the
        exact sign test has p < 0.05 (for all a + b up to 17).

        Args:
            values: ``(U,)``.
            effects: ``(G, U)``, see :meth:`Tally.effects`.
            weights: ``(G,)``, the largest effect that a group can have.
            strata: int64 ``(G,)``, from 0, none empty.
        """
        order = np.argsort(strata, kind="stable")
        size = np.bincount(strata)
        starts = np.cumsum(size) - size

        def by_stratum(of_groups: Array) -> Array:
            return np.add.reduceat(of_groups[order], starts)

        count = len(values)
        square = effects * effects
        squares = by_stratum(square)
        mean = by_stratum(effects.mean(axis=1) ** 2)
        diagonal = float(squares.sum() / count)
        total = float(mean.sum())  # the mean of all of C
        covariance = max(0.0, (count * total - diagonal) / (count - 1)) if count > 1 else diagonal
        typical = np.where(
            squares > 0, _ratio(by_stratum(square * square), squares), by_stratum(weights**2)[:, None] / size[:, None]
        )
        more = max(0.5, 3 / len(size)) * typical.mean(axis=1)
        parts = mean + more
        return cls(
            value=float(values.mean()),
            images=float(covariance + more.sum()),
            freedom=float(parts.sum() ** 2 / (parts**2 / np.maximum(size - 1, 1)).sum()),
            units=float(max(values.var(ddof=1), diagonal - covariance) / count) if count > 1 else 0.0,
            number=count,
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
        if any(round_.evaluation.classes != classes for round_ in rounds):
            raise DakitError(
                f"the evaluations have different classes: {[round_.evaluation.classes for round_ in rounds]}"
            )
        runs = tuple(sorted({(round_.seed, round_.repeat) for round_ in rounds}))
        truth = np.concatenate([round_.evaluation.labels for round_ in rounds])
        predictions = np.concatenate([round_.evaluation.predictions for round_ in rounds])
        indices = np.concatenate([round_.evaluation.indices for round_ in rounds])
        images, first, row = np.unique(indices, return_index=True, return_inverse=True)
        column = np.repeat(
            [runs.index((round_.seed, round_.repeat)) for round_ in rounds],
            [len(round_.evaluation.labels) for round_ in rounds],
        )
        labels = np.zeros(len(images), np.int64)
        labels[row] = truth
        if (labels[row] != truth).any():
            raise DakitError("the evaluations are of different data: an image has two labels")
        groups = np.arange(len(images))
        named = [round_.evaluation.groups for round_ in rounds if round_.evaluation.groups is not None]
        if len(named) == len(rounds):
            _, groups = np.unique(own_groups(np.concatenate(named)[first].tolist(), images), return_inverse=True)
        right, tested = np.zeros((2, len(images), len(runs)))
        np.add.at(tested, (row, column), 1)
        np.add.at(right, (row, column), predictions == truth)
        return cls(classes, runs, labels, groups, right, tested)

    @property
    def grouped(self) -> bool:
        """Whether a group holds several images."""
        return bool(self.groups.max() + 1 < len(self.groups))

    def recall(self) -> Array:
        """``(K, S)``, by class and run."""
        return _ratio(self._by_class(self.right), self._by_class(self.tested))

    def macros(self) -> Array:
        """``(S,)``, mean recall of each run over the classes that it tested."""
        return _mean(self.recall(), axis=0)

    def estimate(self, other: Tally | None = None) -> Estimate:
        """Of the mean macro accuracy; or of this one's less the ``other``'s, on the same images and runs."""
        return Figures.counted(self).estimate(None if other is None else Figures.counted(other))

    def effects(self) -> Array:
        """``(G, S)``: what each group did to each run's macro accuracy, to first order.

        sum over its images of sqrt(m / (m - 1)) (right - recall tested) / (K T): T tests of the image's class in
        the run, K classes. The root stands for the recall, which was estimated from the same m groups.
        """
        pairs = np.unique(self.groups * len(self.classes) + self.labels)
        members = np.bincount(pairs % len(self.classes), minlength=len(self.classes))
        # A class of one group says nothing of how groups differ: its effect is 0, whatever the root.
        root = np.sqrt(members / np.maximum(members - 1, 1))[self.labels, None]
        expected = np.nan_to_num(self.recall())[self.labels] * self.tested
        return self._by_group((self.right - expected) * self._parts() * root)

    def strata(self) -> tuple[Array, Array]:
        """Each group's stratum ``(G,)``, which is its class where every group has one, and the most that it can do."""
        strata = np.zeros(self.groups.max() + 1, np.int64)
        strata[self.groups] = self.labels
        of_one_class = (strata[self.groups] == self.labels).all()
        _, strata = np.unique(strata if of_one_class else np.zeros_like(strata), return_inverse=True)
        return strata, self._by_group(self.tested * self._parts()).mean(axis=1)

    def _parts(self) -> Array:
        """``(M, S)``: the part that one test of an image has in a run's macro accuracy."""
        tested = self._by_class(self.tested)
        return np.nan_to_num(_ratio(np.ones_like(tested), tested * (tested > 0).sum(axis=0)))[self.labels]

    def influences(self, row: Array, influence: Array, most: Array) -> tuple[Array, Array]:
        """What each group did to one run's metric, and the most that it could, both ``(G,)``.

        Args:
            row: of each test's image.
            influence: of each test,
            most: and its largest.

        Within a stratum the numbers of images are not by chance, so what all of its groups do alike is taken off;
        sqrt(m / (m - 1)) stands for the mean over the same m groups that was taken off.
        """
        count = self.groups.max() + 1
        effect = np.bincount(self.groups[row], influence, count)
        there = np.bincount(self.groups[row], minlength=count) > 0
        strata = self.strata()[0]
        members = np.bincount(strata[there], minlength=strata.max() + 1)
        mean = _ratio(np.bincount(strata, effect), members)[strata]
        root = np.sqrt(members / np.maximum(members - 1, 1))[strata]
        return np.where(there, (effect - np.nan_to_num(mean)) * root, 0.0), np.bincount(self.groups[row], most, count)

    def _by_group(self, counts: Array) -> Array:
        return np.stack([np.bincount(self.groups, column) for column in counts.T], axis=1)

    def _by_class(self, counts: Array) -> Array:
        return np.stack([np.bincount(self.labels, column, len(self.classes)) for column in counts.T], axis=1)


class Figures(NamedTuple):
    """A metric of S runs of one row, and what G groups of test images did to it.

    Attributes:
        tally: who got which image right.
        values: ``(S,)``.
        per_class: ``(K, S)``.
        effects: ``(G, S)``, see :meth:`Tally.effects`.
        weights: ``(G,)``, the most that a group can do.
        excess: ``(S,)``, by at most so much a value is too high in the mean.
    """

    tally: Tally
    values: Array
    per_class: Array
    effects: Array
    weights: Array
    excess: Array

    @classmethod
    def counted(cls, tally: Tally) -> Figures:
        """Of macro accuracy."""
        return cls(tally, tally.macros(), tally.recall(), tally.effects(), tally.strata()[1], np.zeros(len(tally.runs)))

    @classmethod
    def of(cls, rounds: Sequence[Round], metric: Metric, tally: Tally) -> Figures:
        """Of any metric; ``tally`` is that of the same rounds.

        Raises:
            DakitError: the metric cannot be had of these test images.
        """
        if metric.measure is None:
            return cls.counted(tally)
        images = np.unique(np.concatenate([round_.evaluation.indices for round_ in rounds]))
        measurements = []
        for run in tally.runs:
            parts = [round_.evaluation for round_ in rounds if (round_.seed, round_.repeat) == run]
            row = np.searchsorted(images, np.concatenate([part.indices for part in parts]))
            measured = metric.measure(
                Pooled(
                    tally.classes,
                    np.concatenate([part.labels for part in parts]),
                    np.concatenate([part.predictions for part in parts]),
                    np.concatenate([part.probabilities for part in parts]),
                    tally.groups[row],
                )
            )
            measurements.append((measured, *tally.influences(row, measured.influence, measured.most)))
        return cls(
            tally,
            values=np.array([measured.value for measured, _, _ in measurements]),
            per_class=np.stack([measured.per_class for measured, _, _ in measurements], axis=1),
            effects=np.stack([effect for _, effect, _ in measurements], axis=1),
            weights=np.mean([most for _, _, most in measurements], axis=0),
            excess=np.array([measured.excess for measured, _, _ in measurements]),
        )

    def estimate(self, other: Figures | None = None) -> Estimate:
        """Of the mean over runs; or of this one's less the ``other``'s, on the same images and runs."""
        values, effects, runs = self.values, self.effects, self.tally.runs
        if other is not None:
            values, effects = values - other.values, effects - other.effects
        seeds = np.array([run[0] for run in runs])
        _, unit = np.unique(seeds if len(set(seeds.tolist())) > 1 else np.arange(len(seeds)), return_inverse=True)
        mean = np.eye(unit.max() + 1)[unit] / np.bincount(unit)[unit, None]  # runs to units
        estimate = Estimate.of(values @ mean, effects @ mean, self.weights, self.tally.strata()[0])
        over, under = ((figures.excess @ mean).mean() if figures else 0.0 for figures in (self, other))
        return estimate._replace(over=float(over), under=float(under))


def _ratio(part: Array, whole: Array) -> Array:
    ratio: Array = np.divide(part, whole, out=np.full(np.shape(part), np.nan), where=whole > 0)
    return ratio


def _mean(values: Array, weights: Array | float = 1.0, axis: int | None = None) -> Array:
    """A weighted mean that leaves NaN out, and is NaN where nothing is left."""
    weights = np.where(np.isnan(values), 0.0, weights)
    return _ratio(np.asarray((np.nan_to_num(values) * weights).sum(axis)), np.asarray(weights.sum(axis)))
