"""Distillation of a teacher's softened class probabilities."""

from __future__ import annotations

from typing import Annotated

import annotated_types
import torch
from torch import Tensor
from torch.nn import functional as F

from dakit.errors import DakitError
from dakit.interfaces import NonNegative, Prediction
from dakit.parameters import checked


@checked
class SoftTargets:
    r"""The Kullback-Leibler divergence of the student's softened probabilities from the teacher's.

    .. math:: \beta \, T^2 \, \frac{1}{B} \sum_{b} \sum_k p_{bk} \log \frac{p_{bk}}{q_{bk}},
        \qquad p = \mathrm{softmax}(\mathrm{teacher} / T), \; q = \mathrm{softmax}(\mathrm{student} / T)

    The factor :math:`T^2` keeps the gradient's size when T changes. Gradients flow to whatever requires
    them: freeze the teacher. Computed in fp32 at least.

    Source: Hinton, Vinyals, Dean, *Distilling the knowledge in a neural network*, arXiv 1503.02531,
    section 2.

    Args:
        temperature: T, above 0; a high one tells more of the unlikely classes.
        beta: weight of the loss.

    Raises:
        DakitError: (when called) teacher and student differ in their number of classes.

    >>> same = Prediction(torch.tensor([[1.0, 2.0]]), torch.zeros(1, 1), ())
    >>> SoftTargets()(same, same).item()
    0.0
    """

    zero_when_equal = True

    def __init__(self, *, temperature: Annotated[float, annotated_types.Gt(0)] = 4.0, beta: NonNegative = 1.0) -> None:
        self.temperature = temperature
        self.beta = beta

    def __call__(self, teacher: Prediction, student: Prediction) -> Tensor:
        """The loss of one batch, a scalar."""
        if teacher.logits.shape != student.logits.shape:
            raise DakitError(
                "soft_targets needs teacher and student logits of one shape (batch, classes), "
                f"not {tuple(teacher.logits.shape)} and {tuple(student.logits.shape)}"
            )
        log_p, log_q = (
            F.log_softmax(logits.to(torch.promote_types(logits.dtype, torch.float32)) / self.temperature, dim=1)
            for logits in (teacher.logits, student.logits)
        )
        divergence = F.kl_div(log_q, log_p, reduction="batchmean", log_target=True)
        return self.beta * self.temperature**2 * divergence

    def condense(self, teacher: Prediction) -> Prediction:
        """The logits alone."""
        return Prediction(teacher.logits, teacher.features[:, :0], ())
