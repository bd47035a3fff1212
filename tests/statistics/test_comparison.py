import dataclasses
import math

import numpy as np
import pytest
from scipy.stats import t

from dakit.errors import DakitError
from dakit.statistics.comparison import compare, compare_rows
from dakit.statistics.metrics import ONE_SEED, Evaluation, Round, summarise
from tiny import evaluation, right


def test_a_model_is_not_distinguishable_from_itself():
    rounds = [Round(s, f, right([5 + s, 4], [9, 9])) for s in range(2) for f in range(2)]
    c = compare(rounds, rounds)
    assert (c.difference, c.p_value, c.mcnemar, c.verdict) == (0, 1, None, "not distinguishable")
    # That 18 images show none is not that there is none.
    assert -0.5 < c.low < -0.1 < 0.1 < c.high < 0.5


def test_mcnemar_by_hand():
    # 30 images: A alone right on 9, B alone on 1. p = 2 (C(10,0) + C(10,1)) / 2^10.
    a = evaluation([0] * 30, [0] * 9 + [1] * 1 + [0] * 20)
    b = evaluation([0] * 30, [1] * 9 + [0] * 1 + [0] * 20)
    c = compare([Round(0, 0, a)], [Round(0, 0, b)])
    assert c.mcnemar == pytest.approx(2 * (1 + 10) / 1024)
    assert c.difference == pytest.approx(8 / 30)
    swapped = compare([Round(0, 0, b)], [Round(0, 0, a)])
    assert (swapped.difference, swapped.mcnemar, swapped.p_value) == (-c.difference, c.mcnemar, c.p_value)
    assert (swapped.low, swapped.high) == (-c.high, -c.low)
    assert c.verdict == swapped.verdict == ONE_SEED
    thrice, back = ([[Round(s, 0, e) for s in range(3)] for e in pair] for pair in ((a, b), (b, a)))
    assert (compare(*thrice).verdict, compare(*back).verdict) == ("better", "worse")


def test_pairing_is_by_image_and_sees_what_two_intervals_would_not():
    # B is A with 4 more images right out of 200: paired that is sure, by the two intervals it is lost.
    a, b = right([50, 50], [100, 100]), right([54, 54], [100, 100])
    order = np.random.default_rng(0).permutation(200)
    shuffled = Evaluation(b.classes, b.indices[order], b.labels[order], b.predictions[order], b.probabilities[order])
    c = compare([Round(0, 0, shuffled)], [Round(0, 0, a)])
    assert c == compare([Round(0, 0, b)], [Round(0, 0, a)])
    # 4 of 100 in each class, and 3 / 2 more images of the effect that those have (a part of 200).
    images = 2 * 0.04 * 0.96 / 99 / 4
    more = 2 * 1.5 * (4 * 0.96**4 + 96 * 0.04**4) / (4 * 0.96**2 + 96 * 0.04**2) / 200**2 * 100 / 99
    assert (c.high - c.low) / 2 == pytest.approx(t.ppf(0.975, 198) * math.sqrt(images + more), rel=0.02)
    assert c.p_value == pytest.approx(2 * t.sf(0.04 / math.sqrt(images + more), 198), rel=0.05)
    assert c.mcnemar == pytest.approx(2 / 2**8)
    assert summarise([Round(0, 0, a)]).high > summarise([Round(0, 0, b)]).low


def test_only_the_same_images_seeds_and_folds_are_compared():
    a = evaluation([0, 1], [0, 1], indices=[0, 1])
    with pytest.raises(DakitError, match="same seeds and folds"):
        compare([Round(0, 0, a)], [Round(1, 0, a)])
    with pytest.raises(DakitError, match="same test images"):
        compare([Round(0, 0, a)], [Round(0, 0, evaluation([0, 1], [0, 1], indices=[0, 2]))])
    with pytest.raises(DakitError, match="labels are others"):
        compare([Round(0, 0, a)], [Round(0, 0, evaluation([1, 0], [0, 1], indices=[0, 1]))])


def noisy(rng, accuracy, truth, seeds, repeats=1):
    """Rounds of a model that is right on each image with its own probability, whatever the seed."""
    ease = rng.random(len(truth))
    rounds = []
    for seed in range(seeds):
        for repeat in range(repeats):
            hit = rng.random(len(truth)) < np.clip(accuracy + 0.4 * (ease - 0.5), 0, 1)
            said = np.where(hit, truth, (truth + 1) % 3)
            rounds.append(Round(seed, repeat, evaluation(truth, said, 3), repeat))
    return rounds


