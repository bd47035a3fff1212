"""Ready-made image sets: tensors, files, and views of other sets. Dataset plugins return the first two.

It is one thing: a set read from files, and the views of it that keep what a set promises.
"""

from __future__ import annotations

import copy
import hashlib
import os
import sqlite3
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL import __version__ as PILLOW
from torch import Tensor

from dakit.data.deep import RangeUnknown, eight_bits
from dakit.data.parts import part_role
from dakit.data.sequences import Lean, integers, lean_paths, numbered, taken
from dakit.errors import DakitError
from dakit.files import cache_folder
from dakit.interfaces import ImageSet, Sample
from dakit.optional import HasFingerprint, HasParts, HasPaths, IsView, offers

DECODING = 2
"""The version of :func:`read_image`: raised when a file that was read before is read as other pixels, or no more.

It is part of every fingerprint of files, so that what was computed from the old pixels is not taken for new.
"""

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # fmt: skip


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
        pixels = image.clone() if isinstance(image, Tensor) else torch.from_numpy(np.array(image))
        return Sample(pixels.contiguous(), self.labels[index], self.groups[index])

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
    square is taken before the image is resized (bilinear, antialiased). Of files with more than 8 bits a value
    (16-bit PNG, TIFF of whole or floating-point numbers) ``range`` says which values become 0 and 255; without it
    those that do not say it themselves are refused, see :func:`dakit.data.deep.eight_bits`.

    Args:
        paths: the files.
        labels: one per file, -1 = none; None = all -1.
        groups: one per file; None = every file is its own group.
        classes: names in the order of the labels.
        parts: the published part of each file, or None.
        size: height and width in pixels of what is returned.
        fit: "crop" keeps the proportions, "squash" the whole image.
        range: the values that are black and white in files of more than 8 bits, such as ``[0, 4095]``; what lies
            outside is cut off, and a first value above the second turns black and white. Files of 8 bits are read
            as they are. None = nothing is said.
        passed_over: files beside these that are no images by their suffix, as suffix -> how many; for people.

    Raises:
        DakitError: ``range`` is not two different numbers.
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
        range: Sequence[float] | None = None,
        passed_over: Mapping[str, int] | None = None,
    ) -> None:
        self.paths: Sequence[Path] = lean_paths(paths)
        n = len(self.paths)
        self.labels: Sequence[int] = integers(np.full(n, -1) if labels is None else labels)
        self.groups: Sequence[str] = numbered(n) if groups is None else _text_list(groups)
        self.parts: Sequence[str] | None = None if parts is None else _text_list(parts)
        self.classes = tuple(classes)
        self.size = size
        self.fit = fit
        self.range = None if range is None else tuple(float(value) for value in range)
        if self.range is not None and not (
            len(set(self.range)) == len(self.range) == 2 and np.isfinite(self.range).all()
        ):
            bounds = ", ".join(f"{value:g}" for value in self.range)
            raise DakitError(f"range: [{bounds}]: expected two different numbers, the values of black and of white")
        self.passed_over = dict(passed_over or {})

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int, /) -> Sample:
        image = read_image(self.paths[index], self.size, self.fit, self.range)
        return Sample(image, self.labels[index], self.groups[index])

    def readable(self, read: Callable[[int], object] | None = None) -> tuple[FileImages, dict[Path, str]]:
        """The set without the files that cannot be decoded, and these with the reason.

        Args:
            read: decodes the image of a number, for one who has a use for it; None = the set itself.

        Raises:
            RangeUnknown: files of more than 8 bits need ``range``; they are good, and not to be left out.
        """
        faults = unreadable(self.paths, read or self.__getitem__, self.range)
        if not faults:
            return self, {}
        good = integers(i for i, path in enumerate(self.paths) if path not in faults)
        rest = copy.copy(self)
        rest.paths, rest.groups = taken(self.paths, good), taken(self.groups, good)
        rest.labels = integers(np.asarray(self.labels)[good])
        rest.parts = None if self.parts is None else taken(self.parts, good)
        return rest, faults

    def fingerprint(self) -> str:
        """A hash of every file's content, how it is read, and of labels, groups and classes; not of the paths."""
        how = (DECODING, self.size, self.fit, self.range)
        digest = hashlib.sha256(repr((how, self.classes, list(self.labels), list(self.groups))).encode())
        for file_digest in file_digests(self.paths):
            digest.update(file_digest.encode())
        return digest.hexdigest()


