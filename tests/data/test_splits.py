from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dakit.data.sets import TensorImages, Unlabelled
from dakit.data.splits import Split, own_groups
from dakit.errors import DakitError
from dakit.signatures import ParameterProblems, validated


def dataset(labels, groups=None, parts=None, classes=("AN", "FE", "HA")):
    return TensorImages(torch.zeros(len(labels), 3, 1, 1, dtype=torch.uint8), labels, groups, classes, parts)


@st.composite
def people(draw):
    """Videos of 1 to 4 images of one person; every class has at least 10 people who show nothing else."""
    sizes = draw(st.lists(st.integers(1, 4), min_size=30, max_size=60))
    labels, groups = [], []
    for person, size in enumerate(sizes):
        labels += [person % 3] * size
        groups += [f"person {person}"] * size
    for person in range(draw(st.integers(0, 5))):  # and some show several
        labels += [0, 1, 2]
        groups += [f"actor {person}"] * 3
    order = draw(st.permutations(range(len(labels))))
    return dataset([labels[i] for i in order], [groups[i] for i in order])


SPLITS = [Split(holdout=0.2), Split(holdout=0.5), Split(folds=2), Split(folds=5)]


# ------------------------------------------------------------------------------------ what always holds
@settings(deadline=None, max_examples=40)
@given(people(), st.sampled_from(SPLITS), st.integers(0, 5))
def test_every_image_stands_on_one_side_with_its_group(images, split, seed):
    tested = Counter()
    for fold in range(split.rounds(images)):
        sides = split.apply(images, fold, seed)
        assert sorted(sides["train"] + sides["test"]) == list(range(len(images)))
        groups = [{images.groups[i] for i in sides[name]} for name in ("train", "test")]
        assert not groups[0] & groups[1]
        assert {images.labels[i] for i in sides["train"]} == {0, 1, 2}
        tested.update(sides["test"])
    if split.folds:
        assert tested == Counter(range(len(images)))


@settings(deadline=None, max_examples=40)
@given(people(), st.sampled_from(SPLITS), st.integers(0, 5))
def test_the_test_side_has_its_fraction_of_every_class(images, split, seed):
    share = split.holdout or 1 / split.folds
    for fold in range(split.rounds(images)):
        test = Counter(images.labels[i] for i in split.apply(images, fold, seed)["test"])
        for label in range(3):
            # Groups of at most 4 images: never farther from the target than the largest group.
            assert abs(test[label] - share * images.labels.count(label)) <= 4


@settings(deadline=None, max_examples=40)
@given(people(), st.sampled_from([*SPLITS, Split(folds=3, per_class=2)]), st.integers(0, 5), st.randoms())
def test_the_order_of_the_files_does_not_matter(images, split, seed, random):
    order = list(range(len(images)))
    random.shuffle(order)
    shuffled = dataset([images.labels[i] for i in order], [images.groups[i] for i in order])

    def sides(these):
        found = split.apply(these, 0, seed)
        return {name: Counter((these.groups[i], these.labels[i]) for i in indices) for name, indices in found.items()}

    assert sides(images) == sides(shuffled)


@pytest.mark.parametrize("sizes", [(50, 20, 7), (11, 10, 9)])
def test_single_images_are_dealt_to_within_one_of_the_target(sizes):
    images = dataset(np.repeat(range(3), sizes))
    for seed in range(3):
        test = Counter(images.labels[i] for i in Split(holdout=0.2).apply(images, 0, seed)["test"])
        assert all(abs(test[label] - 0.2 * n) < 1 for label, n in enumerate(sizes))
        for fold in range(4):
            test = Counter(images.labels[i] for i in Split(folds=4).apply(images, fold, seed)["test"])
            assert all(abs(test[label] - n / 4) < 1 for label, n in enumerate(sizes))


def test_the_papers_subjects_are_divided_80_to_20():
    # BU-3DFE in small: 100 subjects with the same images each.
    subjects = [f"F{n:04}" for n in range(100) for _ in range(6)]
    images = dataset([0, 0, 1, 1, 2, 2] * 100, subjects)
    test = Split(holdout=0.2).apply(images, 0, 0)["test"]
    assert len({subjects[i] for i in test}) == 20
    assert len(test) == 120


def test_seeds_differ_and_are_kept():
    images = dataset([0, 1, 2] * 20)
    tests = {tuple(Split(holdout=0.5).apply(images, 0, seed)["test"]) for seed in range(5)}
    assert len(tests) == 5
    fixed = Split(holdout=0.5, seed=3)
    assert fixed.apply(images, 0, 8) == fixed.apply(images, 0, 9) == Split(holdout=0.5).apply(images, 0, 3)


