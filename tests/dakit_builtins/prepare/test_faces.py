from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dakit.errors import DakitError
from dakit_builtins.prepare.faces import (
    Cropping,
    crop_faces,
    load_detector,
    read_boxes,
    stance,
    summary,
    weights_file,
)
from patches import (
    LYING,
    UPRIGHT,
    WEAK,
    PatchDetector,
    cut,
    patch,
    photograph,
)
from tiny import Interruption, Unplug

WEIGHTS = Path(__file__).parents[3].parent / "shared" / "data" / "weights" / "yunet_final.pth"
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
    rows = crop_faces(photographs, target, cropping=Cropping(size=64, turned=True), weights=WEIGHTS, workers=2)
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
        "nobody.png": "no face when looked at again",
        "small.png": "the face is too small",
        "torn.jpg": "cannot be read as an image",
        "two.png": "the largest of several",
    }
    with open(target / "faces.csv", newline="") as file:
        written = list(csv.DictReader(file))
    assert [row["path"] for row in written] == list(rows)
    assert {row["crop"] for row in written if row["crop"]} == {
        path.relative_to(target).as_posix() for path in target.rglob("*.png")
    }
    assert (rows["two.png"].faces, rows["nobody.png"].crop) == (2, "")


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
    monkeypatch.setattr(
        "dakit_builtins.prepare.faces.load_detector", lambda *_: pytest.fail("nothing is to be looked for")
    )
    again = crop_faces(photographs, target, cropping=Cropping(size=64, turned=True), weights=WEIGHTS)
    assert again == list(rows.values())


def stands(crop: Path) -> bool:
    """Red above, blue below."""
    with Image.open(crop) as image:
        above, below = image.getpixel((32, 20)), image.getpixel((32, 44))
    assert {above[0] > 100, below[0] > 100} == {True, False}, "there is no patch in the middle"
    return above[0] > 100


HEAD = "the eyes are not above the mouth"


def test_upright_first_and_nothing_is_turned_unasked(album, tmp_path):
    rows = cut(album, tmp_path / "crops")
    assert {path: row.reason.split(":")[0] for path, row in rows.items()} == {
        "a/by_exif.png": "found",
        "a/lying.png": "no face found",
        "a/on_its_head.png": HEAD,
        "a/upright.png": "found",
        "both.png": "one of several",
        "faint.png": "no face when looked at again",
        "half_seen.png": HEAD,
        "folded.png": HEAD,
        "nobody.png": "no face found",
        "small.png": "the face is too small",
        "thing.png": "found",
        "two.png": "the largest of several",
        "unsure.png": "no face when looked at again",
        "weak.png": "found",
    }
    assert rows["a/on_its_head.png"].upright == pytest.approx(-12.9, abs=0.05)  # log(.96 / .04) - log(1e7)
    assert rows["a/upright.png"].upright == pytest.approx(12.9, abs=0.05)
    assert (rows["thing.png"].score, rows["thing.png"].upright, rows["nobody.png"].score) == (0.97, 0, "")
    assert {path for path, row in rows.items() if row.crop} == {
        path.relative_to(tmp_path / "crops").with_suffix(".png").as_posix()
        for path in (tmp_path / "crops").rglob("*.png")
    }
    assert stands(tmp_path / "crops" / "a" / "upright.png")
    assert stands(tmp_path / "crops" / "a" / "by_exif.png")
    assert {row.turned for row in rows.values()} == {0}
    assert rows["small.png"].reason == "the face is too small: 20 pixels wide, below 32"
    assert summary(rows.values())[HEAD] == 3


def test_beside_a_face_on_its_head_only_a_sure_one_is_taken(album, tmp_path):
    rows = cut(album, tmp_path / "crops")
    assert (rows["both.png"][2:6], rows["both.png"].score, rows["both.png"].faces) == ((400, 300, 440, 340), 1, 2)
    assert stands(tmp_path / "crops" / "both.png")
    assert (rows["half_seen.png"][2:6], rows["half_seen.png"].crop) == ((100, 100, 200, 200), "")


def test_a_turn_is_made_when_asked_for_and_where_nothing_stands(album, tmp_path):
    rows = cut(album, tmp_path / "crops", turned=True)
    turned = {path: row for path, row in rows.items() if row.turned}
    assert {path: (row.reason, row.turned, row.tilt, row.doubt) for path, row in turned.items() if row.crop} == {
        "a/lying.png": ("found after a turn by 270 degrees", 270, 0, "turned by 270"),
        "a/on_its_head.png": ("found after a turn by 180 degrees", 180, 0, "turned by 180"),
        "half_seen.png": ("found after a turn by 180 degrees", 180, 0, "turned by 180"),
    }
    # 640 x 480 with a patch at (200, 150), (300, 250): by 180 degrees (x, y) -> (640 - x, 480 - y), by 90 (y, 640 - x)
    assert turned["a/on_its_head.png"][2:6] == (340, 230, 440, 330)
    assert turned["a/lying.png"][2:6] == (150, 340, 250, 440)
    for path in turned:
        assert stands(tmp_path / "crops" / rows[path].crop)
    plain = cut(album, tmp_path / "plain")
    assert {path for path in rows if rows[path] != plain[path]} == set(turned)


