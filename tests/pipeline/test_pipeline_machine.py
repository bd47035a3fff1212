"""Edits at random, a run after each: the table always equals that of the same recipe in an empty folder, and a run
after no edit does nothing.

What is edited: a parameter of a dataset, a component and a stage; a plugin's file; an image, a label, a group; the
order of the classes; seeds, precision, rows; results are made anew or deleted, whole or in part; and luck that is in no
key (another library, a GPU's order of adding), with the stage that has it made anew.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
from PIL import Image

from dakit.pipeline import run as pipeline
from dakit.pipeline.outcome import Outcome
from dakit.recipe.load import load_recipe

ROWS = ["both", "target_only", "source_only"]

PLUGIN = '''
from pathlib import Path
from typing import ClassVar, NamedTuple

import torch
from torch import nn

from dakit import hookimpl
from dakit.data.sets import FileImages
from dakit.interfaces import Classifier, Context, File, Folder, ImageSet, Prediction, Sample, Spec, Trained
from dakit.training.trainer import trained

CODE = {code}


class Gained(FileImages):
    gain = 1.0

    def __getitem__(self, index):
        image, label, group = super().__getitem__(index)
        return Sample((image.float() * self.gain).to(torch.uint8), label, group)


def gained(size: int, classes, *, root: Folder, gain: float = 1.0):
    files = sorted(root.path.glob("*/*.png"))
    images = Gained(files, [classes.index(file.parent.name) for file in files], None, classes, size=size)
    images.gain = gain
    return images


gained.version = {dataset_version}


class Linear(nn.Module):
    def __init__(self, classes: int, *, scale: float = 1.0) -> None:
        super().__init__()
        self.head = nn.Linear(3, classes)
        self.scale = scale

    def forward(self, images):
        features = images.mean((2, 3)) * self.scale
        return Prediction(self.head(features), features, (images,))


class Made(NamedTuple):
    model: Trained[Classifier]


class FitMeans:
    """Class means, a little noise, half of what it starts from."""

    version: ClassVar[int] = {stage_version}

    def __init__(self, *, classifier: Spec[Classifier], luck: str, noise: float = 0.1) -> None:
        self.classifier, self.luck, self.noise = classifier, luck, noise

    def run(
        self, ctx: Context, *, train: ImageSet, extra: ImageSet | None = None, init: Trained[Classifier] | None = None
    ) -> Made:
        network = self.classifier.build(len(train.classes))
        images = [one[i] for one in (train, extra) if one is not None for i in range(len(one))]
        labels = torch.tensor([image.label for image in images])
        with torch.no_grad():
            x = torch.stack([image.image for image in images]).float() / 127.5 - 1
            features = network(x).features
            means = torch.stack([features[labels == k].sum(0) for k in range(len(train.classes))]) / len(images)
            weight = CODE * means + self.noise * torch.randn(means.shape) + float(Path(self.luck).read_text())
            if init is not None:
                weight = (weight + init.state["head.weight"]) / 2
            if ctx.engine.precision == "bf16":
                weight = weight.bfloat16().float()
            network.head.weight.copy_(weight)
            network.head.bias.copy_(-weight.square().sum(1) / 2)
        return Made(trained(network, self.classifier, train.classes))


@hookimpl
def dakit_datasets():
    return {{"gained": gained}}


@hookimpl
def dakit_classifiers():
    return {{"linear": Linear}}


@hookimpl
def dakit_stages():
    return {{"fit_means": FitMeans}}
'''

RECIPE = """
recipe: machine
method: both
baseline: target_only
seeds: {seeds}
engine: {{device: cpu, precision: {precision}}}
data:
  size: 4
  classes: {classes}
  source: {{use: gained, root: {root}/lab, gain: {gain}}}
  target: {{use: manifest, file: {root}/target.csv, split: {{folds: 2}}}}
components:
  net: {{use: linear, scale: {scale}}}
  pick: {{use: random, neighbours: {neighbours}}}
