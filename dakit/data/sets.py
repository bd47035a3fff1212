"""Ready-made image sets: tensors, files, and views of other sets. Dataset plugins return the first two."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from dakit.data.parts import part_role
from dakit.errors import DakitError
from dakit.interfaces import ImageSet, Sample

warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # read_image refuses what it warns of


class TensorImages:
    """Images held in one array, in memory or mapped from a file.

    Args:
        images: uint8 ``(N, 3, H, W)``, a tensor or a NumPy array (a memory map stays one).
        labels: one per image, -1 = none; None = all -1.
        groups: one per image; None = every image is its own group.
        classes: names in the order of the labels.
        parts: the published part of each image, or None.

    Raises:
        ValueError: the lengths or the shape do not fit.

    >>> images = TensorImages(torch.zeros(2, 3, 4, 4, dtype=torch.uint8), [0, 1], classes=("a", "b"))
    >>> len(images), images[1].label
    (2, 1)
    """

    def __init__(
        self,
        images: Tensor | np.ndarray,
        labels: Sequence[int] | None = None,
        groups: Sequence[str] | None = None,
        classes: Sequence[str] = (),
        parts: Sequence[str] | None = None,
    ) -> None:
        if images.ndim != 4 or images.shape[1] != 3 or str(images.dtype).removeprefix("torch.") != "uint8":
            raise ValueError(f"images must be uint8 (N, 3, H, W), not {images.dtype} {tuple(images.shape)}")
        n = len(images)
        self.images = images
        self.labels: Sequence[int] = [-1] * n if labels is None else [int(label) for label in labels]
        self.groups: Sequence[str] = [f"#{i}" for i in range(n)] if groups is None else list(groups)
        self.parts = None if parts is None else list(parts)
        self.classes = tuple(classes)
        for what in (self.labels, self.groups, self.parts):
            if what is not None and len(what) != n:
                raise ValueError(f"{n} images but {len(what)} labels, groups or parts")

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int, /) -> Sample:
        image = self.images[index]
        own = image.clone() if isinstance(image, Tensor) else torch.from_numpy(np.array(image))
        return Sample(own.contiguous(), self.labels[index], self.groups[index])

    def fingerprint(self) -> str:
        """A hash of pixels, labels, groups and classes."""
        shape = tuple(self.images.shape)  # the same for a tensor and an array
        digest = hashlib.sha256(repr((shape, self.classes, self.labels, self.groups)).encode())
        for start in range(0, len(self), 1024):
            digest.update(np.ascontiguousarray(np.asarray(self.images[start : start + 1024])).tobytes())
        return digest.hexdigest()


class FileImages:
    """Image files, decoded when they are read, in 8-bit RGB at one size.

    EXIF rotation is applied, transparency is laid over black, and with ``fit="crop"`` the largest centred
    square is taken before the image is resized (bilinear, antialiased).

    Args:
        paths: the files.
        labels: one per file, -1 = none; None = all -1.
        groups: one per file; None = every file is its own group.
        classes: names in the order of the labels.
        parts: the published part of each file, or None.
        size: height and width in pixels of what is returned.
        fit: "crop" keeps the proportions, "squash" the whole image.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        labels: Sequence[int] | None = None,
        groups: Sequence[str] | None = None,
        classes: Sequence[str] = (),
        parts: Sequence[str] | None = None,
        *,
        size: int,
        fit: Literal["crop", "squash"] = "crop",
    ) -> None:
        self.paths = list(paths)
        n = len(self.paths)
        self.labels: Sequence[int] = [-1] * n if labels is None else [int(label) for label in labels]
        self.groups: Sequence[str] = [f"#{i}" for i in range(n)] if groups is None else list(groups)
        self.parts = None if parts is None else list(parts)
        self.classes = tuple(classes)
        self.size = size
        self.fit = fit

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int, /) -> Sample:
        return Sample(read_image(self.paths[index], self.size, self.fit), self.labels[index], self.groups[index])

    def readable(self, read: Callable[[int], object] | None = None) -> tuple[FileImages, dict[Path, str]]:
        """The set without the files that cannot be decoded, and these with the reason.

        Args:
            read: decodes the image of a number, for one who has a use for it; None = the set itself.
        """
        faults = unreadable(self.paths, read or self.__getitem__)
        if not faults:
            return self, {}
        good = [i for i, path in enumerate(self.paths) if path not in faults]
        labels, groups = [self.labels[i] for i in good], [self.groups[i] for i in good]
        parts = None if self.parts is None else [self.parts[i] for i in good]
        paths = [self.paths[i] for i in good]
        return FileImages(paths, labels, groups, self.classes, parts, size=self.size, fit=self.fit), faults

    def fingerprint(self) -> str:
        """A hash of every file's content and of labels, groups, classes, size and fit; not of the paths."""
        digest = hashlib.sha256(
            repr((self.size, self.fit, self.classes, list(self.labels), list(self.groups))).encode()
        )
        for file_digest in file_digests(self.paths):
            digest.update(file_digest.encode())
        return digest.hexdigest()


