"""The contract of stages."""

from __future__ import annotations

import inspect
import tempfile
import typing
from collections.abc import Callable, Mapping
from dataclasses import is_dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from dakit.data.sets import Sealed, Subset, TensorImages
from dakit.interfaces import (
    Classifier,
    Context,
    Discriminator,
    Engine,
    ImageSet,
    LabelledFeatures,
    Prediction,
    Selection,
    Spec,
    TestSet,
    Trained,
    Translator,
)
from dakit.optional import ChecksInputs, offers
from dakit.recipe.sealing import evaluation_faults, evaluation_problem
from dakit.registry import Registry, component_kind
from dakit.results.store import Store, digest
from dakit.signatures import evaluation_stage, optional, schema, stage_inputs, stage_outputs, union_members
from dakit.testing.contract import FIRST, Check, wanted
from dakit.training.seeds import seed_everything

SIZE, COUNT, CLASSES = 16, 48, ("a", "b", "c")


# --------------------------------------------------------------------- what a stage is given
class SmallTranslator(nn.Module):
    """A 3 x 3 convolution and tanh."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        """The same shape, in [-1, 1]."""
        return torch.tanh(self.layer(images))


class SmallDiscriminator(nn.Module):
    """One strided convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 1, 4, stride=4)

    def forward(self, images: Tensor) -> Tensor:
        """One logit for each 4 x 4 patch."""
        logits: Tensor = self.layer(images)
        return logits


class SmallClassifier(nn.Module):
    """A convolution, batch normalisation, dropout and a linear head: what a resumed run gets wrong first."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.first, self.norm, self.dropout = nn.Conv2d(3, 4, 3, stride=2), nn.BatchNorm2d(4), nn.Dropout(0.2)
        self.head = nn.Linear(4, classes)

    def stem(self, images: Tensor) -> Tensor:
        """The convolution."""
        out: Tensor = self.first(images)
        return out

    def forward(self, images: Tensor) -> Prediction:
        """A prediction with one map."""
        maps = self.norm(self.stem(images)).relu()
        features = self.dropout(maps.mean((2, 3)))
        return Prediction(self.head(features), features, (maps,), rectified=True)


class SmallLoss:
    """The mean squared difference of the logits."""

    def __call__(self, teacher: Prediction, student: Prediction) -> Tensor:
        """A scalar."""
        return (teacher.logits - student.logits).square().mean()


class SmallSelector:
    """The first two pool images for every anchor."""

    def __call__(
        self, pool: ImageSet, anchors: ImageSet, /, *, classifier: Classifier | None, device: torch.device
    ) -> Selection:
        """Indices 0 and 1."""
        return Selection(torch.tensor([[0, 1]] * len(anchors)), torch.tensor([[0.0, 1.0]] * len(anchors)))

    def embed(
        self, *sets: ImageSet, classifier: Classifier | None, device: torch.device
    ) -> tuple[Tensor, tuple[str, ...]]:
        """Two mean colours of every image."""
        points = [images[i].image.float().mean((1, 2))[:2] for images in sets for i in range(len(images))]
        return torch.stack(points), ()


class SmallEstimator(nn.Module):
    """The nearest class mean."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("means", torch.zeros(0, 0))

    def fit(self, known: LabelledFeatures, unlabelled: Tensor | None) -> None:
        """The mean of each class."""
        classes = range(int(known.labels.max()) + 1)
        self.means = torch.stack([known.features[known.labels == label].mean(0) for label in classes])

    def forward(self, features: Tensor) -> Tensor:
        """Minus the squared distances."""
        return -(features[:, None] - self.means).square().sum(2)


SMALL: Mapping[str, Callable[..., Any]] = {
    "translator": SmallTranslator,
    "discriminator": SmallDiscriminator,
    "classifier": SmallClassifier,
    "transfer_loss": SmallLoss,
    "selector": SmallSelector,
    "estimator": SmallEstimator,
}


