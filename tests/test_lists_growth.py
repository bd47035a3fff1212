"""What a large set costs before an image is read: memory in proportion to its images, and little for each.

200,000 files, 5 folds of 3 seeds, and doctor's search for duplicates; Python's and NumPy's own allocations are
counted, so the numbers do not hang on the machine. A million images are five times this, under 1 GB.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dakit.advice.doctor import Looks, Opened, duplicates
from dakit.data.kept import Kept
from dakit.data.sequences import lean_paths
from dakit.data.sets import FileImages, Sealed, Subset, Unlabelled, Withheld
from dakit.data.splits import Split

MEGABYTE = 1e6


def files(n: int) -> FileImages:
    paths = lean_paths(f"/data/big/class{i % 20:03}/image{i:08}.jpg" for i in range(n))
    return FileImages(paths, [i % 20 for i in range(n)], None, [f"class{k:03}" for k in range(20)], size=64)


def views(n: int) -> list[Any]:
    """As a run holds them: 15 training sides and test sides of one set, dealt in turns."""
    images = Kept(files(n), Path("."), room=0)
    held: list[Any] = []
    for fold in range(15):
        train = [i for i in range(n) if i % 5 != fold % 5]
        held.append(Subset(Withheld(images, train), train))
        held.append(Sealed(Subset(images, [i for i in range(n) if i % 5 == fold % 5])))
    return held


def dealt(n: int) -> list[Any]:
    """Each image is its own group, which is the most that can be dealt."""
    images = files(n)
    return [images, [len(Split(folds=5).apply(images, fold, 0)["test"]) for fold in range(5)]]


def searched(n: int) -> list[Any]:
    """Doctor's search: 1 in 100 images is another one with 8 of 256 bits changed."""
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 256, (n, 32), dtype=np.uint8)
    hashes[n - n // 100 :] = hashes[: n // 100]
    hashes[n - n // 100 :, 5] ^= 255
    digests = np.zeros((n, 32), np.uint8)
    digests[:, :4] = np.arange(n, dtype=np.uint32).view(np.uint8).reshape(n, 4)
    yes, no, sizes = np.ones(n, bool), np.zeros(n, bool), np.zeros((n, 2), np.int32)
    images = files(n)
    one = Opened(
        "source", Unlabelled(images), [str(i) for i in range(n)], None, images.classes, yes[None], no[None],
        np.asarray(images.labels), np.asarray(images.labels),
    )  # fmt: skip
    return list(duplicates([one], [Looks(hashes, digests, yes, {}, no, no, sizes)]))


def measured(work: Callable[[], Any]) -> tuple[float, float, Any]:
    """Megabytes that stay and that were used at most."""
    tracemalloc.start()
    try:
        made = work()
        return *(number / MEGABYTE for number in tracemalloc.get_traced_memory()), made
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("what", "n", "held", "peak"),
    [
        (files, 200_000, 60, 80),  # bytes an image: the path's 38, its end 8, the label 4
        (views, 200_000, 300, 400),  # 15 x (8 for place and label, 5 for what is withheld)
        (dealt, 20_000, 80, 900),
        (searched, 200_000, 70, 900),
    ],
)
def test_memory_grows_with_the_images_and_is_small(
    what: Callable[[int], Any], n: int, held: float, peak: float
) -> None:
    from dakit.data import splits

    used = []
    for images in (n // 4, n):
        splits._DEALT.clear()
        stays, most, made = measured(partial(what, images))
        used.append(most)
        assert 1e6 * stays / images < held
        assert 1e6 * most / images < peak
        if what is searched:
            (finding,) = made
            assert finding.text.startswith(f"{images // 100} ")
    assert used[1] < 4.5 * used[0]


def test_a_split_is_dealt_once_for_all_folds(monkeypatch: pytest.MonkeyPatch) -> None:
    from dakit.data import splits

    images, drawn = files(1000), []
    chance = splits._chance
    monkeypatch.setattr(splits, "_chance", lambda *what: drawn.append(what) or chance(*what))
    splits._DEALT.clear()
    for fold in range(5):
        Split(folds=5).apply(images, fold, 0)
    assert len(drawn) == 1000
    Split(folds=5).apply(images, 0, 1)
    Split(folds=4).apply(images, 0, 0)
    assert len(drawn) == 3000
    for seed in range(30):
        Split(folds=5).apply(images, 0, seed)
    assert len(splits._DEALT) <= 8
