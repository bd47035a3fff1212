import dataclasses
import math
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, norm, t
from sklearn import metrics as reference

from dakit.errors import DakitError
from dakit.statistics.metrics import ONE_SEED, Estimate, Evaluation, Round, Tally, summarise
from tiny import evaluation, right

# Zhang et al. 2018: per class, then "Ave.". (AlexNet and ResNet-38 in Table 2 are printed 0.01 and 0.03 too low.)
PAPER = {
    "Table 2, ResNet-50": ([71.41, 88.48, 61.65, 94.01, 80.74, 75.28, 95.32], 80.98),
    "Table 2, ResNet-101": ([72.43, 87.78, 65.37, 88.98, 77.82, 75.49, 96.77], 80.66),
    "Table 5, S2T": ([17.21, 23.52, 18.93, 55.62, 21.32, 9.83, 10.30], 22.40),
    "Table 5, CycleAT": ([34.91, 25.95, 23.61, 55.85, 23.43, 32.00, 19.52], 30.75),
    "Table 6, S2T": ([28.57, 16.67, 10.00, 65.79, 37.04, 23.08], 30.19),
    "Table 6, CycleAT": ([58.57, 38.33, 18.00, 79.34, 61.48, 24.62], 46.72),
}


@st.composite
def evaluations(draw):
    k = draw(st.integers(2, 5))
    pairs = draw(st.lists(st.tuples(st.integers(0, k - 1), st.integers(0, k - 1)), min_size=1, max_size=40))
    return evaluation(*zip(*pairs, strict=True), classes=k)


# ------------------------------------------------------------------------------------ one evaluation
@settings(deadline=None)
@given(evaluations())
def test_rates_are_those_of_scikit_learn(e):
    present = np.unique(e.labels)
    everything = range(len(e.classes))
    assert (e.confusion == reference.confusion_matrix(e.labels, e.predictions, labels=everything)).all()
    recall = reference.recall_score(e.labels, e.predictions, labels=present, average=None, zero_division=0)
    np.testing.assert_allclose(e.recall[present], recall)
    assert np.isnan(np.delete(e.recall, present)).all()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="y_pred contains classes not in y_true")
        warnings.filterwarnings("ignore", message="A single label was found")
        assert e.macro == pytest.approx(reference.balanced_accuracy_score(e.labels, e.predictions))
    assert e.accuracy == pytest.approx(reference.accuracy_score(e.labels, e.predictions))


@pytest.mark.parametrize("row", PAPER)
def test_macro_is_the_last_column_of_the_papers_tables(row):
    per_class, ave = PAPER[row]
    # Classes of very different size, so that top-1 accuracy is something else.
    of = [10_000 * (1 + 3 * (k % 2)) for k in range(len(per_class))]
    e = right([round(percent / 100 * n) for percent, n in zip(per_class, of, strict=True)], of)
    np.testing.assert_allclose(100 * e.recall, per_class)
    assert 100 * e.macro == pytest.approx(ave, abs=0.0101)  # numbers and mean are each rounded to 0.005
    assert abs(e.accuracy - e.macro) > 0.002


def test_a_saved_evaluation_is_read_back_whole(tmp_path: Path):
    e = evaluation([0, 1, 2, 1], [0, 2, 2, 1], 3, indices=[7, 3, 11, 5])
    e.save(tmp_path, "evaluation")
    assert {p.name.split(".")[0] for p in tmp_path.iterdir()} == {"evaluation"}
    again = Evaluation.load(tmp_path, "evaluation")
    assert again.classes == e.classes
    for name in ("indices", "labels", "predictions", "probabilities"):
        found, expected = getattr(again, name), getattr(e, name)
        assert found.dtype == expected.dtype
        assert (found == expected).all()


