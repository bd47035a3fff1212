"""Pool images drawn at random, as many of every class.

It looks at no pixel: a selection by nearness must be compared with it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import torch

from dakit.data.selection import check_labelled, check_request
from dakit.errors import DakitError
from dakit.interfaces import Classifier, ImageSet, Positive, Selection
from dakit.parameters import checked
from dakit_builtins.selectors.dealing import Deck, generator_of, selection_of


@checked
@dataclass(kw_only=True)
class ClassBalancedRandom:
    """Pool images drawn at random for each anchor: the same number of every class of the pool, give or take one.

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
        generator = generator_of(self.seed)
        decks = [
            Deck([index for index, pool_label in enumerate(pool.labels) if pool_label == label], generator)
            for label in range(len(pool.classes))
        ]
        turns = torch.randperm(len(decks), generator=generator).tolist()
        rows = []
        for start in range(0, len(anchors) * self.neighbours, self.neighbours):
            hands = Counter(turns[place % len(turns)] for place in range(start, start + self.neighbours))
            rows.append([index for label, size in hands.items() for index in decks[label].deal(size)])
        return selection_of(rows)
