from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import toys as toys_module
from dakit.cli import main
from dakit.plugins import find_plugins
from dakit.recipe.load import load_recipe
from dakit.recipe.plans import Recipe
from dakit.registry import Registry


@pytest.fixture(autouse=True, scope="session")
def _machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One thread, as the tensors are tiny and the machine may be busy; no trace in the user's own cache, and no
    plugin but dakit's own, whatever is installed.
    """
    torch.set_num_threads(1)
    others = [entry.dist.name for entry in entry_points(group="dakit") if entry.dist and entry.dist.name != "dakit"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DAKIT_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("DAKIT_DISABLE_PLUGINS", ",".join(others))
        yield


@pytest.fixture(autouse=True)
def _seeds() -> None:
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def registry() -> Registry:
    """Every component that is installed."""
    return Registry(find_plugins())


@pytest.fixture(scope="session")
def toys() -> Path:
    """A plugin file with tiny components, see there."""
    return Path(__file__).parent / "toys.py"


@pytest.fixture(scope="session")
def known(toys: Path) -> Registry:
    """The installed components and the toys, found once."""
    return Registry(find_plugins([toys]))


@pytest.fixture
def load(tmp_path: Path, known: Registry) -> Callable[..., Recipe]:
    """Load the toy recipe, or a changed copy of it."""

    def read(
        *overrides: str, profile: str | None = None, registry: Registry | None = None, **replacements: Any
    ) -> Recipe:
        text = toys_module.RECIPE
        for old, new in replacements.get("text", {}).items():
            assert old in text
            text = text.replace(old, new)
        path = tmp_path / "toy.yaml"
        path.write_text(text)
        return load_recipe(path, profile=profile, overrides=overrides, registry=registry or known)

    return read


FACES = """\
recipe: faces
method: cycle
rows: [s2t, cycle]
engine: {device: cpu}
data:
  size: 16
  classes: [AN, DI, FE, HA, NE, SA, SU]
  source: {use: image_folder, root: ROOT/source, fit: squash}
  auxiliary: {use: web_faces, root: [ROOT/web]}
  target: {use: image_folder, root: ROOT/target, split: {folds: 2}}
components:
  network: {use: resnet_cifar, depth: 8, width: 4}
  generator: {use: resnet_generator, blocks: 1, width: 4}
  discriminator: {use: patchgan, width: 4, layers: 1}
stages:
  pretrain: {do: train_classifier, train: source.all, classifier: network, steps: 4, batch_size: 16, lr: 0.01}
  translate:
    do: train_translator
    source: source.all
    target: auxiliary.all
    generator: generator
    discriminator: discriminator
    steps: 2
    batch_size: 4
  synthesise: {do: synthesise, images: source.all, translator: translate.translator}
  adapt:
    do: train_classifier
    train: target.train
    extra: synthesise.images
    init: pretrain.model
    classifier: network
    steps: 4
    batch_size: 16
    lr: 0.01
  evaluate: {do: evaluate, model: adapt.model, test: target.test}
variants:
  s2t: {evaluate.model: pretrain.model}
"""


@pytest.fixture(scope="session")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small image files in ``source``, ``web`` and ``target``, and a finished ``run`` on them; not to be changed."""
    from dakit.pipeline.run import run
    from layouts import EXPRESSIONS, picture

    root = tmp_path_factory.mktemp("faces")
    for name in EXPRESSIONS:
        for domain in ("source", "target"):
            (root / domain / name).mkdir(parents=True)
            for i in range(4):
                face = picture(name, f"{domain}{i}", 20, wild=domain == "target")
                face.resize((24, 20)).save(root / domain / name / f"{i}.png")
    (root / "web").mkdir()
    for i in range(6):
        picture(None, f"web{i}", 20, wild=True).save(root / "web" / f"{i}.jpg")
    (root / "faces.yaml").write_text(FACES.replace("ROOT", str(root)))
    run(load_recipe(root / "faces.yaml"), out=root / "run")
    return root


@pytest.fixture
def dakit(monkeypatch, capsys, tmp_path):
    """Run the command line in this process: (exit code, standard output, standard error)."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["dakit", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            main()
        out, err = capsys.readouterr()
        return int(caught.value.code or 0), out, err

    return call
