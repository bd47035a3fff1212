from __future__ import annotations

import os
from pathlib import Path

import pytest

from dakit.data.files import existing_folder, image_files, number_labels
from dakit.errors import DakitError


# ------------------------------------------------------------------------------------- existing_folder
def test_a_folder_that_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACES", str(tmp_path))
    (tmp_path / "a").mkdir()
    assert existing_folder(str(tmp_path / "a"), "faces") == tmp_path / "a"
    assert existing_folder("$FACES/a", "faces") == tmp_path / "a"
    assert existing_folder("${FACES}/a", "faces") == tmp_path / "a"


def test_one_that_is_not_there_is_told_with_what_belongs_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOWHERE", raising=False)
    (tmp_path / "file").write_text("")
    for place in ("none", "file"):
        with pytest.raises(DakitError) as caught:
            existing_folder(str(tmp_path / place), "faces by class")
        assert str(caught.value) == f"{tmp_path / place}: there is no such folder; expected faces by class"
    for given in ("$NOWHERE/faces", "${NOWHERE}/faces"):
        with pytest.raises(DakitError, match="the environment variable NOWHERE is not set; expected faces by class"):
            existing_folder(given, "faces by class")


# ----------------------------------------------------------------------------------------- image_files
def test_images_are_found_at_every_depth_in_sorted_order_and_nothing_else(tmp_path: Path) -> None:
    there = ["b.jpg", "a/z.PNG", "a/b/c.jpeg", "a/b/d.gif", "e.bmp", "f.webp", "g.tif", "h.tiff", "i.ppm", "j.pgm"]
    others = ["notes.txt", "a/labels.csv", "jpg", "a/.hidden.jpg", ".cache/x.jpg", "a/.git/y.png", "k.jpg.part"]
    for name in there + others:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert image_files(tmp_path) == sorted(tmp_path / name for name in there)
    assert image_files(tmp_path / "a" / "b") == [tmp_path / "a" / "b" / name for name in ("c.jpeg", "d.gif")]


def test_a_linked_file_is_found_and_a_linked_folder_passed_over(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
    (tmp_path / "a" / "x.jpg").write_bytes(b"")
    (tmp_path / "b" / "y.jpg").symlink_to(tmp_path / "a" / "x.jpg")
    (tmp_path / "b" / "folder").symlink_to(tmp_path / "a")
    assert image_files(tmp_path / "b") == [tmp_path / "b" / "y.jpg"]


def test_a_folder_that_cannot_be_listed_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(place: object) -> None:
        raise PermissionError(13, "Permission denied", str(place))

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DakitError, match=f"{tmp_path}: cannot be listed: Permission denied"):
        image_files(tmp_path)


# --------------------------------------------------------------------------------------- number_labels
def test_labels_count_the_classes_in_sorted_order_or_in_the_recipes() -> None:
    names = ["HA", "AN", "SA", "AN"]
    assert number_labels(names, None, (), "root") == ([0, 1, 2, 3], [1, 0, 2, 0], ("AN", "HA", "SA"))
    assert number_labels(names, ["SA", "FE", "AN", "HA"], (), "root") == (
        [0, 1, 2, 3],
        [3, 2, 0, 2],
        ("SA", "FE", "AN", "HA"),
    )


def test_what_is_ignored_is_not_kept_and_what_has_no_name_no_label() -> None:
    names = ["HA", "contempt", "", "AN"]
    assert number_labels(names, None, ["contempt"], "root") == ([0, 2, 3], [1, -1, 0], ("AN", "HA"))
    assert number_labels(["", ""], None, (), "root") == ([0, 1], [-1, -1], ())
    assert number_labels(["", ""], ["AN", "HA"], (), "root") == ([0, 1], [-1, -1], ())


def test_nothing_kept_and_names_that_are_no_class_are_told() -> None:
    with pytest.raises(DakitError, match=r"^root: holds no images$"):
        number_labels([], None, (), "root")
    with pytest.raises(DakitError, match=r"^root: holds no images besides those to ignore: \['HA'\]$"):
        number_labels(["HA", "HA"], None, ["HA"], "root")
    with pytest.raises(DakitError) as caught:
        number_labels(["SU", "HA", "FE", "SU", ""], ["AN", "HA"], (), "root")
    assert str(caught.value) == (
        'root: "FE" (1 images), "SU" (2 images): not among the classes AN, HA; list it there or in `ignore`'
    )