def small(kind: str) -> Spec[Any]:
    """The kit's own component of a kind."""
    return Spec(kind, f"small_{kind}", {}, SMALL[kind])


def small_components(factory: Callable[..., Any], params: Mapping[str, Any]) -> dict[str, Spec[Any]]:
    """A small component for every one that the stage needs and that ``params`` leaves out."""
    needed = schema(factory, 0, "stage").model_fields
    hints = typing.get_type_hints(factory.__init__ if inspect.isclass(factory) else factory)
    kinds = {name: component_kind(hints.get(name, Any)) for name in needed if name not in params}
    return {name: small(kind) for name, kind in kinds.items() if kind is not None and needed[name].is_required()}


def noise(seed: int) -> TensorImages:
    """Labelled random images, eight persons."""
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(256, (COUNT, 3, SIZE, SIZE), dtype=torch.uint8, generator=generator)
    labels = [i % len(CLASSES) for i in range(COUNT)]
    return TensorImages(pixels, labels, [f"person {i // 6}" for i in range(COUNT)], CLASSES)


def given(annotation: Any, spec: Spec[Any], seed: int) -> Any:
    """A value for an input so annotated; networks are those that the stage's own parameters name."""
    for member in union_members(annotation):
        if member is ImageSet:
            return noise(seed)
        if member is TestSet:
            return Sealed(noise(seed))
        if typing.get_origin(member) is Trained:
            interface = typing.get_args(member)[0]
            kind = {Classifier: "classifier", Translator: "translator", Discriminator: "discriminator"}[interface]
            named = [value for value in spec.params.values() if isinstance(value, Spec) and value.kind == kind]
            component = named[0] if named else small(kind)
            torch.manual_seed(seed)
            classes = CLASSES if kind == "classifier" else ()
            network = component.build(len(classes)) if classes else component.build()
            return Trained(component, network.state_dict(), classes)
        if isinstance(member, type) and hasattr(member, "_fields"):
            fields = typing.get_type_hints(member)
            parts = enumerate(fields.values())
            return member(*(None if optional(hint) else given(hint, spec, seed + i) for i, hint in parts))
    raise AssertionError(f"an input is annotated {annotation}, which no stage can be given")


def inputs_of(spec: Spec[Any], *, every: bool = False) -> dict[str, Any]:
    """The inputs that must be there; or ``every`` one that its ``check`` accepts beside the parameters."""
    hints = stage_inputs(spec.factory)
    needed = {name for name, hint in hints.items() if not optional(hint)}
    stage = spec.build()

    def problems(names: set[str]) -> int:
        return len(stage.check(frozenset(names))) if offers(stage, ChecksInputs) else 0

    chosen = set(hints) if every else needed
    for name in (
        name for name in hints if name not in needed
    ):  # such as a teacher, which goes with a transfer loss and not without
        if problems(chosen ^ {name}) < problems(chosen):
            chosen = chosen ^ {name}
    return {name: given(hint, spec, i) for i, (name, hint) in enumerate(hints.items()) if name in chosen}


class _Cut(Exception):
    """Stands for a power cut."""


class _Plug:
    """An observer that ends the stage in step ``at``; hears everything else without a word."""

    def __init__(self, at: int | None = None) -> None:
        self.at = at
        self.calls = 0

    def step(self, done: int, losses: Mapping[str, float]) -> None:
        """Count, and cut."""
        self.calls += 1
        if self.calls == self.at:
            raise _Cut

    def __getattr__(self, name: str) -> Callable[..., None]:
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *_: None


def outputs_of(spec: Spec[Any], folder: Path, plug: _Plug | None = None, *, every: bool = False) -> Any:
    """Run it once in ``folder``, with a checkpoint after every step."""
    folder.mkdir(parents=True, exist_ok=True)
    engine = Engine(device="cpu", checkpoint_steps=1)
    ctx = Context(folder, seed=3, engine=engine, observers=(cast(Any, plug or _Plug()),))
    seed_everything(ctx.seed)
    return spec.build().run(ctx, **inputs_of(spec, every=every))


