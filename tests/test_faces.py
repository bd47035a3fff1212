from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dakit.errors import DakitError
from dakit.faces import Cropping, crop_faces, load_detector, read_boxes, weights_file
from tiny import Interruption, Unplug

WEIGHTS = Path(__file__).parents[1].parent / "shared" / "data" / "weights" / "yunet_final.pth"
NEEDS_WEIGHTS = pytest.mark.skipif(not WEIGHTS.is_file(), reason="YuNet's weights do not lie beside the checkout")


def astronaut() -> Image.Image:
    """512 x 512 pixels; her face is about 90 x 120 around (225, 120)."""
    data = pytest.importorskip("skimage.data", reason="scikit-image brings the photograph")
    return Image.fromarray(data.astronaut())


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """One face in many guises, in two class folders."""
    root = tmp_path_factory.mktemp("photographs")
    face = astronaut()
    (root / "a").mkdir()
    face.save(root / "a" / "upright.jpg", quality=95)
    face.rotate(180).save(root / "a" / "on_her_head.png")
    face.rotate(90, expand=True).save(root / "a" / "lying.png")
    face.rotate(20, Image.Resampling.BICUBIC).save(root / "a" / "tilted.png")
    exif = Image.Exif()
    exif[0x112] = 6  # shown after a turn by 90 degrees clockwise
    face.rotate(90, expand=True).save(root / "a" / "by_exif.jpg", exif=exif, quality=95)
    two = Image.new("RGB", (800, 512))
    two.paste(face.resize((256, 256)), (520, 100))
    two.paste(face, (0, 0))
    two.save(root / "two.png")
    small = Image.new("RGB", (800, 600), (90, 90, 90))
    small.paste(face.resize((130, 130)), (300, 300))
    small.save(root / "small.png")
    face.crop((300, 200, 512, 512)).save(root / "nobody.png")
    (root / "torn.jpg").write_bytes((root / "a" / "upright.jpg").read_bytes()[:3000])
    return root


@pytest.fixture(scope="module")
def cropped(photographs, tmp_path_factory):
    """The rows and the folder of crops."""
    target = tmp_path_factory.mktemp("crops")
    rows = crop_faces(photographs, target, cropping=Cropping(size=64), weights=WEIGHTS, workers=2)
    return {row.path: row for row in rows}, target


@NEEDS_WEIGHTS
def test_every_image_ends_in_a_row(cropped):
    rows, target = cropped
    assert list(rows) == sorted(rows)
    assert {path: row.reason.split(":")[0] for path, row in rows.items()} == {
        "a/by_exif.jpg": "found",
        "a/lying.png": "found after a turn by 270 degrees",
        "a/on_her_head.png": "found after a turn by 180 degrees",
        "a/tilted.png": "found",
        "a/upright.jpg": "found",
        "nobody.png": "no face found",
        "small.png": "the face is 23 pixels wide, below 32",
        "torn.jpg": "cannot be read as an image",
        "two.png": "the largest of several",
    }
    with open(target / "faces.csv", newline="") as file:
        written = list(csv.DictReader(file))
    assert [row["path"] for row in written] == list(rows)
    assert {row["crop"] for row in written if row["crop"]} == {
        path.relative_to(target).as_posix() for path in target.rglob("*.png")
    }
    assert (rows["two.png"].faces, rows["nobody.png"].score) == (2, "")


@NEEDS_WEIGHTS
def test_the_box_is_in_pixels_of_the_image_as_it_is_shown(cropped):
    rows, _ = cropped
    expected = (178, 59, 271, 178)
    for path in ("a/upright.jpg", "a/by_exif.jpg", "two.png"):
        assert np.abs(np.subtract(rows[path][2:6], expected)).max() < 3, path
    turned = (512 - 271, 512 - 178, 512 - 178, 512 - 59)  # point (x, y) -> (512 - x, 512 - y)
    assert np.abs(np.subtract(rows["a/on_her_head.png"][2:6], (turned[0], turned[1], 512 - 178, turned[3]))).max() < 3
    lying = (59, 512 - 271, 178, 512 - 178)  # anticlockwise: (x, y) -> (y, 512 - x)
    assert np.abs(np.subtract(rows["a/lying.png"][2:6], lying)).max() < 3


@NEEDS_WEIGHTS
def test_alignment_brings_every_guise_to_the_same_picture(cropped):
    _, target = cropped
    grey = {name: pixels(target / name).mean(2) for name in (
        "a/upright.png", "a/on_her_head.png", "a/lying.png", "a/tilted.png", "a/by_exif.png", "two.png")}  # fmt: skip
    middle = np.s_[16:56, 12:52]
    for name, image in grey.items():
        likeness = np.corrcoef(image[middle].ravel(), grey["a/upright.png"][middle].ravel())[0, 1]
        assert likeness > 0.8, name
    eyes = grey["a/upright.png"][24:34, 12:52].mean(), grey["a/upright.png"][36:42, 12:52].mean()
    assert eyes[0] < eyes[1]  # the row of the eyes is darker than that of the cheeks


