"""Images listed in a CSV file."""

from __future__ import annotations

import csv
import difflib
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from dakit.data.deep import Range
from dakit.data.files import captured_groups, existing_folder, number_labels
from dakit.data.parts import refuse_parts
from dakit.data.sets import FileImages
from dakit.errors import DakitError
from dakit.interfaces import File, Folder
from dakit.parameters import checked

_COLUMNS = ("path", "label", "split", "group")


@checked
def manifest(
    size: int,
    classes: Sequence[str] | None,
    *,
    file: File,
    root: Folder | None = None,
    ignore: Sequence[str] = (),
    outside: bool = False,
    group_by: str | None = None,
    fit: Literal["crop", "squash"] = "crop",
    range: Range | None = None,
) -> FileImages:
    r"""Images that a CSV file lists, in its order.

    Layout of the file: UTF-8, comma separated, a header with the column ``path`` and any of ``label``,
    ``split`` and ``group``; other columns are passed over::

        path,label,split,group
        a/001.png,happy,train,anna
        a/002.png,sad,test,bert

    * ``path``: relative to ``root``, with forward slashes.
    * ``label``: a class name; an empty cell is an image without a label. Without the column no image has one.
    * ``split``: the published part, such as train or test, for every image.
    * ``group``: the person or video; an empty cell is a group of its own (one for all rows of one path).

    Args:
        size: height and width of the images in pixels (from the recipe).
        classes: the class names in the order of the labels; None = all that occur, sorted (from the recipe).
        file: the CSV file.
        root: the folder that the paths start from; None = the folder of the CSV file.
        ignore: labels whose rows are left out.
        outside: also allow absolute paths, and ``..`` that leads out of ``root``.
        group_by: instead of the column ``group``: a regular expression with one group, searched in each file name,
            or, where it has a slash, in the path as it is listed: ``^(person\d+)_`` or ``/(video\d+)/``.
        fit: "crop" takes the largest centred square, "squash" the whole image.
        range: the values that are black and white in files of more than 8 bits, such as [0, 4095], see
            :func:`dakit.data.deep.eight_bits`; None = such files must say it themselves.

    Raises:
        DakitError: the CSV file, the folder, a column or an image is missing, a row is malformed, a path
            leads out of ``root``, labels are parts such as train and test, or are not among the classes, one image
            has two labels or parts, or groups are given twice. Rows are named by their line.
    """
    source = File(file).path
    if not source.is_file():
        unset = re.findall(r"\$\{?(\w+)", str(source))
        why = f"the environment variable {unset[0]} is not set" if unset else "there is no such file"
        raise DakitError(f"{source}: {why}; expected a CSV file with the columns {', '.join(_COLUMNS)}")
    folder = source.parent if root is None else existing_folder(root, f"the images that {source} lists")
    rows = _read(source)
    refuse_parts({label for _, row in rows if (label := row.get("label"))} - {*ignore}, str(source))
    selected, labels, names = number_labels([row.get("label", "") for _, row in rows], classes, ignore, file)
    rows = [rows[i] for i in selected]
    paths = [_path(source, line, row["path"], folder, outside) for line, row in rows]
    missing = [str(path) for path in paths if not path.is_file()]
    if missing:
        shown = "".join(f"\n  {path}" for path in missing[:5]) + ("\n  ..." if len(missing) > 5 else "")
        raise DakitError(f"{source}: {len(missing)} of {len(paths)} images are missing:{shown}")
    unsplit = [line for line, row in rows if row.get("split") == ""]
    if unsplit:
        raise DakitError(f"{source}:{unsplit[0]}: the split is empty (in {len(unsplit)} rows)")
    first: dict[Path, int] = {}  # a path listed twice must not stand on both sides of a split
    same = [first.setdefault(path, i) for i, path in enumerate(paths)]
    contradicted: list[str] = []
    for (line, row), number in zip(rows, same, strict=True):
        other, its = rows[number]
        if its.get("split") != row.get("split"):
            raise DakitError(
                f'{source}:{line}: {row["path"]} is in "{row["split"]}", but in "{its["split"]}" in line {other}'
            )
        if its.get("label") != row.get("label"):
            texts = (f'"{cells["label"]}"' if cells["label"] else "empty" for cells in (row, its))
            contradicted.append("{}:{}: {} has two labels: {}, but {} in line {}".format(
                source, line, row["path"], *texts, other))  # fmt: skip
    if contradicted:
        more = f" (and {len(contradicted) - 1} more rows like it)" if len(contradicted) > 1 else ""
        raise DakitError(f"{contradicted[0]}{more}; one of them is wrong")
    if group_by is not None:
        if "group" in rows[0][1]:
            raise DakitError(f"{source}: it has a column `group`; leave it or `group_by` out")
        groups = captured_groups(
            group_by, ((path.name, row["path"]) for (_, row), path in zip(rows, paths, strict=True))
        )
    else:
        groups = [row.get("group") or f"#{number}" for (_, row), number in zip(rows, same, strict=True)]
    parts = [row["split"] for _, row in rows] if "split" in rows[0][1] else None
    return FileImages(paths, labels, groups, names, parts, size=size, fit=fit, range=range)


def _read(source: Path) -> list[tuple[int, dict[str, str]]]:
    """Every row as (line, {known column: stripped cell})."""
    try:
        with open(source, encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            header = [name.strip() for name in next(reader, [])]
            rows = [(reader.line_num, cells) for cells in reader if cells]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DakitError(f"{source}: cannot be read as a CSV file in UTF-8: {error}") from error
    if "path" not in header:
        raise DakitError(f'{source}:1: there is no column "path", only: {", ".join(header)}')
    for name in header:
        if name in _COLUMNS and header.count(name) > 1:
            raise DakitError(f'{source}:1: the column "{name}" stands there twice')
        absent = [column for column in _COLUMNS if column not in header]
        near = [] if name in _COLUMNS else difflib.get_close_matches(name.lower(), absent, n=1, cutoff=0.75)
        if near:  # passed over, it would quietly make an unlabelled or ungrouped set
            raise DakitError(f'{source}:1: column "{name}": did you mean "{near[0]}"?')
    for line, cells in rows:
        if len(cells) != len(header):
            raise DakitError(f"{source}:{line}: {len(cells)} cells, but the header has {len(header)}")
    return [
        (line, {name: cell.strip() for name, cell in zip(header, cells, strict=True) if name in _COLUMNS})
        for line, cells in rows
    ]


def _path(source: Path, line: int, given: str, folder: Path, outside: bool) -> Path:
    if not given:
        raise DakitError(f"{source}:{line}: the path is empty")
    path = folder / given
    inside = Path(os.path.abspath(path)).is_relative_to(os.path.abspath(folder))
    if not outside and (os.path.isabs(given) or not inside):
        raise DakitError(
            f"{source}:{line}: {given} is absolute or leads out of {folder}; `outside: true` allows that "
            "(of `dakit init`: --outside)"
        )
    return path
