"""Logistic regression."""

from __future__ import annotations

from typing import Annotated, Any

import annotated_types
import numpy as np
from torch import Tensor, nn

from dakit.data.folds import best
from dakit.interfaces import LabelledFeatures, Positive
from dakit.parameters import checked
from dakit_builtins.layers import FittedLinear

Strength = Annotated[float, annotated_types.Gt(0)]


@checked
class Logistic(nn.Module):
    r"""Multinomial logistic regression with an L2 penalty, scikit-learn's ``LogisticRegression`` (lbfgs).

    .. math:: \min_{W, b} \; C \sum_i v_i \left( - \log \mathrm{softmax}(W x_i + b)_{y_i} \right)
        + \tfrac{1}{2} \lVert W \rVert^2

    Features are taken as they are, not scaled.

    Args:
        C: inverse strength of the penalty. Of several, from strong to weak penalty, the one is taken with which images
            of ``train`` that are held out in inner folds, group by group, are classified best (macro accuracy); of
            equally good ones the strongest.
        balanced: weigh images so that all classes count alike: v = N / (K N_y); else v = 1.
        iterations: at most so many of lbfgs.
    """

    def __init__(
        self,
        *,
        C: Strength | tuple[Strength, ...] = (0.001, 0.01, 0.1, 1.0),
        balanced: bool = True,
        iterations: Positive = 1000,
    ) -> None:
        super().__init__()
        self.C = C if isinstance(C, tuple) else (C,)
        self.weights = "balanced" if balanced else None
        self.iterations = iterations
        self.linear = FittedLinear()
        self.facts: dict[str, Any] = {}

    def fit(self, known: LabelledFeatures, unlabelled: Tensor | None) -> None:
        """Choose C, and fit to all labelled images."""
        rows, labels = known.features.numpy(), known.labels.numpy()
        # In the folds centred: the same minimum in half of the steps, as the intercept is not penalised; and each fit
        # starts where the one before ended.
        warm = self._model(self.C[0], warm_start=True)
        C, self.facts["C"] = best(known, rows - rows.mean(0), self.C, lambda C: warm.set_params(C=C))
        model = self._model(C).fit(rows, labels)
        self.facts["iterations"] = int(np.max(model.n_iter_))
        self.linear.take(model.coef_, model.intercept_)

    def _model(self, C: float, warm_start: bool = False) -> Any:
        from sklearn.linear_model import LogisticRegression

        return LogisticRegression(C=C, class_weight=self.weights, max_iter=self.iterations, warm_start=warm_start)

    def forward(self, features: Tensor) -> Tensor:
        """Log-probabilities but for a constant, ``(B, K)``."""
        logits: Tensor = self.linear(features)
        return logits
