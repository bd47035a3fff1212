"""Against a server on loopback, which speaks as much of the hub's protocol as its client asks for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import timm
import torch
import torchvision
from PIL import Image
from safetensors.torch import save

from served import Served, serving

RECIPE = """\
recipe: fetching
method: adapt
engine: {device: cpu}
data:
  size: 64
  photos: {use: manifest, file: ROOT/photos/list.csv, split: {holdout: 0.5}}
components:
  net: {use: timm, arch: test_vit, weights: default}
  large: {use: torchvision, arch: alexnet, weights: default}
  own: {use: timm, arch: resnet10t, weights: ROOT/mine.safetensors}
stages:
  adapt: {do: train_classifier, train: photos.train, classifier: net, steps: 1, batch_size: 2}
  evaluate: {do: evaluate, model: adapt.model, test: photos.test}
variants:
  large: {adapt.classifier: large}
  own: {adapt.classifier: own}
"""
FILE = "/timm/test_vit.r160_in1k/resolve/main/model.safetensors"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    """A recipe in the working directory, empty caches, and a hub that has its weights."""
    (tmp_path / "photos").mkdir()
    for i in range(4):
        Image.fromarray(np.full((64, 64, 3), 60 * i, np.uint8)).save(tmp_path / "photos" / f"{i}.png")
    lines = ["path,label", *(f"{i}.png,{'ab'[i % 2]}" for i in range(4))]
    (tmp_path / "photos" / "list.csv").write_text("\n".join(lines) + "\n")
    (tmp_path / "r.yaml").write_text(RECIPE.replace("ROOT", str(tmp_path)))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    with serving() as served:
        torch.manual_seed(0)
        served.files[FILE] = save(timm.create_model("test_vit").state_dict())
        # What HF_ENDPOINT sets, which the library reads once, when it is imported.
        template = served.address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", served.address)
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr("time.sleep", lambda seconds: None)  # between the client's tries
        yield served


def listed(dakit, *arguments: object) -> list[dict[str, object]]:
    code, out, err = dakit("weights", "r.yaml", "--json", *arguments)
    assert code == 0, err
    return list(json.loads(out))


def test_without_the_flag_nothing_touches_the_network(dakit, hub: Served, tmp_path: Path) -> None:
    found = listed(dakit, "--all-variants")
    assert hub.asked == []
    alexnet = torchvision.models.AlexNet_Weights.DEFAULT.url.rpartition("/")[2]
    size = 4 * sum(value.numel() for value in timm.create_model("test_vit").state_dict().values())
    assert found == [
        {
            "file": "model.safetensors",
            "network": "test_vit.r160_in1k",
            "place": str(tmp_path / "cache" / "models--timm--test_vit.r160_in1k"),
            "there": False,
            "size": size,
            "licence": "apache-2.0",
            "fetched_by": "timm",
            "rows": ["adapt"],
        },
        {
            "file": alexnet,
            "network": "alexnet IMAGENET1K_V1",
            "place": str(tmp_path / "torch" / "hub" / "checkpoints" / alexnet),
            "there": False,
            "size": pytest.approx(244_418_560, rel=1e-3),
            "licence": "",
            "fetched_by": "torchvision",
            "rows": ["large"],
        },
        {
            "file": "mine.safetensors",
            "network": "resnet10t",
            "place": str(tmp_path / "mine.safetensors"),
            "there": False,
            "size": None,
            "licence": "",
            "fetched_by": "",
            "rows": ["own"],
        },
    ]
    code, out, _ = dakit("weights", "r.yaml", "--all-variants")
    assert code == 0
    assert "2 of 3 are not here; --fetch downloads them (timm, torchvision)" in out
    assert "1 must be brought" in out
    code, _, err = dakit("run", "r.yaml", "--out", "run")
    assert code == 2
    assert "nothing is downloaded unasked: ask with --fetch" in " ".join(err.split())
    assert hub.asked == []


def test_whole(dakit, hub: Served, tmp_path: Path) -> None:
    (found,) = listed(dakit, "--fetch")
    place = Path(str(found["place"]))
    assert found["there"] is True
    assert place.read_bytes() == hub.files[FILE]
    assert found["size"] == len(hub.files[FILE])
    assert place.is_relative_to(tmp_path / "cache")
    before = len(hub.asked)
    assert listed(dakit, "--fetch") == [found]
    assert len(hub.asked) == before  # it is here
    code, _, err = dakit("run", "r.yaml", "--out", "run")
    assert code == 0, err
    assert len(hub.asked) == before


def test_broken_off(dakit, hub: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """timm's hub asks for the rest by itself, of what came in whole pieces."""
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 50_000)
    hub.broken = [100_000]
    (found,) = listed(dakit, "--fetch")
    assert Path(str(found["place"])).read_bytes() == hub.files[FILE]
    assert ("GET", FILE, "bytes=100000-") in hub.asked


