from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from dakit.data.sets import FileImages
from dakit.errors import DakitError
from dakit.interfaces import Folder
from dakit_builtins.datasets.sfew import sfew
from layouts import EXPRESSIONS, write_sfew

SEVEN = ["AN", "DI", "FE", "HA", "NE", "SA", "SU"]
SIX = ["AN", "DI", "FE", "HA", "SA", "SU"]


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAKIT_CACHE", str(tmp_path / "cache"))


def counts(images: FileImages) -> dict[str, int]:
    return {name: list(images.labels).count(k) for k, name in enumerate(images.classes)}


# ------------------------------------------------------------------------------------------- bu3dfe


def test_sfew_has_two_parts_and_seven_classes(tmp_path: Path) -> None:
    images = sfew(8, SEVEN, root=Folder(write_sfew(tmp_path / "sfew", per_class=3, size=8)))
    assert counts(images) == dict.fromkeys(SEVEN, 6)
    assert images.parts is not None
    for path, label, part in zip(images.paths, images.labels, images.parts, strict=True):
        assert EXPRESSIONS[SEVEN[label]] == path.parent.name
        assert part == path.parent.parent.name
    assert images.parts.count("Set 1") == images.parts.count("Set 2") == 21


def test_sfew_groups_are_films(tmp_path: Path) -> None:
    root = write_sfew(tmp_path / "sfew", per_class=2, size=8)
    odd = root / "Set 1" / "Angry"
    (odd / "AlexEmma_000357920_00000000.png").rename(odd / "untimed_name.png")
    images = sfew(8, SEVEN, root=Folder(root))
    groups = {path.name: group for path, group in zip(images.paths, images.groups, strict=True)}
    assert groups["AlexEmma_000357920_00000000.png"] == "AlexEmma"
    assert groups["HarryPotter_Azkaban_000358920_00000001.png"] == "HarryPotter_Azkaban"
    assert groups["untimed_name.png"] == "untimed_name"


def test_sfew_reads_folders_in_other_spellings(tmp_path: Path) -> None:
    root = write_sfew(tmp_path / "sfew", per_class=1, size=8)
    expected = sfew(8, SEVEN, root=Folder(root))
    for place in list(root.glob("*/*")):
        code = next(code for code, name in EXPRESSIONS.items() if name == place.name)
        place.rename(place.with_name(code.lower() if code < "FE" else place.name.upper()))
    (root / "Set 1").rename(root / "set_1")
    (root / "Set 2").rename(root / "SET2")
    images = sfew(8, SEVEN, root=Folder(root))
    assert images.parts == expected.parts
    assert sorted(zip(images.labels, images.groups, strict=True)) == sorted(
        zip(expected.labels, expected.groups, strict=True)
    )


def test_sfew_needs_both_sets_and_known_classes(tmp_path: Path) -> None:
    root = write_sfew(tmp_path / "sfew", per_class=1, size=8)
    (root / "Set 2" / "Sad").rename(root / "Set 2" / "Contempt")
    with pytest.raises(DakitError, match=r"Contempt: not an expression; expected Angry \(AN\), .*`ignore`"):
        sfew(8, SEVEN, root=Folder(root))
    assert len(sfew(8, SEVEN, root=Folder(root), ignore=["Contempt"])) == 13
    shutil.rmtree(root / "Set 2")
    with pytest.raises(DakitError, match=r'no images in "Set 2"; expected SFEW .*Abhinav Dhall'):
        sfew(8, SEVEN, root=Folder(root))


# ---------------------------------------------------------------------------------------- emotionet
