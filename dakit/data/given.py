"""Images that a caller has at hand, as the pixels that a network of a run reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from dakit.data.sets import in_rgb, sized, upright
from dakit.errors import DakitError

Given = Any
"""A path, a PIL image, an array or tensor of one image or of several, or a sequence of such."""


def given_images(
    images: Given, size: int, fit: Literal["crop", "squash"], read: Callable[[Path], Tensor]
) -> tuple[Tensor, bool]:
    """Images as uint8 ``(N, 3, size, size)``, and whether one alone was given.

    All go the way of a file: turned as EXIF says, transparency over black, RGB, ``fit`` to the size.

    Args:
        images: a path (text or ``Path``); a PIL image of 8 bits a value; a NumPy array uint8 ``(H, W)``,
            ``(H, W, C)`` or ``(N, H, W, C)``, C being 1, 3 or 4 (the last is opacity); a tensor uint8 ``(C, H, W)`` or
            ``(N, C, H, W)``; or a list or tuple of such, also of different sizes.
        size: in pixels.
        fit: see :class:`~dakit.data.sets.FileImages`.
        read: a file, see :meth:`dakit.results.runs.Model.read`.

    Raises:
        DakitError: what is no image of values from 0 to 255, or cannot be read; all are told, by their numbers.
    """
    several = not isinstance(images, (str, PathLike, Image.Image, np.ndarray, Tensor))
    if several and not isinstance(images, Sequence):
        raise DakitError(f"images: a {type(images).__name__}; {_EXPECTED}")
    if isinstance(images, (np.ndarray, Tensor)) and images.ndim == 4:
        several = True
    pixels, problems = [], []
    for number, image in enumerate(images if several else [images]):
        try:
            pixels.append(_pixels(image, size, fit, read))
        except DakitError as error:
            problems.append(f"image {number}: {error}" if several else str(error))
    if problems:
        raise DakitError("\n".join(problems))
    return torch.stack(pixels) if pixels else torch.zeros(0, 3, size, size, dtype=torch.uint8), not several


_EXPECTED = (
    "expected a path, a PIL image of 8 bits a value, a uint8 array (H, W), (H, W, C) or (N, H, W, C), a uint8 tensor "
    "(C, H, W) or (N, C, H, W), with 1, 3 or 4 channels C, or a list of such"
)


def _pixels(image: Given, size: int, fit: Literal["crop", "squash"], read: Callable[[Path], Tensor]) -> Tensor:
    """One image, uint8 ``(3, size, size)``."""
    if isinstance(image, (str, PathLike)):
        return read(Path(image))
    if isinstance(image, Tensor):
        array = image.detach().cpu().numpy()
        array = array.transpose(1, 2, 0) if array.ndim == 3 else array[None, None, None]  # no image, told below
        picture = _picture(array, f"a tensor {_described(image.detach().cpu().numpy())}")
    elif isinstance(image, np.ndarray):
        picture = _picture(image, f"an array {_described(image)}")
    elif isinstance(image, Image.Image):
        if image.mode in ("I", "F") or image.mode.startswith("I;16"):
            raise DakitError(
                f"a PIL image of mode {image.mode}; more than 8 bits a value are read from files: give its path"
            )
        picture = upright(image, image)
    else:
        raise DakitError(f"a {type(image).__name__}; {_EXPECTED}")
    return torch.from_numpy(np.asarray(sized(in_rgb(picture), size, fit)).transpose(2, 0, 1).copy())


def _picture(array: Any, what: str) -> Image.Image:
    """An array ``(H, W)`` or ``(H, W, C)``, uint8, as a picture."""
    if array.dtype != np.uint8:
        raise DakitError(f"{what}; expected uint8, from 0 (black) to 255 (white)")
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)) or 0 in array.shape:
        raise DakitError(f"{what}; {_EXPECTED}")
    return Image.fromarray(array)


def _described(array: Any) -> str:
    """Its dtype, shape and range."""
    spread = f", values from {array.min():.4g} to {array.max():.4g}" if array.size and array.dtype != object else ""
    return f"of {array.dtype} {tuple(array.shape)}{spread}"
