from __future__ import annotations

import json

import pytest
import torch
from PIL import Image


@pytest.fixture
def photographs(tmp_path):
    folder = tmp_path / "photographs"
    folder.mkdir()
    Image.new("RGB", (40, 30), (9, 200, 9)).save(folder / "one.png")
    (folder / "torn.jpg").write_bytes(b"not an image")
    (tmp_path / "boxes.csv").write_text("path,left,top,right,bottom\none.png,0,0,20,20\ntorn.jpg,0,0,9,9\n")
    (tmp_path / "weights.pth").touch()
    return folder


def test_a_table_by_reason_and_exit_code_1_for_what_has_no_crop(photographs, dakit, tmp_path):
    arguments = ("prepare", "faces", photographs, "crops", "--boxes", "boxes.csv", "--weights", "weights.pth")
    code, out, err = dakit(*arguments)
    assert code == 1
    assert "box by hand" in out
    assert "1 of 2 images have a crop" in out
    assert "without a crop: torn.jpg" in err
    with Image.open(tmp_path / "crops" / "one.png") as crop:
        assert crop.size == (256, 256)
    code, out, _ = dakit(*arguments, "--json")
    assert code == 1
    assert [(row["path"], row["crop"]) for row in json.loads(out)["images"]] == [
        ("one.png", "one.png"),
        ("torn.jpg", ""),
    ]


def test_a_sheet_of_the_doubtful_is_written_on_request(photographs, dakit, tmp_path):
    arguments = ("prepare", "faces", photographs, "crops", "--boxes", "boxes.csv", "--weights", "weights.pth")
    code, out, _ = dakit(*arguments, "--review", "review.png")
    assert code == 1  # torn.jpg
    assert "0 doubtful faces; a sheet of 0: review.png" in out
    first = (tmp_path / "review.png").read_bytes()
    assert dakit(*arguments, "--review", "review.png")[0] == 1
    assert (tmp_path / "review.png").read_bytes() == first
    assert json.loads(dakit(*arguments, "--json")[1])["doubtful"] == 0


def test_crops_of_another_way_to_look_are_not_mixed_in(photographs, dakit, tmp_path):
    arguments = ("prepare", "faces", photographs, "crops", "--boxes", "boxes.csv", "--weights", "weights.pth")
    assert dakit(*arguments)[0] == 1
    code, _, err = dakit(*arguments, "--turned")
    assert code == 2
    assert "crops: its crops were made with other settings (turned False); --overwrite makes them anew" in err
    assert dakit(*arguments, "--turned", "--overwrite")[0] == 1


def test_no_download_without_asking(photographs, dakit, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    code, _, err = dakit("prepare", "faces", photographs, "crops")
    assert code == 2
    assert "--weights" in err
    assert "--download" in err
    assert not (tmp_path / "crops").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere", "crops"], "nowhere: there is no such folder"),
        (["photographs", "boxes.csv"], "is not a folder"),
        (["photographs", "crops", "--boxes", "none.csv"], "--boxes none.csv"),
        (["photographs", "crops", "--device", "tpu"], "expected one of auto, cpu, cuda"),
        (["photographs", "crops", "--weights", "weights.pth"], "weights weights.pth"),
        (["photographs", "crops", "--review", "crops/sheet.png"], "--review crops/sheet.png: there is no folder crops"),
        (["photographs", "crops", "--review", "photographs/sheet.png"], "lies in photographs"),
        (["photographs", "crops", "--review", "photographs/one.png"], "lies in photographs"),
        (["photographs", "crops", "--review", "boxes.csv"], "expected the name of a PNG file"),
    ],
)
def test_mistakes(photographs, dakit, arguments, said):
    code, _, err = dakit("prepare", "faces", *arguments)
    assert code == 2
    assert said in err
