from __future__ import annotations

from pathlib import Path

import pytest
import torch

from dakit.errors import DakitError, RecipeError
from dakit.pipeline import run as pipeline
from dakit.recipe.load import load_recipe
from dakit.results.runs import open_run

PLUGIN = '''
from typing import ClassVar, NamedTuple
import torch
from torch import nn
from dakit import hookimpl
from dakit.errors import DakitError
from dakit.interfaces import Classifier, Context, ImageSet, Prediction, Spec, Trained, TransferLoss
from dakit.training.trainer import trained

GIVEN = []

class Network(nn.Module):
    """So wide, with maps or without, with a head or without."""
    def __init__(self, classes: int, *, width: int = 3, maps: bool = True, head: bool = True) -> None:
        super().__init__()
        self.body, self.maps, self.dropout = nn.Conv2d(3, width, 3), maps, nn.Dropout(0.5)
        last = nn.Linear(width, classes)
        self.parts = nn.ModuleList([last])
        if head:
            self.head = last
    def forward(self, images):
        maps = self.body(images)
        features = self.dropout(maps.mean((2, 3)))
        return Prediction(self.parts[0](features), features, (maps,) if self.maps else ())

def recording(loss):
    def call(self, teacher, student):
        GIVEN.append((type(self).__name__, teacher, student, student.features.requires_grad))
        return loss(teacher, student)
    return call

class Good:
    __call__ = recording(lambda t, s: (t.logits - s.logits).square().mean())

class Condensed:
    __call__ = recording(lambda t, s: s.logits.square().mean() * (1 if t.features.shape[1] else float("nan")))
    def condense(self, teacher):
        return Prediction(teacher.logits, teacher.features[:, :0], ())

class Widths:
    __call__ = recording(lambda t, s: (t.features - s.features).square().mean())

class Refusing:
    def __call__(self, t, s):
        raise DakitError("one teacher is too many")

class Vector:
    __call__ = recording(lambda t, s: s.logits.square().mean(1))

class Number:
    __call__ = recording(lambda t, s: 3.0)

class Endless:
    __call__ = recording(lambda t, s: s.logits.mean() / 0)

class Detached:
    __call__ = recording(lambda t, s: s.logits.detach().mean())

class Steep:
    __call__ = recording(lambda t, s: (s.logits - s.logits.detach()).square().sum().sqrt())

class Body:
    __call__ = recording(lambda t, s: s.maps[0].square().mean())

class Aligned(NamedTuple):
    model: Trained[Classifier]

class Align:
    """A stage of which nobody knows what its loss compares."""
    version: ClassVar[int] = 1
    def __init__(self, *, classifier: Spec[Classifier], align: Spec[TransferLoss], batch_size: int = 1) -> None:
        self.classifier = classifier
    def run(self, ctx: Context, *, source: ImageSet) -> Aligned:
        return Aligned(trained(self.classifier.build(len(source.classes)), self.classifier, source.classes))

LOSSES = (Good, Condensed, Widths, Refusing, Vector, Number, Endless, Detached, Steep, Body)

@hookimpl
def dakit_classifiers(): return {"network": Network}

@hookimpl
def dakit_transfer_losses(): return {loss.__name__.lower(): loss for loss in LOSSES}

@hookimpl
def dakit_stages(): return {"align": Align}
'''
RECIPE = """\
recipe: small
method: taught
seeds: [0, 1]
engine: {device: cpu}
data:
  size: 8
  source: {use: toy_images}
  target: {use: toy_images, shift: 20, split: {folds: 2}}
components:
  deep: {use: network, width: 5}
  shallow: {use: network, width: 2}
  loss: {use: good}
  generator: {use: toy_translator}
  critic: {use: patchgan, width: 2, layers: 1}
stages:
  pretrain: {do: train_classifier, train: source.all, classifier: deep, steps: 1, batch_size: 4}
  start: {do: train_classifier, train: source.all, classifier: shallow, steps: 1, batch_size: 4}
  translate:
    do: train_translator
    source: source.all
    target: target.train
    generator: generator
    discriminator: critic
    classifier: shallow
    transfer: loss
    teacher: pretrain.model
    steps: 1
    batch_size: 2
  adapt:
    do: train_classifier
    train: target.train
    init: start.model
    teacher: translate.classifier
    classifier: shallow
    transfer: loss
    steps: 1
    batch_size: 4
  evaluate: {do: evaluate, model: adapt.model, test: target.test}
"""


