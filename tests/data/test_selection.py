import json

import pytest
import torch

from dakit.data.selection import check_request, selection_report
from dakit.data.sets import TensorImages, Unlabelled
from dakit.errors import DakitError
from dakit.interfaces import Selection


def images(labels, classes=("happy", "sad")):
    return TensorImages(torch.zeros(len(labels), 3, 1, 1, dtype=torch.uint8), labels, classes=classes)


def test_without_same_class_every_image_may_be_chosen():
    offered, wanted = check_request(images([0, 1, -1]), images([0, -1]), neighbours=3)
    assert (offered.tolist(), wanted.tolist()) == ([0, 0, 0], [0, 0])


def test_classes_are_matched_by_name_not_by_number():
    pool = images([0, 1, 2, 2], classes=("sad", "bored", "happy"))
    offered, wanted = check_request(pool, images([0, 1]), neighbours=1, same_class=True)
    assert offered.tolist() == [1, -1, 0, 0]
    assert wanted.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("pool", "anchors", "request_", "message"),
    [
        (images([0]), images([]), {"neighbours": 1}, "there are no anchors"),
        (
            images([0, 0]),
            images([0]),
            {"neighbours": 3},
            "neighbours: 3 for each anchor, but the pool has 2 images",
        ),
        (
            images([0, 0, 1]),
            images([0, 1]),
            {"neighbours": 2, "same_class": True},
            'neighbours: 2 for each anchor, but the pool has 1 images of class "sad"',
        ),
        (
            images([0] * 9),
            images([0] * 5),
            {"neighbours": 4, "max_reuse": 2},
            "5 anchors x 4 neighbours = 20 picks, but 9 pool images at most 2 times each give 18",
        ),
        (
            images([0] * 9 + [1] * 2),
            images([0, 1, 1, 1]),
            {"neighbours": 1, "max_reuse": 1, "same_class": True},
            '3 anchors x 1 neighbours = 3 picks, but 2 pool images of class "sad" at most 1 times each',
        ),
        (
            images([0, -1]),
            images([0]),
            {"neighbours": 1, "same_class": True},
            "same_class: true needs the pool to be labelled, but 1 of 2 images have no label",
        ),
        (
            Unlabelled(images([0, 1])),
            images([0]),
            {"neighbours": 1, "same_class": True},
            "needs the pool to be labelled, but 2 of 2 images",
        ),
        (
            images([0]),
            images([-1]),
            {"neighbours": 1, "same_class": True},
            "needs every anchor to be labelled, but 1 of 1 images",
        ),
    ],
)
def test_what_the_pool_cannot_give_is_refused(pool, anchors, request_, message):
    with pytest.raises(DakitError, match=message):
        check_request(pool, anchors, **request_)


def test_exactly_enough_uses_are_accepted():
    check_request(images([0] * 10), images([0] * 5), neighbours=4, max_reuse=2)


def test_report_counts_picks_and_images_by_class():
    pool = images([0, 0, 1, 1, 1])
    chosen = Selection(torch.tensor([[0, 2], [0, 3], [0, -1]]), torch.zeros(3, 2))
    report = selection_report(chosen, pool, images([0, 1, 1]))
    assert json.loads(json.dumps(report)) == {
        "picks": 5,
        "distinct": 3,
        "largest_reuse": 3,
        "picks_per_class": {"happy": 3, "sad": 2},
        "distinct_per_class": {"happy": 1, "sad": 2},
        "picks_of_own_class": 2,  # anchor 0: image 0; anchor 1: image 3
        "exact_picks": None,
        "exact_distinct": None,
    }


def test_report_counts_the_picks_that_are_exact_for_their_own_anchor():
    nearest = torch.tensor([[2, 4], [2, 3], [2, -1]])
    # 2 is exact for anchor 0, 3 for anchor 1, and the short rows' -1 for nobody
    chosen = Selection(torch.tensor([[0, 2], [0, 3], [3, -1]]), torch.zeros(3, 2), exact=nearest)
    report = selection_report(chosen, images([0, 0, 1, 1, 1]), images([0, 1, 1]))
    assert (report["exact_picks"], report["exact_distinct"], report["distinct"]) == (2, 3, 3)


def test_report_of_unlabelled_images_has_no_classes():
    pool = Unlabelled(images([0, 1]))
    report = selection_report(Selection(torch.tensor([[1]]), torch.zeros(1, 1)), pool, images([0]))
    assert report == {
        "picks": 1,
        "distinct": 1,
        "largest_reuse": 1,
        "picks_per_class": {},
        "distinct_per_class": {},
        "picks_of_own_class": None,
        "exact_picks": None,
        "exact_distinct": None,
    }


def test_own_class_is_compared_by_name_and_no_label_is_no_class():
    pool = images([0, 1, -1], classes=("sad", "happy"))
    chosen = Selection(torch.tensor([[0, 1, 2], [0, 1, 2]]), torch.zeros(2, 3))
    assert selection_report(chosen, pool, images([0, -1]))["picks_of_own_class"] == 1
