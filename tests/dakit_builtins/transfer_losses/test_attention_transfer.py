from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from dakit.errors import DakitError
from dakit.interfaces import Prediction
from dakit_builtins.transfer_losses.attention_transfer import AttentionTransfer

FORMS: tuple[Literal["cycleat", "paper", "code"], ...] = ("cycleat", "paper", "code")


def prediction(*maps: Tensor) -> Prediction:
    return Prediction(torch.zeros(len(maps[0]), 2), torch.zeros(len(maps[0]), 2), maps)


def maps(seed: int, channels: int, size: int, batch: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, channels, size, size + 1, dtype=torch.float64, generator=generator)


def by_hand(form: str, power: int, beta: float, pairs: list[tuple[Tensor, Tensor]]) -> float:
    """Eq. 1 and 7 of CycleAT, Eq. 2 of Zagoruyko and Komodakis, or the latter's code, image by image."""
    total = 0.0
    for teacher, student in pairs:
        values = []
        for a, b in zip(teacher.numpy(), student.numpy(), strict=True):
            if form == "code":
                q_a, q_b = (np.mean(np.abs(x) ** power, axis=0).ravel() for x in (a, b))
            else:
                q_a, q_b = (sum(np.abs(channel) ** power for channel in x).ravel() for x in (a, b))
            d = q_a / math.sqrt((q_a**2).sum()) - q_b / math.sqrt((q_b**2).sum())
            values.append((d**2).mean() if form == "code" else math.sqrt((d**2).sum()))
        total += sum(values) / len(values)
    return beta * total if form == "code" else beta / 2 * total


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("power", [None, 1, 2, 3])
def test_against_the_equations(form: Any, power: int | None) -> None:
    teacher = [maps(0, 4, 6), maps(1, 5, 3)]
    student = [maps(2, 2, 6), maps(3, 7, 3)]
    p = power or {"cycleat": 1, "paper": 2, "code": 2}[form]
    expected = by_hand(form, p, 1.7, list(zip(teacher, student, strict=True)))
    loss = AttentionTransfer(form=form, power=power, beta=1.7)(prediction(*teacher), prediction(*student))
    assert loss.shape == ()
    assert loss.item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("form", FORMS)
def test_gradient(form: Any) -> None:
    loss = AttentionTransfer(form=form, beta=3.0)
    teacher, student = maps(0, 3, 2, 2).requires_grad_(), maps(1, 2, 2, 2).requires_grad_()
    assert torch.autograd.gradcheck(lambda t, s: loss(prediction(t), prediction(s)), (teacher, student))


@pytest.mark.parametrize("form", FORMS)
def test_equal_maps_give_zero_and_no_gradient(form: Any) -> None:
    """Fine-tuning starts exactly here; a square root of a sum of squares has gradient NaN."""
    teacher = maps(0, 3, 4)
    student = teacher.clone().requires_grad_()
    loss = AttentionTransfer(form=form)(prediction(teacher), prediction(student))
    (gradient,) = torch.autograd.grad(loss, student)
    assert loss.item() == 0.0
    assert torch.equal(gradient, torch.zeros_like(gradient))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dead_maps_are_not_nan(form: Any, dtype: torch.dtype) -> None:
    teacher = maps(0, 3, 4).to(dtype)
    student = torch.zeros_like(teacher).requires_grad_()
    loss = AttentionTransfer(form=form)(prediction(teacher), prediction(student))
    (gradient,) = torch.autograd.grad(loss, student)
    # The teacher's unit vectors stand against zero: norm 1, mean square 1 / (4 * 5).
    assert loss.item() == pytest.approx(1 / 20 if form == "code" else 1 / 2)
    assert torch.equal(gradient, torch.zeros_like(gradient))


def test_frozen_teacher_gets_no_gradient() -> None:
    teacher, student = maps(0, 3, 4), maps(1, 3, 4).requires_grad_()
    AttentionTransfer()(prediction(teacher), prediction(student)).backward()
    assert teacher.grad is None
    assert student.grad is not None
    assert student.grad.any()


def test_scale_and_channel_number_do_not_matter() -> None:
    teacher, student = maps(0, 3, 4), maps(1, 3, 4)
    for form in FORMS:
        loss = AttentionTransfer(form=form)
        expected = loss(prediction(teacher), prediction(student))
        changed = loss(prediction(9 * teacher), prediction(student.repeat(1, 5, 1, 1)))
        torch.testing.assert_close(changed, expected)