@pytest.fixture
def small(tmp_path: Path, toys: Path):
    """Load the recipe with some settings, and find what its losses were given."""
    (tmp_path / "parts.py").write_text(PLUGIN)
    (tmp_path / "small.yaml").write_text(RECIPE)

    def load(*overrides: str):
        recipe = load_recipe(tmp_path / "small.yaml", overrides=overrides, plugins=[toys, tmp_path / "parts.py"])
        factory = recipe.registry.find("transfer_loss", "good").factory
        return recipe, factory.__call__.__globals__["GIVEN"]

    return load


def refused(recipe, out: Path) -> list[str]:
    with pytest.raises(DakitError) as caught:
        pipeline.run(recipe, out=out)
    assert not (out / "store").exists()
    return str(caught.value).splitlines()


def looked(recipe, out: Path) -> None:
    """Look at what a run would do, and run nothing."""
    planner = pipeline._planner(recipe, out / "store")
    pipeline._preflight(planner, planner.jobs(["taught"], None, None))


def test_every_loss_is_shown_the_two_predictions_that_it_will_be_given(small, tmp_path):
    recipe, given = small("components.deep.width=5")
    before = torch.get_rng_state()
    looked(recipe, tmp_path / "out")
    assert torch.equal(torch.get_rng_state(), before)
    # By hand: 2 seeds x 2 folds have the same two stages with a loss, so each is tried once: translate's teacher is
    # pretrain's deep network, adapt's the one that translate trains, which is shallow like the student.
    assert [(t.features.shape, s.features.shape) for _, t, s, _ in given] == [((2, 5), (2, 2)), ((2, 2), (2, 2))]
    for _, teacher, student, learns in given:
        assert learns
        assert not teacher.logits.requires_grad
        assert (student.features == 0).any(), "the student is in training mode: dropout is at work"
        assert not (teacher.features == 0).any(), "and the teacher is not"
        assert teacher.maps[0].shape == (2, teacher.features.shape[1], 6, 6)


