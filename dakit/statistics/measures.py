"""The metrics that a table can be about: each one's value, its part by class, and what every test did to it.

A metric is a function of all tests of one run (the folds of a seed and repeat, pooled). Beside its value it gives the
influence of each test: the derivative of the value by that test's weight (the infinitesimal jackknife; Efron, *The
Jackknife, the Bootstrap and Other Resampling Plans*, SIAM 1982, chapter 6). Sums of influences over a group of images
are what :class:`dakit.statistics.metrics.Estimate` makes intervals of, as it does of the recalls of macro accuracy.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from dakit.errors import DakitError, did_you_mean

Array = npt.NDArray[Any]

BINS = 15
"""Of the calibration error: as many as in Guo et al. 2017."""


class Pooled(NamedTuple):
    """All tests of one run, N of K classes.

    Attributes:
        classes: K names.
        labels: int64 ``(N,)``.
        predictions: int64 ``(N,)``.
        probabilities: ``(N, K)``.
        groups: int64 ``(N,)``; an image without a group has a number of its own.
    """

    classes: tuple[str, ...]
    labels: Array
    predictions: Array
    probabilities: Array
    groups: Array


class Measured(NamedTuple):
    """A metric of one run.

    Attributes:
        value: in [0, 1].
        per_class: ``(K,)``; NaN for a class without one.
        influence: ``(N,)``, of each test.
        most: ``(N,)``, about the largest influence that a test can have.
        excess: by at most so much the value is too high in the mean, because tests are few.
    """

    value: float
    per_class: Array
    influence: Array
    most: Array
    excess: float = 0.0


@dataclass(frozen=True)
class Metric:
    """One metric.

    Attributes:
        name: in recipes.
        title: in sentences.
        heading: of its column.
        columns: what the columns of the classes show; "" = nothing.
        about: what it is, in a line.
        guess: what guessing all K classes alike gives, in [0, 1]; None = that depends on the data.
        smaller: whether less is better.
        needs: says, of classes, labels and groups of the test images, why it cannot be had of them ("" = it can); None
            where it always can.
        measure: computes it; None for macro accuracy, which :class:`dakit.statistics.metrics.Tally` counts.
    """

    name: str
    title: str
    heading: str
    columns: str
    about: str
    guess: Callable[[int], float] | None
    smaller: bool = False
    measure: Callable[[Pooled], Measured] | None = None
    needs: Callable[[tuple[str, ...], Array, Array], str] | None = None

    @property
    def sign(self) -> int:
        """1 where more is better, -1 where less is."""
        return -1 if self.smaller else 1

    def plain(self) -> dict[str, Any]:
        """For machines."""
        better = "lower" if self.smaller else "higher"
        return {"name": self.name, "title": self.title, "heading": self.heading, "per_class": self.columns or None,
                "better": better}  # fmt: skip


# --------------------------------------------------------------------------------------- the metrics
def accuracy(tests: Pooled) -> Measured:
    """The share of tests whose class is said right (top-1)."""
    right = (tests.predictions == tests.labels).astype(float)
    n = len(right)
    return Measured(_accuracy(tests), _recall(tests), (right - right.mean()) / n, np.full(n, 1 / n))


def vote(tests: Pooled) -> Measured:
    """The share of groups (such as films) that are read right, by the highest mean probability.

    An image without a group is one. Recall by class is over groups, too.

    Raises:
        DakitError: the images of a group are of several classes.
    """
    _, first, group, size = np.unique(tests.groups, return_index=True, return_inverse=True, return_counts=True)
    labels = tests.labels[first]
    if (labels[group] != tests.labels).any():
        raise DakitError("a vote over groups needs groups of one class each; here the images of a group have several")
    summed = np.zeros((len(size), len(tests.classes)))
    np.add.at(summed, group, tests.probabilities.astype(float))
    table = summed / size[:, None]
    voted = Pooled(tests.classes, labels, table.argmax(1), table, np.arange(len(size)))
    of = accuracy(voted)
    return Measured(of.value, of.per_class, (of.influence / size)[group], (of.most / size)[group])


def macro_f1(tests: Pooled) -> Measured:
    """The mean over classes of F1 = 2 TP / (2 TP + FP + FN); a class counts where it occurs or is said.

    With d_k = 2 TP + FP + FN the influence of a test on F1_k is (2 [hit of k] - F1_k ([is k] + [said k])) / d_k.
    """
    from sklearn.metrics import f1_score

    k = len(tests.classes)
    there = np.bincount(tests.labels, minlength=k) + np.bincount(tests.predictions, minlength=k)
    met = np.flatnonzero(there)
    per_class = np.full(k, np.nan)
    per_class[met] = f1_score(tests.labels, tests.predictions, labels=met, average=None, zero_division=0)
    share = np.zeros(k)
    share[met] = 1 / (there[met] * len(met))
    f1 = np.nan_to_num(per_class)
    of_label, of_said = (share[side] * f1[side] for side in (tests.labels, tests.predictions))
    hit = 2 * share[tests.labels] * (tests.predictions == tests.labels)
    return Measured(float(per_class[met].mean()), per_class, hit - of_label - of_said, 2 * share[tests.labels])


def auroc(tests: Pooled) -> Measured:
    """The mean over classes of the area under the ROC curve of that class's probability against all others.

    Influences are DeLong's components: of a positive, (share of the negatives below it - AUC) / positives. Summed over
    groups they give Obuchowski's variance of clustered data (Biometrics 1997).

    Raises:
        DakitError: a class has no test, or there is no other.
    """
    from sklearn.metrics import roc_auc_score

    k, n = len(tests.classes), len(tests.labels)
    count = np.bincount(tests.labels, minlength=k)
    if problem := _every_class(tests.classes, tests.labels, tests.groups):
        raise DakitError(problem)
    per_class, influence = np.zeros(k), np.zeros(n)
    for label in range(k):
        positive = tests.labels == label
        score = tests.probabilities[:, label].astype(float)
        per_class[label] = roc_auc_score(positive, score)
        for side, other, way in ((positive, ~positive, 1), (~positive, positive, -1)):
            rivals = np.sort(way * score[other])
            mine = way * score[side]
            beaten = (np.searchsorted(rivals, mine, "left") + np.searchsorted(rivals, mine, "right")) / (
                2 * len(rivals)
            )
            influence[side] += (beaten - per_class[label]) / (side.sum() * k)
    against = 1 / (n - count)
    most = (1 / count + against.sum() - against)[tests.labels] / k
    return Measured(float(per_class.mean()), per_class, influence, most)


def _every_class(classes: tuple[str, ...], labels: Array, groups: Array) -> str:
    count = np.bincount(labels[labels >= 0], minlength=len(classes))
    missing = ", ".join(name for name, of in zip(classes, count, strict=True) if of == 0)
    return f"AUROC needs test images of every class; there is none of {missing}" if missing else ""


def _groups_of_one_class(classes: tuple[str, ...], labels: Array, groups: Array) -> str:
    classes_of: dict[str, set[str]] = {}
    for label, group in zip(labels.tolist(), groups.tolist(), strict=True):
        if group and label >= 0:
            classes_of.setdefault(group, set()).add(classes[label])
    if not classes_of:
        return "a vote needs groups, such as films; no test image has one (a dataset's group_by says which it is of)"
    mixed = [group for group, names in classes_of.items() if len(names) > 1]
    if not mixed:
        return ""
    names = ", ".join(sorted(classes_of[mixed[0]]))
    return (
        f"a vote needs groups of one class each; {len(mixed)} of {len(classes_of)} groups of test images have several, "
        f"such as {mixed[0]} with {names}"
    )


def ece(tests: Pooled) -> Measured:
    """Expected calibration error: the mean distance of confidence and accuracy in bins, weighted by tests.

    sum_b |sum_{i in b} (c_i - [i is right])| / N over 15 equally wide bins (low, high] of the probability c of what was
    said (Guo et al., ICML 2017). The absolute value of a sum of noise is not 0: with few tests in a bin it is too high,
    by at most sqrt(2 / pi) standard deviations of the sum. That is the ``excess``; perfect calibration shows just that.
    """
    n = len(tests.labels)
    sure = tests.probabilities[np.arange(n), tests.predictions].astype(float)
    gap = sure - (tests.predictions == tests.labels)
    bins = np.clip(np.ceil(sure * BINS).astype(int) - 1, 0, BINS - 1)
    sums = np.bincount(bins, gap, BINS)
    value = float(np.abs(sums).sum() / n)
    _, group = np.unique(tests.groups, return_inverse=True)
    by_group = np.bincount(group * BINS + bins, gap, BINS * (group.max() + 1)).reshape(-1, BINS)
    excess = math.sqrt(2 / math.pi) * float(np.sqrt((by_group**2).sum(0)).sum() / n)
    influence = (np.sign(sums)[bins] * gap - value) / n
    return Measured(value, np.full(len(tests.classes), np.nan), influence, np.full(n, 1 / n), excess)


def _accuracy(tests: Pooled) -> float:
    from sklearn.metrics import accuracy_score

    return float(accuracy_score(tests.labels, tests.predictions))


def _recall(tests: Pooled) -> Array:
    """``(K,)``; NaN for a class without a test."""
    from sklearn.metrics import recall_score

    recall = np.full(len(tests.classes), np.nan)
    met = np.unique(tests.labels)
    recall[met] = recall_score(tests.labels, tests.predictions, labels=met, average=None, zero_division=0)
    return recall


def _uniform(classes: int) -> float:
    return 1 / classes


def _half(classes: int) -> float:
    return 0.5


MACRO_ACCURACY = Metric(
    "macro_accuracy", "macro accuracy", "Ave.", "recall", "the mean of the classes' recalls", _uniform
)
METRICS: Mapping[str, Metric] = {
    metric.name: metric
    for metric in (
        MACRO_ACCURACY,
        Metric(
            "accuracy", "accuracy", "Accuracy", "recall",
            "the share of test images that are read right", _uniform, measure=accuracy,
        ),
        Metric(
            "macro_f1", "macro F1", "F1", "F1",
            "the mean of the classes' F1", None, measure=macro_f1,
        ),
        Metric(
            "auroc", "AUROC", "AUROC", "AUROC",
            "the mean area under the ROC curves, each class against all others", _half, measure=auroc,
            needs=_every_class,
        ),
        Metric(
            "ece", "calibration error", "ECE", "",
            f"expected calibration error, {BINS} bins; less is better, few images make it too high",
            None, smaller=True, measure=ece,
        ),
        Metric(
            "vote", "accuracy by vote", "Vote", "recall",
            "the share of groups that are read right, each by the mean probability of its images", _uniform,
            measure=vote, needs=_groups_of_one_class,
        ),
    )
}  # fmt: skip
"""By the name that a recipe's ``metric:`` has."""


def metric_named(name: str) -> Metric:
    """A metric.

    Raises:
        DakitError: there is none of this name.
    """
    if name not in METRICS:
        raise DakitError(f'there is no metric "{name}"{did_you_mean(name, METRICS)}')
    return METRICS[name]
