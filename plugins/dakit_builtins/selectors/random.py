"""Pool images drawn at random.

It looks at no pixel: a selection by nearness must be compared with it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from dakit.data.selection import check_request
from dakit.interfaces import Classifier, ImageSet, Positive, Selection
from dakit.parameters import checked
from dakit_builtins.selectors.dealing import Deck, generator_of, selection_of


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
        deck = Deck(range(len(pool)), generator_of(self.seed))
        return selection_of([deck.deal(self.neighbours) for _ in range(len(anchors))])
