from __future__ import annotations

from collections import Counter

import pytest
import torch

from dakit.data.sets import TensorImages
from dakit_builtins.selectors.class_balanced_random import ClassBalancedRandom

CPU = torch.device("cpu")


def images(count, labels=None, classes=()):
    return TensorImages(torch.zeros(count, 3, 1, 1, dtype=torch.uint8), labels, classes=classes)


def choose(selector, pool, anchors):
    return selector(pool, anchors, classifier=None, device=CPU)


@pytest.mark.parametrize(("anchors", "t", "k"), [(6, 4, 3), (5, 3, 4), (7, 8, 7), (3, 1, 5)])
def test_class_balanced_takes_the_same_number_of_every_class(anchors, t, k):
    labels = [0] * 40 + [label for label in range(1, k) for _ in range(3)]  # class 0 is much larger
    pool = images(len(labels), labels, [str(label) for label in range(k)])
    indices = choose(ClassBalancedRandom(neighbours=t, seed=0), pool, images(anchors)).indices
    assert indices.shape == (anchors, t)
    assert all(len(set(row)) == t for row in indices.tolist())
    per_class = Counter(labels[i] for i in indices.flatten().tolist())
    counts = [per_class[label] for label in range(k)]
    assert sum(counts) == anchors * t
    assert max(counts) - min(counts) <= 1
    for label in range(k):
        uses = [indices.flatten().tolist().count(i) for i in range(len(labels)) if labels[i] == label]
        assert max(uses) - min(uses) <= 1
