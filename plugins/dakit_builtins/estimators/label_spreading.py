"""Label spreading over unlabelled images."""

from __future__ import annotations

from typing import Annotated

import annotated_types
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dakit.interfaces import LabelledFeatures, Positive
from dakit.parameters import checked

FLOOR = 1e-6
"""So likely is a class at least."""


@checked
class LabelSpreading(nn.Module):
    """Labels spread from image to similar image, unlabelled ones too; scikit-learn's ``LabelSpreading`` (kernel knn).

    Features are brought to length 1, so that neighbours are those of the smallest angle. A new image has the mean of
    what became of its neighbours, labelled and unlabelled; logits are the logarithms of that, with a floor of 1e-6. All
    features, those of unlabelled images too, are in memory and stay with the classifier.

    Source: Zhou et al., *Learning with local and global consistency*, NIPS 2004.

    Args:
        neighbours: so many images are joined to each, itself included; at most as many as there are.
        alpha: how much of its label an image takes from its neighbours in each round, the rest being its own.
        iterations: at most so many rounds.
    """

    rows: Tensor
    beliefs: Tensor

    def __init__(
        self,
        *,
        neighbours: Positive = 10,
        alpha: Annotated[float, annotated_types.Gt(0), annotated_types.Lt(1)] = 0.2,
        iterations: Positive = 100,
    ) -> None:
        super().__init__()
        self.neighbours = neighbours
        self.alpha = alpha
        self.iterations = iterations
        self.register_buffer("rows", torch.zeros(0, 0))
        self.register_buffer("beliefs", torch.zeros(0, 0))

    def check(self, inputs: frozenset[str]) -> list[str]:
        """Without unlabelled images there is nothing to spread over."""
        return [] if "unlabelled" in inputs else ["label_spreading needs the input `unlabelled`"]

    def fit(self, known: LabelledFeatures, unlabelled: Tensor | None) -> None:
        """Spread the labels."""
        from sklearn.semi_supervised import LabelSpreading as Spreading

        every = known.features if unlabelled is None else torch.cat([known.features, unlabelled])
        rows = _unit(every.double())
        labels = np.full(len(rows), -1)
        labels[: len(known.labels)] = known.labels.numpy()
        nearest = min(self.neighbours, len(rows))
        spread = Spreading(kernel="knn", n_neighbors=nearest, alpha=self.alpha, max_iter=self.iterations)
        spread.fit(rows.numpy(), labels)
        self.rows = rows.float()
        self.beliefs = torch.from_numpy(spread.label_distributions_).float()

    def forward(self, features: Tensor) -> Tensor:
        """``(B, K)``."""
        alike = _unit(features) @ self.rows.T
        beliefs = self.beliefs[alike.topk(min(self.neighbours, len(self.rows)), dim=1).indices].sum(1)
        beliefs = beliefs / beliefs.sum(1, keepdim=True).clamp(min=1e-30)
        return torch.log(beliefs * (1 - beliefs.shape[1] * FLOOR) + FLOOR)


def _unit(rows: Tensor) -> Tensor:
    return F.normalize(rows, dim=1, eps=1e-30)
