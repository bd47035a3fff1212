from __future__ import annotations

from collections import Counter

import pytest
import torch

from dakit.data.sets import TensorImages
from dakit.errors import DakitError
from dakit_builtins.selectors.all import All
from dakit_builtins.selectors.class_balanced_random import ClassBalancedRandom
from dakit_builtins.selectors.random import Random

CPU = torch.device("cpu")


def images(count, labels=None, classes=()):
    return TensorImages(torch.zeros(count, 3, 1, 1, dtype=torch.uint8), labels, classes=classes)


def choose(selector, pool, anchors):
    return selector(pool, anchors, classifier=None, device=CPU)


@pytest.mark.parametrize(("size", "anchors", "t"), [(10, 7, 3), (10, 4, 10), (50, 6, 8), (5, 3, 4), (1, 4, 1)])
def test_random_rows_are_distinct_and_no_image_is_a_whole_round_ahead(size, anchors, t):
    for seed in range(10):
        indices = choose(Random(neighbours=t, seed=seed), images(size), images(anchors)).indices
        assert indices.shape == (anchors, t)
        assert all(len(set(row)) == t for row in indices.tolist())
        uses = torch.bincount(indices.flatten(), minlength=size)
        assert uses.max() - uses.min() <= 1


def test_random_reaches_every_image_equally_often():
    counts = Counter(
        choose(Random(neighbours=1, seed=seed), images(4), images(1)).indices.item() for seed in range(800)
    )
    chi_squared = sum((counts[i] - 200) ** 2 / 200 for i in range(4))
    assert chi_squared < 16.3  # 0.999 quantile at three degrees of freedom


@pytest.mark.parametrize("make", [Random, ClassBalancedRandom])
def test_same_seed_same_choice_and_none_is_torchs_own_seed(make):
    pool = images(40, [i % 4 for i in range(40)], "abcd")
    first, again, other = (choose(make(neighbours=5, seed=s), pool, images(3)).indices.tolist() for s in (1, 1, 2))
    assert first == again != other
    torch.manual_seed(1)
    torch.rand(3)  # what was drawn before does not matter
    assert choose(make(neighbours=5), pool, images(3)).indices.tolist() == first


@pytest.mark.parametrize("selector", [Random(neighbours=2), ClassBalancedRandom(neighbours=2), All()])
def test_controls_have_no_distances(selector):
    chosen = choose(selector, images(6, [0, 1] * 3, "ab"), images(3))
    assert chosen.distances.dtype == torch.float32
    assert chosen.distances.shape == chosen.indices.shape
    assert chosen.distances.isnan().all()


@pytest.mark.parametrize(
    ("selector", "pool", "anchors", "message"),
    [
        (Random(neighbours=4), images(3), 1, "neighbours: 4 for each anchor, but the pool has 3 images"),
        (Random(), images(30), 0, "no anchors"),
        (All(), images(0), 2, "pool has 0 images"),
        (All(), images(3), 0, "no anchors"),
        (ClassBalancedRandom(neighbours=1), images(3), 1, "3 of 3 images have no label"),
        (ClassBalancedRandom(neighbours=1), images(3, [0, -1, 0], "a"), 1, "1 of 3 images have no label"),
        (
            ClassBalancedRandom(neighbours=4),
            images(9, [0] * 8 + [1], "ab"),
            2,
            'an anchor needs 2 images of class "b", but the pool has 1',
        ),
    ],
)
def test_what_the_pool_cannot_give_is_refused(selector, pool, anchors, message):
    with pytest.raises(DakitError, match=message):
        choose(selector, pool, images(anchors))
