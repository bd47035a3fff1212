"""Handwritten digits: MNIST and USPS."""

from __future__ import annotations

import bz2
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from dakit.data.files import existing_folder, number_labels
from dakit.data.sets import TensorImages
from dakit.errors import DakitError
from dakit.interfaces import Folder
from dakit.parameters import checked

Array = np.ndarray[Any, np.dtype[Any]]

# Relative to the root; the first tuple of which every file is there is read.
_FILES: dict[tuple[str, str], list[tuple[str, ...]]] = {
    ("mnist", "train"): [
        ("MNIST/raw/train-images-idx3-ubyte", "MNIST/raw/train-labels-idx1-ubyte"),
        ("mnist.npz",),
    ],
    ("mnist", "test"): [
        ("MNIST/raw/t10k-images-idx3-ubyte", "MNIST/raw/t10k-labels-idx1-ubyte"),
        ("mnist.npz",),
        ("mnist_t10k.npz",),
    ],
    ("usps", "train"): [("usps.bz2",), ("usps.npz",)],
    ("usps", "test"): [("usps.t.bz2",), ("usps.npz",)],
}


@checked
def digits(
    size: int,
    classes: Sequence[str] | None,
    *,
    root: Folder,
    which: Literal["mnist", "usps"],
    part: Literal["train", "test", "all"] = "all",
    ignore: Sequence[str] = (),
) -> TensorImages:
    """MNIST or USPS, white digits on black, resized and repeated in three channels.

    Layout: the first of these that is there; nothing is downloaded::

        mnist   <root>/MNIST/raw/{train,t10k}-{images-idx3,labels-idx1}-ubyte    60,000 and 10,000 of 28 x 28
                <root>/mnist.npz         X_train, y_train, X_test, y_test (or x_train, x_test)
                <root>/mnist_t10k.npz    X, y: the test images alone
        usps    <root>/usps.bz2, <root>/usps.t.bz2                               7,291 and 2,007 of 16 x 16
                <root>/usps.npz          X_train, y_train, X_test, y_test

    The first form is torchvision's, made by ``torchvision.datasets.MNIST(root, download=True)`` or
    ``USPS``. The images in ``.npz`` are uint8. The parts are "train" and "test"; "all" is what is there of
    both. Every image is its own group. Images are resized bilinearly, antialiased.

    Source: LeCun, Bottou, Bengio, Haffner, *Gradient-based learning applied to document recognition*,
    Proceedings of the IEEE 1998 (MNIST). Hull, *A database for handwritten text recognition research*, PAMI
    1994 (USPS).

    Args:
        size: height and width of the images in pixels (from the recipe).
        classes: "0" to "9" in the order of the labels; None = in rising order (from the recipe).
        root: the folder that holds the files.
        which: dataset.
        part: "train", "test" or "all".
        ignore: digits to leave out.

    Raises:
        DakitError: no such file is there, the part is not in it, it is damaged, or a digit is not among the
            classes.
    """
    folder = existing_folder(root, f"the files of {which} as in `dakit show dataset digits`")
    read: list[tuple[str, Array, Array]] = []
    looked: list[str] = []
    for name in ["train", "test"] if part == "all" else [part]:
        forms = [[folder / file for file in files] for files in _FILES[which, name]]
        looked += [" with ".join(map(str, files)) for files in forms]
        files = next((files for files in forms if all(file.is_file() for file in files)), None)
        if files is not None:
            read.append((name, *_read(files, name)))
    if not read:
        raise DakitError(f"{root}: no {which} with the part {part}; looked for {', '.join(looked)}")
    digit = [str(number) for _, _, numbers in read for number in numbers]
    selected, labels, names = number_labels(digit, classes, ignore, root)
    parts = [name for name, _, numbers in read for _ in numbers]
    pixels = torch.cat([_resize(images, size) for _, images, _ in read])[selected]
    return TensorImages(pixels.expand(-1, 3, -1, -1), labels, None, names, [parts[i] for i in selected])


def _read(files: Sequence[Path], part: str) -> tuple[Array, Array]:
    """Images uint8 ``(N, H, W)`` and labels ``(N,)`` of one part."""
    first = files[0]
    try:
        if first.suffix == ".npz":
            images, labels = _read_npz(first, "" if first.name == "mnist_t10k.npz" else f"_{part}")
        elif first.suffix == ".bz2":
            images, labels = _read_libsvm(first)
        else:
            images, labels = _read_idx(files[0]), _read_idx(files[1])
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise DakitError(f"{first}: damaged, or not in the form of this file: {error}") from error
    if images.ndim != 3 or images.dtype != np.uint8 or labels.shape != images.shape[:1]:
        raise DakitError(
            f"{first}: expected images uint8 (N, H, W) and labels (N,), "
            f"not {images.dtype} {images.shape} and {labels.shape}"
        )
    if not np.isin(labels, np.arange(10)).all():
        raise DakitError(f"{first}: the labels must be 0 to 9, not {np.unique(labels)}")
    return images, labels.astype(np.int64)


def _read_npz(path: Path, ending: str) -> tuple[Array, Array]:
    with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
        names = {name.lower(): name for name in archive.files}
        return archive[names[f"x{ending}"]], archive[names[f"y{ending}"]]


def _read_libsvm(path: Path) -> tuple[Array, Array]:
    """Lines of ``label index:value ...``: labels from 1, pixels in [-1, 1]."""
    with bz2.open(path, "rt", encoding="ascii") as file:
        rows = [line.split() for line in file]
    pixels = np.array([[cell.partition(":")[2] for cell in row[1:]] for row in rows], dtype=np.float32)
    images = ((pixels + 1) / 2 * 255).astype(np.uint8).reshape(-1, 16, 16)
    return images, np.array([row[0] for row in rows], dtype=np.int64) - 1


def _read_idx(path: Path) -> Array:
    """Bytes 0, 0, 8 (uint8) and the number of axes; each axis as a big-endian int32; the values."""
    data = path.read_bytes()
    if data[:3] != b"\0\0\x08" or len(data) < 4:
        raise ValueError("it does not begin as an idx file of bytes")
    shape = np.frombuffer(data, ">i4", count=data[3], offset=4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * data[3]).reshape([int(n) for n in shape])


def _resize(images: Array, size: int) -> Tensor:
    """uint8 ``(N, 1, size, size)``, in chunks that bound the memory for floats."""
    resized = []
    for start in range(0, len(images), 4096):
        chunk = torch.from_numpy(images[start : start + 4096].astype(np.float32)).unsqueeze(1)
        chunk = F.interpolate(chunk, (size, size), mode="bilinear", antialias=True)
        resized.append(chunk.round().to(torch.uint8))
    return torch.cat(resized)
