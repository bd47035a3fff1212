"""Attention transfer: where a teacher's activations are large, the student's should be."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from dakit.errors import DakitError
from dakit.interfaces import NonNegative, Positive, Prediction
from dakit.parameters import checked


@checked
class AttentionTransfer:
    r"""The distance of the student's attention maps from the teacher's.

    A map :math:`A` of shape ``(C, H, W)`` becomes a unit vector over the H W positions,

    .. math:: Q = \mathrm{vec} \sum_{j=1}^{C} |A_j|^p, \qquad \hat Q = Q / \lVert Q \rVert_2,

    and the loss is a sum over pairs of maps (l) and a mean over the batch (b):

    ========= ======= ====================================================================================
    form      p       loss
    ========= ======= ====================================================================================
    "cycleat" 1       :math:`\frac{\beta}{2} \sum_l \mathrm{mean}_b \lVert \hat Q_T - \hat Q_S \rVert_2`
    "paper"   2       the same
    "code"    2       :math:`\beta \sum_l \mathrm{mean}_{b, i} (\hat Q_{T,i} - \hat Q_{S,i})^2`
    ========= ======= ====================================================================================

    The norm is not squared in the first two, which are one formula: they differ in the default of p alone.
    "code" is what the authors of "paper" published, where the mean also runs over the H W positions (i), so
    large maps count less; their channels are averaged, which after normalisation is the same as a sum.

    .. warning:: beta does not carry over between the forms: the published code goes with 1000, the others
        with values from 1 to 10.

    For each spatial size that both predictions have, the deepest map of that size of the one is paired with
    the deepest of the other; channel numbers may differ. Gradients flow to whatever requires them: freeze
    the teacher. Where student and teacher agree, and where a map is all zero, the gradient is zero, not NaN.
    Computed in fp32 at least.

    Sources: Zhang et al., ACM Multimedia 2018, Eq. 1 and 7 ("cycleat"); Zagoruyko and Komodakis, *Paying more
    attention to attention*, ICLR 2017, Eq. 2 and its published code.

    Args:
        form: which of the three.
        power: p; None = the form's own.
        beta: weight of the loss.

    Raises:
        DakitError: (when called) no map of the teacher has the spatial size of one of the student.

    >>> maps = torch.tensor([[[[1.0, 0.0]]], [[[3.0, 0.0]]]])  # (2, 1, 1, 2)
    >>> teacher = Prediction(torch.zeros(2, 1), torch.zeros(2, 1), (maps,))
    >>> student = Prediction(torch.zeros(2, 1), torch.zeros(2, 1), (maps.flip(3),))
    >>> round(AttentionTransfer()(teacher, student).item(), 4)  # sqrt(2) / 2
    0.7071
    """

    zero_when_equal = True

    def __init__(
        self,
        *,
        form: Literal["cycleat", "paper", "code"] = "cycleat",
        power: Positive | None = None,
        beta: NonNegative = 1.0,
    ) -> None:
        self.form = form
        self.power = power or (1 if form == "cycleat" else 2)
        self.beta = beta

    def __call__(self, teacher: Prediction, student: Prediction) -> Tensor:
        """The loss of one batch, a scalar."""
        differences = [
            self._attention(of_teacher, teacher.rectified) - self._attention(of_student, student.rectified)
            for of_teacher, of_student in _pairs(teacher.maps, student.maps)
        ]
        if self.form == "code":
            return self.beta * torch.stack([d.square().mean() for d in differences]).sum()
        # vector_norm has gradient 0 at 0, where a square root of squares gives NaN.
        norms = [torch.linalg.vector_norm(d, dim=1).mean() for d in differences]
        return self.beta / 2 * torch.stack(norms).sum()

    def condense(self, teacher: Prediction) -> Prediction:
        """One channel per spatial size, whose attention map is that of all channels."""
        deepest = {tuple(maps.shape[2:]): maps for maps in teacher.maps}.values()
        maps = tuple(
            self._attention(of_teacher, teacher.rectified).pow(1 / self.power).view(-1, 1, *of_teacher.shape[2:])
            for of_teacher in deepest
        )
        return Prediction(teacher.logits[:, :0], teacher.features[:, :0], maps, rectified=True)

    def _attention(self, maps: Tensor, rectified: bool) -> Tensor:
        """``(B, C, H, W)`` to unit vectors ``(B, H W)``, without a tensor of the size of ``maps``."""
        at_least_fp32 = torch.promote_types(maps.dtype, torch.float32)
        if rectified and self.power == 1:  # the same values and gradient, several times as fast
            attention = maps.sum(1, dtype=at_least_fp32)
        elif self.power == 2:
            attention = _SumOfSquares.apply(maps, at_least_fp32)
        else:
            norms = torch.linalg.vector_norm(maps, ord=self.power, dim=1, dtype=at_least_fp32)
            attention = norms.pow(self.power)
        return F.normalize(attention.flatten(1), dim=1)


class _SumOfSquares(torch.autograd.Function):
    """``(B, C, H, W)`` to ``(B, H, W)``, sum over c of A^2; its gradient 2 A g is the only tensor of A's size."""

    @staticmethod
    def forward(ctx: Any, maps: Tensor, dtype: torch.dtype) -> Tensor:
        ctx.save_for_backward(maps)
        summed: Tensor = torch.linalg.vector_norm(maps, dim=1, dtype=dtype).square()
        return summed

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        maps: Tensor = ctx.saved_tensors[0]
        return (maps * gradients[0].mul(2).unsqueeze(1)).to(maps.dtype), None


def _pairs(teacher: tuple[Tensor, ...], student: tuple[Tensor, ...]) -> list[tuple[Tensor, Tensor]]:
    """The deepest maps of each spatial size that both have."""
    of_teacher = {tuple(maps.shape[2:]): maps for maps in teacher}
    of_student = {tuple(maps.shape[2:]): maps for maps in student}
    pairs = [(maps, of_student[size]) for size, maps in of_teacher.items() if size in of_student]
    if not pairs:
        raise DakitError(
            "attention_transfer pairs maps of equal height and width, and there are none: "
            f"the teacher's are {_sizes(of_teacher)}, the student's {_sizes(of_student)}"
        )
    return pairs


def _sizes(maps: dict[tuple[int, ...], Tensor]) -> str:
    return ", ".join(f"{height}x{width}" for height, width in maps) or "none"