def test_what_cannot_be_evaluated_is_refused():
    with pytest.raises(DakitError, match="no test images"):
        evaluation([], [])
    with pytest.raises(DakitError, match="2 of 3 test images have no label"):
        evaluation([-1, 0, -1], [0, 0, 0])
    with pytest.raises(ValueError, match="must be in"):
        Evaluation(("a", "b"), np.arange(1), np.array([2]), np.array([0]), np.zeros((1, 2)))
    with pytest.raises(ValueError, match="shapes"):
        Evaluation(("a", "b"), np.arange(2), np.array([0]), np.array([0]), np.zeros((1, 2)))


# ------------------------------------------------------------------------------------------ summaries
def test_folds_are_pooled_and_seeds_averaged():
    # Seed 0: class a 1 of 2 in fold 0 and 2 of 2 in fold 1: 3/4; class b 0/1 and 1/1: 1/2. Seed 1: all right.
    rounds = [
        Round(0, 0, evaluation([0, 0, 1], [0, 1, 0], indices=[0, 1, 2])),
        Round(0, 1, evaluation([0, 0, 1], [0, 0, 1], indices=[3, 4, 5])),
        Round(1, 0, evaluation([0, 0, 1], [0, 0, 1], indices=[0, 3, 5])),
        Round(1, 1, evaluation([0, 0, 1], [0, 0, 1], indices=[1, 4, 2])),
    ]
    s = summarise(rounds)
    assert s.per_seed == {0: pytest.approx(0.625), 1: pytest.approx(1.0)}
    assert s.macro == pytest.approx((0.625 + 1) / 2)
    assert s.per_class.tolist() == pytest.approx([(0.75 + 1) / 2, (0.5 + 1) / 2])
    assert s.confusion.tolist() == [[7, 1], [1, 3]]
    assert (s.seeds, s.folds, s.images) == ((0, 1), (0, 1), 6)
    # The mean of the folds' own macros would be another number: folds are pooled.
    unequal = [
        Round(0, 0, evaluation([0, 0, 0, 1], [0, 0, 0, 0], indices=[0, 1, 2, 3])),
        Round(0, 1, evaluation([0, 1], [1, 1], indices=[4, 5])),
    ]
    assert summarise(unequal).macro == pytest.approx((3 / 4 + 1 / 2) / 2)


def test_the_interval_of_a_large_test_is_the_analytic_one():
    of, counts = [4000, 1000, 2500], [2000, 900, 500]
    p = np.array(counts) / np.array(of)
    error = math.sqrt((p * (1 - p) / np.array(of)).sum()) / 3
    s = summarise([Round(0, 0, right(counts, of))], resamples=20_000)
    assert s.macro == pytest.approx(p.mean())
    assert (s.high - s.low) / 2 == pytest.approx(1.96 * error, rel=0.04)
    assert (s.high + s.low) / 2 == pytest.approx(s.macro, abs=0.1 * error)
    narrow = summarise([Round(0, 0, right(counts, of))], resamples=20_000, confidence=0.5)
    assert (narrow.high - narrow.low) / 2 == pytest.approx(0.6745 * error, rel=0.04)


def test_one_seed_of_one_class_by_hand():
    # 10 of 40 right. Effects are (1 - 1/4) / 40 and -1/4 / 40; three more images of the squared effect below.
    s = summarise([Round(0, 0, evaluation([0] * 40, [0] * 10 + [1] * 30))], resamples=200_000)
    images = 0.25 * 0.75 / 39
    typical = (10 * 0.75**4 + 30 * 0.25**4) / (10 * 0.75**2 + 30 * 0.25**2) / 40**2 * 40 / 39
    assert s.macro == 0.25
    assert s.high - s.macro == pytest.approx(t.ppf(0.975, 39) * math.sqrt(images + 3 * typical), rel=0.02)


def test_where_all_is_right_the_interval_still_has_a_width():
    # In each of three classes one more image (3 / 3), and with 60 degrees of freedom: 3 x 19 by its parts.
    s = summarise([Round(0, 0, right([20, 20, 20], [20, 20, 20]))], resamples=200_000)
    assert (s.macro, s.high) == (1, 1)
    assert s.low == pytest.approx(1 - t.ppf(0.975, 57) * math.sqrt(3 / 60**2), abs=0.001)


