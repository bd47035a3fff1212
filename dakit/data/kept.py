"""Every image is decoded once in a run, however many stages, folds and epochs read it."""

from __future__ import annotations

import copy
import os
import shutil
import tempfile
import weakref
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from dakit import processes
from dakit.data.sequences import integers
from dakit.data.sets import FileImages, fingerprint, parts_of
from dakit.interfaces import ImageSet, Sample


class Kept:
    """Another set whose images are kept, decoded, in a temporary file that ends with the process.

    The file is read image by image, not mapped, so that it never counts as memory of the process; what the
    machine has free of memory holds it anyway. Safe to read from several threads. Of a run's processes each keeps
    its own, as its part of the batches comes from the whole set in time.

    Args:
        images: the set; all of one size.
        folder: where the file is made, or in the nearest folder above that is there; where neither can be written,
            among the machine's temporary files (which may be memory).
        room: bytes that it may take; None = half of what is free there, which the processes of a run share.
    """

    def __init__(self, images: ImageSet, folder: Path, *, room: int | None = None) -> None:
        self.base = images
        self.classes = images.classes
        self.labels: Sequence[int] = images.labels
        self.groups: Sequence[str] = images.groups
        self.parts = parts_of(images)
        near = (place for place in (folder, *folder.parents) if place.is_dir())
        place = next((place for place in near if os.access(place, os.W_OK)), Path(tempfile.gettempdir()))
        self._file = tempfile.TemporaryFile(dir=place)
        weakref.finalize(self, self._file.close)
        self._room = shutil.disk_usage(place).free // (2 * processes.count()) if room is None else room
        self._places: Sequence[int] = range(len(images))  # of the images, in the file
        self._there = bytearray(len(images))
        self._shape: tuple[int, ...] = ()
        self._whole: Kept | None = None  # whose file this is
        self._print = ""

    def __len__(self) -> int:
        return len(self.base)

    def __getitem__(self, index: int, /) -> Sample:
        place = self._places[index]
        if self._there[place]:
            size = int(np.prod(self._shape))
            pixels = np.frombuffer(bytearray(os.pread(self._file.fileno(), size, place * size)), np.uint8)
            return Sample(torch.from_numpy(pixels.reshape(self._shape)), self.labels[index], self.groups[index])
        sample = self.base[index]
        self._shape = self._shape or tuple(sample.image.shape)
        size = sample.image.nbytes
        if tuple(sample.image.shape) == self._shape and (place + 1) * size <= self._room:
            try:
                os.pwrite(self._file.fileno(), sample.image.contiguous().numpy().tobytes(), place * size)
            except OSError:  # the disk is full: those that follow are decoded each time
                self._room = 0
            else:
                self._there[place] = 1
        return sample

    def readable(self) -> tuple[Kept, dict[Path, str]]:
        """A set of files without those that cannot be decoded, and these with the reason; what is decoded is kept.

        Every process of a run does this for itself: its machine may have other files than the first one's.
        """
        files = self.base
        assert isinstance(files, FileImages)
        good, faults = files.readable(self.__getitem__)
        if not faults:
            return self, {}
        rest = copy.copy(self)
        rest._whole = self  # at its end the file is closed
        rest._print = ""
        rest.base, rest.labels, rest.groups, rest.parts = good, good.labels, good.groups, good.parts
        rest._places = integers(i for i, path in enumerate(files.paths) if path not in faults)
        return rest, faults

    def fingerprint(self) -> str:
        """That of the set, as it was when it was first asked for: the decoded images are of that time, too."""
        if not self._print:
            self._print = fingerprint(self.base)
        return self._print