def read_image(
    path: Path, size: int, fit: Literal["crop", "squash"] = "crop", range: Sequence[float] | None = None
) -> Tensor:
    """Decode one file to uint8 ``(3, size, size)``.

    Args:
        path: of the file.
        size: in pixels.
        fit: see :class:`FileImages`,
        range: and there.

    Raises:
        RangeUnknown: it has more than 8 bits a value, and nothing says which values are black and white.
        DakitError: the file is missing, damaged, not an image, of several frames, or absurdly large (more than
            ``PIL.Image.MAX_IMAGE_PIXELS``, told before it is decoded), or holds NaN; the path is named.
    """
    try:
        with Image.open(path) as opened:
            if opened.width * opened.height > (Image.MAX_IMAGE_PIXELS or sys.maxsize):
                limit = f"{Image.MAX_IMAGE_PIXELS:,} pixels are allowed"
                raise ValueError(f"{opened.width} x {opened.height} pixels, but at most {limit}")
            if getattr(opened, "is_animated", False) and opened.format != "MPO":  # MPO: a photograph and its preview
                raise ValueError(f"it holds {getattr(opened, 'n_frames', 2)} images, but one is expected")
            opened.draft("RGB", (size, size))  # JPEG: decode near the size needed
            image = sized(in_rgb(upright(opened, eight_bits(opened, range))), size, fit)
    except RangeUnknown as error:
        raise RangeUnknown(f"{shown(path)}: cannot be read as an image: {error}") from error
    except UnidentifiedImageError as error:
        why = "it is no image, or of an unknown kind" if path.stat().st_size else "it is empty"
        raise DakitError(f"{shown(path)}: cannot be read as an image: {why}") from error
    except Exception as error:  # what a decoder raises on a damaged file is the file's fault, whatever it is
        why = getattr(error, "strerror", None) or str(error)
        raise DakitError(f"{shown(path)}: cannot be read as an image: {why}") from error
    # NumPy, not torch, turns the axes: files are decoded in threads, see dakit.data.batches.Reader.
    return torch.from_numpy(np.asarray(image).transpose(2, 0, 1).copy())


def in_rgb(image: Image.Image) -> Image.Image:
    """An image of 8 bits a value in RGB; transparency is laid over black."""
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, (0, 0, 0, 255)), rgba)
    return image.convert("RGB")


def sized(image: Image.Image, size: int, fit: Literal["crop", "squash"]) -> Image.Image:
    """An image at ``size`` x ``size`` pixels, see :class:`FileImages`."""
    if fit == "crop":
        return ImageOps.fit(image, (size, size), Image.Resampling.BILINEAR)
    return image.resize((size, size), Image.Resampling.BILINEAR)


def upright(opened: Image.Image, decoded: Image.Image) -> Image.Image:
    """``decoded``, turned as ``opened``'s EXIF data ask for; these are read and never written anew."""
    opened.load()  # a TIFF is turned by Pillow when it is decoded
    try:
        turn = _UPRIGHT.get(opened.getexif().get(0x0112, 1))
    except Exception as error:  # whatever Pillow's parser says of damaged data
        raise ValueError(f"its EXIF data, which may say how it is turned, are damaged: {error}") from error
    return decoded if turn is None else decoded.transpose(turn)


