"""The whole pool.

It looks at no pixel: a selection by nearness must be compared with it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from dakit.data.selection import check_request
from dakit.interfaces import Classifier, ImageSet, Selection
from dakit.parameters import checked
from dakit_builtins.selectors.dealing import selection_of


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
        return selection_of(padded.view(-1, len(anchors)).T.tolist())
