from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dakit.interfaces import LabelledFeatures
from dakit.registry import Registry
from dakit.testing import check_component, check_estimator
from dakit.testing.stages import SmallEstimator, small_components


def failed(factory: Callable[..., Any], **params: Any) -> set[str]:
    given = params | small_components(factory, params)
    return {result.check for result in check_component("estimator", factory, given) if result.problem}


def test_every_registered_estimator_keeps_the_contract(registry: Registry) -> None:
    entries = registry.entries("estimator")
    assert len(entries) >= 9
    for entry in entries:
        check_estimator(entry.factory)
    knn = next(entry.factory for entry in entries if entry.name == "knn")
    assert failed(knn, neighbours=(1, 3), metric="euclidean") == set()
    check_estimator(SmallEstimator)


class Means(nn.Module):
    """The nearest class mean; ``fault`` breaks it."""

    def __init__(self, *, fault: str = "") -> None:
        super().__init__()
        self.fault = fault
        self.register_buffer("means", torch.zeros(0, 0))
        self.hidden = torch.zeros(0, 0)

    def check(self, inputs: frozenset[str]) -> list[str]:
        return ["never"] if self.fault == "check" else []

    def fit(self, known: LabelledFeatures, unlabelled: Tensor | None) -> None:
        classes = range(int(known.labels.max()) + 1)
        if self.fault == "few" and len(known.labels) < 2 * len(classes):
            raise ValueError("too few")
        if self.fault == "in place":
            known.features.mul_(1.01)
        means = torch.stack([known.features[known.labels == label].mean(0) for label in classes])
        if self.fault == "chance":
            means = means + next(_NOISE) * 1e-3
        if self.fault == "nothing learned":
            means = means * 0 + torch.arange(len(means))[:, None]
        if self.fault == "hidden":
            self.hidden = means
        self.means = means

    def forward(self, features: Tensor) -> Tensor:
        means = self.hidden if self.fault == "hidden" else self.means
        out = -(features[:, None] - means).square().sum(2)
        if self.fault == "transposed":
            return out.T
        if self.fault == "neighbours":
            return out - out.mean(0) * 0.01
        if self.fault == "overflow":
            return out.exp().log()
        return out


_NOISE: Iterator[int] = count()


@pytest.mark.parametrize(
    ("fault", "check"),
    [
        ("", None),
        ("check", "can_be_fitted_with_some_inputs"),
        ("few", "takes_few_images"),
        ("in place", "leaves_its_input_alone"),
        ("chance", "same_seed_gives_the_same_logits"),
        ("nothing learned", "learns_what_is_plain"),
        ("hidden", "saved_and_loaded_it_is_the_same"),
        ("transposed", "gives_logits"),
        ("neighbours", "evaluation_sees_one_image_at_a_time"),
        ("overflow", "takes_features_that_are_far_away"),
    ],
)
def test_each_check_sees_its_fault(fault: str, check: str | None) -> None:
    found = failed(Means, fault=fault)
    assert found == set() if check is None else check in found


def test_what_is_no_module_is_named() -> None:
    class Plain:
        """No module."""

        def fit(self, known: LabelledFeatures, unlabelled: Tensor | None) -> None: ...

        def __call__(self, features: Tensor) -> Tensor:
            return torch.zeros(len(features), 3)

    assert "is_a_module" in failed(Plain)