def test_a_batch_is_no_larger_than_in_training(small, tmp_path):
    recipe, given = small("adapt.batch_size=1", "translate.batch_size=3")
    looked(recipe, tmp_path / "out")
    assert [len(student.logits) for _, _, student, _ in given] == [2, 1]


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        ("widths", "widths fails between the teacher, {use: network, width: 5, maps: True, head: True}, and the "
                   "student, {use: network, width: 2, maps: True, head: True}, on 2 images of 8 x 8 pixels: RuntimeE"),
        ("refusing", "one teacher is too many (between the teacher, {use: network, width: 5"),
        ("vector", "vector gives a tensor (2,), but one number is expected, a tensor without dimensions"),
        ("number", "number gives float, but one number is expected"),
        ("endless", "inf between the teacher"),
        ("condensed", "condensed gives nan between the teacher"),
        ("detached", "detached has no gradient for any weight that is trained, between the teacher"),
        ("steep", "steep has a gradient that is not finite between the teacher"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_loss_is_told_before_anything_runs(loss, message, small, tmp_path):
    recipe, _ = small(f"components.loss={{use: {loss}}}")
    lines = refused(recipe, tmp_path / "out")
    assert lines[0].startswith("stages.translate.transfer: ")
    assert message in lines[0]
    assert len(lines) == 1 + (loss != "widths")  # adapt's teacher is as wide as its student
    assert all(line.startswith("stages.adapt.transfer: ") for line in lines[1:])


def test_the_attention_of_networks_without_maps(small, tmp_path):
    recipe, _ = small("components.loss={use: attention_transfer}", "components.shallow.maps=false")
    lines = refused(recipe, tmp_path / "out")
    sizes = "the teacher's are 6x6, the student's none"
    assert lines[0].startswith("stages.translate.transfer: attention_transfer pairs maps of equal height and width")
    assert sizes in lines[0]


def test_a_probe_is_only_taught_through_its_head(small, tmp_path):
    looked(small("adapt.update=head")[0], tmp_path / "out")
    recipe, _ = small("adapt.update=head", "adapt.transfer={use: body}")
    (line,) = refused(recipe, tmp_path / "out")
    assert line.startswith("stages.adapt.transfer: body has no gradient for any weight that is trained")
    recipe, _ = small("adapt.update=head", "components.shallow.head=false")
    (line,) = refused(recipe, tmp_path / "out")
    assert line == 'stages.adapt.classifier: update: "head" needs a classifier with a `head`; network has none'


def test_what_a_network_lacks_for_what_is_asked_of_it_is_told(small, tmp_path):
    recipe, _ = small("adapt.freeze=body", "components.shallow.head=false")
    (line,) = refused(recipe, tmp_path / "out")
    assert line == "stages.adapt.classifier: freeze: body needs a classifier with a `head`; network has none"
    recipe, _ = small("adapt.normalisation=frozen", "adapt.optimiser={body_lr: 0.1}", "components.shallow.head=false")
    (line,) = refused(recipe, tmp_path / "out")
    assert line == (
        "stages.adapt.classifier: optimiser.body_lr needs a classifier with a `head`; network has none; normalisation: "
        "frozen needs batch normalisation; network has none; expected train"
    )


def test_a_frozen_body_is_only_taught_through_its_head(small, tmp_path):
    recipe, _ = small("adapt.freeze=body", "adapt.transfer={use: body}")
    (line,) = refused(recipe, tmp_path / "out")
    assert line.startswith("stages.adapt.transfer: body has no gradient for any weight that is trained")


def test_what_a_stranger_s_stage_compares_is_not_known(small, tmp_path, toys):
    path = tmp_path / "small.yaml"
    stage = "  align: {do: align, source: source.all, classifier: shallow, align: {use: vector}}"
    path.write_text(RECIPE.replace("  evaluate", f"{stage}\n  evaluate"))
    recipe, given = small("evaluate.model=align.model")
    looked(recipe, tmp_path / "out")
    assert not given


def test_one_image_leaves_batch_normalisation_nothing(small, tmp_path):
    resnet = "components.deep={use: resnet_cifar, depth: 8, width: 2}"
    looked(small(resnet, "pretrain.batch_size=1")[0], tmp_path / "out")  # maps of 2 x 2 at 8 pixels
    recipe, _ = small(resnet, "data.size=4", "pretrain.batch_size=1", "evaluate.model=pretrain.model")
    (line,) = refused(recipe, tmp_path / "out")
    assert line == (
        "stages.pretrain.classifier: batch_size: 1 leaves batch normalisation in resnet_cifar one value per channel at "
        "4 x 4 pixels; expected at least 2, or larger images"
    )


def test_weights_start_the_same_network_only(small, tmp_path):
    recipe, _ = small("adapt.init=pretrain.model")
    (line,) = refused(recipe, tmp_path / "out")
    assert line == (
        "stages.adapt.init: pretrain.model is {use: network, width: 5, maps: True, head: True}, but this stage's "
        "classifier is {use: network, width: 2, maps: True, head: True}: weights fit the same network only"
    )


def test_what_is_made_already_is_not_tried_again(small, tmp_path):
    recipe, given = small("seeds=[0]")
    pipeline.run(recipe, out=tmp_path / "out", fold=0)
    assert len(open_run(tmp_path / "out").jobs) == 5
    given.clear()
    pipeline.run(recipe, out=tmp_path / "out", fold=0)
    assert not given


def test_a_lower_precision_is_that_of_the_run(small, tmp_path):
    recipe, given = small("engine.precision=bf16")
    looked(recipe, tmp_path / "out")
    assert {student.logits.dtype for _, _, student, _ in given} == {torch.bfloat16}


def test_an_output_that_will_be_nothing_is_no_input(small):
    with pytest.raises(RecipeError) as caught:
        small("translate.classifier=null", "translate.transfer=null", "translate.teacher=null")
    (problem,) = caught.value.problems
    assert problem.endswith(
        "stages.adapt.teacher: translate.classifier is nothing, as stage translate has no `classifier`"
    )
