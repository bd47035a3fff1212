from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from dakit.data.folds import best, inner_folds
from dakit.interfaces import LabelledFeatures


def labelled(labels: list[int], groups: list[str] | None = None, extra: list[int] = ()) -> LabelledFeatures:  # type: ignore[assignment]
    features = torch.nn.functional.one_hot(torch.tensor(labels)).float() + torch.rand(len(labels), 1)
    beside = torch.tensor([i in extra for i in range(len(labels))])
    return LabelledFeatures(features, torch.tensor(labels), groups or [f"#{i}" for i in range(len(labels))], beside)


def test_every_image_is_held_out_once_and_no_group_stands_on_both_sides():
    labels = [i % 3 for i in range(60)]
    groups = [f"person {i // 4}" for i in range(60)]
    folds = inner_folds(labelled(labels, groups))
    assert len(folds) == 5
    assert sorted(np.concatenate([held for _, held in folds])) == list(range(60))
    for fitted, held in folds:
        assert sorted([*fitted, *held]) == list(range(60))
        assert not {groups[i] for i in fitted} & {groups[i] for i in held}
        assert {labels[i] for i in fitted} == {0, 1, 2}


def test_extra_images_are_always_fitted_on_and_never_held_out_whatever_their_group():
    extra = list(range(20, 40))
    folds = inner_folds(labelled([i % 2 for i in range(40)], [f"#{i % 20}" for i in range(40)], extra))
    assert sorted(np.concatenate([held for _, held in folds])) == list(range(20))
    assert all(set(extra) <= set(fitted.tolist()) for fitted, _ in folds)


@pytest.mark.parametrize(
    ("labels", "groups", "count"),
    [
        ([0, 1, 2], None, 0),  # an image a class
        ([0, 0, 1, 1], None, 2),
        ([0, 0, 0, 1, 1, 1, 1], None, 3),  # the rarest class has three
        ([0, 0, 1, 1], ["a", "a", "b", "c"], 0),  # of one person
        ([0, 1, 0, 1], ["a", "a", "b", "b"], 2),
    ],
)
def test_there_are_no_more_folds_than_the_rarest_class_has_groups(labels, groups, count):
    assert len(inner_folds(labelled(labels, groups))) == count


def test_the_best_is_that_with_most_macro_accuracy_on_images_held_out():
    """By hand: the same folds, fits and counts."""
    generator = np.random.default_rng(0)
    labels = generator.integers(3, size=90)
    rows = generator.normal(size=(90, 6)) + np.eye(3, 6)[labels] * 1.5
    every, none = [f"#{i}" for i in range(90)], torch.zeros(90, dtype=torch.bool)
    known = LabelledFeatures(torch.from_numpy(rows).float(), torch.from_numpy(labels), every, none)
    candidates = (1e-4, 0.01, 1.0)
    chosen, facts = best(known, rows, candidates, lambda C: LogisticRegression(C=C))
    scores = []
    for C in candidates:
        right = np.zeros(90)
        for fitted, held in inner_folds(known):
            right[held] = LogisticRegression(C=C).fit(rows[fitted], labels[fitted]).predict(rows[held]) == labels[held]
        scores.append(100 * np.mean([right[labels == k].mean() for k in range(3)]))
    assert [score for _, score in facts["tried"]] == pytest.approx(scores)
    assert chosen == candidates[int(np.argmax(scores))]
    assert facts["by"] == "5 inner folds"


def test_of_equally_good_ones_the_first_and_without_folds_the_middle():
    rows = np.eye(2)[[0, 1] * 10]
    known = labelled([0, 1] * 10)
    assert best(known, rows, (1.0, 10.0), lambda C: LogisticRegression(C=C))[0] == 1.0
    chosen, facts = best(labelled([0, 1]), np.eye(2), (0.1, 1.0, 10.0), lambda C: LogisticRegression(C=C))
    assert chosen == 1.0
    assert "fewer than two groups" in facts["by"]
    assert best(known, rows, (3.0,), lambda C: None) == (3.0, {"chosen": 3.0, "by": "the recipe"})
