"""Writing that is never seen half done: a temporary file, flush to the disk, rename."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def to_disk(path: Path) -> None:
    """Wait until a file's content, or a folder's list of files, would survive a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def written(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; move it there when the block ends well, remove it when not."""
    part = path.with_name(f".{path.name}.part")
    try:
        yield part
        to_disk(part)
        os.replace(part, path)
        to_disk(path.parent)
    finally:
        part.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text by rename."""
    with written(path) as part:
        part.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write JSON by rename."""
    write_text(path, json.dumps(value, indent=1) + "\n")


def shipped_recipes() -> dict[str, Path]:
    """The recipes that come with dakit, by name; in a checkout they lie beside the package."""
    here = Path(__file__).parent
    folder = here / "_recipes" if (here / "_recipes").is_dir() else here.parent / "recipes"
    return {path.stem: path for path in sorted(folder.rglob("*.yaml"))}