def same(first: Any, second: Any) -> bool:
    """Whether two outputs are equal bit by bit."""
    if isinstance(first, Trained):
        return (
            first.spec == second.spec
            and first.classes == second.classes
            and same(dict(first.state), dict(second.state))
        )
    if isinstance(first, Tensor):
        return torch.equal(first, second)
    if isinstance(first, np.ndarray):
        return np.array_equal(first, second)
    if is_dataclass(first):
        return same(vars(first), vars(second))
    if isinstance(first, Mapping):
        return first.keys() == second.keys() and all(same(first[name], second[name]) for name in first)
    if isinstance(first, tuple) and hasattr(first, "_fields"):
        return len(first) == len(second) and all(map(same, first, second))
    if isinstance(first, ImageSet):
        pixels = all(torch.equal(first[i].image, second[i].image) for i in range(len(first)))
        return len(first) == len(second) and list(first.labels) == list(second.labels) and pixels
    return bool(first == second)


# ----------------------------------------------------------------------------------- the checks
def says_what_it_takes_and_makes(spec: Spec[Any]) -> None:
    """`run(ctx, *, ...)` annotates every input, and its result is a NamedTuple: recipes are checked against both."""
    version = getattr(spec.factory, "version", None)
    wanted(isinstance(version, int), f"its version, which is part of the key, is {version}, no integer")
    wanted(stage_inputs(spec.factory), "run has no annotated inputs")
    wanted(stage_outputs(spec.factory), "the result of run is no NamedTuple with annotated fields")
    wanted(isinstance(inputs_of(spec), dict), "")


def makes_what_it_says(spec: Spec[Any]) -> None:
    """With few inputs or all: every output is there, None only where its annotation allows it, and networks build."""
    for every in (False, True):
        with tempfile.TemporaryDirectory() as folder:
            outputs = outputs_of(spec, Path(folder), every=every)
        for name, hint in stage_outputs(spec.factory).items():
            value = getattr(outputs, name, None)
            wanted(value is not None or optional(hint), f"{name} is None")
            if isinstance(value, Trained):
                value.build()


def changing_a_parameter_changes_its_key(spec: Spec[Any]) -> None:
    """Results are found by a key of all parameters: one that is left out would bring back another setting's result."""
    for name, value in spec.params.items():
        other = {bool: not value, int: 7, float: 0.7}.get(type(value))
        if other is not None and other != value:
            changed: Spec[Any] = Spec(spec.kind, spec.name, {**spec.params, name: other}, spec.factory, spec.version)
            wanted(digest(changed.identity()) != digest(spec.identity()), f"{name} has no part in the key")


def same_seed_gives_the_same_result(spec: Spec[Any]) -> None:
    """Two runs agree bit by bit: chance comes from ctx.seed, or the global generators, which dakit seeds with it."""
    with tempfile.TemporaryDirectory() as folder:
        outputs = outputs_of(spec, Path(folder, "one"))
        wanted(same(outputs, outputs_of(spec, Path(folder, "two"))), "two runs of one seed differ")


def leaves_its_inputs_alone(spec: Spec[Any]) -> None:
    """Other rows use the same inputs: weights and images are as they were after it ran."""
    inputs = inputs_of(spec)
    before = inputs_of(spec)
    with tempfile.TemporaryDirectory() as folder:
        engine = Engine(device="cpu")
        spec.build().run(Context(Path(folder), seed=3, engine=engine, observers=(cast(Any, _Plug()),)), **inputs)
    for name in inputs:
        if not isinstance(inputs[name], Sealed):
            wanted(same(inputs[name], before[name]), f"it changed {name}")


class _Known:
    """Stands for the registry when a result is read back: knows the components at hand."""

    def __init__(self, specs: list[Spec[Any]]) -> None:
        self.specs = specs

    def spec(self, kind: str, name: str, params: Mapping[str, Any]) -> Spec[Any]:
        """The component so called."""
        return next(spec for spec in self.specs if (spec.kind, spec.name) == (kind, name))


