from __future__ import annotations

from pathlib import Path

import pytest

from dakit.data.sets import FileImages
from dakit.interfaces import Folder
from dakit_builtins.datasets.emotionet import emotionet
from layouts import EXPRESSIONS, write_emotionet

SEVEN = ["AN", "DI", "FE", "HA", "NE", "SA", "SU"]
SIX = ["AN", "DI", "FE", "HA", "SA", "SU"]


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAKIT_CACHE", str(tmp_path / "cache"))


def counts(images: FileImages) -> dict[str, int]:
    return {name: list(images.labels).count(k) for k, name in enumerate(images.classes)}


# ------------------------------------------------------------------------------------------- bu3dfe


def test_emotionet_has_six_classes_and_own_groups(tmp_path: Path) -> None:
    root = write_emotionet(tmp_path / "emotionet", per_class=2, size=8)
    for classes in (SIX, None):
        images = emotionet(8, classes, root=Folder(root))
        assert counts(images) == dict.fromkeys(SIX, 2)
        assert len(set(images.groups)) == 12
        assert all(EXPRESSIONS[SIX[k]] == p.parent.name for p, k in zip(images.paths, images.labels, strict=True))


# ---------------------------------------------------------------------------------------- web_faces
