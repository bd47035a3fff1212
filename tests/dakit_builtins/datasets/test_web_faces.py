from __future__ import annotations

from pathlib import Path

import pytest

from dakit.data.sets import FileImages
from dakit.interfaces import Folder
from dakit_builtins.datasets.web_faces import web_faces
from layouts import write_celeba, write_lfw

SEVEN = ["AN", "DI", "FE", "HA", "NE", "SA", "SU"]
SIX = ["AN", "DI", "FE", "HA", "SA", "SU"]


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAKIT_CACHE", str(tmp_path / "cache"))


def counts(images: FileImages) -> dict[str, int]:
    return {name: list(images.labels).count(k) for k, name in enumerate(images.classes)}


# ------------------------------------------------------------------------------------------- bu3dfe


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
