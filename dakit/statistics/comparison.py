"""Whether a row of the table is better than the baseline, or only luckier."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from dakit.errors import DakitError
from dakit.statistics.measures import MACRO_ACCURACY, Metric
from dakit.statistics.metrics import ONE_SEED, Figures, Round, Tally

METHOD = "paired over test images and over seeds (t), p adjusted for the number of rows (Holm)"
Verdict = Literal[
    "better", "not distinguishable", "worse", "worse (negative transfer)", "one seed: of these networks only"
]


@dataclass(frozen=True)
class Comparison:
    """Macro accuracy, or another metric, of one model minus that of another, on the same images.

    Attributes:
        difference: in [-1, 1]; positive where the first has more, which is better but for an error.
        low: lower end of its interval,
        high: and its upper end; of this comparison alone, however many there are.
        p_value: two-sided, of the same draws; adjusted for several comparisons by :func:`compare_rows`. With one seed
            it is of these trained networks, as the interval is, and says nothing of the method.
        mcnemar: p-value of McNemar's exact test of top-1 accuracy; None where an image was tested repeatedly,
            or several are of one group.
        images: distinct test images.
        verdict: of the first model; a difference counts where ``p_value`` < 0.05. With one seed there is none:
            :data:`dakit.statistics.metrics.ONE_SEED` stands in its place.
    """

    difference: float
    low: float
    high: float
    p_value: float
    mcnemar: float | None
    images: int
    verdict: Verdict


def compare(
    rounds_a: Sequence[Round],
    rounds_b: Sequence[Round],
    *,
    metric: Metric = MACRO_ACCURACY,
    confidence: float = 0.95,
    resamples: int = 100_000,
    seed: int = 0,
) -> Comparison:
    """Whether model A is better than model B: the difference in a metric, paired by image and by seed.

    The interval is that of :func:`summarise`, of differences: what makes an image or a seed hard for both cancels
    out. The p-value is the share of the drawn errors that are at least as large as the difference.

    Training anew moves a method by as much as methods differ, and one seed cannot show it: of two equal methods
    whose accuracy varies by 2 points from training to training, one seed's networks differ significantly on 2,007
    images in half of all cases. So with one seed there is no verdict, however often its split was repeated. With
    two there can be one, but a difference must be 12.7 times its standard error; with 3, 5 and 10 seeds 4.3, 2.8
    and 2.3 times. In simulations (docs/measured.md, with the differences that so many seeds can see) equal methods got
    a verdict in 5 % of comparisons or fewer, with 2 to 10 seeds, 90 to 10,000 images and luck of 0 to 4 points.

    McNemar's exact test, two-sided, is given beside it: of the images that one model alone gets right, how
    unlikely is A's share if a fair coin decided? It takes every pair for an image of its own, so there is none
    where seeds or repeats test the same image again, or a group holds several. It is of the networks, too.

    Raises:
        DakitError: the two were not run with the same seeds and folds on the same test images.
    """
    a, b = ({(round_.seed, round_.fold): round_.evaluation for round_ in rounds} for rounds in (rounds_a, rounds_b))
    if a.keys() != b.keys():
        raise DakitError(
            f"a comparison needs the same seeds and folds for both: (seed, fold) {sorted(a)} against {sorted(b)}"
        )
    for key in a:
        if not np.array_equal(np.sort(a[key].indices), np.sort(b[key].indices)):
            raise DakitError(f"a comparison needs the same test images: seed, fold {key} has others")
    ours, theirs = Tally.of(rounds_a), Tally.of(rounds_b)
    if ours.classes != theirs.classes or (ours.labels != theirs.labels).any():
        raise DakitError("a comparison needs the same test images: the labels are others")
    estimate = Figures.of(rounds_a, metric, ours).estimate(Figures.of(rounds_b, metric, theirs))
    half, p_value = estimate.test(confidence, resamples, seed)
    return Comparison(
        difference=estimate.value,
        low=max(-1.0, estimate.value - half - estimate.over),
        high=min(1.0, estimate.value + half + estimate.under),
        p_value=p_value,
        mcnemar=_mcnemar(ours, theirs),
        images=len(ours.labels),
        verdict=_verdict(metric.sign * estimate.value, p_value, len({round_.seed for round_ in rounds_a})),
    )


def _mcnemar(a: Tally, b: Tally) -> float | None:
    from scipy.stats import binomtest

    if a.grouped or (a.tested.sum(axis=1) > 1).any():
        return None
    alone = (a.right - b.right).sum(axis=1)
    return float(binomtest(int((alone > 0).sum()), int((alone != 0).sum())).pvalue) if alone.any() else 1.0


def compare_rows(
    rounds: Mapping[str, Sequence[Round]],
    baseline: str,
    transferring: Collection[str] = (),
    metric: Metric = MACRO_ACCURACY,
) -> dict[str, Comparison | str]:
    """Every other row against the baseline; a text says why where there is no comparison.

    To be worse is called negative transfer in the rows ``transferring``: those that do all that the baseline
    does and learn from more besides.

    The more rows are compared, the more likely one looks better by luck. So the p-values, and with them the
    verdicts, are adjusted for the number of rows by Holm's method: that *any* verdict of the table is wrong
    by luck has a probability of at most about 0.05. The intervals are those of each comparison alone.
    """
    if baseline not in rounds:
        return dict.fromkeys(rounds, f"the baseline {baseline} was not run")
    comparisons: dict[str, Comparison | str] = {}
    ranking: list[tuple[float, str, Comparison]] = []
    for row, parts in rounds.items():
        if row != baseline:
            try:
                comparisons[row] = compared = compare(parts, rounds[baseline], metric=metric)
                ranking.append((compared.p_value, row, compared))
            except DakitError as error:
                comparisons[row] = str(error)
    p_value = 0.0
    for place, (alone, row, compared) in enumerate(sorted(ranking, key=lambda entry: entry[0])):
        p_value = max(p_value, min(1.0, (len(ranking) - place) * alone))
        verdict = _verdict(metric.sign * compared.difference, p_value, len({round_.seed for round_ in rounds[row]}))
        if verdict == "worse" and row in transferring:
            verdict = "worse (negative transfer)"
        comparisons[row] = replace(compared, p_value=p_value, verdict=verdict)
    return comparisons


def _verdict(gain: float, p_value: float, seeds: int) -> Verdict:
    if seeds == 1:
        return ONE_SEED
    if p_value >= 0.05:
        return "not distinguishable"
    return "better" if gain > 0 else "worse"
