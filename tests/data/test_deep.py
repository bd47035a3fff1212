"""Files of more than 8 bits, written byte by byte here: every value is checked against its own arithmetic."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dakit.data.deep import RangeUnknown, to_bytes
from dakit.data.sets import FileImages, read_image
from dakit.errors import DakitError

Array = np.ndarray[Any, Any]
KINDS = {1: 0, 2: 4, 3: 2, 4: 6}  # PNG's number for grey, grey with alpha, RGB and RGBA
WHOLE, SIGNED, FLOATING = 1, 2, 3  # TIFF's sample formats


def png(path: Path, values: Array, key: bytes = b"") -> Path:
    """A 16-bit PNG of values ``(H, W)`` or ``(H, W, C)``; ``key`` is the content of its chunk tRNS."""
    height, width = values.shape[:2]

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    colours = KINDS[1 if values.ndim == 2 else values.shape[2]]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    content = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colours, 0, 0, 0))
    content += chunk(b"tRNS", key) if key else b""
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + content + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))
    return path


def tiff(path: Path, values: Array, sample: int, photometric: int | None = None, planes: bool = False) -> Path:
    """An uncompressed TIFF in the byte order of ``values``."""
    order = ">" if values.dtype.byteorder == ">" else "<"
    height, width = values.shape[:2]
    depth = 1 if values.ndim == 2 else values.shape[2]
    white = (2 if depth == 3 else 1) if photometric is None else photometric
    data = (values.transpose(2, 0, 1) if planes else values).tobytes()
    each = len(data) // depth
    entries: list[tuple[int, int, list[int]]] = [
        (256, 4, [width]), (257, 4, [height]), (258, 3, [8 * values.dtype.itemsize] * depth), (259, 3, [1]),
        (262, 3, [white]), (273, 4, [each * i for i in range(depth)] if planes else [0]), (277, 3, [depth]),
        (278, 4, [height]), (279, 4, [each] * depth if planes else [len(data)]), (284, 3, [1 + planes]),
        (339, 3, [sample] * depth),
    ]  # fmt: skip
    start = 8 + 2 + 12 * len(entries) + 4
    place = start + sum(len(v) * (4 if t == 4 else 2) for _, t, v in entries if len(v) * (4 if t == 4 else 2) > 4)
    head, more = b"", b""
    for tag, kind, numbers in entries:
        numbers = [n + place for n in numbers] if tag == 273 else numbers
        packed = struct.pack(f"{order}{len(numbers)}{'I' if kind == 4 else 'H'}", *numbers)
        if len(packed) > 4:
            packed, more = struct.pack(order + "I", start + len(more)), more + packed
        head += struct.pack(order + "HHI", tag, kind, len(numbers)) + packed.ljust(4, b"\0")
    mark = b"MM\0*" if order == ">" else b"II*\0"
    path.write_bytes(mark + struct.pack(order + "IH", 8, len(entries)) + head + bytes(4) + more + data)
    return path


def numbers(kind: str, low: float, high: float, *shape: int) -> Array:
    made = np.random.default_rng(0).uniform(low, high, shape or (8, 8))
    made.flat[0], made.flat[1] = low, high
    return made.astype(kind)


def expected(values: Array, black: float, white: float) -> Array:
    """The definition, one value after the other, in Python's numbers."""

    def one(value: float) -> int:
        share = (float(value) - black) / (white - black)
        return min(255, max(0, int(np.floor(256 * share))))

    return np.array([one(value) for value in values.ravel()]).reshape(values.shape)


def read(path: Path, stated: tuple[float, float] | None = None) -> Array:
    image = read_image(path, 8, range=stated)
    return np.asarray(image.permute(1, 2, 0))


def grey(path: Path, stated: tuple[float, float] | None = None) -> Array:
    image = read(path, stated)
    assert (image == image[..., :1]).all()
    return image[..., 0]


# ----------------------------------------------------------------------------------- what is known
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_a_full_16_bits_are_read_by_their_high_byte(tmp_path: Path, suffix: str, depth: int, order: str) -> None:
    values = numbers(order + "u2", 0, 65535, 8, 8, *([3] if depth == 3 else []))
    path = tmp_path / f"x.{suffix}"
    path = png(path, values) if suffix == "png" else tiff(path, values, WHOLE)
    image = read(path) if depth == 3 else grey(path)
    assert (image == values >> 8).all()
    assert ((read(path, (0, 65535)) if depth == 3 else grey(path, (0, 65535))) == values >> 8).all()


