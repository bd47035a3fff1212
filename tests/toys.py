"""A plugin file with components so small that a whole recipe runs in seconds, and a recipe in CycleAT's shape."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from dakit import hookimpl
from dakit.data.sets import TensorImages
from dakit.interfaces import (
    Classifier,
    Context,
    ImageSet,
    Positive,
    Prediction,
    Spec,
    TestSet,
    Trained,
    Translator,
)
from dakit.statistics.metrics import Evaluation
from dakit.training.trainer import trained


def toy_images(
    size: int, classes: Sequence[str] | None, *, people: Positive = 4, shift: int = 0, names: list[str] | None = None
) -> ImageSet:
    """For each person one image of each class; a class is a brightness. ``shift`` tells domains apart."""
    known = names or list(classes or ["dark", "bright"])
    labels = list(range(len(known))) * people
    images = torch.stack([torch.full((3, size, size), 10 + 100 * label + shift) for label in labels]).to(torch.uint8)
    for i, image in enumerate(images):
        image[:, 0, 0] = i
    groups = [f"person {i // len(known)}" for i in range(len(labels))]
    parts = [("one", "two")[i // len(known) % 2] for i in range(len(labels))]
    return TensorImages(images, labels, groups, known, parts)


def toy_films(
    size: int, classes: Sequence[str] | None, *, shift: int = 0, named: bool = True, by_class: bool = False
) -> ImageSet:
    """Four people, a film of two images of each class of each; ``by_class``: the part test holds one class."""
    known = list(classes or ["dark", "bright"])
    labels = [label for _ in range(4) for label in range(len(known)) for _ in range(2)]
    images = torch.stack([torch.full((3, size, size), 10 + 100 * label + shift) for label in labels]).to(torch.uint8)
    for i, image in enumerate(images):
        image[:, 0, 0] = i
    groups = [f"film {i // 2}" if named else "" for i in range(len(labels))]
    parts = [("one", "two")[i // 4 % 2] for i in range(len(labels))]
    if by_class:
        parts = ["test" if label and i < 8 else "train" for i, label in enumerate(labels)]
    return TensorImages(images, labels, groups, known, parts)


class ToyClassifier(nn.Module):
    """A linear layer on the mean colour."""

    def __init__(self, classes: int, *, scale: float = 1.0) -> None:
        super().__init__()
        self.head = nn.Linear(3, classes)
        self.scale = scale

    def forward(self, images: Tensor) -> Prediction:
        features = images.mean((2, 3)) * self.scale
        return Prediction(self.head(features), features, (images,))


class ToyTranslator(nn.Module):
    """Adds a colour."""

    def __init__(self) -> None:
        super().__init__()
        self.colour = nn.Parameter(torch.rand(3, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        return (images + self.colour).clamp(-1, 1)


class Model(NamedTuple):
    model: Trained[Classifier]


class ToyTrain:
    """Draws weights instead of learning them; needs as many draws as there are steps."""

    version: ClassVar[int] = 1

    def __init__(self, *, classifier: Spec[Classifier], steps: Positive = 1) -> None:
        self.classifier = classifier
        self.steps = steps

    def run(
        self,
        ctx: Context,
        *,
        train: ImageSet,
        extra: ImageSet | None = None,
        teacher: Trained[Classifier] | None = None,
        init: Trained[Classifier] | None = None,
    ) -> Model:
        network = self.classifier.build(len(train.classes))
        ctx.note(f"trained on {len(train)} and {len(extra or ())} images")
        return Model(trained(network, self.classifier, train.classes))


class ToyTranslators(NamedTuple):
    translator: Trained[Translator]
    classifier: Trained[Classifier] | None


class ToyTranslate:
    """Draws a translator and, given a classifier, one of those."""

    version: ClassVar[int] = 1

    def __init__(self, *, generator: Spec[Translator], classifier: Spec[Classifier] | None = None) -> None:
        self.generator = generator
        self.classifier = classifier

    def check(self, inputs: frozenset[str]) -> list[str]:
        return ["`teacher` needs a `classifier`"] if "teacher" in inputs and self.classifier is None else []

    def run(
        self,
        ctx: Context,
        *,
        source: ImageSet,
        target: ImageSet,
        init: ToyTranslators | None = None,
        teacher: Trained[Classifier] | None = None,
    ) -> ToyTranslators:
        f_W = self.classifier and trained(self.classifier.build(len(source.classes)), self.classifier, source.classes)
        return ToyTranslators(trained(self.generator.build(), self.generator), f_W or None)


class Nothing(NamedTuple):
    nothing: None


class ToyPeek:
    """Reads a test set, which only ``evaluate`` may."""

    version: ClassVar[int] = 1

    def run(self, ctx: Context, *, images: ImageSet) -> Nothing:
        return Nothing(None)


class Flipped(NamedTuple):
    said: Evaluation


class ToyFlips:
    """Evaluates the mean over two flips, as a third party would, whose names are not dakit's.

    Args:
        fault: breaks it.
    """

    version: ClassVar[int] = 1

    def __init__(self, *, fault: str = "") -> None:
        self.fault = fault

    def run(self, ctx: Context, *, held_out: TestSet, network: Trained[Classifier]) -> Flipped:
        images = held_out.open()
        model = network.build()
        batch = torch.stack([images[i].image for i in range(len(images))]).float() / 127.5 - 1
        with torch.no_grad():
            views = [model(view).logits.softmax(1) for view in (batch, batch.flip(3))]
        table = torch.stack(views).mean(0).numpy()
        indices = np.asarray(getattr(images, "indices", range(len(images)))) + 100 * (self.fault == "indices")
        labels = np.asarray(images.labels) if self.fault != "labels" else 1 - np.asarray(images.labels)
        groups = np.asarray(images.groups) if self.fault != "groups" else None
        if self.fault == "twice":
            held_out.open()
        if self.fault == "type":
            return Flipped(network)  # type: ignore[arg-type]
        return Flipped(Evaluation(images.classes, indices, labels, table.argmax(1), table, groups))


class Leaked(NamedTuple):
    evaluation: Evaluation
    model: Trained[Classifier]


class ToyLeak:
    """Would hand a network that has seen test images to another stage."""

    version: ClassVar[int] = 1

    def run(self, ctx: Context, *, model: Trained[Classifier], test: TestSet) -> Leaked:
        raise AssertionError


class ToyLeakMore:
    """Makes no evaluation of its two test sets, one of which need not be there."""

    version: ClassVar[int] = 1

    def run(self, ctx: Context, *, train: TestSet, more: TestSet | None = None) -> Model:
        raise AssertionError


@hookimpl
def dakit_datasets() -> dict[str, Any]:
    return {"toy_images": toy_images, "toy_films": toy_films}


@hookimpl
def dakit_classifiers() -> dict[str, Any]:
    return {"toy_classifier": ToyClassifier}


@hookimpl
def dakit_translators() -> dict[str, Any]:
    return {"toy_translator": ToyTranslator}


@hookimpl
def dakit_stages() -> dict[str, Any]:
    return {
        "toy_train": ToyTrain,
        "toy_translate": ToyTranslate,
        "toy_peek": ToyPeek,
        "toy_flips": ToyFlips,
        "toy_leak": ToyLeak,
        "toy_leak_more": ToyLeakMore,
    }


RECIPE = """\
recipe: toy
title: A toy table
method: cycleat
rows: [s2t, fine_tune, attention, att_gen, cycleat]
data:
  size: 4
  source: {use: toy_images, people: 5, split: {holdout: 0.2}}
  auxiliary: {use: toy_images, people: 2, shift: 9, unlabelled: true}
  target: {use: toy_images, shift: 20, split: {folds: predefined}}
