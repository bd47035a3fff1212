"""What would fail after hours, found before anything runs: networks are shown images, transfer losses predictions.

Nothing here is part of a result: networks are fresh, images are noise, and torch's generators are left as they were.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from dakit import processes
from dakit.data.files import told_of
from dakit.data.sets import unlabelled_among
from dakit.errors import DakitError
from dakit.interfaces import Engine, Prediction, Spec
from dakit.optional import ChecksSizes, Condenses, PassesOver, misspelt, offers
from dakit.pipeline.roles import Roles, data_paths
from dakit.recipe.plans import Plan, Recipe, StagePlan
from dakit.stages.classifier import TrainClassifier
from dakit.statistics.measures import METRICS

_TRAINING = ("train_classifier", "train_translator")
"""The verbs whose ``batch_size`` images go as one batch through every network that they name, in training mode."""


def preflight(
    recipe: Recipe, jobs: Iterable[tuple[str, StagePlan, Any, Mapping[str, int | None] | None]], roles: Roles
) -> None:
    """Ask the stages that are to run what does not fit, and show networks and losses what they will be given.

    - ``check_sizes`` of a stage, with the number of images of each input;
    - every network that a stage names, two images of the data's size; in dakit's own training stages in training mode,
      and one image where a process is given no more;
    - every transfer loss of a stage with an input ``teacher`` and a parameter ``classifier`` (elsewhere it is not
      known what it compares): what the network behind ``teacher`` and the stage's own say of the same batch, as the
      teacher's prediction is and as ``condense`` makes it. It gives one finite number, and the student's weights a
      finite gradient;
    - whether weights to start from are of the network that is to start from them.

    Args:
        recipe: whose plans tell which stage trains the network behind an input.
        jobs: row, plan, stage and number of images of each input (None: not known) of all that is to be made.
        roles: the data.

    Raises:
        DakitError: with every problem, a line each.
    """
    problems: dict[str, None] = {}
    seen: set[tuple[str, str]] = set()
    tried: dict[Any, str] = {}
    with torch.random.fork_rng(devices=[]):
        for row, planned, stage, sizes in jobs:
            for text in stage.check_sizes(sizes) if sizes is not None and offers(stage, ChecksSizes) else ():
                problems[f"stages.{planned.name}: {text}"] = None
            if (row, planned.name) in seen:  # in another seed or fold
                continue
            seen.add((row, planned.name))
            plan = recipe.plan(row)
            classes = max((len(roles.set(data).classes) for data in plan.data.values()), default=0)
            trial = _Trial(plan, planned, stage, classes, recipe.engine, tried)
            for name, text in trial.problems():
                problems[f"stages.{planned.name}.{name}: {text}"] = None
    if problems:
        raise DakitError("\n".join(problems))


def check_data(recipe: Recipe) -> str:
    """Open the data where its folders are there, check the class lists, and show every network one image.

    Returns:
        What was done.

    Raises:
        DakitError: the data is there and wrong, or a network of a row does not take its images.
    """
    missing = {
        str(path)
        for plan in recipe.plans.values()
        for data in plan.data.values()
        for path in data_paths(data)
        if not path.exists()
    }
    if missing:
        return f"data: not checked, as it is not here ({', '.join(sorted(missing))})"
    from_disk = any(data_paths(data) for plan in recipe.plans.values() for data in plan.data.values())
    if not from_disk:
        return "data: none is needed from disk"
    roles = Roles(recipe, recipe.folder / "store", room=0)
    roles.open(list(recipe.plans))
    findings = ["data: found, and the class lists agree; every network takes an image"]
    for data in {data.role: data for plan in recipe.plans.values() for data in plan.data.values()}.values():
        parts = roles.parts(data, recipe.seeds[0], 0)
        images = parts["train"] if "train" in parts else parts["all"]
        blank = unlabelled_among(images) if images.classes else ""
        plain = roles.plain(data)
        others = told_of(plain.passed_over) if offers(plain, PassesOver) else ""
        findings += [f"warning: {data.role}: {blank}"] * bool(blank)
        findings += [f"warning: {data.role}: passed over, no images by their suffix or place: {others}"] * bool(others)
    roles.measurable(METRICS[recipe.metric], roles.tests())
    stages = [(plan.row, stage) for plan in recipe.plans.values() if plan.data for stage in plan.stages]
    preflight(recipe, ((row, stage, stage.spec.build(), None) for row, stage in stages), roles)
    return "\n".join(findings)


class _Trial:
    """One stage's networks and losses on noise; ``tried`` remembers what was said of the same thing before."""

    def __init__(
        self, plan: Plan, stage: StagePlan, built: Any, classes: int, engine: Engine, tried: dict[Any, str]
    ) -> None:
        self.plan = plan
        self.stage = stage
        self.params = stage.spec.params
        self.classes = classes
        self.tried = tried
        self.size = next(iter(plan.data.values())).size
        self.trains = stage.spec.name.rpartition("/")[2] in _TRAINING
        self.learner = built if isinstance(built, TrainClassifier) else None
        self.demands = repr([self.params.get(name) for name in ("update", "freeze", "normalisation", "optimiser")])
        self.batch = min(2, max(1, self.params["batch_size"] // processes.count())) if self.trains else 2
        gpu = torch.cuda.is_available() or torch.backends.mps.is_available()
        on_cpu = engine.device == "cpu" or (engine.device == "auto" and not gpu)
        self.bf16 = engine.precision == "bf16" and on_cpu  # which operations there are differs from device to device

    def problems(self) -> Iterator[tuple[str, str]]:
        """Parameter or input, and what is wrong with it."""
        networks = {
            name: spec
            for name, spec in self.params.items()
            if isinstance(spec, Spec) and spec.kind in ("translator", "discriminator", "classifier")
        }
        faults = [(name, text) for name, spec in networks.items() if (text := self._once(self._network, spec))]
        yield from faults
        if not faults:
            yield from self._starts()
            yield from self._transfers()

    def _once(self, attempt: Callable[..., str], *specs: Spec[Any]) -> str:
        """What an attempt says, made once for the same components in the same circumstances."""
        key = (attempt.__name__, specs, self.size, self.classes, self.batch, self.trains, self.demands)
        if key not in self.tried:
            self.tried[key] = attempt(*specs)
        return self.tried[key]

    # ------------------------------------------------------------------------------------- networks
    def _network(self, spec: Spec[Any]) -> str:
        pixels = f"{self.size} x {self.size} pixels"
        try:
            network = self._built(spec).train(self.trains)
            if wrong := misspelt(spec.kind, type(network)):
                return f"{spec.name}: {wrong}"
            if self.learner is not None:
                if problems := self.learner.check_network(network):
                    return "; ".join(problems)
                self.learner.set_mode(network)
            with torch.no_grad(), self._autocast():
                network(self._images())
        except DakitError as error:
            return str(error)
        except Exception as error:  # a network's own, such as a kernel larger than the image
            if "more than 1 value per channel" in str(error) and self.batch == 1:
                shared = processes.count()
                by = f", shared by {shared} processes," if shared > 1 else ""
                return (
                    f"batch_size: {self.params['batch_size']}{by} leaves batch normalisation in {spec.name} one value "
                    f"per channel at {pixels}; expected at least {2 * shared}, or larger images"
                )
            return f"{spec.name} fails on an image of {pixels}: {type(error).__name__}: {error}"
        return ""

    def _built(self, spec: Spec[Any]) -> nn.Module:
        network: nn.Module = spec.build(self.classes) if spec.kind == "classifier" else spec.build()
        return network

    def _images(self) -> Tensor:
        """Noise in [-1, 1], the same each time."""
        generator = torch.Generator().manual_seed(0)
        return torch.rand(self.batch, 3, self.size, self.size, generator=generator) * 2 - 1

    def _autocast(self) -> Any:
        return torch.autocast("cpu", torch.bfloat16, enabled=self.bf16)

    # --------------------------------------------------------------------------------------- inputs
    def _maker(self, name: str, kind: str) -> Spec[Any] | None:
        """The one network of a kind that the stage behind an input trains; None where that cannot be told."""
        reference = self.stage.inputs.get(name)
        maker = next((stage for stage in self.plan.stages if reference and stage.name == reference.producer), None)
        named = (
            [spec for spec in maker.spec.params.values() if isinstance(spec, Spec) and spec.kind == kind]
            if maker
            else []
        )
        return named[0] if len(named) == 1 else None

    def _starts(self) -> Iterator[tuple[str, str]]:
        """Weights of another network than the one that is to start from them."""
        chosen = {"generator": "init", "discriminator": "init"}
        chosen["classifier"] = "init_classifier" if "init_classifier" in self.stage.inputs else "init"
        for parameter, name in chosen.items() if self.trains else ():
            ours = self.params.get(parameter)
            theirs = self._maker(name, ours.kind) if isinstance(ours, Spec) else None
            if isinstance(ours, Spec) and theirs is not None and ours != theirs:
                text = f"{self.stage.inputs[name]} is {_shown(theirs)}, but this stage's {parameter} is {_shown(ours)}"
                yield name, f"{text}: weights fit the same network only"

    # --------------------------------------------------------------------------------------- losses
    def _transfers(self) -> Iterator[tuple[str, str]]:
        student, teacher = self.params.get("classifier"), self._maker("teacher", "classifier")
        if isinstance(student, Spec) and teacher is not None:
            for name, loss in self.params.items():
                if isinstance(loss, Spec) and loss.kind == "transfer_loss":
                    if text := self._once(self._transfer, loss, teacher, student):
                        yield name, text

    def _transfer(self, loss: Spec[Any], teacher: Spec[Any], student: Spec[Any]) -> str:
        """What is wrong with a loss between two networks."""
        between = (
            f"between the teacher, {_shown(teacher)}, and the student, {_shown(student)}, on {self.batch} images of "
            f"{self.size} x {self.size} pixels"
        )
        try:
            transfer_loss, network = loss.build(), self._built(student).train()
            if wrong := misspelt(loss.kind, type(transfer_loss)):
                return f"{loss.name}: {wrong}"
            if self.learner is not None:
                self.learner.set_mode(network)
                self.learner.learned(network)
            with self._autocast():
                with torch.no_grad():
                    taught: Prediction = self._built(teacher).eval()(self._images())
                    views = [
                        taught,
                        *(
                            [_in_half_precision(transfer_loss.condense(taught))]
                            if offers(transfer_loss, Condenses)
                            else []
                        ),
                    ]
                learned: Prediction = network(self._images())
                values = [transfer_loss(view, learned) for view in views]
            for value in values:
                if not isinstance(value, Tensor) or value.ndim:
                    given = f"a tensor {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
                    return f"{loss.name} gives {given}, but one number is expected, a tensor without dimensions"
                if not torch.isfinite(value):
                    return f"{loss.name} gives {value.item():g} {between}; a finite number is expected"
            if values[0].requires_grad:
                values[0].backward()
        except DakitError as error:
            return f"{error} ({between})"
        except Exception as error:  # a stranger's, such as a difference of two shapes
            return f"{loss.name} fails {between}: {type(error).__name__}: {error}"
        gradients = [part.grad for part in network.parameters() if part.grad is not None]
        if not gradients:
            return f"{loss.name} has no gradient for any weight that is trained, {between}: it would change nothing"
        if not all(bool(torch.isfinite(gradient).all()) for gradient in gradients):
            return f"{loss.name} has a gradient that is not finite {between}"
        return ""


def _in_half_precision(teacher: Prediction) -> Prediction:
    """A condensed prediction as :class:`~dakit.training.teacher.Teacher` gives it back: kept in half precision."""
    logits, features, *maps = (part.half().float() for part in (teacher.logits, teacher.features, *teacher.maps))
    return Prediction(logits, features, tuple(maps), teacher.rectified)


def _shown(spec: Spec[Any]) -> str:
    """A network as a recipe names it."""
    params = "".join(f", {name}: {value}" for name, value in spec.params.items())
    return f"{{use: {spec.name}{params}}}"