@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("bits", [8, 10, 12, 14, 15])
def test_fewer_bits_in_16_are_refused_until_their_range_is_stated(
    tmp_path: Path, bits: int, suffix: str, depth: int
) -> None:
    most = 2**bits - 1
    values = numbers("<u2", 0, most, 8, 8, *([3] if depth == 3 else []))
    path = tmp_path / f"x.{suffix}"
    path = png(path, values) if suffix == "png" else tiff(path, values, WHOLE)
    with pytest.raises(RangeUnknown, match=rf"x\.{suffix}: .*from 0 to {most}, .*set `range` of its dataset"):
        read(path)
    image = read(path, (0, most)) if depth == 3 else grey(path, (0, most))
    assert (image == values >> (bits - 8)).all()


def test_the_message_offers_a_range_that_fits(tmp_path: Path) -> None:
    for values, offered in (
        (numbers("<u2", 3, 4000), "[0, 4095]"), (numbers("<u2", 0, 250), "[0, 255]"),
        (numbers("<f4", 0, 1), "[0, 1]"), (numbers("<i2", -1000, 3000), "[-1024, 3071]"),
        (numbers("<f4", 5, 1e6), "[BLACK, WHITE]"), (numbers("<u2", 31744, 35839), "[BLACK, WHITE]"),
    ):  # fmt: skip
        sample = {"u": WHOLE, "i": SIGNED, "f": FLOATING}[values.dtype.kind]
        with pytest.raises(RangeUnknown) as caught:
            read(tiff(tmp_path / "x.tif", values, sample))
        assert str(caught.value).endswith(f"such as `range: {offered}`")


def test_a_band_a_mask_and_marked_pixels_do_not_pass_for_the_full_range(tmp_path: Path) -> None:
    shifted = numbers("u2", 31744, 35839)  # signed 12 bits, 32,768 added
    mask = np.where(numbers("u2", 0, 9) > 4, 65535, 0)
    marked = numbers("u2", 0, 4095, 100, 100)
    marked[:, :7] = 65535
    hot = numbers("u2", 0, 4095, 100, 100)
    hot.flat[:6] = [20000, 40000, 60000, 20000, 40000, 60000]  # of 10,000 pixels
    for values in (shifted, mask, marked, hot, np.full((8, 8), 65535), np.full((8, 8), 513)):
        with pytest.raises(RangeUnknown):
            read(png(tmp_path / "x.png", values))


@pytest.mark.parametrize(
    ("kind", "sample", "low", "high"),
    [
        ("i1", SIGNED, -100, 100), ("<i2", SIGNED, -1024, 3071), (">i2", SIGNED, -1024, 3071),
        ("<i4", SIGNED, -9000, 70000), ("<u4", WHOLE, 0, 2**32 - 1), ("<f4", FLOATING, 0, 1), (">f4", FLOATING, -3, 7),
        ("<f4", FLOATING, 0, 255),
    ],
)  # fmt: skip
def test_signed_long_and_floating_numbers_need_a_range(
    tmp_path: Path, kind: str, sample: int, low: float, high: float
) -> None:
    values = numbers(kind, low, high)
    path = tiff(tmp_path / "x.tif", values, sample)
    with pytest.raises(RangeUnknown, match=r"set `range`"):
        read(path)
    assert (grey(path, (low, high)) == expected(values, low, high)).all()
    middle = (low + (high - low) / 4, low + (high - low) / 2)
    assert (grey(path, middle) == expected(values, *middle)).all()
    assert (grey(path, (high, low)) == expected(values, high, low)).all()


def test_bytes_that_were_made_floats_come_back(tmp_path: Path) -> None:
    values = np.arange(256).reshape(16, 16)
    for made, stated in ((values / 255, (0, 1)), (values, (0, 255)), (values / 127.5 - 1, (-1, 1))):
        tiff(tmp_path / "x.tif", made.astype("<f4"), FLOATING)
        image = read_image(tmp_path / "x.tif", 16, range=stated)
        assert (np.abs(image[0].numpy().astype(int) - values) <= (stated == (-1, 1))).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_refused(tmp_path: Path, value: float) -> None:
    values = numbers("<f4", 0, 1)
    values[2, 3] = value
    for stated in (None, (0.0, 1.0)):
        with pytest.raises(DakitError, match="1 of its values are NaN or infinite") as caught:
            read(tiff(tmp_path / "x.tif", values, FLOATING), stated)
        assert not isinstance(caught.value, RangeUnknown)  # it is damaged: `on_bad_image: skip` may leave it out


def test_a_range_beside_all_values_is_refused(tmp_path: Path) -> None:
    path = tiff(tmp_path / "x.tif", numbers("<f4", 0, 0.9), FLOATING)
    with pytest.raises(DakitError, match=r"`range: \[0, 4095\]` makes one grey of its values, .*from 0 to 0\.9"):
        read(path, (0, 4095))
    assert (grey(tiff(tmp_path / "y.tif", np.full((8, 8), 0.5, "<f4"), FLOATING), (0, 1)) == 128).all()