components:
  deep: {use: toy_classifier}
  shallow: {use: toy_classifier, scale: 0.5}
  generator: {use: toy_translator}
  nearest: {use: random, neighbours: 2}
stages:
  pretrain: {do: toy_train, train: source.train, classifier: deep}
  stage_1: {do: toy_translate, source: source.train, target: auxiliary.all, generator: generator}
  stage_2:
    do: toy_translate
    source: source.train
    target: auxiliary.all
    init: stage_1
    teacher: pretrain.model
    generator: generator
    classifier: deep
  synthesise: {do: synthesise, images: source.train, translator: stage_2.translator}
  select: {do: select, pool: synthesise.images, anchors: target.train, selector: nearest}
  adapt:
    do: toy_train
    train: target.train
    extra: select.images
    teacher: stage_2.classifier
    init: pretrain.model
    classifier: shallow
  evaluate: {do: evaluate, model: adapt.model, test: target.test}
variants:
  s2t: {evaluate.model: pretrain.model}
  fine_tune: {adapt.extra: null, adapt.teacher: null}
  attention: {adapt.extra: null, adapt.teacher: pretrain.model}
  att_gen: {synthesise.translator: stage_1.translator, adapt.teacher: pretrain.model}
profiles:
  big: {data.size: 6, adapt.steps: 9}
published:
  s2t: {dark: 10, bright: 20, Ave.: 15}
"""
