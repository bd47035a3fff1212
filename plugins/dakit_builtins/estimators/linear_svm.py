"""A linear support vector machine."""

from __future__ import annotations

from typing import Annotated, Any

import annotated_types
import torch
from torch import Tensor, nn

from dakit.data.folds import best
from dakit.interfaces import LabelledFeatures, Positive
from dakit.parameters import checked
from dakit_builtins.layers import FittedLinear

Strength = Annotated[float, annotated_types.Gt(0)]


@checked
class LinearSVM(nn.Module):
    """A linear support vector machine, each class against the rest, scikit-learn's ``LinearSVC`` (squared hinge).

    Logits are the margins; they are no log-probabilities, for which ``calibrate`` of ``fit_head`` is there. Features
    are taken as they are, not scaled.

    Args:
        C: inverse strength of the penalty; of several, from strong to weak penalty, the best by inner folds, as in
            logistic regression.
        balanced: weigh images so that all classes count alike.
        iterations: at most so many of liblinear.
    """

    def __init__(
        self,
        *,
        C: Strength | tuple[Strength, ...] = (0.0001, 0.001, 0.01, 0.1),
        balanced: bool = True,
        iterations: Positive = 10_000,
    ) -> None:
        super().__init__()
        self.C = C if isinstance(C, tuple) else (C,)
        self.weights = "balanced" if balanced else None
        self.iterations = iterations
        self.linear = FittedLinear()
        self.facts: dict[str, Any] = {}

    def fit(self, known: LabelledFeatures, unlabelled: Tensor | None) -> None:
        """Choose C, and fit to all labelled images."""
        from sklearn.svm import LinearSVC

        seed = int(torch.randint(2**31, ()))  # liblinear takes the images in a random order

        def model(C: float) -> Any:
            return LinearSVC(C=C, class_weight=self.weights, max_iter=self.iterations, random_state=seed)

        rows = known.features.numpy()
        C, self.facts["C"] = best(known, rows, self.C, model)
        fitted = model(C).fit(rows, known.labels.numpy())
        self.linear.take(fitted.coef_, fitted.intercept_)

    def forward(self, features: Tensor) -> Tensor:
        """Margins ``(B, K)``; of two classes half of the one margin, with either sign."""
        logits: Tensor = self.linear(features)
        return logits
