"""Cross-entropy with what is done against overconfidence and against classes of unequal size."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F


class CrossEntropy:
    """Cross-entropy of logits ``(B, K)`` with labels ``(B,)`` or with probabilities ``(B, K)``, as torch computes it.

    Args:
        label_smoothing: so much of a label is shared equally among all classes (Szegedy et al., CVPR 2016).
        weights: ``(K,)``, by which each class counts; None = alike.
        adjustment: ``(K,)``, added to the logits; None = nothing.
    """

    def __init__(self, label_smoothing: float = 0.0, weights: Tensor | None = None, adjustment: Tensor | None = None):
        self.label_smoothing = label_smoothing
        self.weights = weights
        self.adjustment = adjustment

    def __call__(self, logits: Tensor, target: Tensor) -> Tensor:
        """One number, in fp32."""
        logits = logits.float() if self.adjustment is None else logits.float() + self.adjustment
        return F.cross_entropy(logits, target, self.weights, label_smoothing=self.label_smoothing)


def class_shares(parts: Sequence[tuple[Sequence[int], float]], classes: int) -> Tensor:
    """Which share of the images drawn for training is of each class: float32 ``(K,)``, their sum is 1.

    A class without images counts as if it had one, so that weights and logarithms of shares are finite.

    Args:
        parts: the labels of each set that is drawn from, and which share of a batch comes from it.
        classes: K.

    >>> class_shares([([0, 0, 0, 1], 1.0)], 2).tolist()
    [0.75, 0.25]
    """
    shares = np.zeros(classes)
    for labels, share in parts:
        shares += share * np.bincount(np.asarray(labels), minlength=classes) / len(labels)
    shares[shares == 0] = 1 / sum(len(labels) for labels, _ in parts)
    return torch.from_numpy(shares / shares.sum()).float()


def balanced_weights(shares: Tensor) -> Tensor:
    """Weights ``(K,)`` with which every class counts alike: 1 / (K share), scikit-learn's "balanced"."""
    return 1 / (len(shares) * shares)
