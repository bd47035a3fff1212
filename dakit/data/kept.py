"""Every image is decoded once in a run, however many stages, folds and epochs read it."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from dakit import processes
from dakit.data.sets import fingerprint
from dakit.interfaces import ImageSet, Sample


class Kept:
    """Another set whose images are kept, decoded, in a temporary file that ends with the process.

    The file is read image by image, not mapped, so that it never counts as memory of the process; what the
    machine has free of memory holds it anyway. Safe to read from several threads.

    Args:
        images: the set; all of one size.
        folder: where the file is made; where there is no such folder, among the machine's temporary files.
        room: bytes that it may take; None = half of what is free there, which the processes of a run share.
    """

    def __init__(self, images: ImageSet, folder: Path, *, room: int | None = None) -> None:
        self.base = images
        self.classes = images.classes
        self.labels: Sequence[int] = images.labels
        self.groups: Sequence[str] = images.groups
        self.parts = getattr(images, "parts", None)
        place = folder if folder.is_dir() else Path(tempfile.gettempdir())
        self._file = tempfile.TemporaryFile(dir=place)
        weakref.finalize(self, self._file.close)
        self._room = shutil.disk_usage(place).free // (2 * processes.count()) if room is None else room
        self._there = bytearray(len(images))
        self._shape: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.base)

    def __getitem__(self, index: int, /) -> Sample:
        if self._there[index]:
            size = int(np.prod(self._shape))
            pixels = np.frombuffer(bytearray(os.pread(self._file.fileno(), size, index * size)), np.uint8)
            return Sample(torch.from_numpy(pixels.reshape(self._shape)), self.labels[index], self.groups[index])
        sample = self.base[index]
        self._shape = self._shape or tuple(sample.image.shape)
        size = sample.image.nbytes
        if tuple(sample.image.shape) == self._shape and (index + 1) * size <= self._room:
            try:
                os.pwrite(self._file.fileno(), sample.image.contiguous().numpy().tobytes(), index * size)
            except OSError:  # the disk is full: those that follow are decoded each time
                self._room = 0
            else:
                self._there[index] = 1
        return sample

    def fingerprint(self) -> str:
        """That of the set."""
        return fingerprint(self.base)
