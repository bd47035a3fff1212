"""Labelled images in one folder per class."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from dakit.data.files import existing_folder, image_files, number_labels
from dakit.data.parts import refuse_parts
from dakit.data.sets import FileImages
from dakit.errors import DakitError
from dakit.interfaces import Folder


def image_folder(
    size: int,
    classes: Sequence[str] | None,
    *,
    root: Folder,
    ignore: Sequence[str] = (),
    group_by: str | None = None,
    fit: Literal["crop", "squash"] = "crop",
) -> FileImages:
    r"""Images whose class is the name of the folder they lie in.

    Layout::

        <root>/<class>/**/*.jpg     also .jpeg .png .gif .bmp .webp .tif .tiff .ppm .pgm, in either case

    Folders below a class folder belong to that class. Hidden files and folders, and files that lie in no
    class folder, are passed over. Linked folders below a class folder are not entered.

    Args:
        size: height and width of the images in pixels (from the recipe).
        classes: the class names in the order of the labels; None = every folder, sorted (from the recipe).
        root: the folder that holds the class folders.
        ignore: class folders to leave out.
        group_by: a regular expression with one group, searched in each file name; what it captures is the
            image's group, such as ``^(person\d+)_``. None = every image is its own group.
        fit: "crop" takes the largest centred square, "squash" the whole image.

    Raises:
        DakitError: the folder is missing or holds no images, its folders are parts such as train and test, a folder
            is not among the classes, or ``group_by`` is no such expression or does not fit a file name.
    """
    folder = existing_folder(root, "one folder per class, <root>/<class>/*.jpg")
    files = [
        (place.name, path)
        for place in sorted(folder.iterdir())
        if place.is_dir() and not place.name.startswith(".")
        for path in image_files(place)
    ]
    direct = {name for name, path in files if path.parent.name == name and path.parent.parent == folder}
    names = {name for name, _ in files} - {*ignore}
    refuse_parts(names, str(folder), names - direct)
    kept, labels, found = number_labels([name for name, _ in files], classes, ignore, root)
    paths = [files[i][1] for i in kept]
    groups = None if group_by is None else _groups(paths, group_by)
    return FileImages(paths, labels, groups, found, size=size, fit=fit)


def _groups(paths: Sequence[Path], pattern: str) -> list[str]:
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise DakitError(f"group_by: {pattern!r} is not a regular expression: {error}") from error
    if expression.groups != 1:
        raise DakitError(f"group_by: {pattern!r} must capture one group in parentheses, not {expression.groups}")
    matches = [expression.search(path.name) for path in paths]
    groups = [match[1] if match else None for match in matches]
    missed = [path for path, group in zip(paths, groups, strict=True) if not group]
    if missed:
        raise DakitError(f"group_by: {pattern!r} finds nothing in {len(missed)} names, such as {missed[0]}")
    return [str(group) for group in groups]
