"""Whether what lies in a store is what was written there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from dakit.errors import DakitError
from dakit.results.store import CHECKPOINT, MARKER, checksum_of, damaged, read_marker
from dakit.training.checkpoint import load_state


class Checked(NamedTuple):
    """What :func:`verify` found in one folder of a store.

    Attributes:
        folder: its name.
        complete: False = under way.
        files: how many there are to check, the marker among them,
        size: and their bytes.
        damage: one message for each that is not what was written.
    """

    folder: str
    complete: bool
    files: int
    size: int
    damage: list[str]


def verify(root: Path) -> Iterator[Checked]:
    """Compare the files in a store with their checksums: of every result, and the checkpoint of what is under way.

    Raises:
        DakitError: ``root`` is no folder.
    """
    if not root.is_dir():
        raise DakitError(f"{root}: there is no such folder; expected that of a run, such as runs/cycleat_sfew")
    for folder in sorted(path for path in root.iterdir() if path.is_dir()):
        complete, damage, files = folder.suffix != ".part", [], []
        try:
            if complete:
                files.append(folder / MARKER)
                for name, checksum in read_marker(folder)["files"].items():
                    files.append(folder / name)
                    if checksum_of(folder / name) != checksum:
                        damage.append(str(damaged(folder / name)))
            else:
                files += folder.glob(f"{CHECKPOINT}.safetensors")
                for path in files:
                    load_state(path)
        except DakitError as error:
            damage.append(str(error))
        size = sum(path.stat().st_size for path in files if path.is_file())
        yield Checked(folder.name, complete, len(files), size, damage)
