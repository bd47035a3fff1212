"""Files of more than 8 bits a value: which of their values are black and white, and the 8 bits they become."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated, Any

import annotated_types
import numpy as np
import numpy.typing as npt
from PIL import Image

from dakit.errors import DakitError

Array = npt.NDArray[Any]
Range = Annotated[Sequence[float], annotated_types.Len(2, 2)]
"""The value that is black and the value that is white, as ``[0, 4095]``."""

_EVERYDAY = ((0, 1), (-1, 1), (0, 255), (0, 1023), (0, 4095), (0, 16383), (0, 65535), (-1024, 3071), (-32768, 32767))


class RangeUnknown(DakitError):
    """A file of more than 8 bits does not say which of its values are black and white, and its dataset neither."""


def to_bytes(values: Array, black: float, white: float) -> Array:
    """Values as uint8: the range in 256 equal parts, b = min(255, floor(256 (v - black) / (white - black))).

    Below ``black`` is 0, above ``white`` is 255. Of 16 bits and 0 to 65535 this is the high byte, of 12 bits and 0 to
    4095 the 8 highest bits, and v of the floating-point numbers v / 255 and 0 to 1.

    >>> to_bytes(np.array([-9, 0, 15, 16, 4095, 5000]), 0, 4095).tolist()
    [0, 0, 0, 1, 255, 255]
    """
    if values.dtype.kind in "iu" and values.dtype.itemsize <= 2 and values.size > 65536:
        every = np.iinfo(values.dtype)  # by a table: the floating-point numbers of a large image would be large
        table = to_bytes(np.arange(every.min, every.max + 1), black, white)
        return table[values.astype(np.int32) - every.min]
    parts = np.floor(256 * (values.astype(np.float64) - black) / (white - black))
    return parts.clip(0, 255).astype(np.uint8)


def eight_bits(image: Image.Image, stated: Sequence[float] | None) -> Image.Image:
    """An opened file as an image of 8 bits a value: itself, where it is one.

    Of a deeper file it is decided, in this order: what it says itself (a PGM or PPM its largest value, a TIFF of 12
    bits that they are 12); ``stated``; and for unsigned 16 bits alone, the whole 0 to 65535 where each quarter of it
    holds a thousandth of the pixels' values and more. That is not so of 10, 12 or 14 bits that lie in 16, also not
    with a few pixels marked as 65535, nor of a band in the middle: those are refused, as one file cannot tell, and to
    stretch each file to its own values would destroy what is bright and what is dark.

    A TIFF in which 0 is white is turned. A value of a grey PNG that stands for "transparent" becomes black.

    Args:
        image: from ``Image.open``, not loaded yet.
        stated: the values that are black and white; must differ (black may be the larger one).

    Raises:
        RangeUnknown: nothing says which values are black and white.
        ValueError: a value is NaN or infinite, ``stated`` leaves one grey of an image that has more, or the file is
            of a kind whose values cannot be had.
    """
    raw = _raw_mode(image)
    tags: Any = getattr(image, "tag_v2", {})
    signed_bytes = image.mode == "L" and tags.get(339, (1,))[0] == 2
    bits = max(tags.get(258, (8,)))
    if bits > 8 and tags.get(284) == 2 and len(tags[258]) > 1:
        raise ValueError(f"a TIFF of {bits} bits a value whose colours lie in separate planes is not read")
    if ";16" in raw and image.mode in ("RGB", "RGBA"):
        colours, alpha = _colours(image, raw)
    elif image.mode in ("I", "F") or image.mode.startswith("I;16") or signed_bytes:
        if image.format == "JPEG2000":
            raise ValueError("JPEG 2000 of more than 8 bits a value is not read; save it as PNG or TIFF")
        colours, alpha = np.asarray(image), None
        colours = colours.astype(colours.dtype.newbyteorder("="), copy=False)
        if signed_bytes:
            colours = colours.view(np.int8)
        elif raw in ("I;16", "I;16B", "I;16L", "I;16N") and colours.dtype == np.int32:  # of an older Pillow
            colours = colours.astype(np.uint16)
        elif colours.dtype == np.int32 and tags.get(339, (2,))[0] == 1:  # unsigned: Pillow has no mode for it
            colours = colours.view(np.uint32)
    else:
        return image
    key = image.info.get("transparency")
    if image.format == "PNG" and key is not None:
        alpha = np.where((np.atleast_3d(colours) == key).all(-1), 0, 255).astype(np.uint8)
    if not np.isfinite(colours).all():
        raise ValueError(f"{(~np.isfinite(colours)).sum()} of its values are NaN or infinite")
    implied = (0, 65535) if image.format == "PPM" and image.mode == "I" else (0, 4095) if ";12" in raw else None
    black, white = implied or stated or _evident(colours)
    pixels = to_bytes(colours, black, white)
    if pixels.size > 1 and pixels.min() == pixels.max() and colours.min() < colours.max():
        raise ValueError(f"`range: [{black:g}, {white:g}]` makes one grey of its values, which are {_span(colours)}")
    if tags.get(262) == 0:
        pixels = 255 - pixels
    return Image.fromarray(pixels if alpha is None else np.dstack([pixels, alpha]))


def _raw_mode(image: Image.Image) -> str:
    """How the values lie in the file, by Pillow's name, such as "RGB;16B"; "" = not known."""
    tile = getattr(image, "tile", None)
    how = tile[0][3] if tile else ""
    how = how[0] if isinstance(how, tuple) and how else how
    return how if isinstance(how, str) else ""