def test_a_class_that_is_alone_in_its_group_or_image_has_an_error():
    # One image of class 1: nothing is known of how such images differ, so it counts as if it could turn.
    s = summarise([Round(0, 0, right([50, 1], [100, 1]))])
    assert s.high == 1
    assert s.macro - s.low > 0.5


def test_three_more_images_make_the_normal_test_agree_with_the_exact_one():
    """A alone is right on a images and B alone on b, of 100,000: p < 0.05 by z where it is by the sign test."""
    n = 100_000
    for total in range(1, 18):
        for a in range(total + 1):
            effects = np.zeros((n, 1))
            effects[:a], effects[a:total] = 1 / n, -1 / n
            mean = effects.sum()
            found = Estimate.of(np.array([mean]), effects - mean / n, np.full(n, 1 / n), np.zeros(n, np.int64))
            z = found.value / math.sqrt(found.images)
            assert (2 * norm.sf(abs(z)) < 0.05) == (binomtest(a, total).pvalue < 0.05), (a, total)


def test_seeds_share_their_images():
    # Three seeds that agree on every image know no more than one.
    e = right([60, 20], [100, 50])
    one, three = summarise([Round(0, 0, e)]), summarise([Round(s, 0, e) for s in range(3)])
    assert three.high - three.low == pytest.approx(one.high - one.low, rel=0.1)


def test_seeds_are_a_sample_of_trainings():
    # Many images, so that only the seeds' 60, 70 and 80 percent count: t with 2 degrees of freedom, s = 0.1.
    rounds = [Round(seed, 0, right([n, n], [100_000, 100_000])) for seed, n in enumerate((60_000, 70_000, 80_000))]
    s = summarise(rounds, resamples=200_000, confidence=0.8)
    assert s.macro == pytest.approx(0.7)
    assert s.high - s.macro == pytest.approx(t.ppf(0.9, 2) * 0.1 / math.sqrt(3), rel=0.02)
    assert s.resampled == "test images within their class, and seeds"
    alone = summarise(rounds[:1])
    assert alone.high - alone.low < 0.006
    assert alone.resampled == f"test images within their class; {ONE_SEED}"


def test_seeds_that_agree_by_chance_are_not_taken_to_be_equal():
    """Three seeds with 50 of 100 each, on other images each: images alone make seeds differ by sqrt(p (1 - p) / n)."""
    labels = np.repeat([0, 1], 100)
    hits = np.random.default_rng(0).permuted(np.tile(np.arange(100) < 50, (3, 2, 1)), axis=2).reshape(3, 200)
    rounds = [Round(seed, 0, evaluation(labels, np.where(hit, labels, 1 - labels))) for seed, hit in enumerate(hits)]
    found = Tally.of(rounds).estimate()
    assert found.value == 0.5
    effects = (hits - 0.5) / 200 * math.sqrt(100 / 99)
    covariance = effects @ effects.T
    between = (covariance.trace() - (covariance.sum() - covariance.trace()) / 2) / 3
    assert found.units == pytest.approx(between / 3)
    assert math.sqrt(between) == pytest.approx(math.sqrt(0.25 / 200), rel=0.1)


def test_against_a_bootstrap_written_out_with_different_images_in_each_seed():
    rng = np.random.default_rng(3)
    truth = rng.integers(0, 3, 90)
    rounds = []
    for seed in range(3):
        tested = np.sort(rng.permutation(90)[:60])
        said = np.where(rng.random(60) < 0.4 + 0.1 * seed, truth[tested], rng.integers(0, 3, 60))
        rounds.append(Round(seed, 0, evaluation(truth[tested], said, 3, tested)))
    union = sorted({int(i) for one in rounds for i in one.evaluation.indices})
    drawn = []
    for _ in range(1500):
        images = [i for k in range(3) for i in rng.choice([j for j in union if truth[j] == k], sum(truth[union] == k))]
        macros = []
        for one in rounds:
            verdict = dict(
                zip(one.evaluation.indices.tolist(), one.evaluation.predictions == one.evaluation.labels, strict=True)
            )
            met = [(truth[i], verdict[i]) for i in images if i in verdict]
            macros.append(np.mean([np.mean([hit for k, hit in met if k == label]) for label in range(3)]))
        drawn.append(macros)
    tally = Tally.of(rounds)
    assert len(tally.labels) == len(union)
    assert tally.macros() == pytest.approx([one.evaluation.macro for one in rounds])
    effects = tally.effects()
    expected = np.cov(np.transpose(drawn))
    assert effects.T @ effects == pytest.approx(expected, abs=0.15 * expected.max())
    assert summarise(rounds).macro == pytest.approx(tally.macros().mean())