@NEEDS_WEIGHTS
def test_a_second_call_looks_at_nothing_again_but_boxes(photographs, cropped, monkeypatch):
    rows, target = cropped
    monkeypatch.setattr("dakit.faces.load_detector", lambda *_: pytest.fail("nothing is to be looked for"))
    again = crop_faces(photographs, target, cropping=Cropping(size=64), weights=WEIGHTS)
    assert again == list(rows.values())


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def patterns(root: Path, count: int = 6) -> dict[str, tuple[float, float, float, float]]:
    """Noise of 40 x 30 pixels, and a box by hand for each: no detector is needed."""
    root.mkdir()
    for i in range(count):
        noise = np.random.default_rng(i).integers(0, 255, (30, 40, 3), dtype=np.uint8)
        Image.fromarray(noise).save(root / f"{i}.png")
    return {f"{i}.png": (10.0, 5.0, 30.0, 25.0) for i in range(count)}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_box_by_hand_is_cut_to_the_pixel(tmp_path):
    boxes = patterns(tmp_path / "in", 1)
    (row,) = crop_faces(
        tmp_path / "in", tmp_path / "out", cropping=Cropping(size=20), weights=tmp_path / "none", boxes=boxes
    )
    assert row.reason == "box by hand"
    assert row[2:6] == (10.0, 5.0, 30.0, 25.0)
    crop, whole = pixels(tmp_path / "out" / "0.png"), pixels(tmp_path / "in" / "0.png")
    assert np.abs(crop.astype(int) - whole[5:25, 10:30]).max() <= 1  # rounding of the transform


def test_killed_and_called_again_it_ends_the_same(tmp_path):
    boxes = patterns(tmp_path / "in")
    given = {"cropping": Cropping(size=16), "weights": tmp_path / "none", "boxes": boxes}
    whole = crop_faces(tmp_path / "in", tmp_path / "whole", **given)
    with pytest.raises(Interruption):
        crop_faces(tmp_path / "in", tmp_path / "cut", **given, observers=[Unplug(3)])
    assert not (tmp_path / "cut" / "faces.csv").exists()
    with open(tmp_path / "cut" / ".faces.jsonl", "a") as journal:
        journal.write('["4.png", [1')  # torn in the middle of a line
    (tmp_path / "cut" / "1.png").unlink()
    assert crop_faces(tmp_path / "in", tmp_path / "cut", **given, workers=2) == whole
    for name, content in contents(tmp_path / "whole").items():
        if name != ".faces.jsonl":
            assert content == contents(tmp_path / "cut")[name], name


def test_what_changed_is_done_anew(tmp_path):
    boxes = patterns(tmp_path / "in")
    given = {"cropping": Cropping(size=16), "weights": tmp_path / "none"}
    crop_faces(tmp_path / "in", tmp_path / "out", **given, boxes=boxes)
    before = contents(tmp_path / "out")
    boxes["2.png"] = (0.0, 0.0, 20.0, 20.0)
    crop_faces(tmp_path / "in", tmp_path / "out", **given, boxes=boxes)
    after = contents(tmp_path / "out")
    assert {name for name in before if before[name] != after[name]} == {"2.png", "faces.csv", ".faces.jsonl"}


def test_other_settings_and_foreign_folders_need_overwrite(tmp_path):
    boxes = patterns(tmp_path / "in", 1)
    given = {"weights": tmp_path / "none", "boxes": boxes}
    crop_faces(tmp_path / "in", tmp_path / "out", cropping=Cropping(size=16), **given)
    with pytest.raises(DakitError, match=r"other settings \(size 16\)"):
        crop_faces(tmp_path / "in", tmp_path / "out", cropping=Cropping(size=20), **given)
    crop_faces(tmp_path / "in", tmp_path / "out", cropping=Cropping(size=20), **given, overwrite=True)
    assert pixels(tmp_path / "out" / "0.png").shape == (20, 20, 3)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine.png").touch()
    with pytest.raises(DakitError, match="is not empty"):
        crop_faces(tmp_path / "in", tmp_path / "other", cropping=Cropping(), **given)
    with pytest.raises(DakitError, match="lies in"):
        crop_faces(tmp_path / "in", tmp_path / "in" / "crops", cropping=Cropping(), **given)


def test_two_images_of_one_name_have_two_crops(tmp_path):
    boxes = patterns(tmp_path / "in", 1)
    Image.fromarray(pixels(tmp_path / "in" / "0.png")).save(tmp_path / "in" / "0.bmp")
    boxes["0.bmp"] = boxes["0.png"]
    rows = crop_faces(tmp_path / "in", tmp_path / "out", cropping=Cropping(), weights=tmp_path / "none", boxes=boxes)
    assert [row.crop for row in rows] == ["0.bmp.png", "0.png.png"]


def test_boxes_name_every_wrong_line(tmp_path):
    file = tmp_path / "boxes.csv"
    file.write_text("path,left,top,right,bottom\na.png,1,2,3,4\nb.png,5,2,3,4\nc.png,x,2,3,4\na.png,1,2,3,4\n")
    with pytest.raises(DakitError) as caught:
        read_boxes(file)
    assert [f":{line}:" in str(caught.value) for line in (2, 3, 4, 5)] == [False, True, True, True]
    file.write_text("path,left,top\n")
    with pytest.raises(DakitError, match="no column right, bottom"):
        read_boxes(file)
    file.write_text("path,left,top,right,bottom\na.png,1,2,3,4\n")
    assert read_boxes(file) == {"a.png": (1.0, 2.0, 3.0, 4.0)}


def test_weights_are_never_fetched_and_must_be_yunets(tmp_path):
    with pytest.raises(DakitError, match="are not there"):
        weights_file(tmp_path / "none.pth")
    before = torch.hub.get_dir()
    torch.save({"layer": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(DakitError, match="are not YuNet's"):
        load_detector(tmp_path / "other.pth", 0.5, torch.device("cpu"))
    assert torch.hub.get_dir() == before
