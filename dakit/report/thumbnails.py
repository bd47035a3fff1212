"""Small copies of images that a result keeps, so that a page can show them when the data is gone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from dakit.files import written
from dakit.interfaces import ImageSet, Prediction

SIDE = 96
"""The longer side of a thumbnail in pixels, at most; smaller images stay as they are."""

Pictures = npt.NDArray[np.uint8]
"""``(n, h, w, 3)``."""


def thumbnails(images: Tensor) -> Pictures:
    """uint8 ``(n, 3, H, W)`` to small pictures, antialiased.

    >>> thumbnails(torch.zeros(2, 3, 192, 96, dtype=torch.uint8)).shape
    (2, 96, 48, 3)
    """
    scale = SIDE / max(images.shape[-2:])
    if scale < 1:
        size = [max(1, round(side * scale)) for side in images.shape[-2:]]
        smaller = F.interpolate(images.float(), size, mode="bilinear", antialias=True)
        images = smaller.round().clamp(0, 255).to(torch.uint8)
    return images.permute(0, 2, 3, 1).contiguous().cpu().numpy()


def pick(images: ImageSet, indices: Sequence[int]) -> Pictures:
    """Thumbnails of some images of a set."""
    return thumbnails(torch.stack([images[i].image for i in indices]))


def examples(labels: Sequence[int], count: int) -> list[int]:
    """Positions of at most ``count`` images: the classes in turn, evenly spaced within each, sorted by class.

    >>> examples([0, 0, 0, 0, 1, 1], 4)
    [0, 2, 4, 5]
    """
    members: dict[int, list[int]] = {}
    for place, label in enumerate(labels):
        members.setdefault(label, []).append(place)
    turns = -(-count // max(1, len(members)))
    chosen = [of[turn * len(of) // turns] for turn in range(turns) for _, of in sorted(members.items())]
    return sorted(dict.fromkeys(chosen[:count]), key=lambda i: (labels[i], i))


def save_samples(path: Path, sets: Mapping[str, ImageSet], count: int = 14) -> None:
    """Write a row of examples of each set, titled with its name and the class of each picture, a line each.

    ``counts`` ``(sets, classes)`` has the images of each of ``classes``.
    """
    classes = list(dict.fromkeys(name for images in sets.values() for name in images.classes))
    strips, counts = [], []
    for name, images in sets.items():
        labels = [images.classes[k] if images.classes and k >= 0 else "" for k in images.labels]
        chosen = examples([classes.index(k) if k else -1 for k in labels], count)
        strips.append(("\n".join([name, *(labels[i] for i in chosen)]), pick(images, chosen)))
        counts.append([labels.count(name) for name in classes])
    save_strips(path, strips, counts=np.array(counts), classes=np.array(classes, dtype=str))


def attention(prediction: Prediction) -> npt.NDArray[np.float16]:
    """Where a network looks: the sum of absolute activations of its deepest map, ``(B, h, w)``, at most 1."""
    maps = prediction.maps[-1].float().abs().sum(1)
    return (maps / maps.amax((1, 2), keepdim=True).clamp_min(1e-12)).cpu().numpy().astype(np.float16)


def save_strips(path: Path, strips: Iterable[tuple[str, Pictures]], **more: Any) -> None:
    """Write rows of pictures with their titles, and further arrays, as one ``.npz``."""
    rows = list(strips)
    titles = np.array([title for title, _ in rows], dtype=str)
    with written(path) as part, open(part, "wb") as file:
        np.savez_compressed(file, *(pictures for _, pictures in rows), titles=titles, **more)


def load_strips(path: Path) -> list[tuple[str, Pictures]]:
    """Read the rows that :func:`save_strips` wrote; titles may repeat."""
    with np.load(path, allow_pickle=False) as file:
        return [(str(title), file[f"arr_{row}"]) for row, title in enumerate(file["titles"])]
