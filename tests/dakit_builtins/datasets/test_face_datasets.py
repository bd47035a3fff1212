from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from dakit.data.sets import FileImages
from dakit.errors import DakitError
from dakit.interfaces import Folder
from dakit_builtins.datasets.face_datasets import bu3dfe, emotionet, sfew, web_faces
from layouts import EXPRESSIONS, write_bu3dfe, write_celeba, write_emotionet, write_lfw, write_sfew

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
def test_emotionet_has_six_classes_and_own_groups(tmp_path: Path) -> None:
    root = write_emotionet(tmp_path / "emotionet", per_class=2, size=8)
    for classes in (SIX, None):
        images = emotionet(8, classes, root=Folder(root))
        assert counts(images) == dict.fromkeys(SIX, 2)
        assert len(set(images.groups)) == 12
        assert all(EXPRESSIONS[SIX[k]] == p.parent.name for p, k in zip(images.paths, images.labels, strict=True))


# ---------------------------------------------------------------------------------------- web_faces
def test_web_faces_have_no_labels_and_group_people(tmp_path: Path) -> None:
    celeba = write_celeba(tmp_path / "celeba", images=5, size=8)
    lfw = write_lfw(tmp_path / "web", people=3, each=2, size=8)
    images = web_faces(8, SEVEN, root=[Folder(celeba), Folder(lfw)])
    assert images.classes == ()
    assert list(images.labels) == [-1] * 11
    assert [path.parent.name for path in images.paths[:5]] == ["img_align_celeba"] * 5
    assert len(set(images.groups[:5])) == 5
    assert list(images.groups[5:]) == [f"lfw/Person_{p}" for p in "AABBCC"]


def test_web_faces_limit_is_spread_over_all(tmp_path: Path) -> None:
    root = write_celeba(tmp_path / "celeba", images=10, size=8)
    images = web_faces(8, None, root=Folder(root), limit=4)
    # floor(i * 10 / 4) for i = 0..3
    assert [path.stem for path in images.paths] == ["000001", "000003", "000006", "000008"]
    assert len(web_faces(8, None, root=Folder(root), limit=99)) == 10


def test_web_faces_end_where_links_turn_in_circles(tmp_path: Path) -> None:
    root = write_lfw(tmp_path / "web", people=2, each=1, size=8)
    (root / "lfw" / "Person_A" / "again").symlink_to(root, target_is_directory=True)
    assert len(web_faces(8, None, root=Folder(root))) == 2


# ------------------------------------------------------------------------------------- all together
@pytest.mark.parametrize(
    ("factory", "source"),
    [
        (bu3dfe, "Binghamton University"),
        (sfew, "Abhinav Dhall"),
        (emotionet, "Ohio State University"),
        (web_faces, "Chinese University of Hong Kong.*University of Massachusetts"),
    ],
)
def test_missing_data_says_which_folder_layout_and_source(
    factory: Callable[..., FileImages], source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NOWHERE", raising=False)
    with pytest.raises(
        DakitError, match=rf"^\$NOWHERE/x: the environment variable NOWHERE is not set; .*<root>/.*{source}"
    ):
        factory(8, None, root=Folder("$NOWHERE/x"))
    monkeypatch.setenv("NOWHERE", str(tmp_path))
    with pytest.raises(DakitError, match=rf"^{tmp_path}/x: there is no such folder; .*<root>/.*{source}"):
        factory(8, None, root=Folder("${NOWHERE}/x"))
    (tmp_path / "x").mkdir()
    with pytest.raises(DakitError, match="no images"):
        factory(8, None, root=Folder("$NOWHERE/x"))
    docstring = " ".join((factory.__doc__ or "").split())
    assert "Licence:" in docstring
    assert "Layout" in docstring


def test_the_trees_are_the_same_each_time_and_their_classes_can_be_learnt(tmp_path: Path) -> None:
    pixels, labels = [], []
    for copy in ("a", "b"):
        images = bu3dfe(16, SEVEN, root=Folder(write_bu3dfe(tmp_path / copy, people=2, poses=2, size=16)))
        pixels.append(torch.stack([images[i].image for i in range(len(images))]))
        labels = np.array(images.labels)
    assert torch.equal(pixels[0], pixels[1])
    flat = pixels[0].flatten(1).double().numpy()
    distance = np.linalg.norm(flat[:, None] - flat[None], axis=-1) + np.diag(np.full(len(flat), np.inf))
    assert (labels[distance.argmin(1)] == labels).mean() > 0.9
