import dataclasses
import math

import numpy as np
import pytest

from dakit.comparison import compare, compare_rows
from dakit.errors import DakitError
from dakit.metrics import Evaluation, Round, summarise
from tiny import evaluation, right


def test_a_model_is_not_distinguishable_from_itself():
    rounds = [Round(s, f, right([5 + s, 4], [9, 9])) for s in range(2) for f in range(2)]
    c = compare(rounds, rounds)
    assert (c.difference, c.low, c.high, c.p_value, c.mcnemar) == (0, 0, 0, 1, None)
    assert c.verdict == "not distinguishable"


def test_mcnemar_by_hand():
    # 30 images: A alone right on 9, B alone on 1. p = 2 (C(10,0) + C(10,1)) / 2^10.
    a = evaluation([0] * 30, [0] * 9 + [1] * 1 + [0] * 20)
    b = evaluation([0] * 30, [1] * 9 + [0] * 1 + [0] * 20)
    c = compare([Round(0, 0, a)], [Round(0, 0, b)])
    assert c.mcnemar == pytest.approx(2 * (1 + 10) / 1024)
    assert c.difference == pytest.approx(8 / 30)
    assert c.verdict == "better"
    swapped = compare([Round(0, 0, b)], [Round(0, 0, a)])
    assert (swapped.difference, swapped.mcnemar, swapped.verdict) == (-c.difference, c.mcnemar, "worse")
    assert swapped.p_value == pytest.approx(c.p_value, rel=0.5)


def test_pairing_is_by_image_and_sees_what_two_intervals_would_not():
    # B is A with 4 more images right out of 200: paired that is sure, by the two intervals it is lost.
    a, b = right([50, 50], [100, 100]), right([54, 54], [100, 100])
    order = np.random.default_rng(0).permutation(200)
    shuffled = Evaluation(b.classes, b.indices[order], b.labels[order], b.predictions[order], b.probabilities[order])
    c = compare([Round(0, 0, shuffled)], [Round(0, 0, a)])
    assert c == compare([Round(0, 0, b)], [Round(0, 0, a)])
    # Each of the 8 gained images of 100 per class is drawn a Poisson-like number of times.
    error = math.sqrt(2 * 0.04 * 0.96 / 100) / 2
    assert (c.high - c.low) / 2 == pytest.approx(1.96 * error, rel=0.15)
    assert c.verdict == "better"
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
def test_against_a_paired_bootstrap_written_out(seeds, repeats):
    rng = np.random.default_rng(seeds)
    truth = rng.integers(0, 3, 120)
    a, b = (noisy(rng, accuracy, truth, seeds, repeats) for accuracy in (0.65, 0.55))

    def macro(one, images):
        hits = (one.evaluation.predictions == one.evaluation.labels)[images]
        return np.mean([hits[truth[images] == k].mean() for k in range(3)])

    drawn = []
    for _ in range(3000):
        images = np.concatenate([rng.choice(np.flatnonzero(truth == k), (truth == k).sum()) for k in range(3)])
        units = rng.integers(0, len(a), len(a))  # seeds or repeats, the same ones for both models
        drawn.append(np.mean([macro(a[u], images) - macro(b[u], images) for u in units]))
    c = compare(a, b)
    p_value = 2 * min(np.mean(np.array(drawn) <= 0), np.mean(np.array(drawn) >= 0))
    assert c.difference == pytest.approx(summarise(a).macro - summarise(b).macro)
    assert [c.low, c.high] == pytest.approx(np.quantile(drawn, [0.025, 0.975]), abs=0.012)
    assert c.p_value == pytest.approx(p_value, abs=0.02)
    assert (c.mcnemar is None) == (seeds * repeats > 1)
    assert c.images == 120


def test_the_level_under_no_difference_is_about_what_it_says():
    """Two models that are equally good: how often is the one called better or worse? (0.05 expected.)"""
    rng = np.random.default_rng(0)
    truth = np.repeat(np.arange(3), 30)
    found = sum(
        compare(noisy(rng, 0.5, truth, 1), noisy(rng, 0.5, truth, 1), resamples=999).verdict != "not distinguishable"
        for _ in range(400)
    )
    assert 0.02 < found / 400 < 0.09


def test_repeats_are_no_new_evidence():
    a, b = right([60, 20], [100, 50]), right([53, 20], [100, 50])
    once = compare([Round(0, 0, a)], [Round(0, 0, b)])
    often = compare([Round(0, r, a, r) for r in range(9)], [Round(0, r, b, r) for r in range(9)])
    assert often.high - often.low == pytest.approx(once.high - once.low, rel=0.05)


# --------------------------------------------------------------------------------------- several rows
def rows(**right_of_200):
    return {row: [Round(0, 0, right([n, 200], [200, 200]))] for row, n in right_of_200.items()}


def test_p_values_are_those_of_holm():
    rounds = rows(base=100, worse=92, little=103, better=112, same=100)
    found = compare_rows(rounds, "base", transferring=["worse"])
    alone = {row: compare(parts, rounds["base"]) for row, parts in rounds.items() if row != "base"}
    order = sorted(alone, key=lambda row: alone[row].p_value)
    assert order == ["better", "worse", "little", "same"]
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
    # 6 images gained and none lost: p = 0.003 or so for one row, and no difference any more for forty.
    few = compare_rows(rows(base=100, better=106), "base")["better"]
    many = compare_rows(rows(base=100, better=106, **{f"row_{i}": 100 for i in range(40)}), "base")["better"]
    assert (few.verdict, many.verdict) == ("better", "not distinguishable")
    assert (few.low, few.high) == (many.low, many.high)


def test_a_row_that_cannot_be_compared_says_why():
    rounds = rows(base=9, other=8)
    assert compare_rows(rounds, "gone") == dict.fromkeys(rounds, "the baseline gone was not run")
    rounds["other"] = [Round(1, 0, right([8, 200], [200, 200]))]
    assert "same seeds and folds" in compare_rows(rounds, "base")["other"]


def test_images_of_one_group_are_no_independent_evidence():
    """Six people with ten images each; A is right on all images of one person more."""
    labels, people = np.repeat([0, 0, 0, 1, 1, 1], 10), np.repeat(np.arange(6), 10).astype(str)
    a, b = (np.where(np.isin(people, wrong), 1 - labels, labels) for wrong in ([], ["0"]))
    one, other = ([Round(0, 0, dataclasses.replace(evaluation(labels, said), groups=people))] for said in (a, b))
    compared = compare(one, other)
    # Person 0 is left out of three draws of three with probability (2/3)^3.
    assert compared.p_value == pytest.approx(2 * (2 / 3) ** 3, abs=0.03)
    assert (compared.verdict, compared.mcnemar) == ("not distinguishable", None)
    by_image = compare([Round(0, 0, evaluation(labels, a))], [Round(0, 0, evaluation(labels, b))])
    assert by_image.verdict == "better"
