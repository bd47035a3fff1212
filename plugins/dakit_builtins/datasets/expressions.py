"""The seven basic expressions, their codes, and images in a folder for each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from dakit.data.files import list_images
from dakit.errors import DakitError

EXPRESSIONS = {
    "Angry": "AN",
    "Disgust": "DI",
    "Fear": "FE",
    "Happy": "HA",
    "Neutral": "NE",
    "Sad": "SA",
    "Surprise": "SU",
}
"""The name of a folder -> the code that is the class."""


def by_expression(folder: Path, ignore: Sequence[str], others: Counter[str]) -> list[tuple[str, Path]]:
    """(expression, path) of every image in ``<folder>/<Class>/``; other files are counted in ``others``."""
    codes = {name.lower(): code for name, code in EXPRESSIONS.items()}
    files: list[tuple[str, Path]] = []
    for place in sorted(folder.iterdir()):
        if not place.is_dir() or place.name.startswith(".") or place.name in ignore:
            continue
        code = codes.get(place.name.lower(), place.name.upper())
        if code not in EXPRESSIONS.values():
            known = ", ".join(f"{name} ({code})" for name, code in EXPRESSIONS.items())
            raise DakitError(f"{place}: not an expression; expected {known}, or name it in `ignore`")
        paths, more = list_images(place)
        others.update(more)
        files += [(code, path) for path in paths]
    return files
