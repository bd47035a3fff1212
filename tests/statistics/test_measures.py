"""Every metric against an independent calculation, and its influences against leaving out one group after another."""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import Any

import numpy as np
import pytest
from scipy.stats import mannwhitneyu
from sklearn import metrics as reference

from dakit.errors import DakitError
from dakit.statistics.comparison import compare, compare_rows
from dakit.statistics.health import lost_to_source
from dakit.statistics.measures import BINS, MACRO_ACCURACY, METRICS, Pooled, metric_named
from dakit.statistics.metrics import Evaluation, Figures, Round, Tally, summarise

OTHERS = [name for name in METRICS if name != "macro_accuracy"]


def drawn(seed: int, n: int = 120, k: int = 3, per_group: int = 1, sharp: float = 1.5) -> Evaluation:
    """Images of unequal classes, read by a network that is better than guessing; ``per_group`` images of a group."""
    rng = np.random.default_rng(seed)
    people = -(-n // per_group)
    labels = np.repeat(rng.choice(k, people, p=np.arange(1, k + 1) / (k * (k + 1) / 2)), per_group)[:n]
    labels[: k * per_group] = np.repeat(np.arange(k), per_group)
    logits = rng.normal(size=(n, k)) + sharp * np.eye(k)[labels]
    logits += np.repeat(rng.normal(size=(people, k)), per_group, axis=0)[:n] * 0.7
    table = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    groups = np.repeat([f"g{i}" for i in range(people)], per_group)[:n]
    return Evaluation(tuple("abcdefgh"[:k]), np.arange(n), labels, table.argmax(1), table.astype(np.float32), groups)


def pooled(e: Evaluation, keep: Any = None) -> Pooled:
    keep = np.arange(len(e.labels)) if keep is None else keep
    _, groups = np.unique(e.groups, return_inverse=True)
    return Pooled(e.classes, e.labels[keep], e.predictions[keep], e.probabilities[keep], groups[keep])


# ------------------------------------------------------------------------------------------- values
def test_accuracy_is_the_share_that_is_right():
    e = drawn(0)
    found = METRICS["accuracy"].measure(pooled(e))
    assert found.value == pytest.approx(sum(a == b for a, b in zip(e.labels, e.predictions, strict=True)) / 120)
    np.testing.assert_allclose(found.per_class, e.recall)


def test_macro_f1_from_precision_and_recall():
    e = drawn(1)
    found = METRICS["macro_f1"].measure(pooled(e))
    by_hand = []
    for k in range(3):
        precision = (e.labels[e.predictions == k] == k).mean()
        recall = (e.predictions[e.labels == k] == k).mean()
        by_hand.append(2 * precision * recall / (precision + recall))
    np.testing.assert_allclose(found.per_class, by_hand)
    assert found.value == pytest.approx(np.mean(by_hand))


def test_macro_f1_of_a_class_that_is_only_said_or_never_met():
    said = np.array([0, 0, 2, 1])
    e = Evaluation(
        ("a", "b", "c", "d"), np.arange(4), np.array([0, 0, 1, 1]), said, np.eye(4)[said], np.array([""] * 4)
    )
    found = METRICS["macro_f1"].measure(pooled(e))
    assert found.per_class.tolist() == pytest.approx([1, 2 / 3, 0, math.nan], nan_ok=True)
    assert found.value == pytest.approx(reference.f1_score(e.labels, said, average="macro"))


def test_auroc_is_how_often_an_image_of_a_class_comes_before_another():
    e = drawn(2)
    e = dataclasses.replace(e, probabilities=e.probabilities.round(1))  # many ties
    found = METRICS["auroc"].measure(pooled(e))
    by_hand = []
    for k in range(3):
        mine, others = (e.probabilities[side, k].tolist() for side in (e.labels == k, e.labels != k))
        wins = sum((a > b) + 0.5 * (a == b) for a, b in itertools.product(mine, others))
        by_hand.append(wins / (len(mine) * len(others)))
        statistic = mannwhitneyu(mine, others).statistic
        assert by_hand[-1] == pytest.approx(statistic / (len(mine) * len(others)))
    np.testing.assert_allclose(found.per_class, by_hand)
    assert found.value == pytest.approx(np.mean(by_hand))


def test_the_variance_of_one_area_is_delongs():
    """Two classes whose probabilities mirror each other: both areas are one, and its variance is s10 / m + s01 / n."""
    e = drawn(3, n=80, k=2)
    mine, others = (e.probabilities[side, 1] for side in (e.labels == 1, e.labels == 0))
    wins = (mine[:, None] > others[None]) + 0.5 * (mine[:, None] == others[None])
    delong = wins.mean(1).var(ddof=1) / len(mine) + wins.mean(0).var(ddof=1) / len(others)
    figures = Figures.of([Round(0, 0, e)], METRICS["auroc"], Tally.of([Round(0, 0, e)]))
    assert (figures.effects**2).sum() == pytest.approx(delong, rel=1e-5)


def test_the_calibration_error_bin_by_bin():
    e = drawn(4, n=200)
    found = METRICS["ece"].measure(pooled(e))
    sure = e.probabilities.max(1)
    total = 0.0
    for b in range(BINS):
        inside = (sure > b / BINS) & (sure <= (b + 1) / BINS)
        if inside.any():
            right = (e.predictions == e.labels)[inside].mean()
            total += inside.sum() / 200 * abs(right - sure[inside].astype(float).mean())
    assert found.value == pytest.approx(total)
    assert np.isnan(found.per_class).all()


def test_where_calibration_is_perfect_the_error_is_its_excess():
    rng = np.random.default_rng(0)
    values, excesses = [], []
    for _ in range(300):
        sure = rng.uniform(0.5, 1, 300)
        labels = (rng.random(300) > sure).astype(int)  # said is always 0, right with just this probability
        table = np.stack([sure, 1 - sure], 1)
        of = METRICS["ece"].measure(Pooled(("a", "b"), labels, np.zeros(300, int), table, np.arange(300)))
        values.append(of.value)
        excesses.append(of.excess)
    assert np.mean(values) > 0.04  # although the truth is 0
    assert np.mean(values) == pytest.approx(np.mean(excesses), rel=0.1)


def test_a_vote_of_groups():
    # a's three images are two wrong and one right, which is surer; b's two agree; "" is an image of its own.
    table = np.array([[0.4, 0.6], [0.45, 0.55], [0.9, 0.1], [0.2, 0.8], [0.3, 0.7], [0.8, 0.2]])
    groups = np.array([0, 0, 0, 1, 1, 2])
    tests = Pooled(("x", "y"), np.array([0, 0, 0, 1, 1, 1]), table.argmax(1), table, groups)
    found = METRICS["vote"].measure(tests)
    assert found.value == pytest.approx(2 / 3)
    assert found.per_class.tolist() == [1, 0.5]
    with pytest.raises(DakitError, match="groups of one class each"):
        METRICS["vote"].measure(tests._replace(labels=np.array([0, 1, 0, 1, 1, 1])))


def test_auroc_needs_every_class():
    e = drawn(0, k=3)
    only = np.flatnonzero(e.labels != 1)
    with pytest.raises(DakitError, match="AUROC needs test images of every class; there is none of b"):
        METRICS["auroc"].measure(pooled(e, only))


def test_an_unknown_metric_names_the_nearest():
    assert metric_named("macro_accuracy") is MACRO_ACCURACY
    with pytest.raises(DakitError, match='there is no metric "acuracy", did you mean "accuracy"'):
        metric_named("acuracy")


# --------------------------------------------------------------------------------------- influences
@pytest.mark.parametrize("per_group", [1, 3])
@pytest.mark.parametrize("name", [name for name in OTHERS if name != "ece"])
def test_influences_are_what_leaving_a_group_out_does(name, per_group):
    """The jackknife, with each group left out in turn, has the variance of the influences and goes their way."""
    e = drawn(5, n=300 * per_group, per_group=per_group)
    rounds = [Round(0, 0, e)]
    tally = Tally.of(rounds)
    metric = METRICS[name]
    figures = Figures.of(rounds, metric, tally)
    without = np.array(
        [metric.measure(pooled(e, np.flatnonzero(tally.groups != g))).value for g in range(tally.groups.max() + 1)]
    )
    strata, _ = tally.strata()
    jackknife = np.zeros(len(without))
    for stratum in np.unique(strata):
        mine = strata == stratum
        m = mine.sum()
        jackknife[mine] = (without[mine].mean() - without[mine]) * math.sqrt((m - 1) / m)
    assert (figures.effects[:, 0] ** 2).sum() == pytest.approx((jackknife**2).sum(), rel=0.04)
    assert np.corrcoef(figures.effects[:, 0], jackknife)[0, 1] > 0.995


def test_influences_of_the_calibration_error_where_no_bin_turns():
    """Far from calibrated, so that leaving one image out never changes a bin's sign."""
    rng = np.random.default_rng(1)
    n = 400
    labels = (rng.random(n) < 0.3).astype(int)  # said 0 with confidence 0.95, right in 70 %
    sure = rng.uniform(0.94, 0.99, n)
    table = np.stack([sure, 1 - sure], 1)
    e = Evaluation(("a", "b"), np.arange(n), labels, table.argmax(1), table, np.array([f"{i}" for i in range(n)]))
    metric = METRICS["ece"]
    whole = metric.measure(pooled(e))
    for i in range(0, n, 40):
        without = metric.measure(pooled(e, np.flatnonzero(np.arange(n) != i))).value
        assert whole.influence[i] == pytest.approx((whole.value - without) * (n - 1) / n, rel=1e-6, abs=1e-12)


@pytest.mark.parametrize("name", OTHERS)
def test_influences_sum_to_nothing(name):
    found = METRICS[name].measure(pooled(drawn(6, n=90, per_group=2)))
    assert found.influence.sum() == pytest.approx(0, abs=1e-7)
    assert (np.abs(found.influence) <= found.most * 2 + 1e-12).all()


def test_influences_of_recalls_are_the_tallys_own():
    """Macro accuracy, written as influences, is what the tally counts: the two ways are one."""
    e = drawn(7, n=200)
    tally = Tally.of([Round(0, 0, e)])
    size = np.bincount(e.labels)[e.labels]
    influence = ((e.predictions == e.labels) - e.recall[e.labels]) / size / 3
    effects, _ = tally.influences(np.arange(200), influence, influence)
    np.testing.assert_allclose(effects, tally.effects()[:, 0], atol=1e-15)


# --------------------------------------------------------------------------- summaries and verdicts
def test_the_usual_metric_is_unchanged_by_the_others():
    rounds = [Round(seed, 0, drawn(seed)) for seed in range(1)]
    one, other = summarise(rounds), summarise(rounds, metric=METRICS["accuracy"])
    assert one.value == one.macro == other.macro
    assert one.metric is MACRO_ACCURACY
    assert other.value == pytest.approx(rounds[0].evaluation.accuracy)


def changed(e: Evaluation, power: float) -> Evaluation:
    """The same predictions with other confidence: a power above 1 makes them surer."""
    table = e.probabilities.astype(float) ** power
    return dataclasses.replace(e, probabilities=(table / table.sum(1, keepdims=True)).astype(np.float32))


def test_less_calibration_error_is_better():
    # The same networks, surer than they may be: by accuracy equal, by calibration worse.
    fine = [Round(seed, 0, dataclasses.replace(drawn(0, n=3000), groups=None)) for seed in range(4)]
    table = fine[0].evaluation.probabilities
    overdone = [one._replace(evaluation=changed(one.evaluation, 6.0)) for one in fine]
    ece = METRICS["ece"]
    assert summarise(overdone, metric=ece).value > summarise(fine, metric=ece).value + 0.1
    assert table is fine[0].evaluation.probabilities
    rows = {"fine": fine, "overdone": overdone}
    found = compare_rows(rows, "fine", transferring=["overdone"], metric=ece)["overdone"]
    assert found.difference > 0
    assert found.verdict == "worse (negative transfer)"
    assert compare(fine, overdone, metric=ece).verdict == "better"
    assert compare(fine, overdone, metric=METRICS["accuracy"]).verdict == "not distinguishable"
    (text,) = lost_to_source("fine", rows, ece)
    assert "overdone is worse than fine" in text
    assert lost_to_source("overdone", rows, ece) == []


def test_an_excess_that_may_explain_a_difference_is_no_verdict():
    """Two networks, both perfectly calibrated, one surer and more often right: what differs is the noise in their bins.

    Logits of class k are normal around ``sharp`` at k, so softmax(sharp x + log prior) is the true posterior.
    """
    rng = np.random.default_rng(0)
    prior = np.array([0.1, 0.2, 0.3, 0.4])
    verdicts = without = 0
    for _ in range(60):
        labels = rng.choice(4, 90, p=prior)
        found = []
        for sharp in (1.0, 2.5):
            rounds = []
            shared = rng.standard_normal((90, 4))
            for seed in range(5):
                x = math.sqrt(0.7) * shared + math.sqrt(0.3) * rng.standard_normal((90, 4)) + sharp * np.eye(4)[labels]
                odds = prior * np.exp(sharp * x)
                table = odds / odds.sum(1, keepdims=True)
                e = Evaluation(tuple("abcd"), np.arange(90), labels, table.argmax(1), table)
                rounds.append(Round(seed, 0, e))
            found.append(Figures.of(rounds, METRICS["ece"], Tally.of(rounds)))
        difference = found[0].estimate(found[1])
        assert difference.value > 0
        verdicts += difference.test(0.95, 2000, 0)[1] < 0.05
        without += difference._replace(over=0.0, under=0.0).test(0.95, 2000, 0)[1] < 0.05
    assert verdicts <= 1
    assert without > 5  # why the excess is taken off first


def test_seeds_repeats_and_folds_pool_as_they_do_for_macro_accuracy():
    e = drawn(8, n=120)
    halves = [np.arange(0, 120, 2), np.arange(1, 120, 2)]

    def part(which: Any) -> Evaluation:
        fields = ("indices", "labels", "predictions", "probabilities", "groups")
        return Evaluation(e.classes, *(getattr(e, field)[which] for field in fields))

    folds = [Round(0, fold, part(which)) for fold, which in enumerate(halves)]
    for name in OTHERS:
        whole, pool = (summarise(rounds, metric=METRICS[name]) for rounds in ([Round(0, 0, e)], folds))
        assert (pool.value, pool.low, pool.high) == pytest.approx((whole.value, whole.low, whole.high))
        assert pool.images == 120
        several = summarise([Round(s, 0, drawn(8, n=120)) for s in range(3)], metric=METRICS[name])
        assert several.per_seed == {s: pytest.approx(whole.value) for s in range(3)}
        assert several.high - several.low == pytest.approx(whole.high - whole.low, rel=0.15)


@pytest.mark.parametrize("name", OTHERS)
def test_where_all_is_right_the_interval_still_has_a_width(name):
    labels = np.repeat([0, 1, 2], 20)
    table = np.eye(3, dtype=np.float32)[labels]
    s = summarise(
        [Round(0, 0, Evaluation(("a", "b", "c"), np.arange(60), labels, labels, table))], metric=METRICS[name]
    )
    assert s.value == (0 if name == "ece" else 1)
    assert s.high - s.low > 0.02
