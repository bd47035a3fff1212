from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dakit.data.given import given_images
from dakit.data.sets import read_image
from dakit.errors import DakitError


def read(path: Path) -> torch.Tensor:
    return read_image(path, 8, "crop")


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(256, size=(9, 12, 3), dtype=np.uint8)


def test_every_form_of_an_image_is_read_as_its_file(pixels: np.ndarray, tmp_path: Path) -> None:
    Image.fromarray(pixels).save(tmp_path / "one.png")
    expected = read(tmp_path / "one.png")
    tensor = torch.from_numpy(pixels).permute(2, 0, 1)
    for given in (tmp_path / "one.png", str(tmp_path / "one.png"), Image.fromarray(pixels), pixels, tensor):
        found, alone = given_images(given, 8, "crop", read)
        assert alone
        assert torch.equal(found, expected[None])
    with Image.open(tmp_path / "one.png") as opened:
        assert torch.equal(given_images(opened, 8, "crop", read)[0], expected[None])
    squashed = np.asarray(Image.fromarray(pixels).resize((8, 8), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(given_images(pixels, 8, "squash", read)[0][0].permute(1, 2, 0), squashed)


def test_batches(pixels: np.ndarray, tmp_path: Path) -> None:
    Image.fromarray(pixels).save(tmp_path / "one.png")
    other = pixels[::-1].copy()
    expected = torch.cat([given_images(one, 8, "crop", read)[0] for one in (pixels, other)])
    stacked = np.stack([pixels, other])
    mixed = [tmp_path / "one.png", Image.fromarray(other)]
    for given in (stacked, torch.from_numpy(stacked).permute(0, 3, 1, 2), [pixels, other], mixed, tuple(mixed)):
        found, alone = given_images(given, 8, "crop", read)
        assert not alone
        assert torch.equal(found, expected)
    assert given_images([pixels, pixels[:5, :6]], 8, "crop", read)[0].shape == (2, 3, 8, 8)
    assert given_images([], 8, "crop", read)[0].shape == (0, 3, 8, 8)
    assert given_images(stacked[:1], 8, "crop", read)[1] is False


def test_grey_and_opacity(pixels: np.ndarray) -> None:
    grey = pixels[:8, :8, 0]
    for given in (grey, grey[:, :, None], torch.from_numpy(grey.copy())[None]):
        np.testing.assert_array_equal(given_images(given, 8, "crop", read)[0][0], np.stack([grey] * 3))
    seen = np.concatenate([pixels[:8, :8], np.full((8, 8, 1), 255, np.uint8)], 2)
    seen[:4, :, 3] = 0  # black shows through
    found = given_images(seen, 8, "crop", read)[0][0].permute(1, 2, 0).numpy()
    assert not found[:4].any()
    np.testing.assert_array_equal(found[4:], seen[4:, :, :3])


def test_a_picture_is_turned_as_it_says(pixels: np.ndarray) -> None:
    picture = Image.fromarray(pixels[:8, :8])
    picture.getexif()[0x0112] = 3
    np.testing.assert_array_equal(
        given_images(picture, 8, "crop", read)[0][0].permute(1, 2, 0), pixels[:8, :8][::-1, ::-1]
    )


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            np.linspace(0, 1, 192).reshape(8, 8, 3),
            r"an array of float64 \(8, 8, 3\), values from 0 to 1; expected uint8",
        ),
        (torch.zeros(3, 8, 8), r"a tensor of float32 \(3, 8, 8\), values from 0 to 0; expected uint8"),
        (np.zeros((8, 8, 2), np.uint8), r"an array of uint8 \(8, 8, 2\).*; expected a path"),
        (np.zeros((2, 8, 8), np.uint8), r"an array of uint8 \(2, 8, 8\).*; expected a path"),
        (torch.zeros(8, 8, dtype=torch.uint8), r"a tensor of uint8 \(8, 8\).*; expected a path"),
        (np.zeros((0, 8, 3), np.uint8), r"an array of uint8 \(0, 8, 3\); expected a path"),
        (np.zeros(3, np.uint16), r"an array of uint16 \(3,\).*; expected uint8"),
        (Image.new("I;16", (8, 8)), "a PIL image of mode I;16; more than 8 bits"),
        (3, "images: a int; expected a path"),
        ([3, None], "image 0: a int; expected a path[\\s\\S]*\nimage 1: a NoneType; expected a path"),
    ],
)
def test_what_is_no_image(given: object, message: str) -> None:
    with pytest.raises(DakitError, match=message):
        given_images(given, 8, "crop", read)


def test_files_that_cannot_be_read_are_all_told(pixels: np.ndarray, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"no image")
    with pytest.raises(DakitError) as caught:
        given_images([tmp_path / "bad.png", pixels, tmp_path / "gone.png"], 8, "crop", read)
    first, second = str(caught.value).splitlines()
    assert first.startswith("image 0: ")
    assert "bad.png: cannot be read as an image" in first
    assert second.startswith("image 2: ")