def _colours(image: Any, raw: str) -> tuple[Array, Array | None]:
    """The 16-bit values ``(H, W)`` or ``(H, W, 3)``, of which Pillow itself keeps the high byte; and alpha's."""
    if raw == "LA;16B":  # two 16-bit values lie there as four bytes
        four = _decoded(image, "RGBA").astype(np.uint16)
        return four[..., 0] << 8 | four[..., 1], four[..., 2].astype(np.uint8)
    order = raw[-1] if raw[-1] in "BL" else "BL"[sys.byteorder == "little"]
    low = _decoded(image, raw[:-1] + ("L" if order == "B" else "B"))  # the other byte taken for the high one
    high = _decoded(image, raw)
    values = high.astype(np.uint16) << 8 | low
    return values[..., :3], high[..., 3] if values.shape[2] == 4 else None


def _decoded(image: Any, raw: str) -> Array:
    """The pixels of a file with its bytes taken for those of another kind of the same length."""
    again: Any
    with Image.open(image.filename) as again:
        for i, tile in enumerate(again.tile):
            how = raw if isinstance(tile[3], str) else (raw, *tile[3][1:])
            # a plain tuple before Pillow 11
            again.tile[i] = tile._replace(args=how) if hasattr(tile, "_replace") else (*tile[:3], how)
        again.load()
        return np.asarray(again)


def _evident(values: Array) -> tuple[int, int]:
    """The whole range of 16 bits where the values evidently use it."""
    quarters = np.bincount((values >> 14).ravel(), minlength=4) if values.dtype == np.uint16 else np.zeros(4)
    if quarters.min() * 1000 >= values.size:
        return 0, 65535
    low, high = values.min(), values.max()
    fitting = [f"[{a}, {b}]" for a, b in _EVERYDAY if a <= low and high <= b and b - a <= 4 * (float(high) - low)]
    raise RangeUnknown(
        f"its values are {_span(values)}, and nothing says which values are black and white; set `range` of its "
        f"dataset, such as `range: {[*fitting, '[BLACK, WHITE]'][0]}`"
    )


def _span(values: Array) -> str:
    kind = "floating-point" if values.dtype.kind == "f" else "whole"
    return f"{kind} numbers from {values.min():g} to {values.max():g}"
