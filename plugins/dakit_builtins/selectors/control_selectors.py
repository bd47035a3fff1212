"""Selectors that look at no pixel: what a selection by nearness must be compared with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from dakit.data.selection import check_labelled, check_request
from dakit.errors import DakitError
from dakit.interfaces import Classifier, ImageSet, Positive, Selection
from dakit.parameters import checked


@checked
@dataclass(kw_only=True)
class Random:
    """Pool images drawn at random for each anchor, different ones within an anchor.

    No image is drawn again before every other was drawn once.

    Args:
        neighbours: how many for each anchor.
        seed: None = torch's own seed, which the stage has set.

    Raises:
        DakitError: (when called) the pool has fewer than ``neighbours`` images, or there are no anchors.
    """

    neighbours: Positive = 8
    seed: int | None = None

    def __call__(
        self, pool: ImageSet, anchors: ImageSet, /, *, classifier: Classifier | None, device: torch.device
    ) -> Selection:
        """Choose ``(A, t)`` pool images; they have no distances."""
        check_request(pool, anchors, neighbours=self.neighbours)
        deck = _Deck(range(len(pool)), _generator(self.seed))
        return _selection([deck.deal(self.neighbours) for _ in range(len(anchors))])


@checked
@dataclass(kw_only=True)
class ClassBalancedRandom:
    """Like :class:`Random`, but the same number of images of every class of the pool, give or take one.

    The classes take turns over all A x t places, so every anchor's images are spread over them too.

    Args:
        neighbours: how many for each anchor.
        seed: None = torch's own seed, which the stage has set.

    Raises:
        DakitError: (when called) the pool has unlabelled images, or too few of a class to give an anchor
            different ones, or there are no anchors.
    """

    neighbours: Positive = 8
    seed: int | None = None

    def __call__(
        self, pool: ImageSet, anchors: ImageSet, /, *, classifier: Classifier | None, device: torch.device
    ) -> Selection:
        """Choose ``(A, t)`` pool images; they have no distances."""
        check_request(pool, anchors, neighbours=self.neighbours)
        check_labelled(pool, "class_balanced_random", "the pool")
        needed = -(-self.neighbours // len(pool.classes))
        count = Counter(pool.labels)
        for label, name in enumerate(pool.classes):
            if count[label] < needed:
                raise DakitError(
                    f'class_balanced_random: an anchor needs {needed} images of class "{name}", '
                    f"but the pool has {count[label]}"
                )
        generator = _generator(self.seed)
        decks = [
            _Deck([index for index, own in enumerate(pool.labels) if own == label], generator)
            for label in range(len(pool.classes))
        ]
        turns = torch.randperm(len(decks), generator=generator).tolist()
        rows = []
        for start in range(0, len(anchors) * self.neighbours, self.neighbours):
            hands = Counter(turns[place % len(turns)] for place in range(start, start + self.neighbours))
            rows.append([index for label, size in hands.items() for index in decks[label].deal(size)])
        return _selection(rows)


@checked
@dataclass(kw_only=True)
class All:
    """The whole pool, each image once, dealt to the anchors in turn; -1 pads the shorter rows.

    Raises:
        DakitError: (when called) pool or anchors are empty.
    """

    def __call__(
        self, pool: ImageSet, anchors: ImageSet, /, *, classifier: Classifier | None, device: torch.device
    ) -> Selection:
        """Image i goes to anchor i mod A: ``(A, ceil(N / A))``; they have no distances."""
        check_request(pool, anchors, neighbours=1)
        dealt = torch.arange(len(pool))
        padded = torch.nn.functional.pad(dealt, (0, -len(pool) % len(anchors)), value=-1)
        return _selection(padded.view(-1, len(anchors)).T.tolist())


class _Deck:
    """Deals every item once before any comes again, and none twice in a hand."""

    def __init__(self, items: Sequence[int], generator: torch.Generator) -> None:
        self.items = items
        self.generator = generator
        self.left: list[int] = []

    def deal(self, count: int) -> list[int]:
        if len(self.left) < count:
            fresh = [self.items[i] for i in torch.randperm(len(self.items), generator=self.generator).tolist()]
            held = set(self.left)
            self.left += sorted(fresh, key=held.__contains__)  # stable: those still to be dealt go last
        hand, self.left = self.left[:count], self.left[count:]
        return hand


def _generator(seed: int | None) -> torch.Generator:
    return torch.Generator().manual_seed(torch.initial_seed() if seed is None else seed)


def _selection(rows: Sequence[Sequence[int]]) -> Selection:
    indices = torch.tensor(rows, dtype=torch.int64)
    return Selection(indices, torch.full(indices.shape, torch.nan))
