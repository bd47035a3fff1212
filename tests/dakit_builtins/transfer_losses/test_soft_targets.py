from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from dakit.errors import DakitError
from dakit.interfaces import Prediction
from dakit_builtins.transfer_losses.soft_targets import SoftTargets


def prediction(logits: Tensor) -> Prediction:
    return Prediction(logits, logits, ())


def logits(seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 3 * torch.randn(5, 7, dtype=torch.float64, generator=generator)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_against_the_equation(temperature: float) -> None:
    teacher, student = logits(0), logits(1)
    p, q = (np.exp(x.numpy() / temperature) for x in (teacher, student))
    p /= p.sum(1, keepdims=True)
    q /= q.sum(1, keepdims=True)
    expected = 0.7 * temperature**2 * (p * np.log(p / q)).sum() / 5
    loss = SoftTargets(temperature=temperature, beta=0.7)(prediction(teacher), prediction(student))
    assert loss.item() == pytest.approx(expected, rel=1e-12)


def test_high_temperature_is_half_the_squared_distance_of_centred_logits() -> None:
    """Hinton et al., section 2.1: the limit is matching logits; here in its exact form, by Taylor."""
    teacher, student = logits(0), logits(1)
    difference = (teacher - teacher.mean(1, keepdim=True)) - (student - student.mean(1, keepdim=True))
    expected = difference.square().sum() / (2 * 7 * 5)
    loss = SoftTargets(temperature=1e4)(prediction(teacher), prediction(student))
    assert loss.item() == pytest.approx(expected.item(), rel=1e-3)


def test_gradient() -> None:
    loss, teacher, student = SoftTargets(), logits(0).requires_grad_(), logits(1).requires_grad_()
    assert torch.autograd.gradcheck(lambda t, s: loss(prediction(t), prediction(s)), (teacher, student))


def test_frozen_teacher_gets_no_gradient_and_equal_logits_give_none() -> None:
    teacher = logits(0)
    student = teacher.clone().requires_grad_()
    value = SoftTargets()(prediction(teacher), prediction(student))
    value.backward()
    assert value.item() == pytest.approx(0.0, abs=1e-12)
    assert student.grad is not None
    assert student.grad.abs().max() < 1e-12


def test_half_precision_is_computed_in_fp32() -> None:
    teacher, student = logits(0).bfloat16(), logits(1).bfloat16()
    half = SoftTargets()(prediction(teacher), prediction(student))
    full = SoftTargets()(prediction(teacher.float()), prediction(student.float()))
    assert half.dtype == torch.float32
    assert half.item() == full.item()


def test_other_number_of_classes_is_refused() -> None:
    with pytest.raises(DakitError, match=r"one shape \(batch, classes\), not \(5, 7\) and \(5, 6\)"):
        SoftTargets()(prediction(logits(0)), prediction(logits(1)[:, :6]))