def unreadable(
    paths: Sequence[Path], read: Callable[[int], object], stated: Sequence[float] | None = None
) -> dict[Path, str]:
    """Which files cannot be decoded, and why.

    Every file is decoded once: good ones are remembered beside their digests, see :func:`file_digests`, for this
    version of the decoder and this range.

    Args:
        paths: the files.
        read: decodes the file of a number as :func:`read_image` does; is called in several threads.
        stated: ``range`` of :class:`FileImages`.

    Raises:
        RangeUnknown: files of more than 8 bits need it; how many, and the first.
    """
    faults: dict[Path, str] = {}
    unknown: list[RangeUnknown] = []
    how = f"|{DECODING}|{PILLOW}|{stated and tuple(stated)}".encode()

    def decode(number: int) -> str:
        try:
            read(number)
        except RangeUnknown as error:
            unknown.append(error)
            return str(error).rpartition("as an image: ")[2]
        except DakitError as error:
            return str(error).rpartition("as an image: ")[2]
        return ""

    with _memory() as database, ThreadPoolExecutor(os.cpu_count() or 1) as threads:
        database.execute("create table if not exists readable (key text primary key)")
        for start in range(0, len(paths), 1000):  # so many are in memory at a time
            keys: dict[int, tuple[bytes, bool]] = {}
            for number in range(start, min(start + 1000, len(paths))):
                try:
                    key, old = _stamp(paths[number])
                except OSError as error:
                    faults[paths[number]] = error.strerror or str(error)
                    continue
                if not database.execute("select 1 from readable where key = ?", (key + how,)).fetchone():
                    keys[number] = key + how, old
            reasons = dict(zip(keys, threads.map(decode, keys), strict=True))
            faults |= {paths[number]: why for number, why in reasons.items() if why}
            good = [(keys[number][0],) for number, why in reasons.items() if not why and keys[number][1]]
            with database:
                database.executemany("insert or replace into readable values (?)", good)
    if unknown:
        first = min(str(error) for error in unknown)
        others = f"; so have {len(unknown) - 1} more of {len(paths)} files" if len(unknown) > 1 else ""
        raise RangeUnknown(first + others)
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
    folder = cache_folder()
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
        self.indices: Sequence[int] = integers(indices)
        self.classes = images.classes
        self.labels: Sequence[int] = integers(np.asarray(images.labels, np.int64)[np.asarray(self.indices)])
        self.groups: Sequence[str] = taken(images.groups, self.indices)
        parts = parts_of(images)
        self.parts: Sequence[str] | None = None if parts is None else taken(parts, self.indices)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int, /) -> Sample:
        return self.base[self.indices[index]]

    def fingerprint(self) -> str:
        """A hash of the whole set's fingerprint and the indices."""
        return _combine("subset", fingerprint(self.base), repr(list(self.indices)))


class Withheld:
    """Another set of which a training side sees its own images only: the others have no label and cannot be read."""

    def __init__(self, images: ImageSet, seen: Sequence[int]) -> None:
        self._images = images
        self._seen = np.zeros(len(images), bool)
        self._seen[np.asarray(seen, np.int64)] = True
        self.classes = images.classes
        self.labels: Sequence[int] = integers(np.where(self._seen, np.asarray(images.labels, np.int64), -1))
        self.groups = images.groups
        self.parts = parts_of(images)

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int, /) -> Sample:
        if not (0 <= index < len(self) and self._seen[index]):
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
        self.labels: Sequence[int] = integers(np.full(len(images), -1))
        self.groups = images.groups
        self.parts = parts_of(images)

    def __len__(self) -> int:
        return len(self.base)

    def __getitem__(self, index: int, /) -> Sample:
        return self.base[index]._replace(label=-1)

    def fingerprint(self) -> str:
        """A hash of the set's own fingerprint, marked as unlabelled."""
        return _combine("unlabelled", fingerprint(self.base))


