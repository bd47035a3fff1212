"""Dealing pool images to anchors as cards are dealt."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from dakit.interfaces import Selection


class Deck:
    """Deals every item once before any comes again, and none twice in a hand."""

    def __init__(self, items: Sequence[int], generator: torch.Generator) -> None:
        self.items = items
        self.generator = generator
        self.left: list[int] = []

    def deal(self, count: int) -> list[int]:
        """The next ``count`` items."""
        if len(self.left) < count:
            fresh = [self.items[i] for i in torch.randperm(len(self.items), generator=self.generator).tolist()]
            held = set(self.left)
            self.left += sorted(fresh, key=held.__contains__)  # stable: those still to be dealt go last
        hand, self.left = self.left[:count], self.left[count:]
        return hand


def generator_of(seed: int | None) -> torch.Generator:
    """Of this seed; None = torch's own, which the stage has set."""
    return torch.Generator().manual_seed(torch.initial_seed() if seed is None else seed)


def selection_of(rows: Sequence[Sequence[int]]) -> Selection:
    """These rows, without distances."""
    indices = torch.tensor(rows, dtype=torch.int64)
    return Selection(indices, torch.full(indices.shape, torch.nan))
