"""Photographs of squares that a detector in the place of YuNet takes for faces of several kinds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from scipy import ndimage

from dakit_builtins.prepare.faces import Cropping, Face, crop_faces

KINDS = {  # level of green -> the detector's score of a patch upright, and of one on its head
    20: (1.0, 0.96),  # as with a face; on its head it is found as if it stood upright
    60: (0.8, 0.1),  # a weak face
    100: (0.6, 0.3),  # a weak one that does not look like a face again
    140: (0.97, 0.97),  # a thing that looks the same from both sides, surely
    180: (1.0, 0.9),  # a face whose landmarks are nonsense: eyes below the mouth
    220: (0.85, 0.85),  # a thing, not as surely
    250: (1.0, 0.96),  # a face that is also seen lying, with landmarks that lie
}
FACE, WEAK, FAINT, THING, FOLDED, UNSURE, LYING = KINDS


class PatchDetector(torch.nn.Module):
    """In the place of YuNet: a face is a square, half red, half blue, upright with red above; its green is its kind.

    Like YuNet it gives landmarks of an upright face to one that stands on its head, with a lower score; of lying ones
    it sees one kind, where it was turned by 90 degrees anticlockwise.
    """

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, batch: torch.Tensor) -> list[torch.Tensor]:
        (pixels,) = batch.double().numpy()
        red, green, blue = pixels
        patches = np.abs(red - blue) > 100
        parts, count = ndimage.label(ndimage.binary_dilation(patches, iterations=8))  # where red meets blue it is grey
        return [
            torch.tensor(
                [row for k in range(count) if (row := self.row(red, green, (parts == k + 1) & patches))]
            ).reshape(-1, 15)
        ]

    def row(self, red, green, part) -> list[float]:
        y, x = np.nonzero(part)
        left, top, right, bottom = x.min(), y.min(), x.max() + 1, y.max() + 1
        middle = np.s_[top + (bottom - top) // 4, (left + right) // 2]
        below = np.s_[bottom - (bottom - top) // 4, (left + right) // 2]
        if (red[middle] > 100) == (red[below] > 100):
            if green[middle] < 240 or red[y.mean().astype(int), left + 9] < 100:
                return []
            points = [(left + v * (right - left), top + (1 - u) * (bottom - top)) for u, v in UPRIGHT]
            return [left, top, right, bottom, *np.ravel(points), 0.999]
        kind = min(KINDS, key=lambda level: abs(level - green[middle]))
        points = np.array(NONSENSE if kind == FOLDED else UPRIGHT) * (right - left, bottom - top) + (left, top)
        return [left, top, right, bottom, *points.ravel(), KINDS[kind][int(red[middle] < red[below])]]


UPRIGHT = [(0.34, 0.42), (0.66, 0.42), (0.50, 0.60), (0.37, 0.77), (0.63, 0.77)]
NONSENSE = [(0.1, 0.52), (0.9, 0.52), (0.50, 0.50), (0.2, 0.50), (0.8, 0.50)]


def patch(kind: int, side: int, turned: int = 0) -> Image.Image:
    """One that stands upright, then turned anticlockwise."""
    image = Image.new("RGB", (side, side), (200, kind, 0))
    image.paste((0, kind, 200), (0, side // 2, side, side))
    return image.rotate(turned)


def photograph(*patches: tuple[Image.Image, tuple[int, int]], size: tuple[int, int] = (640, 480)) -> Image.Image:
    image = Image.new("RGB", size, (90, 90, 90))
    for one, place in patches:
        image.paste(one, place)
    return image


def cut(album: Path, target: Path, **settings: Any) -> dict[str, Face]:
    rows = crop_faces(album, target, cropping=Cropping(size=64, **settings), weights=Path("none"))
    return {row.path: row for row in rows}
