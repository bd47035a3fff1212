"""Writing that is never seen half done: a temporary file, flush to the disk, rename."""

from __future__ import annotations

import hashlib
import json
import os
import time
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
    except OSError as error:
        if error.errno is not None and error.filename in (None, str(part)):
            error.filename = str(path)  # as people know it
        raise
    finally:
        part.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text by rename."""
    with written(path) as part:
        part.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write JSON by rename."""
    write_text(path, json.dumps(value, indent=1) + "\n")


_digests: dict[tuple[str, int, int, int], str] = {}


def content_digest(path: Path) -> str:
    """SHA-256 of a file's content, remembered in this process while its size and times are the same.

    Raises:
        OSError: it cannot be read.
    """
    status = os.stat(path)
    # The change time betrays a file replaced by another of its size and modification time.
    key = (os.path.abspath(path), status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    if key in _digests:
        return _digests[key]
    with open(path, "rb") as file:
        checksum = hashlib.file_digest(file, "sha256").hexdigest()
    # A file written within the grain of its clock could change again under the same times: two seconds where times are
    # whole milliseconds or coarser, else a tick of the kernel, some milliseconds.
    newest = max(status.st_mtime_ns, status.st_ctime_ns)
    if time.time_ns() - newest > (2_000_000_000 if newest % 1_000_000 == 0 else 50_000_000):
        _digests[key] = checksum
    return checksum


def cache_folder() -> Path:
    """What is remembered between runs on a machine: ``$DAKIT_CACHE``, or ``~/.cache/dakit``; it may be deleted."""
    return Path(os.environ.get("DAKIT_CACHE") or Path.home() / ".cache" / "dakit")


def shipped(folder: str) -> Path:
    """A folder that comes with dakit, such as "recipes"; in a checkout it lies beside the package."""
    here = Path(__file__).parent
    return here / f"_{folder}" if (here / f"_{folder}").is_dir() else here.parent / folder


def shipped_recipes() -> dict[str, Path]:
    """The recipes that come with dakit, by name."""
    return {path.stem: path for path in sorted(shipped("recipes").rglob("*.yaml"))}
