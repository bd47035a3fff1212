from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from dakit.data.sets import FileImages
from dakit.errors import DakitError
from dakit.interfaces import Folder
from dakit_builtins.datasets.bu3dfe import bu3dfe
from dakit_builtins.datasets.emotionet import emotionet
from dakit_builtins.datasets.sfew import sfew
from dakit_builtins.datasets.web_faces import web_faces
from layouts import write_bu3dfe

SEVEN = ["AN", "DI", "FE", "HA", "NE", "SA", "SU"]
SIX = ["AN", "DI", "FE", "HA", "SA", "SU"]


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAKIT_CACHE", str(tmp_path / "cache"))


def counts(images: FileImages) -> dict[str, int]:
    return {name: list(images.labels).count(k) for k, name in enumerate(images.classes)}


# ------------------------------------------------------------------------------------------- bu3dfe


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
