"""The nearest labelled images."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dakit.data.folds import best, inner_folds
from dakit.interfaces import LabelledFeatures, Positive
from dakit.parameters import checked


@checked
class KNN(nn.Module):
    r"""The votes of the k nearest labelled images, as scikit-learn's ``KNeighborsClassifier`` counts them.

    Logits are :math:`\log \frac{n_j + 1 / K}{k + 1}`, with n the votes for a class: of equal votes the first class
    wins, and no probability is 0. All features stay with the classifier.

    Args:
        neighbours: k, at most as many as there are images (in inner folds: in these); of several the best by inner
            folds, as in logistic regression.
        metric: "cosine" distance (the angle alone) or "euclidean".
    """

    rows: Tensor
    labels: Tensor
    votes: Tensor
    centre: Tensor

    def __init__(
        self,
        *,
        neighbours: Positive | tuple[Positive, ...] = 5,
        metric: Literal["cosine", "euclidean"] = "cosine",
    ) -> None:
        super().__init__()
        self.neighbours = neighbours if isinstance(neighbours, tuple) else (neighbours,)
        self.metric = metric
        self.facts: dict[str, Any] = {}
        self.register_buffer("centre", torch.zeros(0))
        self.register_buffer("rows", torch.zeros(0, 0))
        self.register_buffer("labels", torch.zeros(0, 0))
        self.register_buffer("votes", torch.zeros(0))  # of each neighbour: as many as there are to be

    def fit(self, known: LabelledFeatures, unlabelled: Tensor | None) -> None:
        """Keep all of it."""
        from sklearn.neighbors import KNeighborsClassifier

        fewest = min((len(fitted) for fitted, _ in inner_folds(known)), default=len(known.features))

        def model(k: int) -> Any:
            return KNeighborsClassifier(n_neighbors=min(k, fewest), metric=self.metric)

        chosen, self.facts["neighbours"] = best(known, known.features.numpy(), self.neighbours, model)
        self.votes = torch.ones(min(chosen, len(known.features)))
        # Distances do not change with the origin; near the data float32 keeps more of them.
        rows = known.features.double()
        centre = torch.zeros_like(rows[0]) if self.metric == "cosine" else rows.mean(0)
        self.centre = centre.float()
        self.rows = self._scaled(rows - centre).float()
        self.labels = F.one_hot(known.labels).float()

    def _scaled(self, rows: Tensor) -> Tensor:
        return F.normalize(rows, dim=1, eps=1e-30) if self.metric == "cosine" else rows

    def forward(self, features: Tensor) -> Tensor:
        """``(B, K)``."""
        rows = self._scaled(features - self.centre)
        apart = self.rows.square().sum(1) - 2 * rows @ self.rows.T  # but for what is the same for all of a row
        neighbours = apart.topk(len(self.votes), dim=1, largest=False).indices
        counts = (self.labels[neighbours] * self.votes[:, None]).sum(1)
        return torch.log((counts + 1 / counts.shape[1]) / (len(self.votes) + 1))