def test_broken_off_for_good(dakit, hub: Served, tmp_path: Path) -> None:
    hub.broken = [1000] * 20
    code, _, err = dakit("weights", "r.yaml", "--fetch")
    assert code == 2
    assert "the weights of timm/test_vit.r160_in1k cannot be fetched" in err
    assert not list((tmp_path / "cache").rglob("model.safetensors"))
    assert not list((tmp_path / "cache").rglob("*.incomplete"))
    hub.broken = []
    assert listed(dakit, "--fetch")[0]["there"] is True


def test_wrong_checksum(dakit, hub: Served, tmp_path: Path) -> None:
    hub.digests[FILE] = "0" * 64
    code, _, err = dakit("weights", "r.yaml", "--fetch")
    assert code == 2
    assert "another file than expected came" in err
    assert "it was thrown away" in err
    assert not listed(dakit)[0]["there"]
    hub.digests.clear()
    assert listed(dakit, "--fetch")[0]["there"] is True


def test_not_there(dakit, hub: Served) -> None:
    hub.files.clear()
    code, _, err = dakit("weights", "r.yaml", "--fetch")
    assert code == 2
    assert "the weights of timm/test_vit.r160_in1k cannot be fetched: " in err
    asked = {path.rpartition("/")[2] for _, path, _ in hub.asked}
    assert asked == {"model.safetensors", "pytorch_model.bin"}


def test_torchvision_s_file(dakit, hub: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = b"weights" * 1000
    name = "alexnet-owt-7be5be79.pth"
    entry = SimpleNamespace(url=f"{hub.address}/{name}", name="IMAGENET1K_V1", meta={})
    monkeypatch.setattr("torchvision.models.get_model_weights", lambda arch: SimpleNamespace(DEFAULT=entry))
    code, _, err = dakit("weights", "r.yaml", "--variant", "large", "--fetch")
    assert code == 2
    assert f"{name}: cannot be fetched: the server says 404 Not Found" in err
    hub.files[f"/{name}"] = content
    code, _, err = dakit("weights", "r.yaml", "--variant", "large", "--fetch")
    assert code == 2
    assert "another file than expected came: " in err
    monkeypatch.setattr("dakit.training.fetching.HASH_REGEX", _Nothing())
    (found,) = listed(dakit, "--variant", "large", "--fetch")
    assert (found["there"], found["size"]) == (True, len(content))
    assert (tmp_path / "torch" / "hub" / "checkpoints" / name).read_bytes() == content


class _Nothing:
    """Finds no digest in any name."""

    def search(self, name: str) -> None:
        return None


def test_run_fetches_first_and_the_environment_says_where(hub: Served, tmp_path: Path) -> None:
    """In processes of their own, which read HF_ENDPOINT, HF_HOME and HF_HUB_OFFLINE when they start."""
    environment = {**os.environ, "HF_ENDPOINT": hub.address, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "dakit", "run", "r.yaml", "--out", "run", "--fetch"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 2
    assert "cannot be fetched" in done.stderr
    assert hub.asked == []
    del environment["HF_HUB_OFFLINE"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (file,) = (tmp_path / "home" / "hub").rglob("model.safetensors")
    assert file.read_bytes() == hub.files[FILE]