def test_a_class_that_a_seed_has_not_tested_is_left_out_of_its_mean():
    rounds = [
        Round(0, 0, evaluation([0, 0, 1], [0, 1, 1], 3, [0, 1, 2])),
        Round(1, 0, evaluation([0, 0], [0, 0], 3, [0, 3])),
    ]
    s = summarise(rounds)
    assert s.per_seed == {0: 0.75, 1: 1.0}
    assert s.per_class.tolist() == pytest.approx([0.75, 1.0, math.nan], nan_ok=True)
    assert 0 <= s.low <= s.macro <= s.high <= 1


def test_a_summary_is_the_same_each_time_and_in_any_order():
    rounds = [Round(s, 0, right([50 + s, 30], [90, 91])) for s in range(3)]
    first, again = summarise(rounds), summarise(rounds[::-1])
    assert (first.low, first.high, first.per_seed) == (again.low, again.high, again.per_seed)
    assert (summarise(rounds, seed=1).low, summarise(rounds, seed=1).high) != (first.low, first.high)


def test_evaluations_of_different_data_are_refused():
    with pytest.raises(DakitError, match="nothing to summarise"):
        summarise([])
    with pytest.raises(DakitError, match="two labels"):
        summarise([Round(0, 0, evaluation([0], [0])), Round(1, 0, evaluation([1], [0]))])
    with pytest.raises(DakitError, match="different classes"):
        summarise([Round(0, 0, evaluation([0], [0], 2)), Round(1, 0, evaluation([0], [0], 3))])


# ------------------------------------------------------------------------------------------ repeats
def test_repeats_of_a_split_are_averaged_and_make_no_new_images():
    # Repeat 0 deals the four images to two folds, repeat 1 to two others; 3 of 4 are right, then all.
    rounds = [
        Round(0, 0, evaluation([0, 1], [0, 1], indices=[0, 1])),
        Round(0, 1, evaluation([0, 1], [1, 1], indices=[2, 3])),
        Round(0, 2, evaluation([0, 1], [0, 1], indices=[0, 3]), 1),
        Round(0, 3, evaluation([0, 1], [0, 1], indices=[2, 1]), 1),
    ]
    s = summarise(rounds)
    assert (s.images, s.repeats, s.folds, s.macro) == (4, 2, (0, 1, 2, 3), (0.75 + 1) / 2)
    assert s.per_seed == {0: 0.875}
    assert "repeats" in s.resampled
    # Repeats that agree on every image know no more than one.
    e = right([60, 20], [100, 50])
    one, five = summarise([Round(0, 0, e)]), summarise([Round(0, r, e, r) for r in range(5)])
    assert five.high - five.low == pytest.approx(one.high - one.low, rel=0.1)


def test_with_several_seeds_a_seed_counts_with_all_its_repeats():
    # Repeats differ as much as they can and seeds not at all.
    rounds = [Round(s, r, right([9 * r, 9 * r], [9, 9]), r) for s in range(2) for r in range(2)]
    several, alone = Tally.of(rounds).estimate(), Tally.of(rounds[:2]).estimate()
    assert (several.value, several.units, several.number) == (0.5, 0, 2)
    assert (alone.value, alone.units, alone.number) == (0.5, 0.5 / 2, 2)
    assert summarise(rounds[:2]).resampled.endswith(f"repeats of the split; {ONE_SEED}")