stages:
  pretrain: {{do: fit_means, train: source.all, classifier: net, noise: {noise}, luck: "{root}/luck"}}
  pick: {{do: select, pool: source.all, anchors: target.train, selector: pick}}
  adapt:
    {{do: fit_means, train: target.train, extra: pick.images, init: pretrain.model, classifier: net,
      luck: "{root}/luck"}}
  evaluate: {{do: evaluate, model: adapt.model, test: target.test}}
variants:
  source_only: {{evaluate.model: pretrain.model}}
  target_only: {{adapt.extra: null}}
"""


class Edits(RuleBasedStateMachine):
    """A recipe, its data and plugin, and one folder of results for all of its runs."""

    @initialize()
    def begin(self) -> None:
        self.home = tempfile.TemporaryDirectory()
        self.root = Path(self.home.name)
        self.values: dict[str, Any] = {
            "seeds": [0], "precision": "fp32", "classes": ["a", "b"], "gain": 1.0, "scale": 1.0, "neighbours": 2,
            "noise": 0.1, "code": 1, "dataset_version": 1, "stage_version": 1, "luck": 0.0,
        }  # fmt: skip
        self.rows = list(ROWS)
        self.target = [("ab"[i % 2], f"person {i // 4}") for i in range(16)]
        for k in "ab":
            (self.root / "lab" / k).mkdir(parents=True)
            for i in range(4):
                self.draw(f"lab/{k}/{i}.png", 40 * i + 90 * (k == "b"))
        (self.root / "real").mkdir()
        for i in range(16):
            self.draw(f"real/{i}.png", 17 * i)
        self.table()

    def draw(self, name: str, seed: int) -> None:
        noise = np.random.default_rng(seed).integers(0, 100, (4, 4, 3))
        Image.fromarray((noise + seed % 150).clip(0, 255).astype(np.uint8)).save(self.root / name)

    def load(self) -> Any:
        lines = [f"real/{i}.png,{label},{group}" for i, (label, group) in enumerate(self.target)]
        (self.root / "target.csv").write_text("\n".join(["path,label,group", *lines]) + "\n")
        (self.root / "plugin.py").write_text(PLUGIN.format_map(self.values))
        (self.root / "luck").write_text(str(self.values["luck"]))
        (self.root / "recipe.yaml").write_text(RECIPE.format(root=self.root, **self.values))
        return load_recipe(self.root / "recipe.yaml", plugins=[self.root / "plugin.py"])

    def table(self, fresh: tuple[str, ...] = ()) -> None:
        """Run, and compare with an empty folder; then run again."""
        outcome = pipeline.run(self.load(), rows=self.rows, out=self.root / "run", fresh=fresh)
        there = plain(self.root / "run")
        assert set(self.rows) <= set(there)
        shutil.rmtree(self.root / "empty", ignore_errors=True)
        anew = pipeline.run(self.load(), rows=list(outcome.summaries), out=self.root / "empty")
        assert predictions(outcome) == predictions(anew)
        assert there == plain(self.root / "empty")
        again = pipeline.run(self.load(), rows=self.rows, out=self.root / "run")
        assert (again.made, again.reused) == (0, outcome.made + outcome.reused)
        assert plain(self.root / "run") == there

    @rule(name=st.sampled_from(["gain", "scale", "noise"]), value=st.sampled_from([0.25, 0.5, 1.0]))
    def parameter(self, name: str, value: float) -> None:
        self.values[name] = value
        self.table()

    @rule(name=st.sampled_from(["neighbours", "code", "dataset_version", "stage_version"]), value=st.integers(1, 3))
    def whole_number(self, name: str, value: int) -> None:
        self.values[name] = value
        self.table()

    @rule(where=st.sampled_from(["lab/a", "lab/b", "real"]), number=st.integers(0, 3), seed=st.integers(0, 900))
    def image(self, where: str, number: int, seed: int) -> None:
        self.draw(f"{where}/{number}.png", seed)
        self.table()

    @rule(number=st.integers(0, 15), label=st.sampled_from("ab"))
    def label(self, number: int, label: str) -> None:
        self.target[number] = (label, self.target[number][1])
        self.table()

    @rule(number=st.integers(0, 15), group=st.sampled_from(["person 0", "person 1", ""]))
    def group(self, number: int, group: str) -> None:
        self.target[number] = (self.target[number][0], group)
        self.table()

    @rule()
    def class_order(self) -> None:
        self.values["classes"] = self.values["classes"][::-1]
        self.table()

    @rule(seeds=st.sampled_from([[0], [1], [0, 1]]), precision=st.sampled_from(["fp32", "bf16"]))
    def engine(self, seeds: list[int], precision: str) -> None:
        self.values |= {"seeds": seeds, "precision": precision}
        self.table()

    @rule(rows=st.lists(st.sampled_from(ROWS), min_size=1, unique=True))
    def other_rows(self, rows: list[str]) -> None:
        self.rows = rows
        self.table()

    @rule(stage=st.sampled_from(["pretrain", "evaluate"]))
    def fresh(self, stage: str) -> None:
        self.table(fresh=(stage,))

    @rule(luck=st.sampled_from([0.0, 0.5, -0.5]))
    def luck(self, luck: float) -> None:
        self.values["luck"] = luck
        self.rows = list(ROWS)
        # Luck is in no key: what lies here of earlier settings would come back with the luck of its day, as it should.
        listed = json.loads((self.root / "run" / "index.json").read_text())["jobs"]
        in_table = {(self.root / "run" / job["folder"]).resolve() for job in listed}
        for result in (self.root / "run" / "store").iterdir():
            if result.is_dir() and result.resolve() not in in_table:
                shutil.rmtree(result)
        self.table(fresh=("pretrain", "adapt"))

    @rule(number=st.integers(0, 50), whole=st.booleans())
    def deletion(self, number: int, whole: bool) -> None:
        results = sorted(path for path in (self.root / "run" / "store").iterdir() if path.is_dir())
        chosen = results[number % len(results)]
        if whole:
            shutil.rmtree(chosen)
        else:
            (chosen / "done.json").unlink()
        self.table()

    def teardown(self) -> None:
        self.home.cleanup()


def predictions(outcome: Outcome) -> dict[str, list[Any]]:
    """To the last bit: an edit that a table in points does not show is seen here."""
    return {
        row: sorted((one.seed, one.fold, one.evaluation.probabilities.tolist()) for one in rounds)
        for row, rounds in outcome.rounds.items()
    }


def plain(folder: Path) -> dict[str, Any]:
    rows = json.loads((folder / "results.json").read_text())["rows"]
    return {row: rows[row] for row in sorted(rows)}


@pytest.fixture(autouse=True)
def _without_pictures(monkeypatch):
    """They take most of the time and nothing is read from them here."""
    monkeypatch.setattr(pipeline, "_write_page", lambda planner, folder, rows: None)
    monkeypatch.setattr("dakit.report.pictures.confusion_png", lambda summary, path, title: None)


def run_machine(examples: int, steps: int) -> None:
    run_state_machine_as_test(
        Edits,
        settings=settings(
            max_examples=examples, stateful_step_count=steps, deadline=None, derandomize=True, database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )  # fmt: skip


def test_the_table_is_that_of_an_empty_folder_after_each_kind_of_edit():
    """Every rule once, in an order in which each has something to spoil."""
    world = Edits()
    world.begin()
    for name in ("gain", "scale", "noise"):
        world.parameter(name=name, value=0.5)
    for name in ("neighbours", "code", "dataset_version", "stage_version"):
        world.whole_number(name=name, value=3)
    for where in ("lab/a", "real"):
        world.image(where=where, number=1, seed=700)
    world.label(number=4, label="b")
    world.group(number=5, group="")
    world.luck(luck=0.5)
    world.other_rows(rows=["source_only"])
    world.fresh(stage="pretrain")
    world.engine(seeds=[1], precision="bf16")
    world.class_order()
    for number, whole in ((0, True), (3, False)):
        world.deletion(number=number, whole=whole)
    world.other_rows(rows=list(ROWS))
    world.teardown()


def test_the_table_is_that_of_an_empty_folder_whatever_was_edited():
    run_machine(examples=2, steps=6)


@pytest.mark.slow
def test_the_table_is_that_of_an_empty_folder_whatever_was_edited_at_length():
    run_machine(examples=40, steps=15)
