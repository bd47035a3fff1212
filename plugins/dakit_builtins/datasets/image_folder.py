"""Labelled images in one folder per class."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Sequence
from typing import Literal

from dakit.data.deep import Range
from dakit.data.files import IMAGE_SUFFIXES, captured_groups, existing_folder, list_images, number_labels, told_of
from dakit.data.parts import refuse_parts
from dakit.data.sequences import lean_paths, taken
from dakit.data.sets import FileImages
from dakit.errors import DakitError
from dakit.interfaces import Folder
from dakit.parameters import checked


@checked
def image_folder(
    size: int,
    classes: Sequence[str] | None,
    *,
    root: Folder,
    ignore: Sequence[str] = (),
    group_by: str | None = None,
    fit: Literal["crop", "squash"] = "crop",
    range: Range | None = None,
) -> FileImages:
    r"""Images whose class is the name of the folder they lie in.

    Layout::

        <root>/<class>/**/*.jpg     also .jpeg .jpe .jfif .mpo .png .gif .bmp .webp .avif .tif .tiff
                                    .ppm .pgm .pbm .pnm, in either case

    Folders below a class folder belong to that class. Hidden files and folders, other files, and images that lie
    in no class folder, are passed over; `dakit doctor` says how many. Linked folders below a class folder are not
    entered.

    Args:
        size: height and width of the images in pixels (from the recipe).
        classes: the class names in the order of the labels; None = every folder, sorted (from the recipe).
        root: the folder that holds the class folders.
        ignore: class folders to leave out.
        group_by: a regular expression with one group, searched in each file name; what it captures is the
            image's group, such as ``^(person\d+)_``. One with a slash is searched in the path below ``root``,
            ``<class>/<folder>/<name>``: ``^[^/]+/([^/]+)/`` captures the folder in a class folder, a video or a
            person (of one name in two classes: one group). None = every image is its own group.
        fit: "crop" takes the largest centred square, "squash" the whole image.
        range: the values that are black and white in files of more than 8 bits, such as [0, 4095], see
            :func:`dakit.data.deep.eight_bits`; None = such files must say it themselves.

    Raises:
        DakitError: the folder is missing or holds no images, its folders are parts such as train and test, a folder
            is not among the classes, or ``group_by`` is no such expression or does not fit a file name.
    """
    folder = existing_folder(root, "one folder per class, <root>/<class>/*.jpg")
    all_paths: list[str] = []
    names: list[str] = []
    nested: set[str] = set()
    others: Counter[str] = Counter()
    for place in sorted(folder.iterdir()):
        if place.name.startswith("."):
            continue
        if not place.is_dir():
            others.update(["in no class folder"] if place.suffix.lower() in IMAGE_SUFFIXES else [])
            continue
        paths, more = list_images(place)
        if place.name not in ignore:
            others += more
        if paths and not any(path.parent == place for path in paths):
            nested.add(place.name)
        all_paths += map(str, paths)
        names += [place.name] * len(paths)
    if not all_paths and others:
        raise DakitError(f"{root}: holds no images in class folders, but {told_of(others)}")
    refuse_parts(set(names) - {*ignore}, str(folder), nested)
    selected, labels, order = number_labels(names, classes, ignore, root)
    files = taken(lean_paths(all_paths), array("q", selected))
    groups = None
    if group_by is not None:
        groups = captured_groups(group_by, ((path.name, path.relative_to(folder).as_posix()) for path in files))
    return FileImages(files, labels, groups, order, size=size, fit=fit, range=range, passed_over=others)
