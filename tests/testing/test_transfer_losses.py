from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from dakit.interfaces import Prediction
from dakit.registry import Registry
from dakit.testing import check_component


def failed(factory: Callable[..., Any], **params: Any) -> set[str]:
    return {result.check for result in check_component("transfer_loss", factory, params) if result.problem}


def test_every_registered_loss_keeps_the_contract(registry: Registry) -> None:
    entries = registry.entries("transfer_loss")
    assert entries
    for entry in entries:
        assert failed(entry.factory) == set(), entry.name
    assert failed(next(e.factory for e in entries if e.name == "attention_transfer"), form="code", power=2) == set()


class Loss:
    """The squared difference of features; ``fault`` breaks it."""

    zero_when_equal = True

    def __init__(self, *, fault: str = "") -> None:
        self.fault = fault

    def __call__(self, teacher: Prediction, student: Prediction) -> Tensor:
        difference = teacher.features - student.features
        if self.fault == "vector":
            return difference.square().mean(1)
        if self.fault == "nan":
            return difference.square().mean() / (len(difference) - 1)
        if self.fault == "float32":
            return difference.float().square().mean()
        if self.fault == "detached":
            return difference.detach().square().mean().requires_grad_()
        if self.fault == "half gradient":
            return (difference * difference.detach()).mean()
        if self.fault == "not zero":
            return difference.square().mean() + 1
        if self.fault == "nan gradient":
            return difference.square().sum(1).sqrt().mean()
        if self.fault == "chance":
            return difference.square().mean() * float(next(_NOISE))
        if self.fault == "in place":
            with torch.no_grad():
                teacher.logits.add_(1)
        if self.fault == "numpy":
            return difference.square().mean() + 0 * float(student.features.detach().numpy().sum())
        return difference.square().mean()

    def condense(self, teacher: Prediction) -> Prediction:
        features = teacher.features * (2 if self.fault == "condensed" else 1)
        return Prediction(teacher.logits[:, :0], features, ())


_NOISE = iter(range(1, 10**6))


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ("", set()),
        ("vector", {"is_a_finite_scalar", "gradients_reach_the_student_alone",
                    "is_zero_where_it_says_so", "same_input_gives_the_same_value",
                    "a_condensed_teacher_gives_the_same_loss"}),
        ("nan", {"is_a_finite_scalar"}),
        ("detached", {"gradients_reach_the_student_alone", "gradient_is_the_derivative"}),
        ("float32", {"gradient_is_the_derivative"}),
        ("half gradient", {"gradient_is_the_derivative"}),
        ("not zero", {"is_zero_where_it_says_so"}),
        ("nan gradient", {"is_zero_where_it_says_so"}),
        ("in place", {"same_input_gives_the_same_value"}),
        ("numpy", {"takes_half_precision"}),
        ("condensed", {"a_condensed_teacher_gives_the_same_loss"}),
    ],
)  # fmt: skip
def test_a_broken_loss_fails_its_check(fault: str, expected: set[str]) -> None:
    assert failed(Loss, fault=fault) == expected


def test_a_loss_of_chance_fails() -> None:
    assert "same_input_gives_the_same_value" in failed(Loss, fault="chance")