@pytest.mark.parametrize(("seeds", "repeats"), [(1, 1), (3, 1), (1, 3)])
def test_against_a_bootstrap_written_out(seeds, repeats):
    """Images are drawn for both models; what units differ by is t, and no less than images make them differ."""
    rng = np.random.default_rng(seeds)
    truth = rng.integers(0, 3, 120)
    a, b = (noisy(rng, accuracy, truth, seeds, repeats) for accuracy in (0.65, 0.55))

    def macro(one, images):
        hits = (one.evaluation.predictions == one.evaluation.labels)[images]
        return np.mean([hits[truth[images] == k].mean() for k in range(3)])

    drawn = []
    for _ in range(3000):
        images = np.concatenate([rng.choice(np.flatnonzero(truth == k), (truth == k).sum()) for k in range(3)])
        drawn.append([macro(one, images) - macro(other, images) for one, other in zip(a, b, strict=True)])
    values = np.array([one.evaluation.macro - other.evaluation.macro for one, other in zip(a, b, strict=True)])
    units = len(values)
    covariance = np.atleast_2d(np.cov(np.transpose(drawn)))
    errors = math.sqrt(covariance[0, 0]) * rng.standard_normal(200_000)
    if units > 1:
        shared = max(0.0, (covariance.sum() - covariance.trace()) / (units * (units - 1)))
        own = covariance.trace() / units - shared
        errors = math.sqrt(shared) * rng.standard_normal(200_000)
        errors += math.sqrt(max(own, values.var(ddof=1)) / units) * rng.standard_t(units - 1, 200_000)
    c = compare(a, b)
    assert c.difference == pytest.approx(values.mean())
    assert (c.high - c.low) / 2 == pytest.approx(np.quantile(abs(errors), 0.95), rel=0.06)
    assert c.p_value == pytest.approx((abs(errors) >= abs(values.mean())).mean(), abs=0.02)
    assert (c.mcnemar is None) == (units > 1)
    assert (c.verdict == ONE_SEED) == (seeds == 1)
    assert c.images == 120


def test_the_level_under_no_difference_is_about_what_it_says():
    """Networks that are equally good: how often do they differ with p < 0.05? (0.05 expected.)"""
    rng = np.random.default_rng(0)
    truth = np.repeat(np.arange(3), 30)
    found = sum(
        compare(noisy(rng, 0.5, truth, 1), noisy(rng, 0.5, truth, 1), resamples=999).p_value < 0.05 for _ in range(400)
    )
    assert 0.02 < found / 400 < 0.09


def lucky(rng, seeds, luck, accuracy=0.93, images=2007):
    """A method whose accuracy varies from training to training; every network errs on its own."""
    truth = np.arange(images) % 10
    rounds = []
    for seed in range(seeds):
        hit = rng.random(images) < np.clip(accuracy + luck * rng.standard_normal(), 0, 1)
        rounds.append(Round(seed, 0, evaluation(truth, np.where(hit, truth, (truth + 1) % 10), 10)))
    return rounds


def test_luck_of_training_makes_no_verdict():
    """Two equal methods, 2 points of luck: with one seed half of them differ, with several hardly any."""
    rng = np.random.default_rng(1)
    rates = {}
    for seeds in (1, 3):
        found = [compare(lucky(rng, seeds, 0.02), lucky(rng, seeds, 0.02), resamples=2000) for _ in range(100)]
        assert {c.verdict for c in found} <= ({ONE_SEED} if seeds == 1 else {"better", "worse", "not distinguishable"})
        rates[seeds] = np.mean([c.p_value < 0.05 for c in found])
    assert rates[1] > 0.3
    assert rates[3] <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / 100)


def test_a_real_difference_is_seen_by_ten_seeds():
    rng = np.random.default_rng(2)
    c = compare(lucky(rng, 10, 0.01, 0.95), lucky(rng, 10, 0.01, 0.91))
    assert (c.verdict, c.p_value < 0.001) == ("better", True)
    assert c.low < 0.04 < c.high


def test_one_seed_has_no_verdict_however_often_its_split_was_repeated():
    a, b = (right([n, 200], [200, 200]) for n in (190, 100))
    c = compare([Round(0, r, a, r) for r in range(9)], [Round(0, r, b, r) for r in range(9)])
    assert (c.verdict, c.p_value < 0.001) == (ONE_SEED, True)