# --------------------------------------------------------------------------- what files say themselves
def test_eight_bits_are_read_as_they_are(tmp_path: Path) -> None:
    values = numbers("u1", 0, 255)
    for suffix in ("png", "tif", "bmp"):
        Image.fromarray(values).save(tmp_path / f"x.{suffix}")
        assert (grey(tmp_path / f"x.{suffix}", (0, 4095)) == values).all()


@pytest.mark.parametrize("most", [300, 4095, 65535])
def test_a_pgm_says_its_largest_value(tmp_path: Path, most: int) -> None:
    values = numbers(">u2", 0, most)
    (tmp_path / "x.pgm").write_bytes(f"P5\n8 8\n{most}\n".encode() + values.tobytes())
    for stated in (None, (0.0, 1.0)):
        wanted = np.floor(256 * np.round(values.astype(float) / most * 65535) / 65535).clip(max=255)
        assert (grey(tmp_path / "x.pgm", stated) == wanted).all()


def test_a_tiff_in_which_zero_is_white_is_turned(tmp_path: Path) -> None:
    values = numbers("<u2", 0, 65535)
    assert (grey(tiff(tmp_path / "x.tif", values, WHOLE, photometric=0)) == 255 - (values >> 8)).all()
    eight = (values >> 8).astype("u1")
    assert (grey(tiff(tmp_path / "y.tif", eight, WHOLE, photometric=0)) == 255 - eight).all()


def test_colours_in_planes_are_refused(tmp_path: Path) -> None:
    path = tiff(tmp_path / "x.tif", numbers("<u2", 0, 65535, 8, 8, 3), WHOLE, planes=True)
    with pytest.raises(DakitError, match="a TIFF of 16 bits a value whose colours lie in separate planes is not read"):
        read(path)


# ------------------------------------------------------------------------------------- transparency
@pytest.mark.parametrize("depth", [2, 4])
def test_alpha_of_16_bits_is_laid_over_black(tmp_path: Path, depth: int) -> None:
    values = numbers("u2", 0, 65535, 8, 8, depth)
    values[..., -1] = 65535
    values[0, :, -1] = 0
    image = read(png(tmp_path / "x.png", values))
    assert (image[0] == 0).all()
    assert (image[1:] == (values[1:, :, :-1] >> 8)).all()
    values[..., :-1] >>= 4
    assert (read(png(tmp_path / "x.png", values), (0, 4095))[1:] == (values[1:, :, :-1] >> 4)).all()


@pytest.mark.parametrize("depth", [1, 3])
def test_a_transparent_value_of_16_bits_becomes_black(tmp_path: Path, depth: int) -> None:
    values = numbers("u2", 0, 65535, 8, 8, *([3] if depth == 3 else []))
    key = np.atleast_1d(values[3, 4])
    image = read(png(tmp_path / "x.png", values, b"".join(struct.pack(">H", value) for value in key)))
    wanted = np.broadcast_to((values >> 8).reshape(8, 8, -1), (8, 8, 3)).copy()
    wanted[3, 4] = 0
    assert (image == wanted).all()


# ------------------------------------------------------------------------------------------- in a set
def test_a_set_reads_by_its_range_and_is_another_set_by_it(tmp_path: Path) -> None:
    values = numbers("u2", 0, 4095)
    path = png(tmp_path / "x.png", values)
    images = FileImages([path], size=8, range=[0, 4095])
    assert (images[0].image[1].numpy() == values >> 4).all()
    prints = {FileImages([path], size=8, range=r).fingerprint() for r in (None, [0, 4095], [0, 8191])}
    assert len(prints) == 3


def test_good_files_without_a_range_are_not_left_out_as_damaged_ones_are(tmp_path: Path) -> None:
    paths = [png(tmp_path / f"{i}.png", numbers("u2", 0, 4095 if i else 65535)) for i in range(3)]
    (tmp_path / "torn.png").write_bytes(paths[0].read_bytes()[:80])
    images = FileImages([*paths, tmp_path / "torn.png"], size=8)
    with pytest.raises(RangeUnknown, match=r"1\.png: .*; so have 1 more of 4 files$"):
        images.readable()
    _, faults = FileImages([*paths, tmp_path / "torn.png"], size=8, range=[0, 4095]).readable()
    assert list(faults) == [tmp_path / "torn.png"]


@pytest.mark.parametrize("wrong", [[1, 1], [0], [0, float("nan")], [0, 1, 2]])
def test_a_range_is_two_different_numbers(wrong: list[float]) -> None:
    with pytest.raises(DakitError, match="expected two different numbers, the values of black and of white"):
        FileImages([], size=8, range=wrong)


def test_large_images_take_the_same_values_by_a_table() -> None:
    for kind, low, high in (("u2", 100, 60000), ("i1", -100, 90)):
        values = numbers(kind, *((0, 65535) if kind == "u2" else (-128, 127)), 300, 300)
        assert (to_bytes(values, low, high) == to_bytes(values.astype(np.int64), low, high)).all()
