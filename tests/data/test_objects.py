"""Images that are given as objects are those images, and what is none is refused."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset
from torch.utils.data import Subset as TorchSubset

from dakit.data.objects import opener, read_object
from dakit.data.sets import FileImages, TensorImages, fingerprint
from dakit.errors import DakitError
from dakit.interfaces import ImageSet

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 3, 8, 8), np.uint8)
LABELS = [0, 1, 0, 1, 1, 0]
NAMES = ("cat", "dog")


class Items(Dataset[Any]):
    """A torch data set of whatever it is given."""

    def __init__(self, items: Any, **about: Any) -> None:
        self.items = items
        vars(self).update(about)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Any:
        return self.items[index]


def pil(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(pixels.transpose(1, 2, 0))


FORMS = {
    "tensors": (torch.from_numpy(PIXELS), torch.tensor(LABELS)),
    "arrays": (PIXELS, np.array(LABELS)),
    "lists": (list(PIXELS), LABELS),
    "channels last": (PIXELS.transpose(0, 2, 3, 1), LABELS),
    "floats": (torch.from_numpy(PIXELS / 255).float(), LABELS),
    "doubles": (PIXELS / 255, LABELS),
    "names": (PIXELS, [NAMES[label] for label in LABELS]),
    "PIL": Items([(pil(image), label) for image, label in zip(PIXELS, LABELS, strict=True)]),
    "ToTensor": Items([(torch.from_numpy(i / 255).float(), n) for i, n in zip(PIXELS, LABELS, strict=True)]),
    "list": [(pil(image), label) for image, label in zip(PIXELS, LABELS, strict=True)],
    "TensorDataset": TensorDataset(torch.from_numpy(PIXELS), torch.tensor(LABELS)),
    "ImageSet": TensorImages(PIXELS, LABELS, classes=NAMES),
    "other order": Items(
        [(pil(image), 1 - label) for image, label in zip(PIXELS, LABELS, strict=True)], classes=["dog", "cat"]
    ),
    "Subset": TorchSubset(Items([(i, n) for i, n in zip(PIXELS, LABELS, strict=True)], classes=list(NAMES)), range(6)),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_the_same_set_with_the_same_key(form):
    made = read_object(FORMS[form], 8, NAMES)
    assert isinstance(made, ImageSet)
    assert made.classes == NAMES
    assert made.labels == LABELS
    for i in range(6):
        assert np.array_equal(made[i].image.numpy(), PIXELS[i])
        assert made[i].label == LABELS[i]
    assert fingerprint(made) == fingerprint(TensorImages(PIXELS, LABELS, classes=NAMES))


def test_what_is_already_as_dakit_keeps_it_is_not_copied():
    assert read_object((PIXELS, LABELS), 8, NAMES).images is PIXELS


@given(
    st.sampled_from(["pixel", "label", "group", "order"]), st.integers(0, 5),
)  # fmt: skip
@settings(max_examples=20, deadline=None)
def test_every_change_of_the_content_is_another_key(what, at):
    groups = [str(i // 2) for i in range(6)]
    before = fingerprint(read_object((list(PIXELS), LABELS, groups), 8, NAMES))
    pixels, labels, groups = PIXELS.copy(), list(LABELS), list(groups)
    if what == "pixel":
        pixels[at, 0, 0, 0] ^= 1
    elif what == "label":
        labels[at] = 1 - labels[at]
    elif what == "group":
        groups[at] = "x"
    else:
        pixels = np.roll(pixels, 1, axis=0)
    assert fingerprint(read_object((list(pixels), labels, groups), 8, NAMES)) != before


def test_an_image_of_another_size_is_cut_and_resized_as_a_file_is(tmp_path):
    picture = pil(np.random.default_rng(1).integers(0, 256, (3, 20, 30), np.uint8))
    picture.save(tmp_path / "a.png")
    of_file = FileImages([tmp_path / "a.png"], size=8)[0].image
    assert torch.equal(read_object([picture], 8, None)[0].image, of_file)
    array = np.asarray(picture).transpose(2, 0, 1)
    assert torch.equal(read_object([array], 8, None)[0].image, of_file)


def test_grey_and_transparent_images_are_read_as_files_are(tmp_path):
    rng = np.random.default_rng(2)
    grey = rng.integers(0, 256, (8, 8), np.uint8)
    for image in (grey, grey[None], Image.fromarray(grey), torch.from_numpy(grey)):
        assert np.array_equal(read_object([image], 8, None)[0].image.numpy(), np.stack([grey] * 3))
    clear = Image.fromarray(rng.integers(0, 256, (8, 8, 4), np.uint8), "RGBA")
    clear.save(tmp_path / "a.png")
    assert torch.equal(read_object([clear], 8, None)[0].image, FileImages([tmp_path / "a.png"], size=8)[0].image)


def test_groups_and_parts_are_taken_over():
    made = read_object(Items([(i, 0) for i in PIXELS], groups=np.arange(6) // 2, parts=["train"] * 6), 8, NAMES)
    assert made.groups == ["0", "0", "1", "1", "2", "2"]
    assert made.parts == ["train"] * 6
    assert read_object((PIXELS, LABELS), 8, NAMES).groups == [f"#{i}" for i in range(6)]


@pytest.mark.parametrize("form", [PIXELS, (PIXELS, None), list(PIXELS), Items([(i, -1) for i in PIXELS]),
                                  Items([(i, None) for i in PIXELS])])  # fmt: skip
def test_images_without_labels_have_none(form):
    made = read_object(form, 8, NAMES)
    assert made.labels == [-1] * 6
    assert made.classes == ()


def test_some_may_have_no_label():
    assert read_object((PIXELS, ["cat", "", None, "dog", "cat", "dog"]), 8, NAMES).labels == [0, -1, -1, 1, 0, 1]


class Random(Items):
    def __getitem__(self, index: int) -> Any:
        return torch.rand(3, 8, 8), 0


class Flipped(Items):
    def __getitem__(self, index: int) -> Any:
        image = PIXELS[index % 6]
        return (image[:, :, ::-1] if torch.rand(()) < 0.5 else image), 0


def test_a_flip_at_random_is_seen_whatever_the_seed():
    for seed in range(20):
        torch.manual_seed(seed)
        with pytest.raises(DakitError, match="is another one each time it is read"):
            read_object(Flipped(range(60)), 8, NAMES)


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Any:
        yield from ()


@pytest.mark.parametrize(
    ("images", "classes", "message"),
    [
        (Random([0, 1]), NAMES, "image 0 is another one each time it is read"),
        (Stream(), NAMES, "expected a Dataset with len"),
        (DataLoader(Items(PIXELS)), NAMES, "a DataLoader was given: give its dataset"),
        (3, NAMES, "expected a Dataset with len.*, not a int"),
        ("folder", NAMES, "not a str"),
        ([], NAMES, "it is empty"),
        ((PIXELS, LABELS, LABELS, LABELS), NAMES, "not a tuple of 4"),
        ((PIXELS, LABELS[1:]), NAMES, "6 images but 5 labels"),
        ((PIXELS, LABELS, ["a"]), NAMES, "6 images but 1 groups"),
        ((PIXELS, 3), NAMES, "labels: expected a tensor, an array or a list, not a int"),
        ((PIXELS.astype(np.int64), LABELS), NAMES, "image 0 is int64: expected uint8"),
        ((PIXELS.astype(np.float32), LABELS), NAMES, r"image 0 has values from .*: floating-point images must be in"),
        ((PIXELS / 255 - 0.5, LABELS), NAMES, "leave Normalize out"),
        ((np.full((6, 3, 8, 8), np.nan), LABELS), NAMES, "values from nan to nan"),
        ((PIXELS[:, :2], LABELS), NAMES, r"image 0 has the shape \(2, 8, 8\): expected"),
        ((np.zeros((6, 3, 8, 3), np.uint8), LABELS), NAMES, "channels could stand first or last"),
        (Items([{"image": 1, "label": 2}]), NAMES, "item 0 is a mapping with image, label"),
        (Items([(PIXELS[0], 0, 1)]), NAMES, "item 0 has 3 parts"),
        (Items(["a.png"]), NAMES, "image 0: expected a PIL image, a tensor or an array, not a str"),
        (Items([Image.fromarray(np.arange(64, dtype=np.uint16).reshape(8, 8))]), NAMES, "more than 8 bits a value"),
        ((PIXELS, LABELS), None, r"its labels are numbers \(0 to 1\) and it has no `classes`: name them in data.class"),
        ((PIXELS, [0, 1, 2, 0, 1, 2]), NAMES, "the label 2 is not in 0 to 1, the numbers of cat, dog"),
        ((PIXELS, [0.5] * 6), NAMES, "the label of image 0 is 0.5"),
        ((PIXELS, [True] * 6), NAMES, "the label of image 0 is True"),
        ((PIXELS, [-2] * 6), NAMES, "the label of image 0 is -2"),
        ((PIXELS, ["cat", 1, 0, 0, 0, 0]), NAMES, "some labels are numbers and some are names"),
        ((PIXELS, ["cow"] * 6), NAMES, r"its classes cow are not among data.classes \(cat, dog\)"),
        (Items([(i, 0) for i in PIXELS], classes=["cow", "cat"]), NAMES, "its classes cow are not among"),
    ],
)
def test_what_is_no_set_of_images_is_refused(images, classes, message):
    with pytest.raises(DakitError, match=message):
        read_object(images, 8, classes)


class Later(Items):
    def __getitem__(self, index: int) -> Any:
        if index == 1:
            raise ZeroDivisionError("x")
        return PIXELS[0]


def test_a_fault_of_the_caller_s_object_names_the_item():
    with pytest.raises(DakitError, match=r"^item 1 cannot be read: ZeroDivisionError: x"):
        opener(Later([0, 0]))(8, None)


def test_a_disk_that_cannot_be_written_is_one_message(monkeypatch):
    monkeypatch.setattr("tempfile.TemporaryFile", lambda **_: (_ for _ in ()).throw(OSError(28, os.strerror(28))))
    with pytest.raises(DakitError, match=r"cannot be kept in .*: No space left on device"):
        read_object(list(PIXELS), 8, None)
