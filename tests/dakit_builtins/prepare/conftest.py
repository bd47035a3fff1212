from __future__ import annotations

import pytest
from PIL import Image

from patches import (
    FACE,
    FAINT,
    FOLDED,
    THING,
    UNSURE,
    WEAK,
    PatchDetector,
    patch,
    photograph,
)


@pytest.fixture
def stand_in(monkeypatch):
    monkeypatch.setattr("dakit_builtins.prepare.faces.load_detector", lambda *_: PatchDetector())


@pytest.fixture
def album(tmp_path, stand_in):
    """A photograph for each case."""
    root = tmp_path / "album"
    (root / "a").mkdir(parents=True)
    upright = photograph((patch(FACE, 100), (200, 150)))
    upright.save(root / "a" / "upright.png")
    upright.rotate(180).save(root / "a" / "on_its_head.png")
    upright.rotate(90, expand=True).save(root / "a" / "lying.png")
    exif = Image.Exif()
    exif[0x112] = 3  # shown after a turn by 180 degrees
    upright.rotate(180).save(root / "a" / "by_exif.png", exif=exif)
    photograph((patch(FACE, 100, 180), (100, 100)), (patch(WEAK, 60), (400, 300))).save(root / "half_seen.png")
    photograph((patch(FACE, 100, 180), (100, 100)), (patch(FACE, 40), (400, 300))).save(root / "both.png")
    photograph((patch(WEAK, 100), (200, 150))).save(root / "weak.png")
    for name, kind in (("faint", FAINT), ("thing", THING), ("folded", FOLDED), ("unsure", UNSURE)):
        photograph((patch(kind, 100), (200, 150))).save(root / f"{name}.png")
    photograph((patch(FACE, 60), (50, 50)), (patch(FACE, 100), (300, 200))).save(root / "two.png")
    photograph((patch(FACE, 20), (200, 150))).save(root / "small.png")
    photograph().save(root / "nobody.png")
    return root
