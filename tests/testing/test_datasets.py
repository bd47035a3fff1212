from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from dakit.data.sets import TensorImages
from dakit.interfaces import ImageSet, Sample
from dakit.testing import check_component
from dakit_builtins.image_folder import image_folder
from dakit_builtins.synthetic_faces import synthetic_faces


def failed(factory: Callable[..., Any], **params: Any) -> set[str]:
    return {result.check for result in check_component("dataset", factory, params) if result.problem}


def test_built_in_datasets_keep_the_contract(tmp_path: Path) -> None:
    assert failed(synthetic_faces, domain="wild", people=3, per_person=1) == set()
    for i, name in enumerate("abca"):
        (tmp_path / name).mkdir(exist_ok=True)
        noise = np.random.default_rng(i).integers(256, size=(50, 40, 3), dtype=np.uint8)
        Image.fromarray(noise).save(tmp_path / name / f"{i}.png")
    assert failed(image_folder, root=str(tmp_path)) == set()


_CALLS = iter(range(10**6))


class Faulty(TensorImages):
    """Six images of three classes."""

    def __init__(self, size: int, classes: Sequence[str] | None, fault: str) -> None:
        names = tuple(classes or "abc") if fault != "numbers" else ("a", "b", "c")
        size = 20 if fault == "size" else size
        pixels = torch.arange(6 * 3 * size * size).remainder(251).view(6, 3, size, size).to(torch.uint8)
        super().__init__(pixels, [names.index("abcabc"[i]) for i in range(6)], classes=names)
        self.fault = fault
        if fault == "labels":
            self.labels = [0, 1]
        if fault == "outside":
            self.labels = [0, 1, 2, 3, 4, 5]
        if fault == "number":
            self.offset = next(_CALLS)

    def __getitem__(self, index: int, /) -> Sample:
        if self.fault == "shared":
            return Sample(self.images[index], self.labels[index], self.groups[index])
        image, label, group = super().__getitem__(index)
        if self.fault == "float":
            return Sample(image.float(), label, group)
        if self.fault == "label":
            return Sample(image, (label + 1) % 3, group)
        if self.fault == "chance":
            return Sample(image.add(next(_CALLS) % 251), label, group)
        return Sample(image, label, group)

    def fingerprint(self) -> str:
        if self.fault == "fingerprint":
            return str(next(_CALLS))
        return "always" if self.fault == "same fingerprint" else super().fingerprint()


def faulty(size: int, classes: Sequence[str] | None, *, fault: str = "") -> ImageSet:
    """Images with a ``fault``."""
    return Faulty(size, classes, fault)


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ("", set()),
        ("size", {"gives_uint8_images_of_the_size_asked_for", "has_one_fingerprint"}),
        ("float", {"gives_uint8_images_of_the_size_asked_for"}),
        ("label", {"gives_uint8_images_of_the_size_asked_for"}),
        ("outside", {"can_be_counted_without_decoding", "numbers_classes_as_told"}),
        ("chance", {"gives_the_same_image_again", "belongs_to_its_reader"}),
        ("shared", {"belongs_to_its_reader"}),
        ("numbers", {"numbers_classes_as_told"}),
        ("fingerprint", {"has_one_fingerprint"}),
        ("same fingerprint", {"has_one_fingerprint"}),
    ],
)
def test_a_broken_dataset_fails_its_check(fault: str, expected: set[str]) -> None:
    assert failed(faulty, fault=fault) == expected


def test_labels_that_are_too_few() -> None:
    assert "can_be_counted_without_decoding" in failed(faulty, fault="labels")
