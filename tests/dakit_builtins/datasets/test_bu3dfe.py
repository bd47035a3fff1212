from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from dakit.data.sets import FileImages
from dakit.errors import DakitError
from dakit.interfaces import Folder
from dakit_builtins.datasets.bu3dfe import bu3dfe
from layouts import write_bu3dfe

SEVEN = ["AN", "DI", "FE", "HA", "NE", "SA", "SU"]
SIX = ["AN", "DI", "FE", "HA", "SA", "SU"]


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAKIT_CACHE", str(tmp_path / "cache"))


def counts(images: FileImages) -> dict[str, int]:
    return {name: list(images.labels).count(k) for k, name in enumerate(images.classes)}


# ------------------------------------------------------------------------------------------- bu3dfe


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bu3dfe(tmp_path_factory.mktemp("lab"), people=3, poses=4, size=8, levels=(1, 3, 4))


def test_bu3dfe_counts_as_the_paper_does(lab: Path) -> None:
    images = bu3dfe(8, SEVEN, root=Folder(lab))
    people, poses, levels = 3, 4, 2
    assert len(images) == people * 6 * poses * levels + people * poses
    assert counts(images) == {name: people * poses * (1 if name == "NE" else levels) for name in SEVEN}
    assert images.parts is None


def test_bu3dfe_reads_label_and_person_from_the_name(lab: Path) -> None:
    images = bu3dfe(8, SEVEN, root=Folder(lab))
    for path, label, group in zip(images.paths, images.labels, images.groups, strict=True):
        assert path.name[6:8] == SEVEN[label]
        assert path.name[:5] == path.parent.name == group
    assert set(images.groups) == {"F0001", "M0001", "F0002"}


def test_bu3dfe_keeps_the_order_of_the_recipes_classes(lab: Path) -> None:
    order = SEVEN[::-1]
    images = bu3dfe(8, order, root=Folder(lab))
    assert images.classes == tuple(order)
    assert all(path.name[6:8] == order[label] for path, label in zip(images.paths, images.labels, strict=True))


def test_bu3dfe_chooses_levels_and_angles(lab: Path) -> None:
    # the four poses of the tree are pan 0, 15, -15, 45 at tilt 0
    images = bu3dfe(8, None, root=Folder(lab), levels=[1], pans=[-15, 45], tilts=[0])
    assert len(images) == 3 * 7 * 1 * 2
    assert {path.stem.partition("_p")[2] for path in images.paths} == {"-15_t+0", "+45_t+0"}
    assert {path.name[8:10] for path in images.paths} == {"00", "01"}


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"levels": [2]}, r"no view has the level 2; there are: \[1, 3, 4\]"),
        ({"pans": [0, 7]}, r"no view has the pan 7; there are: \[-15, 0, 15, 45\]"),
        ({"tilts": [30]}, r"no view has the tilt 30; there are: \[0\]"),
    ],
)
def test_bu3dfe_names_a_level_or_angle_that_no_view_has(lab: Path, asked: dict[str, list[int]], message: str) -> None:
    with pytest.raises(DakitError, match=message):
        bu3dfe(8, None, root=Folder(lab), **asked)


def test_bu3dfe_with_six_classes_must_ignore_the_seventh(lab: Path) -> None:
    with pytest.raises(DakitError, match=r'"NE" \(12 images\): not among the classes AN, DI, FE, HA, SA, SU'):
        bu3dfe(8, SIX, root=Folder(lab))
    images = bu3dfe(8, SIX, root=Folder(lab), ignore=["NE"])
    assert counts(images) == dict.fromkeys(SIX, 3 * 4 * 2)


@pytest.mark.parametrize("name", ["F0001_AN03WH_F2D.png", "F0001_AN05WH_p+0_t+0.png", "F0001_NE03WH_p+0_t+0.png"])
def test_bu3dfe_refuses_a_name_that_is_no_view(tmp_path: Path, name: str) -> None:
    root = write_bu3dfe(tmp_path / "lab", people=1, poses=1, size=8)
    shutil.copy(next((root / "F0001").iterdir()), root / "F0001" / name)
    with pytest.raises(DakitError, match=f"1 names are not those of rendered views, such as .*{name[:12]}"):
        bu3dfe(8, None, root=Folder(root))


def test_bu3dfe_needs_no_race_code(tmp_path: Path) -> None:
    root = write_bu3dfe(tmp_path / "lab", people=1, poses=1, size=8)
    for path in list(root.rglob("*.png")):
        path.rename(path.with_name(path.name.replace("WH_", "_")))
    assert len(bu3dfe(8, SEVEN, root=Folder(root))) == 13


# --------------------------------------------------------------------------------------------- sfew