def read_image(path: Path, size: int, fit: Literal["crop", "squash"] = "crop") -> Tensor:
    """Decode one file to uint8 ``(3, size, size)``.

    Raises:
        DakitError: the file is missing, damaged, not an image, of several frames, or absurdly large (more than
            ``PIL.Image.MAX_IMAGE_PIXELS``, told before it is decoded); the path is named.
    """
    try:
        with Image.open(path) as opened:
            if opened.width * opened.height > (Image.MAX_IMAGE_PIXELS or sys.maxsize):
                limit = f"{Image.MAX_IMAGE_PIXELS:,} pixels are allowed"
                raise ValueError(f"{opened.width} x {opened.height} pixels, but at most {limit}")
            if getattr(opened, "is_animated", False) and opened.format != "MPO":  # MPO: a photograph and its preview
                raise ValueError(f"it holds {getattr(opened, 'n_frames', 2)} images, but one is expected")
            opened.draft("RGB", (size, size))  # JPEG: decode near the size needed
            image = ImageOps.exif_transpose(opened)
            if image.mode in ("I;16", "I;16B", "I;16L", "I;16N", "I"):  # 16-bit grey: keep the high byte
                image = Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).clip(0, 255).astype(np.uint8))
            if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
                rgba = image.convert("RGBA")
                image = Image.alpha_composite(Image.new("RGBA", rgba.size, (0, 0, 0, 255)), rgba)
            image = image.convert("RGB")
            if fit == "crop":
                image = ImageOps.fit(image, (size, size), Image.Resampling.BILINEAR)
            else:
                image = image.resize((size, size), Image.Resampling.BILINEAR)
    except UnidentifiedImageError as error:
        why = "it is no image, or of an unknown kind" if path.stat().st_size else "it is empty"
        raise DakitError(f"{shown(path)}: cannot be read as an image: {why}") from error
    except Exception as error:  # what a decoder raises on a damaged file is the file's fault, whatever it is
        why = getattr(error, "strerror", None) or str(error)
        raise DakitError(f"{shown(path)}: cannot be read as an image: {why}") from error
    # NumPy, not torch, turns the axes: files are decoded in threads, see dakit.data.batches.Reader.
    return torch.from_numpy(np.asarray(image).transpose(2, 0, 1).copy())


def unreadable(paths: Sequence[Path], read: Callable[[int], object]) -> dict[Path, str]:
    """Which files cannot be decoded, and why.

    Every file is decoded once: good ones are remembered beside their digests, see :func:`file_digests`.

    Args:
        paths: the files.
        read: decodes the file of a number as :func:`read_image` does; is called in several threads.
    """
    faults: dict[Path, str] = {}
    numbers = {path: i for i, path in enumerate(paths)}

    def decode(path: Path) -> str:
        try:
            read(numbers[path])
        except DakitError as error:
            return str(error).rpartition("as an image: ")[2]
        return ""

    with _memory() as database, ThreadPoolExecutor(os.cpu_count() or 1) as threads:
        database.execute("create table if not exists readable (key text primary key)")
        keys: dict[Path, bytes] = {}
        settled: set[Path] = set()
        for path in numbers:
            try:
                keys[path], old = _stamp(path)
            except OSError as error:
                faults[path] = error.strerror or str(error)
                continue
            if old:
                settled.add(path)
        new = [
            p for p, k in keys.items() if not database.execute("select 1 from readable where key = ?", (k,)).fetchone()
        ]
        for some in (new[start : start + 1000] for start in range(0, len(new), 1000)):
            found = dict(zip(some, threads.map(decode, some), strict=True))
            faults |= {path: why for path, why in found.items() if why}
            good = [(keys[path],) for path, why in found.items() if not why and path in settled]
            with database:
                database.executemany("insert or replace into readable values (?)", good)
    return faults