def test_people_of_different_size_are_also_drawn_by_seed():
    sizes = range(20, 40)
    images = dataset([0] * sum(sizes), [f"p{n}" for n in sizes for _ in range(n)])
    tests = {tuple(Split(holdout=0.3).apply(images, 0, seed)["test"]) for seed in range(5)}
    assert len(tests) > 1


def test_no_image_without_a_group_falls_into_a_named_one():
    # The film "#1" is of image 0, and image 1 has no group: it is not the film's, nor is image 3 "##3"'s.
    groups = ["#1", "", "##3", "", "#3", ""]
    assert own_groups(groups, range(6)) == ["#1", "##1", "##3", "###3", "#3", "#5"]
    assert own_groups(["", "b"], [7, 9]) == ["#7", "b"]


def test_an_image_without_a_group_is_its_own():
    images = dataset([0] * 10, [""] * 10, classes=("AN",))
    assert len(Split(holdout=0.3).apply(images, 0, 0)["test"]) == 3


# --------------------------------------------------------------------------------------- published parts
def test_published_folds_are_tested_in_turn():
    images = dataset([0, 1, 2, 0], list("aabb"), ["Set 2", "Set 1", "Set 2", "Set 3"])
    split = Split(folds="predefined")
    assert split.rounds(images) == 3
    assert [split.apply(images, fold, 0) for fold in range(3)] == [
        {"train": [0, 2, 3], "test": [1]},
        {"train": [1, 3], "test": [0, 2]},
        {"train": [0, 1, 2], "test": [3]},
    ]


def test_published_train_and_test():
    images = dataset([-1, 1, 2], None, ["train", "test", "train"])
    split = Split(predefined=True)
    assert split.rounds(images) == 1
    assert split.apply(images, 0, 0) == {"train": [0, 2], "test": [1]}


@pytest.mark.parametrize(
    ("names", "train", "test"),
    [
        (["train", "val", "test"], [0, 1, 3], [2]),
        (["Train", "Validation", "Test"], [0, 1, 3], [2]),
        (["training_set", "dev", "PublicTest"], [0, 1, 3], [2]),
        (["test", "val", "test"], [1], [0, 2, 3]),
        (["train", "test", "testing"], [0, 3], [1, 2]),  # both are for testing
    ],
)
def test_what_is_published_for_testing_is_tested_alone_whatever_its_spelling(names, train, test):
    images = dataset([0, 1, 2, 0], None, [*names, names[0]])
    split = Split(predefined=True)
    assert split.rounds(images) == 1
    assert split.apply(images, 0, 0) == {"train": train, "test": test}


@pytest.mark.parametrize(
    ("name", "parts", "train", "test"),
    [
        ("validation", ["train", "validation", "train"], [0, 2], [1]),
        ("Set 2", ["Set 1", "Set 2", "Set 3"], [0, 2], [1]),
        ("val", ["train", "val", "test"], [0], [1]),  # nothing learns from the part for testing
        ("true", ["true", "false", "false"], [1, 2], [0]),
    ],
)
def test_the_part_to_test_on_may_be_named(name, parts, train, test):
    images = dataset([0, 1, 2], None, parts)
    assert Split(predefined=name).rounds(images) == 1
    assert Split(predefined=name).apply(images, 0, 0) == {"train": train, "test": test}


@pytest.mark.parametrize(
    ("split", "parts", "message"),
    [
        (Split(predefined=True), None, "no published parts"),
        (Split(predefined=True), ["train", "test", "extra"], "here are extra, test, train; predefined: NAME tests"),
        (
            Split(predefined=True),
            ["train", "val", "val"],
            "needs the parts train and test, by name; here are train, val",
        ),
        (Split(predefined=True), ["test", "Test", "test"], "here are Test, test"),
        (Split(predefined="Set 4"), ["Set 1", "Set 2", "Set 3"], 'no such published part, did you mean "Set'),
        (Split(predefined="val"), ["val", "val", "test"], "predefined: val leaves no part to learn from; here are"),
        (Split(folds="predefined"), ["train", "val", "test"], "would learn from what is published for testing"),
        (Split(folds="predefined"), ["Train", "Test", "Test"], "here are the parts Test, Train; predefined: true"),
        (Split(folds="predefined"), None, "no published parts"),
        (Split(predefined=True), ["train"] * 3, "here are train"),
        (Split(folds="predefined"), ["Set 1"] * 3, "at least two parts; here is Set 1"),
    ],
)
def test_published_parts_that_are_not_there(split, parts, message):
    images = dataset([0, 1, 2], None, parts)
    with pytest.raises(DakitError, match=message):
        split.rounds(images)
    with pytest.raises(DakitError, match=message):
        split.apply(images, 0, 0)


