from __future__ import annotations

from collections import Counter

import pytest
import torch

from dakit_builtins.selectors.dealing import Deck, generator_of, selection_of


@pytest.mark.parametrize(("items", "hand"), [(7, 3), (5, 5), (4, 1)])
def test_no_item_comes_again_before_every_other_came_once_and_none_twice_in_a_hand(items, hand):
    deck = Deck(range(items), generator_of(3))
    dealt: list[int] = []
    for _ in range(20):
        cards = deck.deal(hand)
        assert len(set(cards)) == hand
        dealt += cards
        counts = Counter(dealt)
        assert max(counts.values()) - min(counts.get(item, 0) for item in range(items)) <= 1


def test_a_seed_deals_alike_and_none_is_torchs_own():
    first, second = (Deck(range(50), generator_of(11)).deal(50) for _ in range(2))
    torch.manual_seed(11)
    assert first == second == Deck(range(50), generator_of(None)).deal(50)
    assert first != Deck(range(50), generator_of(12)).deal(50)


def test_rows_become_a_selection_without_distances():
    chosen = selection_of([[2, 0], [1, -1]])
    assert chosen.indices.tolist() == [[2, 0], [1, -1]]
    assert chosen.indices.dtype == torch.int64
    assert chosen.distances.isnan().all()
