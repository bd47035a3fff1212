from __future__ import annotations

import gc
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
import torch
from PIL import Image

import tiny
from dakit.data.kept import Kept
from dakit.data.sets import FileImages, TensorImages, fingerprint
from dakit.interfaces import Sample


class Counting(TensorImages):
    """A set that remembers which images were decoded."""

    def __init__(self, count: int, size: tuple[int, int] = (4, 6)) -> None:
        inner = tiny.images([i % 3 for i in range(count)], size=size)
        super().__init__(inner.images, inner.labels, [f"p{i}" for i in range(count)], inner.classes)
        self.read: list[int] = []

    def __getitem__(self, index: int, /) -> Sample:
        self.read.append(index)
        return super().__getitem__(index)


def test_every_image_is_decoded_once_and_comes_as_it_was(tmp_path: Path) -> None:
    counted = Counting(7)
    kept = Kept(counted, tmp_path)
    order = [3, 0, 6, 3, 1, 2, 5, 4, 0, 6]
    for index in order:
        image, label, group = kept[index]
        assert torch.equal(image, counted.images[index])
        assert (label, group) == (index % 3, f"p{index}")
    assert sorted(counted.read) == list(range(7))
    assert (kept.classes, kept.labels, kept.groups, len(kept)) == (tiny.CLASSES, counted.labels, counted.groups, 7)
    assert fingerprint(kept) == fingerprint(counted)


def test_what_is_read_belongs_to_the_reader(tmp_path: Path) -> None:
    counted = Counting(2)
    kept = Kept(counted, tmp_path)
    for _ in range(3):
        assert torch.equal(kept[1].image, counted.images[1])
        kept[1].image.zero_()


def test_no_more_than_there_is_room_for_is_kept(tmp_path: Path) -> None:
    counted = Counting(4)
    kept = Kept(counted, tmp_path, room=2 * 3 * 4 * 6 + 71)  # two images of 72 bytes, and nearly a third
    for _ in range(2):
        for index in range(4):
            assert torch.equal(kept[index].image, counted.images[index])
    assert counted.read == [0, 1, 2, 3, 2, 3]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full, a disk without room")
def test_a_full_disk_is_no_fault(tmp_path: Path) -> None:
    counted = Counting(3)
    kept = Kept(counted, tmp_path)
    with open("/dev/full", "r+b", buffering=0) as full:
        kept._file = full
        assert [kept[i].label for i in (0, 1, 0)] == [0, 1, 0]
    assert counted.read == [0, 1, 0]


def test_threads_read_what_is_there(tmp_path: Path) -> None:
    counted = Counting(40)
    kept = Kept(counted, tmp_path)
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda i: (i, kept[i].image), [i % 40 for i in range(400)]))
    assert all(torch.equal(image, counted.images[i]) for i, image in found)


def test_what_the_check_of_files_decodes_is_kept(tmp_path: Path) -> None:
    paths = [tmp_path / f"{i}.png" for i in range(5)]
    for path, sample in zip(paths, tiny.images([0] * 5, size=(4, 4)), strict=True):
        Image.fromarray(sample.image.permute(1, 2, 0).numpy()).save(path)
    paths[1].write_text("no image")
    files = FileImages(paths, [0, 1, 0, 1, 1], list("vwxyz"), ("a", "b"), list("VWXYZ"), size=4)
    kept, faults = Kept(files, tmp_path).readable()
    gc.collect()  # the set that was checked is not needed any more
    there = [0, 2, 3, 4]
    assert list(faults) == [paths[1]]
    assert (kept.classes, list(kept.labels), kept.groups, kept.parts) == (
        ("a", "b"),
        [0, 0, 1, 1],
        list("vxyz"),
        list("VXYZ"),
    )
    assert fingerprint(kept) == fingerprint(
        FileImages([paths[i] for i in there], [0, 0, 1, 1], list("vxyz"), ("a", "b"), size=4)
    )
    expected = [files[i] for i in there]
    for path in paths:
        path.unlink()
    for sample, (image, label, group) in zip(expected, (kept[i] for i in range(4)), strict=True):
        assert torch.equal(image, sample.image)
        assert (label, group) == (sample.label, sample.group)


def test_nothing_is_left_in_the_folder_and_memory_does_not_grow(tmp_path: Path) -> None:
    counted = Counting(200, size=(128, 128))  # 9.8 MB
    kept = Kept(counted, tmp_path)
    assert list(tmp_path.iterdir()) == []
    for index in range(200):
        kept[index]
    before = psutil.Process().memory_info().rss
    for _ in range(10):  # epochs
        for index in range(200):
            kept[index]
    assert psutil.Process().memory_info().rss - before < 2 * 2**20
