"""The nearest class mean."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dakit.interfaces import LabelledFeatures
from dakit.parameters import checked
from dakit_builtins.layers import FittedLinear


@checked
class NearestMean(nn.Module):
    r"""The class whose mean is nearest, as scikit-learn's ``NearestCentroid``; nothing is to be chosen.

    .. math:: \mathrm{logit}_k = \mu_k^\top x - \tfrac{1}{2} \lVert \mu_k \rVert^2
        = - \tfrac{1}{2} \lVert x - \mu_k \rVert^2 + \tfrac{1}{2} \lVert x \rVert^2

    Such logits are log-probabilities where each class is a normal distribution of variance 1 in every feature;
    ``calibrate`` of ``fit_head`` finds the variance that fits.
    """

    def __init__(self) -> None:
        super().__init__()
        self.linear = FittedLinear()

    def fit(self, known: LabelledFeatures, unlabelled: Tensor | None) -> None:
        """Take the mean of each class, of all labelled images alike."""
        rows = known.features.double()
        means = torch.stack([rows[known.labels == label].mean(0) for label in range(int(known.labels.max()) + 1)])
        self.linear.take(means, -means.square().sum(1) / 2)

    def forward(self, features: Tensor) -> Tensor:
        """``(B, K)``."""
        logits: Tensor = self.linear(features)
        return logits
