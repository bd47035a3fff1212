"""Correlation alignment of features."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from dakit.errors import DakitError
from dakit.interfaces import Estimator, LabelledFeatures, NonNegative, Spec
from dakit.optional import ChecksInputs, HasFacts, offers
from dakit.parameters import checked


@checked
class Coral(nn.Module):
    r"""The source's features with the target's mean and covariance; then another estimator.

    .. math:: x \mapsto (x - \mu_S) \, C_S^{-1/2} \, C_T^{1/2} + \mu_T, \qquad
        C = \mathrm{cov} + \lambda \, \bar\sigma^2 I

    with :math:`\bar\sigma^2` the mean variance of a feature over both domains. The source are the images of ``extra``,
    or of ``train`` where there is no ``extra``; the target are those of ``unlabelled``, with those of ``train`` where
    there is an ``extra``. Only source features are changed, so that a new image is classified as it is.

    Source: Sun, Feng, Saenko, *Return of frustratingly easy domain adaptation*, AAAI 2016; there features are
    standardised in each domain, so that means are 0 and lambda is 1.

    Args:
        then: the estimator that is fitted, ``{use: NAME, ...}``.
        regularisation: lambda.
    """

    def __init__(self, *, then: Spec[Estimator], regularisation: NonNegative = 1.0) -> None:
        super().__init__()
        self.then: Any = then.build()
        self.regularisation = regularisation

    @property
    def facts(self) -> Mapping[str, Any]:
        """Of the estimator within."""
        return dict(self.then.facts) if offers(self.then, HasFacts) else {}

    def check(self, inputs: frozenset[str]) -> list[str]:
        """Two domains are needed."""
        inner = self.then.check(inputs) if offers(self.then, ChecksInputs) else []
        missing = not {"extra", "unlabelled"} & inputs
        return inner + ["coral needs two domains: the input `extra` or `unlabelled` beside `train`"] * missing

    def fit(self, known: LabelledFeatures, unlabelled: Tensor | None) -> None:
        """Align the source, and fit to all labelled images."""
        of_source = known.extra if bool(known.extra.any()) else ~known.extra
        rows = known.features.double()
        target = torch.cat([rows[~of_source], *([] if unlabelled is None else [unlabelled.double()])])
        source = rows[of_source]
        if min(len(source), len(target)) < 2:
            raise DakitError(f"coral needs two images of each domain, not {len(source)} and {len(target)}")
        spread = [part.T.cov() for part in (source, target)]
        ridge = self.regularisation * sum(float(part.diagonal().mean()) for part in spread) / 2
        of_s, of_t = (part + ridge * torch.eye(len(part), dtype=part.dtype) for part in spread)
        aligned = (source - source.mean(0)) @ _power(of_s, -0.5) @ _power(of_t, 0.5) + target.mean(0)
        rows[of_source] = aligned
        self.then.fit(known._replace(features=rows.float()), unlabelled)

    def forward(self, features: Tensor) -> Tensor:
        """``(B, K)``."""
        logits: Tensor = self.then(features)
        return logits


def _power(matrix: Tensor, exponent: float) -> Tensor:
    """Of a symmetric matrix; what is 0 but for rounding stays 0."""
    values, vectors = torch.linalg.eigh(matrix)
    real = values > 1e-12 * values[-1].clamp(min=1e-300)
    powers = torch.where(real, values.clamp(min=1e-300) ** exponent, 0.0)
    power: Tensor = (vectors * powers) @ vectors.T
    return power