def test_repeats_are_no_new_evidence():
    a, b = right([60, 20], [100, 50]), right([53, 20], [100, 50])
    once = compare([Round(0, 0, a)], [Round(0, 0, b)])
    often = compare([Round(0, r, a, r) for r in range(9)], [Round(0, r, b, r) for r in range(9)])
    assert often.high - often.low == pytest.approx(once.high - once.low, rel=0.05)


# --------------------------------------------------------------------------------------- several rows
def rows(seeds=3, **right_of_200):
    """Rows whose trainings all end alike, so that only images count."""
    return {row: [Round(s, 0, right([n, 200], [200, 200])) for s in range(seeds)] for row, n in right_of_200.items()}


def test_p_values_are_those_of_holm():
    rounds = rows(base=100, worse=82, little=103, better=115, same=100)
    found = compare_rows(rounds, "base", transferring=["worse"])
    alone = {row: compare(parts, rounds["base"]) for row, parts in rounds.items() if row != "base"}
    order = sorted(alone, key=lambda row: alone[row].p_value)
    assert order == ["worse", "better", "little", "same"]
    adjusted, so_far = {}, 0.0
    for factor, row in zip((4, 3, 2, 1), order, strict=True):
        so_far = max(so_far, min(1.0, factor * alone[row].p_value))
        adjusted[row] = so_far
    assert {row: c.p_value for row, c in found.items()} == pytest.approx(adjusted)
    assert [found[row].verdict for row in ("better", "worse", "little", "same")] == [
        "better", "worse (negative transfer)", "not distinguishable", "not distinguishable",
    ]  # fmt: skip
    assert (found["little"].low, found["little"].high) == (alone["little"].low, alone["little"].high)
    assert compare_rows(rounds, "base")["worse"].verdict == "worse"


def test_several_rows_need_more_than_one():
    # 8 images gained and none lost: p = 0.02 or so for one row, and no difference any more for forty.
    few = compare_rows(rows(base=100, better=108), "base")["better"]
    many = compare_rows(rows(base=100, better=108, **{f"row_{i}": 100 for i in range(40)}), "base")["better"]
    assert (few.verdict, many.verdict) == ("better", "not distinguishable")
    assert (few.low, few.high) == (many.low, many.high)
    alone = compare_rows(rows(seeds=1, base=100, better=180), "base", transferring=["better"])["better"]
    assert (alone.verdict, alone.p_value < 0.001) == (ONE_SEED, True)


def test_a_row_that_cannot_be_compared_says_why():
    rounds = rows(base=9, other=8)
    assert compare_rows(rounds, "gone") == dict.fromkeys(rounds, "the baseline gone was not run")
    rounds["other"] = [Round(1, 0, right([8, 200], [200, 200]))]
    assert "same seeds and folds" in compare_rows(rounds, "base")["other"]


def test_images_of_one_group_are_no_independent_evidence():
    """Six people with ten images each; A is right on all images of one person more."""
    labels, people = np.repeat([0, 0, 0, 1, 1, 1], 10), np.repeat(np.arange(6), 10).astype(str)
    a, b = (np.where(np.isin(people, wrong), 1 - labels, labels) for wrong in ([], ["0"]))
    one, other = (
        [Round(s, 0, dataclasses.replace(evaluation(labels, said), groups=people)) for s in range(3)] for said in (a, b)
    )
    compared = compare(one, other)
    assert compared.p_value > 0.2
    assert (compared.verdict, compared.mcnemar) == ("not distinguishable", None)
    one, other = ([Round(s, 0, evaluation(labels, said)) for s in range(3)] for said in (a, b))
    assert compare(one, other).verdict == "better"


def test_images_without_a_group_are_evidence_each_for_itself():
    """59 of 60 against 60 of 60; as one person they were "worse, p = 0.0002"."""
    a, b = (dataclasses.replace(right([30, n], [30, 30]), groups=np.array([""] * 60)) for n in (29, 30))
    c = compare([Round(s, 0, a) for s in range(3)], [Round(s, 0, b) for s in range(3)])
    assert (c.verdict, c.p_value > 0.3) == ("not distinguishable", True)
    assert compare([Round(0, 0, a)], [Round(0, 0, b)]).mcnemar == 1
