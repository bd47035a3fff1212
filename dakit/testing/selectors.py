"""The contract of selectors."""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch import Tensor, nn

from dakit.data.sets import TensorImages
from dakit.interfaces import ImageSet, Prediction, Sample, Selection, Spec
from dakit.testing.contract import FIRST, Check, wanted

CLASSES = ("a", "b", "c")


class Stem(nn.Module):
    """A classifier with a stem, for selectors that look at features."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Conv2d(3, 4, 3, stride=2), nn.Linear(4, len(CLASSES))

    def stem(self, images: Tensor) -> Tensor:
        """The first layer."""
        out: Tensor = self.first(images)
        return out

    def forward(self, images: Tensor) -> Prediction:
        """A prediction."""
        maps = self.stem(images).relu()
        features = maps.mean((2, 3))
        return Prediction(self.head(features), features, (maps,))


def noise(count: int, seed: int) -> TensorImages:
    """Random images of 16 pixels, the classes in turn."""
    pixels = torch.randint(256, (count, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))
    return TensorImages(pixels, [i % len(CLASSES) for i in range(count)], classes=CLASSES)


def choose(spec: Spec[Any], pool: ImageSet, anchors: ImageSet, **changed: Any) -> Selection:
    """What it selects, on the CPU, after one and the same seed."""
    torch.manual_seed(5)
    classifier = Stem().eval()
    torch.manual_seed(6)
    selector = Spec(spec.kind, spec.name, {**spec.params, **changed}, spec.factory).build()
    selection: Selection = selector(pool, anchors, classifier=classifier, device=torch.device("cpu"))
    return selection


def chooses_pool_images_for_every_anchor(spec: Spec[Any]) -> None:
    """Indices int64 (A, t) into the pool, none twice in a row, -1 at the end of a short one; distances float32."""
    pool, anchors = noise(60, 1), noise(6, 2)
    indices, distances, *_ = choose(spec, pool, anchors)
    wanted(indices.dtype == torch.int64 and indices.ndim == 2, f"indices are {indices.dtype} {tuple(indices.shape)}")
    wanted(len(indices) == len(anchors), f"{len(indices)} rows for {len(anchors)} anchors")
    wanted(distances.dtype == torch.float32, f"distances are {distances.dtype}")
    wanted(distances.shape == indices.shape, f"distances are {tuple(distances.shape)}")
    wanted(((indices >= -1) & (indices < len(pool))).all(), "an index is not of the pool")
    for row in indices.tolist():
        chosen = [index for index in row if index >= 0]
        wanted(row[: len(chosen)] == chosen, f"-1 stands before an image: {row}")
        wanted(len(set(chosen)) == len(chosen), f"an image stands twice in a row: {row}")
    asked = spec.params.get("neighbours")
    wanted(asked is None or indices.shape[1] == asked, f"{indices.shape[1]} images for neighbours: {asked}")


def nearest_come_first(spec: Spec[Any]) -> None:
    """Galleries show a row from left to right: distances rise, or are NaN where there are none."""
    distances = choose(spec, noise(60, 1), noise(6, 2)).distances
    known = distances.nan_to_num(0.0)
    wanted((known.diff(dim=1) >= -1e-5).all(), "distances do not rise along a row")


def same_seed_gives_the_same_choice(spec: Spec[Any]) -> None:
    """Runs can be repeated: chance comes from torch's global generator alone."""
    first, second = (choose(spec, noise(60, 1), noise(6, 2)).indices for _ in range(2))
    wanted(torch.equal(first, second), "one seed gave two choices")


def keeps_to_the_class_where_asked(spec: Spec[Any]) -> None:
    """With a parameter `same_class`, true means: only pool images of the anchor's class."""
    if "same_class" in spec.params:
        pool, anchors = noise(90, 1), noise(6, 2)
        for anchor, row in enumerate(choose(spec, pool, anchors, same_class=True).indices.tolist()):
            classes = {pool.labels[index] for index in row if index >= 0}
            wanted(classes <= {anchors.labels[anchor]}, f"an anchor of class {anchors.labels[anchor]} got {classes}")


def shares_no_more_than_allowed(spec: Spec[Any]) -> None:
    """With a parameter `max_reuse`, no pool image goes to more anchors than that."""
    if "max_reuse" in spec.params:
        uses = choose(spec, noise(90, 1), noise(6, 2), max_reuse=1).indices.flatten()
        wanted(uses[uses >= 0].bincount().max() <= 1, "an image was given out more than once")


class _Watched(TensorImages):
    """Counts how many of the samples that it gave out are alive."""

    alive = most = 0

    def __getitem__(self, index: int, /) -> Sample:
        sample = super().__getitem__(index)
        self.alive += 1
        self.most = max(self.most, self.alive)
        weakref.finalize(sample.image, self._gone)
        return sample

    def _gone(self) -> None:
        self.alive -= 1


def does_not_hold_all_images(spec: Spec[Any]) -> None:
    """A pool may have 150,000 images: they are read and left in chunks, at most 1,024 at a time."""
    inner = noise(1100, 1)
    pool = _Watched(inner.images, inner.labels, classes=CLASSES)
    choose(spec, pool, noise(6, 2))
    wanted(pool.most <= 1024, f"{pool.most} images were held at one time")


CHECKS: tuple[Check, ...] = (
    *FIRST, chooses_pool_images_for_every_anchor, nearest_come_first, same_seed_gives_the_same_choice,
    keeps_to_the_class_where_asked, shares_no_more_than_allowed, does_not_hold_all_images,
)  # fmt: skip
