from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from dakit.data import sets
from dakit.data.sets import (
    FileImages,
    Joined,
    Sealed,
    Subset,
    TensorImages,
    Unlabelled,
    Withheld,
    file_digests,
    fingerprint,
    read_image,
    unlabelled_among,
)
from dakit.errors import DakitError
from dakit.interfaces import ImageSet, Sample
from dakit.interfaces import TestSet as Held


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DAKIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def numbered(n: int, seed: int = 0, classes: tuple[str, ...] = ("a", "b")) -> TensorImages:
    """Images of one value each, seed * 50 + i; labels alternate; pairs share a group."""
    values = torch.arange(n, dtype=torch.uint8) + 50 * seed
    images = values.view(-1, 1, 1, 1).expand(-1, 3, 2, 2)
    return TensorImages(images, [i % 2 for i in range(n)], [f"g{seed}.{i // 2}" for i in range(n)], classes)


def value(sample: Sample) -> int:
    return int(sample.image[0, 0, 0])


# --------------------------------------------------------------------------------------- read_image
def pixel(image: torch.Tensor, y: int, x: int) -> list[int]:
    return image[:, y, x].tolist()


def test_rgb_is_read_as_it_is(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "x.png")
    image = read_image(tmp_path / "x.png", 6)
    assert image.dtype == torch.uint8
    assert image.is_contiguous()
    assert (image.permute(1, 2, 0).numpy() == pixels).all()


def test_grey_fills_three_channels(tmp_path: Path) -> None:
    pixels = np.arange(16, dtype=np.uint8).reshape(4, 4) * 16
    Image.fromarray(pixels).save(tmp_path / "x.png")
    assert (read_image(tmp_path / "x.png", 4).numpy() == pixels[None]).all()


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
def test_sixteen_bit_grey_keeps_its_high_byte(tmp_path: Path, suffix: str) -> None:
    pixels = np.array([[0, 255, 256], [20000, 40000, 65535], [0, 0, 0]], dtype=np.uint16)
    Image.fromarray(pixels).save(tmp_path / f"x.{suffix}")
    assert read_image(tmp_path / f"x.{suffix}", 3)[0].tolist() == [[0, 0, 1], [78, 156, 255], [0, 0, 0]]


def test_black_and_white(tmp_path: Path) -> None:
    Image.fromarray(np.array([[True, False], [False, True]])).save(tmp_path / "x.png")
    assert read_image(tmp_path / "x.png", 2)[1].tolist() == [[255, 0], [0, 255]]


def test_palette_and_its_transparent_entry(tmp_path: Path) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putdata([0, 1])
    image.save(tmp_path / "plain.png")
    plain = read_image(tmp_path / "plain.png", 2, "squash")
    assert [pixel(plain, 0, 0), pixel(plain, 0, 1)] == [[10, 20, 30], [200, 100, 50]]
    image.save(tmp_path / "holed.png", transparency=1)
    holed = read_image(tmp_path / "holed.png", 2, "squash")
    assert [pixel(holed, 0, 0), pixel(holed, 0, 1)] == [[10, 20, 30], [0, 0, 0]]


def test_alpha_is_laid_over_black(tmp_path: Path) -> None:
    Image.new("RGBA", (2, 2), (200, 100, 50, 128)).save(tmp_path / "rgba.png")
    # 200 * 128 / 255 = 100.4, 50.2, 25.1
    assert pixel(read_image(tmp_path / "rgba.png", 2), 0, 0) == [100, 50, 25]
    Image.new("LA", (2, 2), (200, 51)).save(tmp_path / "la.png")
    assert pixel(read_image(tmp_path / "la.png", 2), 0, 0) == [40, 40, 40]
    Image.new("RGB", (2, 2), (9, 8, 7)).save(tmp_path / "key.png", transparency=(9, 8, 7))
    assert pixel(read_image(tmp_path / "key.png", 2), 0, 0) == [0, 0, 0]