def shown(path: Path) -> str:
    """A file's name for people; in quotes where it could disturb a terminal."""
    return str(path) if str(path).isprintable() else repr(str(path))


def file_digests(paths: Iterable[Path]) -> list[str]:
    """SHA-256 of each file, remembered by path, size and times so that unchanged files are not read.

    The memory is a small database in ``$DAKIT_CACHE`` or ``~/.cache/dakit``; it may be deleted at any time.

    Raises:
        DakitError: a file cannot be read, or the memory cannot be used.
    """
    with _memory() as database:
        database.execute("create table if not exists digests (key text primary key, digest text)")
        return _digests(paths, database)


@contextmanager
def _memory() -> Iterator[sqlite3.Connection]:
    folder = Path(os.environ.get("DAKIT_CACHE") or Path.home() / ".cache" / "dakit")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(folder / "digests.sqlite", timeout=60)) as database:
            yield database
    except (OSError, sqlite3.Error) as error:
        raise DakitError(
            f"{folder}: the memory of file digests cannot be used: {error}; "
            "delete digests.sqlite there, or set DAKIT_CACHE to another folder"
        ) from error


def _stamp(path: Path) -> tuple[bytes, bool]:
    """What tells that a file is unchanged, and whether that may be relied on."""
    status = os.stat(path)
    # The change time betrays a file replaced by another of its size and modification time.
    stamp = f"|{status.st_size}|{status.st_mtime_ns}|{status.st_ctime_ns}"
    # A file written within the clock's grain could change again under the same time stamp.
    old = time.time_ns() - max(status.st_mtime_ns, status.st_ctime_ns) > 2_000_000_000
    return os.fsencode(os.path.abspath(path)) + stamp.encode(), old  # bytes: a name need not be UTF-8


def _digests(paths: Iterable[Path], database: sqlite3.Connection) -> list[str]:
    digests: list[str] = []
    new: list[tuple[bytes, str]] = []
    for path in paths:
        try:
            key, old = _stamp(path)
            row = database.execute("select digest from digests where key = ?", (key,)).fetchone()
            if row is None:
                with open(path, "rb") as file:
                    row = (hashlib.file_digest(file, "sha256").hexdigest(),)
                if old:
                    new.append((key, row[0]))
        except OSError as error:
            raise DakitError(f"{shown(path)}: cannot be read: {error.strerror}") from error
        digests.append(row[0])
        if len(new) == 1000:  # written now and then, so that other processes wait for no more than that
            _remember(new, database)
    _remember(new, database)
    return digests


def _remember(new: list[tuple[bytes, str]], database: sqlite3.Connection) -> None:
    with database:
        database.executemany("insert or replace into digests values (?, ?)", new)
    new.clear()


class Subset:
    """Some images of another set, in the order of ``indices``."""

    def __init__(self, images: ImageSet, indices: Sequence[int]) -> None:
        self.base = images
        self.indices = [int(i) for i in indices]
        self.classes = images.classes
        labels, groups = images.labels, images.groups
        self.labels: Sequence[int] = [labels[i] for i in self.indices]
        self.groups: Sequence[str] = [groups[i] for i in self.indices]
        parts = getattr(images, "parts", None)
        self.parts = None if parts is None else [parts[i] for i in self.indices]

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int, /) -> Sample:
        return self.base[self.indices[index]]

    def fingerprint(self) -> str:
        """A hash of the whole set's fingerprint and the indices."""
        return _combine("subset", fingerprint(self.base), repr(self.indices))