class Relabelled:
    """Another set with other labels, such as pseudo-labels; of a stage that returns one no pixels are kept again.

    Args:
        images: the set.
        labels: one per image, -1 = none.
        classes: names in the order of the labels; None = those of the set.

    Raises:
        ValueError: there are more or fewer labels than images.
    """

    def __init__(self, images: ImageSet, labels: Sequence[int], classes: Sequence[str] | None = None) -> None:
        if len(labels) != len(images):
            raise ValueError(f"{len(images)} images but {len(labels)} labels")
        self.base = images
        self.labels: Sequence[int] = [int(label) for label in labels]
        self.groups = images.groups
        self.classes = images.classes if classes is None else tuple(classes)
        self.parts = parts_of(images)

    def __len__(self) -> int:
        return len(self.base)

    def __getitem__(self, index: int, /) -> Sample:
        return self.base[index]._replace(label=self.labels[index])

    def fingerprint(self) -> str:
        """A hash of the set's own fingerprint, the labels and the classes."""
        return _combine("relabelled", fingerprint(self.base), repr((self.labels, self.classes)))


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
        self.labels: Sequence[int] = integers(np.concatenate([np.asarray(images.labels, np.int64) for images in sets]))
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


def described(test: Sealed) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]:
    """Positions in the whole data set, labels and groups: an evaluation is checked by them; no stage asks.

    It is no method, so that what a stage is given has no other way to a label than the one that is counted.
    """
    images = test._images
    indices = getattr(images, "indices", range(len(images)))
    return np.asarray(indices, np.int64), np.asarray(images.labels, np.int64), np.asarray(images.groups)


def fingerprint(images: ImageSet | Sealed) -> str:
    """A hash of a set's content: its own ``fingerprint()`` where it has one, else of every decoded image."""
    if offers(images, HasFingerprint):
        validation = published_validation(images)  # of which `choose: validation` makes use
        content = images.fingerprint()
        return _combine("validation", content, repr(validation)) if validation else content
    assert not isinstance(images, Sealed)
    digest = hashlib.sha256(repr((images.classes, list(images.labels), list(images.groups))).encode())
    for index in range(len(images)):
        digest.update(images[index].image.contiguous().numpy().tobytes())
    return digest.hexdigest()


def parts_of(images: object) -> Sequence[str] | None:
    """The names of a set's published parts, one per image; None where it has none."""
    return images.parts if offers(images, HasParts) else None


def published_validation(images: ImageSet | Sealed) -> list[int]:
    """Which images are of a published part for validation, such as "val"."""
    parts = parts_of(images) or ()
    names = {name for name in set(parts) if part_role(name) == "val"}
    return [i for i, part in enumerate(parts) if part in names] if names else []


def unlabelled_among(images: ImageSet) -> str:
    """The images without a label, for people: "2 of 9 images have no label: a/0.png, a/1.png"; "" = each has one."""
    missing = np.flatnonzero(np.asarray(images.labels, np.int64) < 0)
    named = [name_of(images, int(i)) for i in missing[:3]] + ["..."] * (len(missing) > 3)
    return f"{len(missing)} of {len(images)} images have no label: {', '.join(named)}" if len(missing) else ""


def name_of(images: ImageSet, index: int) -> str:
    """The path of an image, through views of sets; "image 7" where it has none."""
    if offers(images, HasPaths):
        return shown(images.paths[index])
    if isinstance(images, Joined):
        which = int(np.searchsorted(images.starts, index, side="right")) - 1
        return name_of(images.sets[which], index - int(images.starts[which]))
    if isinstance(images, (Withheld, Sealed)):
        return name_of(images._images, index)
    if not offers(images, IsView):
        return f"image {index}"
    return name_of(images.base, images.indices[index] if isinstance(images, Subset) else index)


def _text_list(texts: Sequence[str]) -> Sequence[str]:
    """A list of one's own; one that is made when it is read cannot be changed by others."""
    return texts if isinstance(texts, Lean) else list(texts)


def _combine(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