def test_cmyk(tmp_path: Path) -> None:
    Image.new("CMYK", (8, 8), (255, 0, 0, 0)).save(tmp_path / "x.jpg", quality=100)
    red, green, blue = pixel(read_image(tmp_path / "x.jpg", 8), 4, 4)
    assert red < 5
    assert green > 250
    assert blue > 250


@pytest.mark.parametrize(
    ("orientation", "expected"),
    # the corner that is red in the file, as (row, column) after what EXIF asks for
    [(1, (0, 0)), (2, (0, -1)), (3, (-1, -1)), (4, (-1, 0)), (5, (0, 0)), (6, (0, -1)), (7, (-1, -1)), (8, (-1, 0))],
)
@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_exif_rotation_is_applied(tmp_path: Path, suffix: str, orientation: int, expected: tuple[int, int]) -> None:
    image = Image.new("RGB", (32, 32), "blue")
    image.paste("red", (0, 0, 16, 16))
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(tmp_path / f"x.{suffix}", exif=exif)
    read = read_image(tmp_path / f"x.{suffix}", 32)
    corners = {(y, x): pixel(read, y, x)[0] > 128 for y in (0, -1) for x in (0, -1)}
    assert corners == {corner: corner == expected for corner in corners}


@pytest.mark.parametrize(
    "wrong",
    [
        (0x11A, 10, 1, struct.pack("<ii", -1, 0)),  # a resolution below zero,
        (0x11A, 2, 3, b"72\0\0"),  # one as text,
        (0x100, 11, 1, struct.pack("<f", 1.5)),  # half a pixel,
        (0x100, 9, 1, struct.pack("<i", -5)),  # a width below zero
    ],
)
def test_a_malformed_tag_does_not_keep_an_image_from_being_turned(tmp_path: Path, wrong: tuple[Any, ...]) -> None:
    """Pillow's own turning writes all EXIF data anew, and fails on a tag that nobody asked for."""
    image = Image.new("RGB", (32, 32), "blue")
    image.paste("red", (0, 0, 16, 16))
    image.save(tmp_path / "x.jpg", quality=95)
    tag, kind, count, value = wrong
    place = struct.pack("<I", 8 + 2 + 2 * 12 + 4) if len(value) > 4 else value
    content = b"II*\0" + struct.pack("<IH", 8, 2) + struct.pack("<HHIHH", 0x112, 3, 1, 6, 0)
    content += struct.pack("<HHI", tag, kind, count) + place + bytes(4) + (value if len(value) > 4 else b"")
    segment = b"Exif\0\0" + content
    whole = (tmp_path / "x.jpg").read_bytes()
    (tmp_path / "x.jpg").write_bytes(
        whole[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + whole[2:]
    )
    read = read_image(tmp_path / "x.jpg", 32)
    corners = {(y, x): pixel(read, y, x)[0] > 128 for y in (0, -1) for x in (0, -1)}
    assert corners == {corner: corner == (0, -1) for corner in corners}


def test_damaged_exif_data_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def torn(self: Image.Image) -> Image.Exif:
        raise SyntaxError("not a TIFF file")

    Image.new("RGB", (8, 8)).save(tmp_path / "x.jpg")
    monkeypatch.setattr(Image.Image, "getexif", torn)
    with pytest.raises(
        DakitError, match=r"x\.jpg: .*EXIF data, which may say how it is turned, are damaged: not a TIFF"
    ):
        read_image(tmp_path / "x.jpg", 8)


def test_crop_takes_the_middle_and_squash_all(tmp_path: Path) -> None:
    wide = Image.new("RGB", (12, 4), "black")
    wide.paste("white", (4, 0, 8, 4))
    wide.save(tmp_path / "x.png")
    assert (read_image(tmp_path / "x.png", 4, "crop") == 255).all()
    squashed = read_image(tmp_path / "x.png", 3, "squash").float().mean((0, 1))
    assert squashed[1] > 2 * squashed[0]
    assert squashed[0] == squashed[2]


def test_shrinking_averages(tmp_path: Path) -> None:
    board = np.indices((64, 64)).sum(0) % 2 * 255  # without antialiasing some pixels would stay 0 or 255
    Image.fromarray(board.astype(np.uint8)).save(tmp_path / "x.png")
    read = read_image(tmp_path / "x.png", 8).float()
    assert (read - 127.5).abs().max() < 6


def test_a_large_jpeg_is_decoded_near_its_size(tmp_path: Path) -> None:
    y, x = np.mgrid[0:512, 0:512]
    image = Image.fromarray(np.stack([x // 2, y // 2, (x + y) // 4], -1).astype(np.uint8))
    image.save(tmp_path / "x.jpg", quality=95)
    image.save(tmp_path / "x.png")
    difference = read_image(tmp_path / "x.jpg", 32).float() - read_image(tmp_path / "x.png", 32).float()
    assert difference.abs().max() < 6


def test_one_pixel_is_an_image(tmp_path: Path) -> None:
    Image.new("RGB", (1, 1), (1, 2, 3)).save(tmp_path / "x.png")
    image = read_image(tmp_path / "x.png", 5)
    assert image.shape == (3, 5, 5)
    assert (image.flatten(1) == torch.tensor([[1], [2], [3]])).all()


def test_a_line_is_an_image(tmp_path: Path) -> None:
    Image.new("RGB", (1, 300), (1, 2, 3)).save(tmp_path / "x.png")
    assert (read_image(tmp_path / "x.png", 4)[2] == 3).all()


def test_what_is_no_image_is_named(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("this is not a picture")
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "folder.png").mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    for suffix in ("jpg", "png"):
        Image.fromarray(noise).save(tmp_path / f"whole.{suffix}")
        content = (tmp_path / f"whole.{suffix}").read_bytes()
        (tmp_path / f"cut.{suffix}").write_bytes(content[: len(content) // 2])
    for name in ("text.png", "empty.jpg", "folder.png", "cut.jpg", "cut.png", "missing.png"):
        with pytest.raises(DakitError, match=f"{name}: cannot be read as an image: "):
            read_image(tmp_path / name, 8)


def test_an_absurdly_large_image_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("L", (64, 64)).save(tmp_path / "x.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(DakitError, match=r"x\.png: .*4096 pixels"):
        read_image(tmp_path / "x.png", 8)


# ------------------------------------------------------------------------------------- TensorImages
def test_a_sample_is_a_copy(tmp_path: Path) -> None:
    array = np.zeros((2, 3, 2, 2), np.uint8)
    np.save(tmp_path / "x.npy", array)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    expanded = torch.zeros(2, 1, 2, 2, dtype=torch.uint8).expand(-1, 3, -1, -1)
    for held in (array, torch.from_numpy(array), mapped, expanded):
        images = TensorImages(held)
        sample = images[1]
        assert sample.label == -1
        assert sample.image.is_contiguous()
        sample.image[0] += 7
        assert images[1].image.sum() == 0
        assert sample.image.sum() == 7 * 4


@pytest.mark.parametrize("shape", [(2, 4, 4), (2, 1, 4, 4), (2, 4, 4, 3)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"must be uint8 \(N, 3, H, W\)"):
        TensorImages(torch.zeros(shape, dtype=torch.uint8))


def test_other_types_and_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match=r"not torch.float32"):
        TensorImages(torch.zeros(2, 3, 4, 4))
    images = torch.zeros(2, 3, 4, 4, dtype=torch.uint8)
    for wrong in ({"labels": [0]}, {"groups": ["a"] * 3}, {"parts": ["train"]}):
        with pytest.raises(ValueError, match=r"2 images but [13] labels, groups or parts"):
            TensorImages(images, **wrong)  # type: ignore[arg-type]


def test_the_fingerprint_sees_everything_that_counts() -> None:
    pixels = torch.zeros(2, 3, 2, 2, dtype=torch.uint8)
    other = pixels.clone()
    other[1, 2, 1, 1] = 1
    prints = [
        TensorImages(pixels, [0, 1], ["g", "h"], ("a", "b")).fingerprint(),
        TensorImages(other, [0, 1], ["g", "h"], ("a", "b")).fingerprint(),
        TensorImages(pixels, [1, 1], ["g", "h"], ("a", "b")).fingerprint(),
        TensorImages(pixels, [0, 1], ["g", "g"], ("a", "b")).fingerprint(),
        TensorImages(pixels, [0, 1], ["g", "h"], ("b", "a")).fingerprint(),
        TensorImages(pixels.view(2, 3, 1, 4), [0, 1], ["g", "h"], ("a", "b")).fingerprint(),
    ]
    assert len(set(prints)) == len(prints)


def test_the_fingerprint_does_not_see_where_the_pixels_are_held(tmp_path: Path) -> None:
    tensor = torch.randint(0, 256, (1030, 3, 2, 2), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    np.save(tmp_path / "x.npy", tensor.numpy())
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    strided = tensor.contiguous(memory_format=torch.channels_last)
    expected = TensorImages(tensor).fingerprint()
    assert [TensorImages(held).fingerprint() for held in (tensor.numpy(), mapped, strided)] == [expected] * 3


# --------------------------------------------------------------------------------------- FileImages
@pytest.fixture
def tree(tmp_path: Path) -> list[Path]:
    (tmp_path / "tree").mkdir()
    paths = [tmp_path / "tree" / f"{i}.png" for i in range(3)]
    for i, path in enumerate(paths):
        Image.new("RGB", (4, 4), (i, i, i)).save(path)
    return paths


def test_files_are_decoded_when_they_are_read(tree: list[Path]) -> None:
    images = FileImages(tree, [1, 0, 1], ["x", "y", "x"], ("a", "b"), ["train", "test", "train"], size=2)
    tree[0].unlink()
    assert len(images) == 3
    assert [value(images[i]) for i in (1, 2)] == [1, 2]
    assert images[2][1:] == (1, "x")
    assert images.parts == ["train", "test", "train"]
    with pytest.raises(DakitError, match=r"0\.png"):
        images[0]


def test_the_fingerprint_of_files_follows_the_content(tree: list[Path], tmp_path: Path) -> None:
    before = FileImages(tree, size=2).fingerprint()
    os.utime(tree[0], (1e9, 1e9))
    assert FileImages(tree, size=2).fingerprint() == before
    copied = [Path(shutil.copy(path, tmp_path / f"copy_{path.name}")) for path in tree]
    assert FileImages(copied, size=2).fingerprint() == before
    assert FileImages(tree[::-1], size=2).fingerprint() != before
    Image.new("RGB", (4, 4), (9, 9, 9)).save(copied[1])
    assert FileImages(copied, size=2).fingerprint() != before


def test_the_fingerprint_of_files_sees_everything_that_counts(tree: list[Path]) -> None:
    prints = [
        FileImages(tree, [0, 1, 0], ["g", "h", "i"], ("a", "b"), size=2).fingerprint(),
        FileImages(tree, [0, 1, 1], ["g", "h", "i"], ("a", "b"), size=2).fingerprint(),
        FileImages(tree, [0, 1, 0], ["g", "h", "g"], ("a", "b"), size=2).fingerprint(),
        FileImages(tree, [0, 1, 0], ["g", "h", "i"], ("b", "a"), size=2).fingerprint(),
        FileImages(tree, [0, 1, 0], ["g", "h", "i"], ("a", "b"), size=3).fingerprint(),
        FileImages(tree, [0, 1, 0], ["g", "h", "i"], ("a", "b"), size=2, fit="squash").fingerprint(),
    ]
    assert len(set(prints)) == len(prints)


def test_another_decoder_makes_everything_anew(tree: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    before = FileImages(tree, size=2).fingerprint()
    monkeypatch.setattr(sets, "DECODING", sets.DECODING + 1)
    assert FileImages(tree, size=2).fingerprint() != before


# ------------------------------------------------------------------------------------- file_digests
@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock by which every file was written long ago, so that its digest is remembered."""
    monkeypatch.setattr(sets.time, "time_ns", lambda clock=time.time_ns: clock() + 10**10)


def remembered(cache: Path) -> int:
    with sqlite3.connect(cache / "digests.sqlite") as database:
        count = database.execute("select count(*) from digests").fetchone()[0]
    database.close()
    return int(count)


def test_digests_are_sha256(tree: list[Path]) -> None:
    assert file_digests(tree) == [hashlib.sha256(path.read_bytes()).hexdigest() for path in tree]
    assert file_digests([]) == []


@pytest.mark.usefixtures("later")
def test_an_unchanged_file_is_not_read_again(tree: list[Path], cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = file_digests(tree)
    assert remembered(cache) == 3
    monkeypatch.setattr(sets.hashlib, "file_digest", lambda *_: pytest.fail("a file was read"))
    assert file_digests(tree[::-1]) == first[::-1]


@pytest.mark.usefixtures("later")
def test_a_file_of_the_same_size_and_time_but_other_content_is_read(tree: list[Path]) -> None:
    os.utime(tree[0], (1e9, 1e9))
    before = file_digests(tree[:1])
    size = tree[0].stat().st_size
    tree[0].write_bytes(b"x" * size)
    os.utime(tree[0], (1e9, 1e9))
    assert file_digests(tree[:1]) == [hashlib.sha256(b"x" * size).hexdigest()] != before


def test_a_file_just_written_is_not_remembered(tree: list[Path], cache: Path) -> None:
    file_digests(tree)
    assert remembered(cache) == 0


@pytest.mark.usefixtures("later")
def test_the_memory_may_be_deleted(tree: list[Path], cache: Path) -> None:
    first = file_digests(tree)
    shutil.rmtree(cache)
    assert file_digests(tree) == first
    assert remembered(cache) == 3


@pytest.mark.usefixtures("later")
def test_hashing_does_not_lock_out_other_processes(tree: list[Path], cache: Path) -> None:
    def paths() -> Iterator[Path]:
        yield from tree
        with sqlite3.connect(cache / "digests.sqlite", timeout=0) as other:
            other.execute("insert into digests values ('of another process', '')")
        other.close()

    assert len(file_digests(paths())) == 3
    assert remembered(cache) == 4


@pytest.mark.usefixtures("later")
def test_a_name_need_not_be_utf8(tmp_path: Path, cache: Path) -> None:
    path = tmp_path / os.fsdecode(b"caf\xe9.png")
    try:
        path.write_bytes(b"x")
    except OSError:
        pytest.skip("this file system allows names in UTF-8 only")
    assert file_digests([path]) == file_digests([path]) == [hashlib.sha256(b"x").hexdigest()]
    assert remembered(cache) == 1


def test_faults_of_the_machine_are_told(tree: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DakitError, match=r"gone\.png: cannot be read: No such file"):
        file_digests([*tree, tmp_path / "gone.png"])
    monkeypatch.setenv("DAKIT_CACHE", str(tree[0]))
    with pytest.raises(DakitError, match=r"0\.png: the memory of file digests cannot be used: .*set DAKIT_CACHE"):
        file_digests(tree)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "digests.sqlite").write_bytes(b"no database at all" * 100)
    monkeypatch.setenv("DAKIT_CACHE", str(tmp_path / "broken"))
    with pytest.raises(DakitError, match=r"broken: the memory .*delete digests\.sqlite"):
        file_digests(tree)


# -------------------------------------------------------------------------------------------- views
def test_a_subset_keeps_its_order() -> None:
    base = numbered(5)
    subset = Subset(base, [4, 0, 0])
    assert len(subset) == 3
    assert [value(subset[i]) for i in range(3)] == [4, 0, 0]
    assert list(subset.labels) == [0, 0, 0]
    assert list(subset.groups) == ["g0.2", "g0.0", "g0.0"]
    assert subset.classes == ("a", "b")
    assert subset[0][1:] == (0, "g0.2")


def test_subsets_of_subsets() -> None:
    subset = Subset(Subset(numbered(6), [5, 3, 1]), [2, 0])
    assert [value(subset[i]) for i in range(2)] == [1, 5]
    assert list(subset.labels) == [1, 1]


def test_unlabelled_hides_labels_and_classes() -> None:
    images = Unlabelled(numbered(4))
    assert images.classes == ()
    assert list(images.labels) == [-1] * 4
    assert [images[i].label for i in range(4)] == [-1] * 4
    assert [value(images[i]) for i in range(4)] == [0, 1, 2, 3]
    assert list(images.groups) == ["g0.0", "g0.0", "g0.1", "g0.1"]


def test_joined_sets_follow_one_another() -> None:
    joined = Joined([numbered(2), numbered(0, 1), numbered(3, 2)])
    assert len(joined) == 5
    assert [value(joined[i]) for i in range(5)] == [0, 1, 100, 101, 102]
    assert list(joined.labels) == [0, 1, 0, 1, 0]
    assert list(joined.groups) == ["g0.0", "g0.0", "g2.0", "g2.0", "g2.1"]
    assert [joined[i].label for i in range(5)] == list(joined.labels)
    for outside in (5, -1):
        with pytest.raises(IndexError):
            joined[outside]


def test_sets_of_other_classes_are_not_joined() -> None:
    with pytest.raises(DakitError, match=r"different classes: \[\('a', 'b'\), \('b', 'a'\)\]"):
        Joined([numbered(2), numbered(2, 1, ("b", "a"))])


def test_a_sealed_set_tells_its_length_only() -> None:
    base = numbered(4)
    asked = []
    sealed = Sealed(base, lambda: asked.append(1))
    assert isinstance(sealed, Held)
    assert not isinstance(sealed, ImageSet)
    assert len(sealed) == 4
    assert asked == []
    for name in ("labels", "classes", "groups", "__getitem__"):
        assert not hasattr(sealed, name)
    assert sealed.open() is base
    assert sealed.open() is base
    assert asked == [1, 1]


def test_a_training_side_shows_nothing_of_the_others() -> None:
    base = numbered(4)
    train = Subset(Withheld(base, [0, 3]), [0, 3])
    assert [train[i].label for i in range(2)] == list(train.labels) == [base.labels[0], base.labels[3]]
    assert list(train.base.labels) == [base.labels[0], -1, -1, base.labels[3]]
    for index in (1, 2):
        with pytest.raises(DakitError, match=f"image {index} is not in the training side"):
            train.base[index]
    assert len(train.base) == 4
    assert fingerprint(train) == fingerprint(Subset(base, [0, 3]))


def test_views_are_image_sets() -> None:
    base = numbered(4)
    assert all(isinstance(s, ImageSet) for s in (base, Subset(base, [0]), Joined([base]), Unlabelled(base)))


# ------------------------------------------------------------------------------------- fingerprints
def test_every_view_has_a_fingerprint_of_its_own() -> None:
    def prints(base: TensorImages, other: TensorImages) -> list[str]:
        views = [
            base,
            Subset(base, [0, 1, 2, 3]),
            Subset(base, [0, 1]),
            Subset(base, [1, 0]),
            Unlabelled(base),
            Joined([base]),
            Joined([base, other]),
            Joined([other, base]),
            Sealed(base),
        ]
        return [fingerprint(view) for view in views]

    first = prints(numbered(4), numbered(4, 1))
    assert len(set(first)) == len(first)
    assert prints(numbered(4), numbered(4, 1)) == first
    assert not set(prints(numbered(4, 2), numbered(4, 3))) & set(first)


def test_a_set_without_a_fingerprint_is_hashed_by_its_images() -> None:
    class Plain:
        def __init__(self, pixel: int, label: int = 0) -> None:
            self.classes = ("a", "b")
            self.labels = [label]
            self.groups = [""]
            self.pixel = pixel

        def __len__(self) -> int:
            return 1

        def __getitem__(self, index: int, /) -> Sample:
            return Sample(torch.full((3, 2, 2), self.pixel, dtype=torch.uint8), self.labels[index], "")

    assert fingerprint(Plain(1)) == fingerprint(Plain(1))
    assert len({fingerprint(Plain(1)), fingerprint(Plain(2)), fingerprint(Plain(1, 1))}) == 3


# -------------------------------------------------------------------------------------------- readable
def test_what_cannot_be_decoded_is_left_out_with_the_reason(tree: list[Path]) -> None:
    tree[1].write_text("no image")
    images, faults = FileImages(tree, [0, 1, 1], ["x", "y", "z"], ("a", "b"), ["p", "q", "r"], size=2).readable()
    assert faults == {tree[1]: "it is no image, or of an unknown kind"}
    assert [value(images[i]) for i in range(len(images))] == [0, 2]
    assert (list(images.labels), list(images.groups), images.parts) == ([0, 1], ["x", "z"], ["p", "r"])
    whole = FileImages(tree[:1], size=2)
    assert whole.readable() == (whole, {})


@pytest.mark.usefixtures("later")
def test_a_good_file_is_decoded_once(tree: list[Path]) -> None:
    tree[1].write_text("no image")
    decoded: list[Path] = []

    def read(number: int) -> None:
        decoded.append(tree[number])
        read_image(tree[number], 2)

    for expected in (tree, [tree[1]]):
        decoded.clear()
        assert list(sets.unreadable(tree, read)) == [tree[1]]
        assert sorted(decoded) == expected


# --------------------------------------------------------------------------------- found by mutants
@pytest.mark.parametrize("suffix", ["gif", "tif", "webp"])
def test_a_film_is_no_image(tmp_path: Path, suffix: str) -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / f"film.{suffix}", save_all=True, append_images=frames[1:])
    with pytest.raises(DakitError, match="it holds 2 images, but one is expected"):
        read_image(tmp_path / f"film.{suffix}", 4)


def test_a_photograph_that_holds_its_preview_is_one_image(tmp_path: Path) -> None:
    photograph = Image.new("RGB", (16, 16), (200, 40, 40))
    photograph.save(tmp_path / "x.mpo", save_all=True, append_images=[Image.new("RGB", (16, 16), "blue")])
    red, green, blue = pixel(read_image(tmp_path / "x.mpo", 16), 8, 8)
    assert red > 190
    assert max(green, blue) < 60


@pytest.mark.usefixtures("later")
def test_a_verdict_of_another_decoder_or_range_is_not_remembered(
    tree: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[int] = []
    for change, stated, times in (
        (None, None, 3), (None, None, 0), (None, (0, 1), 3), (None, (0, 1), 0), ("DECODING", None, 3),
        ("PILLOW", None, 3), (None, None, 0),
    ):  # fmt: skip
        if change:
            monkeypatch.setattr(sets, change, "another")
        decoded.clear()
        assert sets.unreadable(tree, decoded.append, stated) == {}
        assert len(decoded) == times


def test_images_without_a_label_are_named_through_every_view(tree: list[Path]) -> None:
    files = FileImages(tree, [0, -1, -1], None, ("a", "b"), size=2)
    view = Joined([Subset(Withheld(files, [0, 1]), [1, 0]), Subset(files, [2])])
    assert unlabelled_among(files) == f"2 of 3 images have no label: {tree[1]}, {tree[2]}"
    assert unlabelled_among(view) == f"2 of 3 images have no label: {tree[1]}, {tree[2]}"
    assert unlabelled_among(Subset(files, [0])) == ""
    assert unlabelled_among(Unlabelled(numbered(9))) == "9 of 9 images have no label: image 0, image 1, image 2, ..."


def test_a_published_part_for_validation_has_a_part_in_the_key():
    """``choose: validation`` makes use of it; other parts matter only through what a split chooses."""
    pixels = torch.zeros(3, 3, 1, 1, dtype=torch.uint8)

    def key(*parts):
        images = TensorImages(pixels, [0, 1, 0], classes=("a", "b"), parts=parts or None)
        return fingerprint(images), fingerprint(Subset(images, [0, 1]))

    assert key("train", "test", "train") == key("Set 1", "Set 2", "Set 1") == key()
    assert key("train", "val", "train") == key("train", "dev", "test")
    different = [key(), key("train", "val", "train"), key("val", "train", "train"), key("train", "val", "val")]
    for n in range(2):
        assert len({one[n] for one in different}) == len(different)