# ------------------------------------------------------------------------------------------- few labels
@settings(deadline=None, max_examples=30)
@given(people(), st.integers(1, 5), st.integers(0, 5))
def test_per_class_keeps_so_many_training_images_and_the_whole_test_side(images, count, seed):
    whole, few = (Split(folds=2, per_class=n).apply(images, 1, seed) for n in (None, count))
    assert few["test"] == whole["test"]
    assert set(few["train"]) <= set(whole["train"])
    assert Counter(images.labels[i] for i in few["train"]) == {0: count, 1: count, 2: count}
    assert few["train"] == sorted(few["train"])


def test_per_class_draws_by_seed_and_all_alike():
    images = dataset([0] * 12, [f"{n // 2}" for n in range(12)], ["train"] * 11 + ["test"], classes=("AN",))
    drawn = Counter(
        i for seed in range(600) for i in Split(predefined=True, per_class=3).apply(images, 0, seed)["train"]
    )
    # Each of 11 is drawn with probability 3/11: 164 of 600, standard deviation 10.9.
    assert all(abs(drawn[i] - 600 * 3 / 11) < 45 for i in range(11))


def test_more_per_class_contain_fewer():
    images = dataset([0, 1, 2] * 10)
    few, more = (set(Split(folds=2, per_class=n).apply(images, 0, 7)["train"]) for n in (2, 4))
    assert few < more


def test_too_few_for_per_class():
    images = dataset([0] * 6 + [1] * 2, None, ["train"] * 7 + ["test"], classes=("AN", "FE"))
    with pytest.raises(DakitError, match='per_class: 3: class "FE" has 1 training images'):
        Split(predefined=True, per_class=3).apply(images, 0, 0)


# ------------------------------------------------------------------------------------------------ errors
@pytest.mark.parametrize("given_", [{}, {"seed": 3}, {"holdout": 0.2, "folds": 3}, {"folds": 2, "predefined": True}])
def test_exactly_one_way(given_):
    with pytest.raises(DakitError, match="exactly one of"):
        Split(**given_)


@pytest.mark.parametrize("given_", [{"holdout": 0.0}, {"holdout": 1.0}, {"folds": 1}, {"folds": 2, "per_class": 0}])
def test_an_empty_side_is_refused_at_once(given_):
    with pytest.raises(DakitError, match="leaves"):
        Split(**given_)


@pytest.mark.parametrize(
    ("given_", "key"),
    [
        ({"holdout": 1.5}, "holdout"),
        ({"folds": 1}, "folds"),
        ({"folds": "predefind"}, "folds"),
        ({"folds": 2.5}, "folds"),
        ({"predefined": 1}, "predefined"),
        ({"folds": 2, "per_class": 0}, "per_class"),
        ({"folds": 2, "by": "group"}, "by"),
    ],
)
def test_the_signature_is_a_schema(given_, key):
    with pytest.raises(ParameterProblems) as caught:
        validated(Split, 0, "a split", given_)
    assert [path for path, _ in caught.value.problems] == [(key,)]


def test_too_few_groups_for_the_folds():
    few = dataset([0] * 10 + [1] * 3, [f"{n}" for n in range(10)] + ["x", "x", "y"], classes=("AN", "FE"))
    with pytest.raises(DakitError, match='folds: 5: class "FE" has 3 images in 2 groups'):
        Split(folds=5).apply(few, 0, 0)


def test_a_holdout_that_would_miss_a_class():
    images = dataset([0] * 50 + [2] * 3)
    with pytest.raises(DakitError, match=r'holdout: 0\.1: class "HA" has 3 images in 3 groups'):
        Split(holdout=0.1).apply(images, 0, 0)


def test_images_without_labels():
    images = dataset([0, -1, 1, -1])
    for split in (Split(holdout=0.5), Split(folds=2)):
        with pytest.raises(DakitError, match="2 of 4 images have no label"):
            split.apply(images, 0, 0)
    with pytest.raises(DakitError, match="4 of 4"):
        Split(holdout=0.5).apply(Unlabelled(images), 0, 0)
    with pytest.raises(DakitError, match="no images"):
        Split(holdout=0.5).apply(dataset([]), 0, 0)


def test_a_fold_that_is_not_there():
    with pytest.raises(ValueError, match=r"fold 2 is not in \[0, 2\)"):
        Split(folds=2).apply(dataset([0, 1, 2] * 4), 2, 0)


