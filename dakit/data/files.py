"""What a dataset plugin asks of the disk and of the recipe's classes before it makes a set."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from dakit.data.sequences import Lean, lean_paths
from dakit.errors import DakitError
from dakit.interfaces import Folder

IMAGE_SUFFIXES = frozenset(
    ".jpg .jpeg .jpe .jfif .mpo .png .gif .bmp .webp .avif .tif .tiff .ppm .pgm .pbm .pnm".split()
)
"""Of the files that are taken for images in a folder, in either case; others are passed over and counted."""


def existing_folder(root: str, expected: str) -> Path:
    """The folder that a parameter names, or an error that says why it is not there and what belongs there."""
    path = Folder(root).path
    if not path.is_dir():
        unset = re.findall(r"\$\{?(\w+)", str(path))
        why = f"the environment variable {unset[0]} is not set" if unset else "there is no such folder"
        raise DakitError(f"{path}: {why}; expected {expected}")
    return path


def image_files(folder: Path) -> Lean[Path]:
    """Every image file at or below a folder, sorted; hidden ones and linked folders are passed over."""
    return list_images(folder)[0]


def list_images(folder: Path) -> tuple[Lean[Path], Counter[str]]:
    """The same, and by suffix how many other files lie there, hidden ones not counted.

    Raises:
        DakitError: a folder cannot be listed.
    """

    def fail(error: OSError) -> None:
        raise DakitError(f"{error.filename}: cannot be listed: {error.strerror}") from error

    paths: list[str] = []
    others: Counter[str] = Counter()
    for place, folders, names in os.walk(folder, onerror=fail):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            suffix = os.path.splitext(name)[1].lower()
            if name.startswith("."):
                continue
            if suffix in IMAGE_SUFFIXES:
                paths.append(os.path.join(place, name))
            else:
                others[suffix or "no suffix"] += 1
    paths.sort(key=lambda path: path.replace(os.sep, "\0"))  # as paths are sorted: part by part
    return lean_paths(paths), others


def told_of(others: Mapping[str, int]) -> str:
    """What was passed over, for people: "3 files: .heic 2, .txt 1"; "" = nothing.

    >>> told_of({".txt": 1, ".heic": 2})
    '3 files: .heic 2, .txt 1'
    """
    counts = sorted(((what, count) for what, count in others.items() if count), key=lambda entry: (-entry[1], entry[0]))
    more = [f"and {len(counts) - 8} more kinds"] if len(counts) > 8 else []
    number = sum(others.values())
    listed = ", ".join([f"{what} {count}" for what, count in counts[:8]] + more)
    return f"{number} file{'s' * (number > 1)}: {listed}" if number else ""


def captured_groups(pattern: str, files: Iterable[tuple[str, str]]) -> list[str]:
    r"""The group of each file: what a regular expression captures in its name, or in its path if it has a slash.

    Args:
        pattern: with one group in parentheses, such as ``^(person\d+)_`` or, for folders, ``/(video\d+)/``.
        files: of each its name, and its path with forward slashes.

    Raises:
        DakitError: it is no such expression, or finds nothing in some files.

    >>> captured_groups(r"/(v\d)/", [("0.png", "cat/v1/0.png")])
    ['v1']
    """
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise DakitError(f"group_by: {pattern!r} is not a regular expression: {error}") from error
    if expression.groups != 1:
        raise DakitError(f"group_by: {pattern!r} must capture one group in parentheses, not {expression.groups}")
    known: dict[str, str] = {}
    groups: list[str] = []
    missed: list[str] = []
    for name, path in files:
        match = expression.search(path if "/" in pattern else name)
        if match and match[1]:
            groups.append(known.setdefault(match[1], match[1]))
        else:
            missed.append(path)
    if missed:
        where = "paths" if "/" in pattern else "names"
        raise DakitError(f"group_by: {pattern!r} finds nothing in {len(missed)} {where}, such as {missed[0]}")
    return groups


def number_labels(
    names: Sequence[str], classes: Sequence[str] | None, ignore: Sequence[str], root: str
) -> tuple[list[int], list[int], tuple[str, ...]]:
    """Which images to keep, their labels (-1 for the name ""), and the classes (none without a label).

    Raises:
        DakitError: nothing is kept, or some names are not among the classes.
    """
    selected = [i for i, name in enumerate(names) if name not in ignore]
    if not selected:
        raise DakitError(f"{root}: holds no images" + (f" besides those to ignore: {list(ignore)}" if names else ""))
    counts = Counter(names[i] for i in selected if names[i])
    order = tuple(sorted(counts) if classes is None else classes) if counts else ()
    strange = ", ".join(f'"{name}" ({n} images)' for name, n in sorted(counts.items()) if name not in order)
    if strange:
        known = ", ".join(order)
        raise DakitError(f"{root}: {strange}: not among the classes {known}; list it there or in `ignore`")
    number = {name: label for label, name in enumerate(order)} | {"": -1}
    return selected, [number[names[i]] for i in selected], order
