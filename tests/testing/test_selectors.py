from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from dakit.interfaces import Classifier, ImageSet, Positive, Selection
from dakit.registry import Registry
from dakit.testing import check_component


def failed(factory: Callable[..., Any], **params: Any) -> set[str]:
    return {result.check for result in check_component("selector", factory, params) if result.problem}


def test_every_registered_selector_keeps_the_contract(registry: Registry) -> None:
    for entry in registry.entries("selector"):
        learned = "extractor" in getattr(entry.factory, "__dataclass_fields__", {})
        assert failed(entry.factory, **({"extractor": "classifier"} if learned else {})) == set(), entry.name


_CALLS = iter(range(10**6))


class Selector:
    """The first images of the pool, or of the anchor's class; ``fault`` breaks it.

    Args:
        neighbours: how many.
        same_class: of the anchor's class.
        max_reuse: how many anchors may share an image.
        fault: what is wrong.
    """

    def __init__(
        self, *, neighbours: Positive = 2, same_class: bool = False, max_reuse: int | None = None, fault: str = ""
    ) -> None:
        self.neighbours, self.same_class, self.max_reuse, self.fault = neighbours, same_class, max_reuse, fault

    def __call__(
        self, pool: ImageSet, anchors: ImageSet, /, *, classifier: Classifier | None, device: torch.device
    ) -> Selection:
        if self.fault == "holds all":
            _ = [pool[i] for i in range(len(pool))]
        used: list[int] = []
        rows = []
        for label in anchors.labels:
            fits = [
                i for i in range(len(pool))
                if (not self.same_class or self.fault == "class" or pool.labels[i] == label)
                and (self.max_reuse is None or self.fault == "reuse" or i not in used)
            ][: self.neighbours]  # fmt: skip
            used += fits
            rows.append(fits)
        indices = torch.tensor(rows)
        distances = torch.arange(indices.numel()).view(indices.shape).float()
        if self.fault == "int32":
            indices = indices.int()
        if self.fault == "outside":
            indices = indices + len(pool)
        if self.fault == "twice":
            indices[:, 1] = indices[:, 0]
        if self.fault == "rows":
            indices, distances = indices[1:], distances[1:]
        if self.fault == "falling":
            distances = -distances
        if self.fault == "float64":
            distances = distances.double()
        if self.fault == "chance":
            indices = (indices + next(_CALLS) % 7) % len(pool)
        return Selection(indices, distances)


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ("", set()),
        ("int32", {"chooses_pool_images_for_every_anchor"}),
        ("outside", {"chooses_pool_images_for_every_anchor"}),
        ("rows", {"chooses_pool_images_for_every_anchor", "keeps_to_the_class_where_asked"}),
        ("float64", {"chooses_pool_images_for_every_anchor"}),
        ("falling", {"nearest_come_first"}),
        ("class", {"keeps_to_the_class_where_asked"}),
        ("reuse", {"shares_no_more_than_allowed"}),
        ("holds all", {"does_not_hold_all_images"}),
    ],
)
def test_a_broken_selector_fails_its_check(fault: str, expected: set[str]) -> None:
    got = failed(Selector, fault=fault)
    assert got == expected or (fault == "outside" and expected < got)


@pytest.mark.parametrize(
    ("fault", "expected"),
    [("twice", "chooses_pool_images_for_every_anchor"), ("chance", "same_seed_gives_the_same_choice")],
)
def test_faults_that_show_in_several_checks(fault: str, expected: str) -> None:
    assert expected in failed(Selector, fault=fault)
