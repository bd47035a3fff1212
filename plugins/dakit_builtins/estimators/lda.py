"""Linear discriminant analysis."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from torch import Tensor, nn

from dakit.data.folds import best
from dakit.errors import DakitError
from dakit.interfaces import Fraction, LabelledFeatures
from dakit.parameters import checked
from dakit_builtins.layers import FittedLinear


@checked
class LDA(nn.Module):
    """Linear discriminant analysis with a shrunk covariance, scikit-learn's ``LinearDiscriminantAnalysis`` (lsqr).

    Each class is a normal distribution, all with one covariance; logits are the logarithms of what they give.

    Args:
        shrinkage: from 0 (the covariance as it is, which needs more images than features) to 1 (variances alone);
            "auto" is that of Ledoit and Wolf; of several numbers the best by inner folds, as in logistic regression.
        balanced: all classes are equally likely; else as often as they are among the labelled images.

    Raises:
        DakitError: (when fitted) there are not more images than classes.
    """

    def __init__(
        self, *, shrinkage: Literal["auto"] | Fraction | tuple[Fraction, ...] = "auto", balanced: bool = True
    ) -> None:
        super().__init__()
        self.shrinkage = shrinkage if isinstance(shrinkage, tuple) else (shrinkage,)
        self.balanced = balanced
        self.linear = FittedLinear()
        self.facts: dict[str, Any] = {}

    def fit(self, known: LabelledFeatures, unlabelled: Tensor | None) -> None:
        """Choose the shrinkage, and fit to all labelled images."""
        from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

        rows, labels = known.features.numpy().astype(np.float64), known.labels.numpy()
        classes = int(labels.max()) + 1
        if len(labels) <= classes:
            raise DakitError(f"lda needs more labelled images than classes, not {len(labels)} of {classes}")
        priors = np.full(classes, 1 / classes) if self.balanced else None

        def model(shrinkage: Any) -> Any:
            return LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage, priors=priors)

        shrinkage, self.facts["shrinkage"] = best(known, rows, self.shrinkage, model)
        fitted = model(shrinkage).fit(rows, labels)
        self.linear.take(fitted.coef_, fitted.intercept_)

    def forward(self, features: Tensor) -> Tensor:
        """``(B, K)``."""
        logits: Tensor = self.linear(features)
        return logits
