from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from dakit.errors import DakitError
from dakit_builtins.prepare.faces import Face, doubtful
from dakit_builtins.prepare.review import review_sheet, sheet_path
from patches import (
    FACE,
    cut,
    patch,
)


def test_the_sheet_shows_what_is_doubtful_in_order(album, tmp_path):
    rows = cut(album, tmp_path / "crops", turned=True)
    order = [row.path for row in doubtful(rows.values())]
    assert order == [
        *("a/lying.png", "a/on_its_head.png", "half_seen.png"),  # they were turned
        *("faint.png", "weak.png", "unsure.png", "thing.png", "folded.png"),  # 0.6, 0.8, 0.85, 0.97, 1
        *("both.png", "two.png"),
    ]
    count = review_sheet(list(rows.values()), album, tmp_path / "crops", tmp_path / "sheet.png")
    assert count == len(order) + 2  # and the two that nothing speaks against
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size[0] < 2000
        picture = np.asarray(sheet.convert("RGB")).astype(int)
        cells = [picture[y + 30, x + 75] for x, y in places(sheet, count)]
    # What is cut out stands as it will be learned from: red above (in the row of a third of the way).
    above = {path: cell[0] > cell[2] for path, cell in zip(order, cells, strict=False)}
    assert above == dict.fromkeys(order, True)


def places(sheet: Image.Image, count: int) -> list[tuple[int, int]]:
    """Where the pictures begin: columns of 162 pixels, rows of 208 below a heading of 26."""
    columns = min(10, max(4, count))
    assert sheet.size == (columns * 162, 26 + -(-count // columns) * 208)
    return [(k % columns * 162 + 6, 26 + k // columns * 208) for k in range(count)]


def test_the_same_crops_give_the_same_sheet(album, tmp_path):
    rows = list(cut(album, tmp_path / "crops").values())
    review_sheet(rows, album, tmp_path / "crops", tmp_path / "one.png")
    review_sheet(rows, album, tmp_path / "crops", tmp_path / "two.png")
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


def test_a_sheet_is_never_larger_than_100_pictures_and_takes_any_name(tmp_path):
    patch(FACE, 20).save(tmp_path / "crop.png")
    names = [f"{i}\n{'long' * 60}" for i in range(120)]
    rows = [Face(name, "crop.png", 0, 0, 9, 9, 0.9, 5.0, 1, doubt="word " * 200) for name in names]
    assert review_sheet(rows, tmp_path, tmp_path, tmp_path / "sheet.png") == 100
    with Image.open(tmp_path / "sheet.png") as sheet:
        places(sheet, 100)
    certain = [row._replace(doubt="") for row in rows]
    assert review_sheet(certain, tmp_path, tmp_path, tmp_path / "sheet.png") == 20
    assert review_sheet([Face("a", reason="no face found")], tmp_path, tmp_path, tmp_path / "sheet.png") == 0


def test_a_sheet_lies_beside_the_images_and_replaces_nothing_else(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "mine.png").write_bytes(b"a photograph")
    patch(FACE, 20).save(tmp_path / "photograph.png")
    for name, said in {
        "in/sheet.png": "lies in",
        "out/sheet.png": "there is no folder",
        "sheet.jpg": "expected the name of a PNG file",
        "mine.png": "is no sheet of dakit's",
        "photograph.png": "is no sheet of dakit's",
    }.items():
        with pytest.raises(DakitError, match=said):
            sheet_path(tmp_path / name, tmp_path / "in", tmp_path / "out")
    review_sheet([], tmp_path / "in", tmp_path / "out", tmp_path / "sheet.png")
    sheet_path(tmp_path / "sheet.png", tmp_path / "in", tmp_path / "out")  # dakit's own may be replaced
