from __future__ import annotations

import torch

from dakit.data.sets import TensorImages
from dakit_builtins.selectors.all import All

CPU = torch.device("cpu")


def images(count, labels=None, classes=()):
    return TensorImages(torch.zeros(count, 3, 1, 1, dtype=torch.uint8), labels, classes=classes)


def choose(selector, pool, anchors):
    return selector(pool, anchors, classifier=None, device=CPU)


def test_all_deals_every_image_once_in_turn():
    chosen = choose(All(), images(7), images(3))
    assert chosen.indices.tolist() == [[0, 3, 6], [1, 4, -1], [2, 5, -1]]
    assert chosen.indices.dtype == torch.int64
    assert choose(All(), images(2), images(4)).indices.tolist() == [[0], [1], [-1], [-1]]
