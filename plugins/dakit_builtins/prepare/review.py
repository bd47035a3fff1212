"""One sheet of the doubtful crops of ``dakit prepare faces``, so that a person sees in a minute what went wrong."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont, ImageOps, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo

from dakit.errors import DakitError
from dakit.files import written
from dakit_builtins.prepare.faces import Cropping, Face, by_score, crop_of_box, doubtful, lies_within

_SIGNED = "dakit prepare faces --review"
_SHEET, _ENOUGH, _COLUMNS = 100, 20, 10  # pictures at most, with the lowest scores filled up to, in a row
_CELL, _GAP, _LINE = 150, 6, 13  # pixels: side of a picture, around it, height of a line


def review_sheet(rows: Sequence[Face], source: Path, target: Path, path: Path) -> int:
    """Write one PNG that shows the doubtful crops, so that a person sees what went wrong; return how many it shows.

    Each has its file's name, score and why it is there; of a face that was refused it shows the box in the
    photograph. There are at most 100, and where fewer than 20 are doubtful the lowest scores of the rest follow.
    The same crops give the same file.

    Args:
        rows: what :func:`crop_faces` returned.
        source: folder of the images.
        target: folder of the crops.
        path: of the sheet; see :func:`sheet_path` for where it may be.

    Raises:
        DakitError: it cannot be written.
    """
    doubts = doubtful(rows)
    rest = sorted((row for row in rows if row.crop and row.score != "" and not row.doubt), key=by_score)
    shown = doubts[:_SHEET] + rest[: max(0, _ENOUGH - len(doubts))]
    columns = min(_COLUMNS, max(4, len(shown)))
    width, height = _CELL + 2 * _GAP, _CELL + 4 * _LINE + _GAP
    picture = Image.new("RGB", (columns * width, 2 * _LINE + max(1, -(-len(shown) // columns)) * height), "white")
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(11)
    few = f"{len(doubts)} doubtful" + (f", the first {_SHEET} are here" if len(doubts) > _SHEET else "")
    draw.text((_GAP, _GAP), f"{few}; {sum(bool(row.crop) for row in rows)} crops, {len(rows)} images", "black", font)
    for place, row in enumerate(shown):
        x, y = place % columns * width + _GAP, 2 * _LINE + place // columns * height
        picture.paste(_shown(row, source, target), (x, y))
        why = row.doubt or "among the lowest scores of the rest"
        lines = [_shortened(font, row.path), *_folded(font, f"{float(row.score):.4f} {why}")]
        for number, line in enumerate(lines):
            draw.text((x, y + _CELL + number * _LINE), line, "black" if number else "navy", font)
    about = PngInfo()
    about.add_text("Software", _SIGNED)
    try:
        with written(path) as part:
            picture.save(part, format="PNG", pnginfo=about)
    except OSError as error:
        raise DakitError(f"--review {path}: cannot be written: {error}") from error
    return len(shown)


def sheet_path(path: Path, source: Path, target: Path) -> Path:
    """Where a sheet may be written: never among images, nor over what is no sheet.

    Raises:
        DakitError: it is no PNG, lies in a folder of images or in none, or would replace another file.
    """
    if path.suffix.lower() != ".png":
        raise DakitError(f"--review {path}: expected the name of a PNG file, such as review.png")
    if not path.parent.is_dir():
        raise DakitError(f"--review {path}: there is no folder {path.parent}")
    for folder in (source, target):
        if lies_within(path, folder):
            raise DakitError(f"--review {path}: lies in {folder}; it would be taken for one of the images there")
    if path.exists():
        try:
            with Image.open(path) as there:
                ours = there.info.get("Software") == _SIGNED
        except (OSError, UnidentifiedImageError):
            ours = False
        if not ours:
            raise DakitError(f"--review {path}: is there, and is no sheet of dakit's; name another file")
    return path


def _shown(row: Face, source: Path, target: Path) -> Image.Image:
    """The crop; of a face that was refused, its box in the photograph."""
    if row.crop:
        with Image.open(target / row.crop) as crop:
            return crop.convert("RGB").resize((_CELL, _CELL), Image.Resampling.BILINEAR)
    with Image.open(source / row.path) as opened:
        image = ImageOps.exif_transpose(opened).convert("RGB")
    left, top, right, bottom = (float(v) for v in (row.left, row.top, row.right, row.bottom))
    return crop_of_box(image, (left, top, right, bottom), Cropping(size=_CELL))


def _shortened(font: Any, text: str) -> str:
    """The end of a text, as much as fits below a picture; one line, also where a name has a line break."""
    text = "".join(c if c.isprintable() else "?" for c in text)
    if font.getlength(text) <= _CELL:
        return text
    while text and font.getlength("..." + text) > _CELL:
        text = text[1:]
    return "..." + text


def _folded(font: Any, text: str) -> list[str]:
    """A text in at most three lines that fit below a picture."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= _CELL:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines[:3]