def a_rerun_is_read_from_the_store(spec: Spec[Any]) -> None:
    """What it makes can be kept and comes back the same, so that no stage is ever run twice."""
    inputs = inputs_of(spec)
    known = [*(value for value in spec.params.values() if isinstance(value, Spec)), *map(small, SMALL)]
    waiting = {name: (lambda value=value: value) for name, value in inputs.items()}
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder), cast(Registry, _Known(known)))
        results: list[Any] = []

        def work(part: Path) -> tuple[Any, dict[str, Any]]:
            engine = Engine(device="cpu")
            ctx = Context(part, seed=3, engine=engine, observers=(cast(Any, _Plug()),))
            results.append(spec.build().run(ctx, **inputs))
            known.extend(value.spec for value in results[0] if isinstance(value, Trained))  # its own
            return results[0], {"notes": ctx.notes, "warnings": ctx.warnings, "facts": ctx.facts}

        key = digest({"stage": spec.identity(), "inputs": sorted(inputs)})
        store.make("stage", key, {"stage": spec.identity()}, waiting, work)
        wanted(store.has("stage", key), "its result was not kept")
        stored = store.open("stage", key, waiting)
        for name in stage_outputs(spec.factory):
            wanted(same(getattr(results[0], name), stored.output(name)), f"{name} came back changed")


def killed_and_resumed_it_ends_the_same(spec: Spec[Any]) -> None:
    """A run that is killed in any step and started again ends bit-identical to one left alone."""
    with tempfile.TemporaryDirectory() as folder:
        counted = _Plug()
        whole = outputs_of(spec, Path(folder, "whole"), counted, every=True)
        for at in sorted({1, counted.calls // 2, counted.calls} & set(range(1, counted.calls + 1))):
            place = Path(folder, f"cut {at}")
            try:
                outputs_of(spec, place, _Plug(at), every=True)
            except _Cut:
                pass
            else:
                wanted(False, "an observer that raised in a step did not end the stage")
            wanted(
                same(whole, outputs_of(spec, place, every=True)), f"killed in step {at} and resumed, it ends otherwise"
            )


def opens_the_test_set_once_and_makes_an_evaluation(spec: Spec[Any]) -> None:
    """A stage with a `TestSet` input is an evaluation: it opens that once, as openings are counted, and all it makes is
    the `Evaluation` of just these images.
    """
    evaluation = evaluation_stage(spec.factory)
    if evaluation is None:
        return
    faults = evaluation_faults(spec.factory)
    wanted(not faults, "; ".join(faults))
    for every in (False, True):
        inputs = inputs_of(spec, every=every)
        images = inputs[evaluation.test].open()
        places = [i for i in range(len(images)) if i % 2]  # a part, whose positions are not 0, 1, 2, ...
        opened: list[str] = []
        inputs[evaluation.test] = Sealed(Subset(images, places), partial(opened.append, "opened"))
        with tempfile.TemporaryDirectory() as folder:
            ctx = Context(Path(folder), seed=3, engine=Engine(device="cpu"), observers=(cast(Any, _Plug()),))
            outputs = spec.build().run(ctx, **inputs)
        wanted(len(opened) == 1, f"it opened the test set {len(opened)} times")
        problem = evaluation_problem(getattr(outputs, evaluation.evaluation), inputs[evaluation.test])
        wanted(not problem, problem)


CHECKS: tuple[Check, ...] = (
    *FIRST, says_what_it_takes_and_makes, opens_the_test_set_once_and_makes_an_evaluation, makes_what_it_says,
    changing_a_parameter_changes_its_key, same_seed_gives_the_same_result, leaves_its_inputs_alone,
    a_rerun_is_read_from_the_store, killed_and_resumed_it_ends_the_same,
)  # fmt: skip