# ----------------------------------------------------------------------------------- groups of images
def grouped(labels, said, groups):
    e = evaluation(labels, said)
    return dataclasses.replace(e, groups=np.array(groups))


def test_whole_groups_within_their_class():
    # Class 0 is person a with three images, all right, and b with one, wrong; the people of class 1 are right.
    e = grouped([0, 0, 0, 0, 1, 1], [0, 0, 0, 1, 1, 1], ["a", "a", "a", "b", "c", "d"])
    # Of class 0 a bootstrap draws a twice (macro 1), both (0.875) or b twice (0.5): 1/4, 1/2, 1/4, variance 0.03516.
    tally = Tally.of([Round(0, 0, e)])
    drawn = np.repeat([1, 0.875, 0.5], [1, 2, 1])
    assert tally.effects()[:, 0] == pytest.approx([drawn.std() / math.sqrt(2), -drawn.std() / math.sqrt(2), 0, 0])
    # Two strata: 3 / 2 more groups of each, of that effect, and of 1 of 4 parts where there is none.
    assert tally.estimate().images == pytest.approx(drawn.var() + 1.5 * drawn.var() / 2 + 1.5 * 0.25**2)
    s = summarise([Round(0, 0, e)])
    assert (s.macro, s.grouped) == (0.875, True)
    assert s.resampled == f"whole groups of test images; {ONE_SEED}"


def test_groups_of_several_classes():
    # a: class 0, right; b: class 0 wrong and class 1 right.
    tally = Tally.of([Round(0, 0, grouped([0, 0, 1], [0, 1, 1], ["a", "b", "b"]))])
    # Class 0 has (1 - 1/2) / (2 x 2) and its negative, times the root of 2 groups of 1; class 1 is all right.
    effect = math.sqrt(2) * 0.125
    assert tally.effects()[:, 0] == pytest.approx([effect, -effect])
    assert tally.estimate().images == pytest.approx((2 + 3) * effect**2)


def test_an_image_without_a_group_is_its_own():
    labels, said = [0, 0, 0, 1, 1, 1, 1], [0, 1, 0, 1, 1, 0, 1]
    own = summarise([Round(0, 0, evaluation(labels, said))])
    for names in ([""] * 7, ["ann", "", "", "", "", "", ""]):
        s = summarise([Round(0, 0, grouped(labels, said, names))])
        assert (s.low, s.high, s.resampled, s.grouped) == (own.low, own.high, own.resampled, False)
    # The same image in two seeds is one group, whatever its place there.
    e = grouped(labels, said, [""] * 7)
    fields = ("indices", "labels", "predictions", "probabilities", "groups")
    turned = Evaluation(e.classes, *(getattr(e, name)[::-1] for name in fields))
    assert Tally.of([Round(0, 0, e), Round(1, 0, turned)]).groups.max() == 6


def test_groups_of_one_image_are_images():
    labels, said = [0, 0, 0, 1, 1, 1, 1], [0, 1, 0, 1, 1, 0, 1]
    alone = summarise([Round(0, 0, evaluation(labels, said))])
    of_one = summarise([Round(0, 0, grouped(labels, said, list("abcdefg")))])
    assert (alone.low, alone.high, alone.resampled) == (of_one.low, of_one.high, of_one.resampled)
    assert not of_one.grouped


def test_ten_images_of_each_person_say_as_much_as_one():
    people = np.repeat([0, 1], 20)
    right_ = np.random.default_rng(1).random(40) < 0.6
    said = np.where(right_, people, 1 - people)
    once = summarise([Round(0, 0, evaluation(people, said))])
    names = np.repeat(np.arange(40), 10).astype(str)
    often = summarise([Round(0, 0, grouped(np.repeat(people, 10), np.repeat(said, 10), names))])
    assert (often.macro, often.low, often.high) == pytest.approx((once.macro, once.low, once.high), abs=0.03)
    images = summarise([Round(0, 0, evaluation(np.repeat(people, 10), np.repeat(said, 10)))])
    assert images.high - images.low < 0.5 * (often.high - often.low)