# ------------------------------------------------------------------------------------------- repeats
def test_repeats_are_other_folds_of_the_same_images():
    images = dataset([0, 1, 2] * 10, [f"person {i // 3}" for i in range(30)])
    split = Split(folds=5, repeats=3)
    assert (split.rounds(images), split.folds_of(images)) == (15, 5)
    sides = [split.apply(images, fold, 4) for fold in range(15)]
    for repeat in range(3):
        tested = [i for side in sides[5 * repeat : 5 * repeat + 5] for i in side["test"]]
        assert sorted(tested) == list(range(30))
    assert sides[:5] == [Split(folds=5).apply(images, fold, 4) for fold in range(5)]
    dealt = [{tuple(side["test"]) for side in sides[5 * r : 5 * r + 5]} for r in range(3)]
    assert dealt[0] != dealt[1] != dealt[2] != dealt[0]
    assert sides == [split.apply(images, fold, 4) for fold in range(15)]
    holdouts = [Split(holdout=0.2, repeats=2).apply(images, fold, 4) for fold in range(2)]
    assert holdouts[0] == Split(holdout=0.2).apply(images, 0, 4) != holdouts[1]


def test_repeats_of_published_parts_draw_other_labels():
    images = dataset([0, 1, 2] * 20, parts=["train", "test"] * 30)
    split = Split(predefined=True, per_class=2, repeats=2)
    one, two = (split.apply(images, fold, 0) for fold in range(2))
    assert one["test"] == two["test"]
    assert one["train"] != two["train"]
    with pytest.raises(DakitError, match="repeats: 2 would repeat the same"):
        Split(predefined=True, repeats=2)
    with pytest.raises(DakitError, match="repeats: 0 leaves nothing"):
        Split(folds=2, repeats=0)


@pytest.mark.parametrize("split", [{"folds": 3, "repeats": 2}, {"holdout": 0.3}])
def test_fewer_labels_are_among_more(split):
    images = dataset([0, 1, 2] * 20)
    for fold in range(Split(**split).rounds(images)):
        drawn = [set(Split(**split, per_class=n).apply(images, fold, 7)["train"]) for n in (1, 3, 5, 9)]
        assert all(few < many for few, many in pairwise(drawn))
        assert [len(some) for some in drawn] == [3, 9, 15, 27]


# --------------------------------------------------------------------------------- found by mutants
def test_published_folds_are_not_drawn_and_repeats_would_be_the_same():
    assert not Split(folds="predefined").drawn
    assert not Split(predefined=True).drawn
    assert all(Split(**drawn).drawn for drawn in ({"folds": 2}, {"holdout": 0.5}))
    assert Split(folds="predefined", per_class=1).drawn
    with pytest.raises(DakitError, match="repeats: 2 would repeat the same"):
        Split(folds="predefined", repeats=2)


@pytest.mark.parametrize("seed", range(8))
def test_large_groups_are_dealt_first(seed):
    """One person with half the images stands in for a fold alone; the others fill the second, whatever the draw.

    Dealt last, it would come on top of half of the others.
    """
    images = dataset([0, 1] * 8 + [1, 0] * 8, ["crowd"] * 16 + [f"person {i // 2}" for i in range(16)])
    sides = [Split(folds=2).apply(images, fold, seed)["test"] for fold in range(2)]
    assert sorted(sides) == [list(range(16)), list(range(16, 32))]


@pytest.mark.parametrize("seed", range(8))
def test_large_is_by_all_images_not_by_those_of_one_class(seed):
    """The crowd shows nothing of the first class and half of the second."""
    crowd, pairs, others = ["crowd"] * 16, [f"pair {i // 2}" for i in range(16)], [f"other {i // 2}" for i in range(16)]
    images = dataset([1] * 32 + [0] * 16, crowd + pairs + others)
    for fold in range(2):
        tested = Split(folds=2).apply(images, fold, seed)["test"]
        assert Counter(images.labels[i] for i in tested) == {0: 8, 1: 16}
        assert len({images.groups[i] == "crowd" for i in tested if images.labels[i] == 1}) == 1


@pytest.mark.parametrize("fraction", [0.0, 1.0])
def test_a_fraction_that_leaves_a_side_empty_is_refused(fraction):
    with pytest.raises(DakitError, match=f"holdout: {fraction} leaves a side empty"):
        Split(holdout=fraction)


def test_two_published_parts_are_enough_for_folds_and_one_is_not():
    images = dataset([0, 1, 2] * 4, parts=["b", "a"] * 6)
    assert Split(folds="predefined").rounds(images) == 2
    assert Split(folds="predefined").apply(images, 0, 0)["test"] == [1, 3, 5, 7, 9, 11]
    with pytest.raises(DakitError, match="needs at least two parts; here is a"):
        Split(folds="predefined").rounds(dataset([0, 1, 2], parts=["a"] * 3))
