"""``mmd``: how far two batches of features are apart as distributions."""

from __future__ import annotations

from typing import Annotated

import annotated_types
import torch
from torch import Tensor

from dakit.interfaces import NonNegative, Positive, Prediction


class MMD:
    r"""The squared maximum mean discrepancy of two batches of features under a mixture of Gaussian kernels.

    .. math:: \beta \Big( \frac{1}{m^2} \sum_{i,j} k(x_i, x_j) + \frac{1}{n^2} \sum_{i,j} k(y_i, y_j)
        - \frac{2}{mn} \sum_{i,j} k(x_i, y_j) \Big),

    .. math:: k(x, y) = \frac{1}{U} \sum_{u=1}^{U}
        \exp\big({-\lVert x - y \rVert^2} / (s \gamma\, 2^{u - \lceil U/2 \rceil})\big)

    with :math:`\gamma` the mean squared distance of two different features of the joined batch (ours; the sources
    take the median), so that the loss does not change when all features are scaled. It is differentiated too:
    features cannot lower the loss by shrinking. This is the biased estimate, which is never negative and 0 where the
    batches are equal. The batches may differ in size; the features' width is the same. Computed in fp32 at least.

    Sources: Gretton et al., *A kernel two-sample test*, JMLR 2012; Long et al., *Learning transferable
    features with deep adaptation networks*, ICML 2015 (a mixture of bandwidths around one scale).

    Args:
        beta: weight of the loss.
        kernels: U, how many bandwidths, each twice the one before.
        scale: s, a factor of all bandwidths.

    >>> far = Prediction(torch.zeros(2, 1), torch.tensor([[0.0], [1.0]]), ())
    >>> near = Prediction(torch.zeros(2, 1), torch.tensor([[0.0], [0.0]]), ())
    >>> MMD()(far, far).item()
    0.0
    >>> MMD()(far, near).item() > 0
    True
    """

    zero_when_equal = True

    def __init__(
        self,
        *,
        beta: NonNegative = 1.0,
        kernels: Positive = 5,
        scale: Annotated[float, annotated_types.Gt(0)] = 1.0,
    ) -> None:
        self.beta = beta
        self.kernels = kernels
        self.scale = scale

    def __call__(self, teacher: Prediction, student: Prediction) -> Tensor:
        """The loss of two batches, a scalar."""
        joined = torch.cat([teacher.features, student.features])
        joined = joined.to(torch.promote_types(joined.dtype, torch.float32))
        exact = "donot_use_mm_for_euclid_dist"
        apart = torch.cdist(joined, joined, compute_mode=exact).square()
        n, m = len(joined), len(teacher.features)
        middle = apart.sum() / (n * (n - 1))
        if middle == 0:  # all features are one point: no kernel has a width, and nothing is apart
            return apart.sum()
        powers = torch.arange(self.kernels, device=apart.device, dtype=apart.dtype) - (self.kernels - 1) // 2
        widths = self.scale * middle * 2.0**powers
        alike = torch.exp(-apart / widths[:, None, None]).mean(0)
        between = alike[:m, m:].mean()
        return self.beta * (alike[:m, :m].mean() + alike[m:, m:].mean() - 2 * between)
