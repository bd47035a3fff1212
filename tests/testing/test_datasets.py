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
from dakit.registry import Registry
from dakit.testing import check_component
from layouts import write_bu3dfe, write_emotionet, write_lfw, write_sfew


def failed(factory: Callable[..., Any], **params: Any) -> set[str]:
    return {result.check for result in check_component("dataset", factory, params) if result.problem}


def write_images(root: Path) -> Path:
    """Two classes of folders, and the same four files in ``list.csv``."""
    lines = ["path,label,group"]
    for i, name in enumerate("abab"):
        (root / name).mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(i).integers(256, size=(50, 40, 3), dtype=np.uint8)
        Image.fromarray(noise).save(root / name / f"{i}.png")
        lines.append(f"{name}/{i}.png,{name},person {i}")
    (root / "list.csv").write_text("\n".join(lines))
    return root


def write_digits(root: Path) -> Path:
    """``usps.npz``, 20 digits on each side."""
    pixels, labels = np.random.default_rng(0).integers(256, size=(20, 16, 16), dtype=np.uint8), np.arange(20) % 10
    root.mkdir()
    np.savez(root / "usps.npz", X_train=pixels, y_train=labels, X_test=pixels, y_test=labels)
    return root


DATA: dict[str, Callable[[Path], dict[str, Any]]] = {
    "bu3dfe": lambda root: {"root": str(write_bu3dfe(root, people=2, size=8))},
    "digits": lambda root: {"root": str(write_digits(root)), "which": "usps"},
    "emotionet": lambda root: {"root": str(write_emotionet(root, per_class=2, size=8))},
    "image_folder": lambda root: {"root": str(write_images(root))},
    "manifest": lambda root: {"file": str(write_images(root) / "list.csv")},
    "sfew": lambda root: {"root": str(write_sfew(root, per_class=2, size=8))},
    "synthetic_faces": lambda root: {"domain": "wild", "people": 3, "per_person": 1},
    "clothes": lambda root: {"part": "product", "ignore": ["dress", "longsleeve", "outwear", "pants", "shoes"]},
    "web_faces": lambda root: {"root": [str(write_lfw(root, size=8))]},
}


@pytest.mark.parametrize("name", DATA)
def test_every_registered_dataset_keeps_the_contract(registry: Registry, tmp_path: Path, name: str) -> None:
    assert {entry.name for entry in registry.entries("dataset")} == DATA.keys()
    factory = registry.find("dataset", name).factory
    assert failed(factory, **DATA[name](tmp_path / "data")) == set()


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
