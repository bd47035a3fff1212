"""A support vector machine with a Gaussian kernel."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import annotated_types
import numpy as np
import torch
from torch import Tensor, nn

from dakit.data.folds import best
from dakit.interfaces import LabelledFeatures
from dakit.parameters import checked

Strength = Annotated[float, annotated_types.Gt(0)]


@checked
class RbfSVM(nn.Module):
    r"""A support vector machine with the kernel :math:`\exp(-\gamma \lVert x - z \rVert^2)`, scikit-learn's ``SVC``.

    Each pair of classes has its margin; a class's logit is the number of pairs that it wins plus the sum of its
    margins, squeezed into a third (scikit-learn's ``decision_function_shape="ovr"``, with ``break_ties``). Such
    logits are no log-probabilities, for which ``calibrate`` of ``fit_head`` is there.

    Args:
        C: inverse strength of the penalty; of several, from strong to weak penalty, the best by inner folds, as in
            logistic regression.
        gamma: of the kernel; "scale" is 1 / (D times the variance of all feature values).
        balanced: weigh images so that all classes count alike.
    """

    centre: Tensor
    scale: Tensor
    vectors: Tensor
    duals: Tensor
    bias: Tensor
    owners: Tensor

    def __init__(
        self,
        *,
        C: Strength | tuple[Strength, ...] = (1.0, 10.0, 100.0),
        gamma: Literal["scale"] | Strength = "scale",
        balanced: bool = True,
    ) -> None:
        super().__init__()
        self.C = C if isinstance(C, tuple) else (C,)
        self.gamma = gamma
        self.weights = "balanced" if balanced else None
        self.facts: dict[str, Any] = {}
        for name, shape in {"centre": (0,), "scale": (), "vectors": (0, 0), "duals": (0, 0), "bias": (0,)}.items():
            self.register_buffer(name, torch.zeros(shape))
        self.register_buffer("owners", torch.zeros(0, dtype=torch.int64))

    def fit(self, known: LabelledFeatures, unlabelled: Tensor | None) -> None:
        """Choose C, and fit to all labelled images."""
        from sklearn.svm import SVC

        def model(C: float) -> Any:
            return SVC(C=C, gamma=self.gamma, class_weight=self.weights, break_ties=True)

        rows = known.features.numpy().astype(np.float64)
        C, self.facts["C"] = best(known, rows, self.C, model)
        svm = model(C).fit(rows, known.labels.numpy())
        self.facts["support_vectors"] = len(svm.support_)
        # Distances do not change with the origin; near the data float32 keeps more of them. And sqrt(gamma) goes into
        # the features, so that the kernel is exp(-|x - z|^2).
        gamma = svm._gamma
        centre = rows.mean(0)
        self.centre = torch.from_numpy(centre).float()
        self.scale = torch.tensor(gamma**0.5).float()
        self.vectors = torch.from_numpy((svm.support_vectors_ - centre) * gamma**0.5).float()
        self.duals = torch.from_numpy(np.ascontiguousarray(svm.dual_coef_)).float()
        self.bias = torch.from_numpy(np.ascontiguousarray(svm.intercept_)).float()
        self.owners = torch.arange(len(svm.n_support_)).repeat_interleave(torch.from_numpy(svm.n_support_).long())

    def forward(self, features: Tensor) -> Tensor:
        """Votes and squeezed margins, ``(B, K)``; of two classes half of the one margin, with either sign."""
        rows = (features - self.centre) * self.scale
        apart = rows.square().sum(1, keepdim=True) + self.vectors.square().sum(1) - 2 * rows @ self.vectors.T
        kernel = torch.exp(-apart.clamp(min=0))
        classes = len(self.duals) + 1
        if classes == 2:
            margin = kernel @ self.duals.T + self.bias
            return torch.cat([-margin / 2, margin / 2], 1)
        pairs = [(i, j) for i in range(classes) for j in range(i + 1, classes)]
        # The dual coefficient of a vector of class i against class j stands in row j - 1, of one of j in row i.
        sums = torch.stack([kernel @ (self.duals * (self.owners == k)).T for k in range(classes)], 1)  # (B, K, K - 1)
        margins = torch.stack([sums[:, i, j - 1] + sums[:, j, i] for i, j in pairs], 1) + self.bias
        first = torch.tensor([[float(k == i) for k in range(classes)] for i, _ in pairs], device=rows.device)
        second = torch.tensor([[float(k == j) for k in range(classes)] for _, j in pairs], device=rows.device)
        wins = (margins >= 0).to(margins.dtype)
        votes = wins @ first + (1 - wins) @ second
        sure = margins @ (first - second)
        return votes + sure / (3 * (sure.abs() + 1))