def test_a_face_that_lies_is_righted_first_where_turns_are_asked_for(tmp_path, stand_in):
    (tmp_path / "in").mkdir()
    photograph((patch(LYING, 100, 90), (200, 150))).save(tmp_path / "in" / "one.png")
    as_given = cut(tmp_path / "in", tmp_path / "as_given")["one.png"]
    righted = cut(tmp_path / "in", tmp_path / "righted", turned=True)["one.png"]
    assert (as_given.turned, as_given.tilt, as_given.score) == (0, -90, 0.999)
    assert as_given.doubt == "leans by 90 degrees"
    assert (righted.turned, righted.tilt, righted.score) == (270, 0, 1.0)
    assert as_given[2:6] == righted[2:6] == (200, 150, 300, 250)
    assert stands(tmp_path / "as_given" / "one.png")
    assert stands(tmp_path / "righted" / "one.png")


def test_every_doubt_is_in_the_csv(album, tmp_path):
    cut(album, tmp_path / "crops")
    with open(tmp_path / "crops" / "faces.csv", newline="") as file:
        doubts = {row["path"]: row["doubt"] for row in csv.DictReader(file)}
    assert {path: doubt for path, doubt in doubts.items() if doubt} == {
        "a/on_its_head.png": "no crop: the eyes are not above the mouth (-12.9)",
        "both.png": "2 faces",
        "half_seen.png": "no crop: the eyes are not above the mouth (-12.9)",
        "faint.png": "no crop: no face when looked at again (+1.3)",  # log(.6 / .4) - log(.3 / .7)
        "folded.png": "no crop: the eyes are not above the mouth (+13.9)",
        "thing.png": "hardly surer upright than on its head (+0.0); score 0.9700",
        "two.png": "2 faces",
        "unsure.png": "no crop: no face when looked at again (+0.0)",
        "weak.png": "score 0.8000",
    }


def test_the_lowest_score_is_the_users(album, tmp_path):
    rows = cut(album, tmp_path / "crops", score=0.98)
    assert rows["thing.png"].reason == rows["weak.png"].reason == "no face found"
    assert rows["a/upright.png"].reason == "found"


def test_the_stance_is_a_difference_of_log_odds(stand_in):
    corners = np.array([complex(200 + 100 * x, 150 + 100 * y) for x, y in UPRIGHT])
    for turned, sign in ((0, 1), (180, -1)):
        image = photograph((patch(WEAK, 100, turned), (200, 150)))
        assert stance(image, corners, PatchDetector()) == pytest.approx(sign * np.log(0.8 / 0.2 / (0.1 / 0.9)))
    assert stance(photograph(), corners, PatchDetector()) == 0


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


@pytest.mark.parametrize("overwrite", [False, True])
def test_the_crop_of_an_image_that_was_removed_goes_too(tmp_path, overwrite):
    boxes = patterns(tmp_path / "in", 3)
    given = {"cropping": Cropping(size=16), "weights": tmp_path / "none"}
    crop_faces(tmp_path / "in", tmp_path / "out", **given, boxes=boxes)
    (tmp_path / "out" / "mine.png").touch()
    (tmp_path / "in" / "1.png").unlink()
    del boxes["1.png"]
    rows = crop_faces(tmp_path / "in", tmp_path / "out", **given, boxes=boxes, overwrite=overwrite)
    assert [row.path for row in rows] == ["0.png", "2.png"]
    assert {path.name for path in (tmp_path / "out").glob("*.png")} == {"0.png", "2.png", "mine.png"}


def test_other_settings_and_foreign_folders_need_overwrite(tmp_path):
    boxes = patterns(tmp_path / "in", 1)
    given = {"weights": tmp_path / "none", "boxes": boxes}
    crop_faces(tmp_path / "in", tmp_path / "out", cropping=Cropping(size=16), **given)
    with pytest.raises(DakitError, match=r"other settings \(size 16\)"):
        crop_faces(tmp_path / "in", tmp_path / "out", cropping=Cropping(size=20), **given)
    crop_faces(tmp_path / "in", tmp_path / "out", cropping=Cropping(size=20), **given, overwrite=True)
    assert pixels(tmp_path / "out" / "0.png").shape == (20, 20, 3)
    journal = tmp_path / "out" / ".faces.jsonl"
    first, *rest = journal.read_text().splitlines(keepends=True)
    old = {key: value for key, value in json.loads(first).items() if key not in ("version", "turned")}
    journal.write_text(json.dumps(old) + "\n" + "".join(rest))  # as the first version wrote it
    with pytest.raises(DakitError, match="by another version of dakit"):
        crop_faces(tmp_path / "in", tmp_path / "out", cropping=Cropping(size=20), **given)
    assert json.loads(journal.read_text().splitlines()[0]) == old
    crop_faces(tmp_path / "in", tmp_path / "out", cropping=Cropping(size=20), **given, overwrite=True)
    assert json.loads(journal.read_text().splitlines()[0]) == {"version": 2, **old, "turned": False}
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
