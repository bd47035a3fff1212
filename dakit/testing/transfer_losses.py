"""The contract of transfer losses."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from dakit.interfaces import Prediction, Spec
from dakit.optional import Condenses, ZeroWhenEqual, offers
from dakit.testing.contract import FIRST, Check, finite, wanted


def prediction(batch: int = 3, *, learn: bool = False, dtype: torch.dtype = torch.float32) -> Prediction:
    """A random prediction: 4 classes, 5 features, maps of 8 and of 4 pixels; leaves that may ask for gradients."""
    logits, features = torch.randn(batch, 4, dtype=dtype), torch.randn(batch, 5, dtype=dtype)
    maps = tuple(torch.rand(batch, c, s, s, dtype=dtype) + 0.1 for c, s in ((2, 8), (3, 4)))
    for leaf in (logits, features, *maps):
        leaf.requires_grad_(learn)
    return Prediction(logits, features, maps)


def leaves(output: Prediction) -> list[Tensor]:
    """Its tensors."""
    return [output.logits, output.features, *output.maps]


def is_a_finite_scalar(spec: Spec[Any]) -> None:
    """It is added to other losses: one finite number, for batches of 1 and more."""
    for batch in (1, 3):
        value = spec.build()(prediction(batch), prediction(batch))
        wanted(isinstance(value, Tensor) and value.ndim == 0, f"it returns {getattr(value, 'shape', type(value))}")
        wanted(finite(value), f"a batch of {batch} gives {value}")


def gradients_reach_the_student_alone(spec: Spec[Any]) -> None:
    """The student learns from the teacher: its prediction has a gradient somewhere, a frozen teacher's nowhere."""
    teacher, student = prediction(), prediction(learn=True)
    spec.build()(teacher, student).backward()
    gradients = [leaf.grad for leaf in leaves(student) if leaf.grad is not None]
    wanted(any(bool(gradient.any()) for gradient in gradients), "the student gets no gradient")
    wanted(finite(*gradients), "a gradient is not finite")
    wanted(all(leaf.grad is None for leaf in leaves(teacher)), "the teacher's tensors were given gradients")


def gradient_is_the_derivative(spec: Spec[Any]) -> None:
    """Checked in float64 against finite differences: a detached factor or a wrong custom backward shows here."""
    loss, teacher, student = spec.build(), prediction(2, dtype=torch.float64), prediction(2, dtype=torch.float64)
    if isinstance(loss, nn.Module):
        loss = loss.double()
    parts = [leaf.requires_grad_() for leaf in leaves(student)]

    def value(logits: Tensor, features: Tensor, *maps: Tensor) -> Tensor:
        loss_value: Tensor = loss(teacher, Prediction(logits, features, maps))
        return loss_value

    dtype = value(*parts).dtype
    wanted(dtype == torch.float64, f"float64 gives {dtype}: where bf16 is to be widened, use torch.promote_types")
    try:
        torch.autograd.gradcheck(value, parts, eps=1e-6, atol=1e-5)
    except RuntimeError as error:
        wanted(False, "finite differences disagree: " + " ".join(str(error).split())[:160])


def is_zero_where_it_says_so(spec: Spec[Any]) -> None:
    """With `zero_when_equal = True` it promises 0 and a finite gradient at student = teacher: training starts there."""
    loss = spec.build()
    if offers(loss, ZeroWhenEqual) and loss.zero_when_equal:
        student = prediction(learn=True)
        logits, features, *maps = (leaf.detach() for leaf in leaves(student))
        teacher = Prediction(logits, features, tuple(maps))
        value = loss(teacher, student)
        wanted(value.detach().abs() < 1e-6, f"it is {value.detach():.3g} there")
        torch.autograd.backward(value)
        wanted(finite(*(leaf.grad for leaf in leaves(student) if leaf.grad is not None)), "its gradient is NaN there")


def same_input_gives_the_same_value(spec: Spec[Any]) -> None:
    """It depends on its input and torch's seed alone, and leaves its input as it is."""
    teacher, student = prediction(), prediction()
    before = [leaf.clone() for leaf in (*leaves(teacher), *leaves(student))]
    values = []
    for _ in range(2):
        torch.manual_seed(5)
        values.append(float(spec.build()(teacher, student).detach()))
    wanted(values[0] == values[1], f"two calls gave {values}")
    wanted(all(map(torch.equal, before, (*leaves(teacher), *leaves(student)))), "it changed its input in place")


def takes_half_precision(spec: Spec[Any]) -> None:
    """With `precision: bf16` networks give bf16 tensors: the value stays finite."""

    def low() -> Prediction:
        logits, features, *maps = (leaf.to(torch.bfloat16) for leaf in leaves(prediction()))
        return Prediction(logits, features, tuple(maps))

    with torch.autocast("cpu", torch.bfloat16):
        wanted(finite(spec.build()(low(), low())), "bf16 predictions give no finite value")


def a_condensed_teacher_gives_the_same_loss(spec: Spec[Any]) -> None:
    """Where it has `condense`, answers of a teacher are kept: loss(condense(t), s) == loss(t, s)."""
    loss = spec.build()
    if offers(loss, Condenses):
        teacher, student = prediction(), prediction()
        condensed, fresh = float(loss(loss.condense(teacher), student).detach()), float(loss(teacher, student).detach())
        wanted(abs(condensed - fresh) <= 1e-4 * max(1.0, abs(fresh)), f"{condensed:.6g} instead of {fresh:.6g}")


CHECKS: tuple[Check, ...] = (
    *FIRST, is_a_finite_scalar, gradients_reach_the_student_alone, gradient_is_the_derivative,
    is_zero_where_it_says_so, same_input_gives_the_same_value, takes_half_precision,
    a_condensed_teacher_gives_the_same_loss,
)  # fmt: skip