class Withheld:
    """Another set of which a training side sees its own images only: the others have no label and cannot be read."""

    def __init__(self, images: ImageSet, seen: Sequence[int]) -> None:
        self._images = images
        self._seen = set(seen)
        self.classes = images.classes
        self.labels: Sequence[int] = [label if i in self._seen else -1 for i, label in enumerate(images.labels)]
        self.groups = images.groups
        self.parts: Sequence[str] | None = getattr(images, "parts", None)

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int, /) -> Sample:
        if index not in self._seen:
            raise DakitError(f"image {index} is not in the training side: it may be a test image")
        return self._images[index]

    def fingerprint(self) -> str:
        """The whole set's."""
        return fingerprint(self._images)


class Unlabelled:
    """Another set without its labels."""

    def __init__(self, images: ImageSet) -> None:
        self.base = images
        self.classes: tuple[str, ...] = ()
        self.labels: Sequence[int] = [-1] * len(images)
        self.groups = images.groups
        self.parts = getattr(images, "parts", None)

    def __len__(self) -> int:
        return len(self.base)

    def __getitem__(self, index: int, /) -> Sample:
        return self.base[index]._replace(label=-1)

    def fingerprint(self) -> str:
        """A hash of the set's own fingerprint, marked as unlabelled."""
        return _combine("unlabelled", fingerprint(self.base))


class Joined:
    """Several sets one after the other; the class lists must be equal.

    Raises:
        DakitError: the sets have different classes.
    """

    def __init__(self, sets: Sequence[ImageSet]) -> None:
        if len({images.classes for images in sets}) != 1:
            raise DakitError(f"cannot join sets of different classes: {[images.classes for images in sets]}")
        self.sets = list(sets)
        self.classes = sets[0].classes
        self.labels: Sequence[int] = [label for images in sets for label in images.labels]
        self.groups: Sequence[str] = [group for images in sets for group in images.groups]
        self.starts = np.cumsum([0, *(len(images) for images in sets)])

    def __len__(self) -> int:
        return int(self.starts[-1])

    def __getitem__(self, index: int, /) -> Sample:
        which = int(np.searchsorted(self.starts, index, side="right")) - 1
        return self.sets[which][index - int(self.starts[which])]

    def fingerprint(self) -> str:
        """A hash of the fingerprints in order."""
        return _combine("joined", *(fingerprint(images) for images in self.sets))


class Sealed:
    """A test set: its length is known, its labels are not, until ``open`` is called. See :class:`TestSet`."""

    def __init__(self, images: ImageSet, opened: Callable[[], None] = lambda: None) -> None:
        self._images = images
        self._opened = opened

    def __len__(self) -> int:
        return len(self._images)

    def open(self) -> ImageSet:
        """The images with their labels; ``opened`` is told first, so that nothing opens them uncounted."""
        self._opened()
        return self._images

    def fingerprint(self) -> str:
        """A hash of the images' own fingerprint."""
        return _combine("sealed", fingerprint(self._images))


def fingerprint(images: ImageSet | Sealed) -> str:
    """A hash of a set's content: its own ``fingerprint()`` where it has one, else of every decoded image."""
    own = getattr(images, "fingerprint", None)
    if own is not None:
        kept = published_validation(images)  # of which `choose: validation` makes use
        return _combine("validation", str(own()), repr(kept)) if kept else str(own())
    assert not isinstance(images, Sealed)
    digest = hashlib.sha256(repr((images.classes, list(images.labels), list(images.groups))).encode())
    for index in range(len(images)):
        digest.update(images[index].image.contiguous().numpy().tobytes())
    return digest.hexdigest()


def published_validation(images: ImageSet | Sealed) -> list[int]:
    """Which images are of a published part for validation, such as "val"."""
    parts: Sequence[str] = getattr(images, "parts", None) or ()
    names = {name for name in set(parts) if part_role(name) == "val"}
    return [i for i, part in enumerate(parts) if part in names] if names else []


def _combine(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
