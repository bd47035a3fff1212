"""What a dataset plugin asks of the disk and of the recipe's classes before it makes a set."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from dakit.errors import DakitError
from dakit.interfaces import Folder

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm"})


def existing_folder(root: str, expected: str) -> Path:
    """The folder that a parameter names, or an error that says why it is not there and what belongs there."""
    path = Folder(root).path
    if not path.is_dir():
        unset = re.findall(r"\$\{?(\w+)", str(path))
        why = f"the environment variable {unset[0]} is not set" if unset else "there is no such folder"
        raise DakitError(f"{path}: {why}; expected {expected}")
    return path


def image_files(folder: Path) -> list[Path]:
    """Every image file at or below a folder, sorted; hidden ones and linked folders are passed over."""

    def fail(error: OSError) -> None:
        raise DakitError(f"{error.filename}: cannot be listed: {error.strerror}") from error

    found: list[Path] = []
    for place, folders, names in os.walk(folder, onerror=fail):
        folders[:] = [name for name in folders if not name.startswith(".")]
        files = (Path(place, name) for name in names if not name.startswith("."))
        found += [path for path in files if path.suffix.lower() in IMAGE_SUFFIXES]
    return sorted(found)


def number_labels(
    names: Sequence[str], classes: Sequence[str] | None, ignore: Sequence[str], root: str
) -> tuple[list[int], list[int], tuple[str, ...]]:
    """Which images to keep, their labels (-1 for the name ""), and the classes (none without a label).

    Raises:
        DakitError: nothing is kept, or some names are not among the classes.
    """
    kept = [i for i, name in enumerate(names) if name not in ignore]
    if not kept:
        raise DakitError(f"{root}: holds no images" + (f" besides those to ignore: {list(ignore)}" if names else ""))
    counts = Counter(names[i] for i in kept if names[i])
    order = tuple(sorted(counts) if classes is None else classes) if counts else ()
    strange = ", ".join(f'"{name}" ({n} images)' for name, n in sorted(counts.items()) if name not in order)
    if strange:
        known = ", ".join(order)
        raise DakitError(f"{root}: {strange}: not among the classes {known}; list it there or in `ignore`")
    return kept, [order.index(names[i]) if names[i] else -1 for i in kept], order