def test_pairs_are_the_deepest_maps_of_each_common_size() -> None:
    teacher = [maps(0, 2, 8), maps(1, 2, 8), maps(2, 2, 4), maps(3, 2, 1)]  # 8x9 twice
    student = [maps(4, 2, 8), maps(5, 2, 4), maps(6, 2, 4), maps(7, 2, 2)]  # 4x5 twice
    expected = by_hand("cycleat", 1, 1.0, [(teacher[1], student[0]), (teacher[2], student[2])])
    loss = AttentionTransfer()(prediction(*teacher), prediction(*student))
    assert loss.item() == pytest.approx(expected, rel=1e-12)


def test_no_common_size_is_an_error_that_lists_both() -> None:
    with pytest.raises(DakitError, match="the teacher's are 8x9, 4x5, the student's 6x7"):
        AttentionTransfer()(prediction(maps(0, 2, 8), maps(1, 2, 4)), prediction(maps(2, 2, 6)))


@pytest.mark.parametrize("form", FORMS)
def test_half_precision_is_computed_in_fp32(form: Any) -> None:
    teacher, student = maps(0, 3, 4).bfloat16(), maps(1, 3, 4).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = AttentionTransfer(form=form)(prediction(teacher), prediction(student))
    full = by_hand(form, {"cycleat": 1}.get(form, 2), 1.0, [(teacher.double(), student.double())])
    assert half.dtype == torch.float32
    assert half.item() == pytest.approx(full, rel=1e-5)


@pytest.mark.parametrize(("form", "power"), [("cycleat", 1), ("paper", 2), ("code", 2)])
def test_nothing_of_the_maps_size_is_made_but_their_gradient(form: Any, power: int) -> None:
    """The published form holds the squares and, backward, what they give as well."""

    class Sizes(TorchDispatchMode):
        def __init__(self) -> None:
            super().__init__()
            self.made = 0

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            out = func(*args, **(kwargs or {}))
            given = {t.untyped_storage().data_ptr() for t in args if isinstance(t, Tensor)}
            if isinstance(out, Tensor) and out.numel() >= student.numel():
                self.made += out.untyped_storage().data_ptr() not in given
            return out

    torch.manual_seed(0)
    student = torch.rand(2, 16, 4, 4, requires_grad=True)
    taught = torch.rand(2, 16, 4, 4)
    empty = torch.zeros(2, 1)
    with Sizes() as sizes:
        said = Prediction(empty, empty, (student,), rectified=True)
        loss = AttentionTransfer(form=form, power=power)(Prediction(empty, empty, (taught,), rectified=True), said)
        loss.backward()
    assert sizes.made <= 1  # a sum's gradient is a view that is written out once


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("power", [1, 2, 3])
def test_rectified_maps_against_the_equations(form: Any, power: int) -> None:
    """Maps after a ReLU, half of them zero, as classifiers of this house give them; on each side or on both."""
    teacher, student = maps(0, 4, 6).relu(), maps(1, 3, 6).relu()
    expected = by_hand(form, power, 0.7, [(teacher, student)])
    loss = AttentionTransfer(form=form, power=power, beta=0.7)
    for of_teacher in (True, False):
        for of_student in (True, False):
            told = loss(
                prediction(teacher)._replace(rectified=of_teacher), prediction(student)._replace(rectified=of_student)
            )
            assert told.item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("power", [1, 2, 3])
def test_what_a_teacher_is_condensed_to_gives_the_same_loss(form: Any, power: int) -> None:
    """One channel for each size, of the deepest map of that size, and neither logits nor features."""
    whole = prediction(maps(0, 4, 6), maps(1, 5, 6), maps(2, 3, 3))
    student = prediction(maps(3, 2, 6), maps(4, 7, 3))
    loss = AttentionTransfer(form=form, power=power)
    condensed = loss.condense(whole)
    assert [tuple(one.shape) for one in condensed.maps] == [(3, 1, 6, 7), (3, 1, 3, 4)]
    assert condensed.logits.shape == condensed.features.shape == (3, 0)
    assert loss(condensed, student).item() == pytest.approx(loss(whole, student).item(), rel=1e-12)
