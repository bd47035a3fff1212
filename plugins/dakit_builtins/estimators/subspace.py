"""Alignment of the subspaces in which features vary."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from dakit.errors import DakitError
from dakit.interfaces import Estimator, LabelledFeatures, Positive, Spec
from dakit.optional import ChecksInputs, HasFacts, offers
from dakit.parameters import checked


@checked
class Subspace(nn.Module):
    r"""The source's principal directions are turned to the target's; then another estimator.

    With :math:`P_S, P_T` of shape ``(D, d)`` the principal directions of each domain, centred by its own mean,

    .. math:: x_S \mapsto (x_S - \mu_S) P_S P_S^\top P_T, \qquad x_T \mapsto (x_T - \mu_T) P_T .

    Which images are the source and which the target: see ``coral``. A new image is one of the target.

    Source: Fernando et al., *Unsupervised visual domain adaptation using subspace alignment*, ICCV 2013.

    Args:
        then: the estimator that is fitted, ``{use: NAME, ...}``.
        dimensions: d; at most as many as features, or as one domain has images but one.
    """

    mean: Tensor
    axes: Tensor

    def __init__(self, *, then: Spec[Estimator], dimensions: Positive = 64) -> None:
        super().__init__()
        self.then: Any = then.build()
        self.dimensions = dimensions
        self.register_buffer("mean", torch.zeros(0))
        self.register_buffer("axes", torch.zeros(0, 0))

    @property
    def facts(self) -> Mapping[str, Any]:
        """Of the estimator within, and how many dimensions there are."""
        return {**(self.then.facts if offers(self.then, HasFacts) else {}), "dimensions": self.axes.shape[1]}

    def check(self, inputs: frozenset[str]) -> list[str]:
        """Two domains are needed."""
        inner = self.then.check(inputs) if offers(self.then, ChecksInputs) else []
        missing = not {"extra", "unlabelled"} & inputs
        return inner + ["subspace needs two domains: the input `extra` or `unlabelled` beside `train`"] * missing

    def fit(self, known: LabelledFeatures, unlabelled: Tensor | None) -> None:
        """Align the source, and fit to all labelled images."""
        of_source = known.extra if bool(known.extra.any()) else ~known.extra
        rows = known.features.double()
        more = [] if unlabelled is None else [unlabelled.double()]
        source, target = rows[of_source], torch.cat([rows[~of_source], *more])
        if min(len(source), len(target)) < 2:
            raise DakitError(f"subspace needs two images of each domain, not {len(source)} and {len(target)}")
        count = min(self.dimensions, rows.shape[1], len(source) - 1, len(target) - 1)
        of_s, of_t = _directions(source, count), _directions(target, count)
        aligned = rows.new_empty(len(rows), count)
        aligned[of_source] = (source - source.mean(0)) @ of_s @ (of_s.T @ of_t)
        aligned[~of_source] = (rows[~of_source] - target.mean(0)) @ of_t
        self.mean, self.axes = target.mean(0).float(), of_t.float()
        inside = None if unlabelled is None else ((unlabelled.double() - target.mean(0)) @ of_t).float()
        self.then.fit(known._replace(features=aligned.float()), inside)

    def forward(self, features: Tensor) -> Tensor:
        """``(B, K)``."""
        logits: Tensor = self.then((features - self.mean) @ self.axes)
        return logits


def _directions(rows: Tensor, count: int) -> Tensor:
    """The principal directions of the largest variance, ``(D, count)``, each with its largest value positive."""
    axes = torch.linalg.svd(rows - rows.mean(0), full_matrices=False).Vh[:count].T
    largest = axes.gather(0, axes.abs().argmax(0, keepdim=True))
    signed: Tensor = axes * largest.sign()
    return signed
