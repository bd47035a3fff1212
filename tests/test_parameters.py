from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

from dakit.errors import DakitError
from dakit.interfaces import Engine, Folder, Positive
from dakit.parameters import checked, verified
from dakit.registry import KINDS, Registry
from dakit.stages.classifier import TrainClassifier
from dakit.stages.translator import TrainTranslator
from dakit.training.device import accelerator
from dakit_builtins.classifiers.resnet_cifar import ResNetCifar
from dakit_builtins.datasets.image_folder import image_folder
from dakit_builtins.selectors.random import Random


@checked
class Scaled:
    """Takes one thing from dakit and two from a recipe."""

    version: ClassVar[int] = 7

    def __init__(self, size: int, *, factor: float = 1.0, times: Positive) -> None:
        self.made = (size, factor, times)


@checked
def added(size: int, /, *, more: Positive = 1) -> int:
    """The same as a function."""
    return size + more


def test_good_values_come_through() -> None:
    assert Scaled(3, times=2).made == (3, 1.0, 2)
    assert Scaled(size=3, factor=2, times=2).made == (3, 2.0, 2)
    assert (added(3), added(3, more=4)) == (4, 7)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"times": 0}, r"^Scaled: times: Input should be greater than 0, not 0$"),
        ({"times": 2.5}, r"^Scaled: times: Input should be a valid integer, not 2\.5$"),
        ({}, r"^Scaled: times: it needs this parameter$"),
        ({"times": 1, "factr": 2.0}, r'^Scaled: factr: it has no such parameter, did you mean "factor"\?$'),
        ({"times": 1, "factor": float("nan")}, r"^Scaled: factor: Input should be a finite number, not nan$"),
        ({"times": "2", "factor": "3"}, r"^Scaled: factor: .*, not '3'; times: .*, not '2'$"),
    ],
)
def test_bad_values_are_refused_with_class_parameter_and_what_fits(given: dict[str, Any], message: str) -> None:
    with pytest.raises(DakitError, match=message):
        Scaled(3, **given)


def test_what_dakit_passes_is_not_looked_at_and_python_says_what_it_says_itself() -> None:
    assert Scaled("any", times=1).made[0] == "any"  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="positional"):
        Scaled(3, 4, times=1)  # type: ignore[misc]
    with pytest.raises(TypeError, match="'size'"):
        Scaled(times=1)  # type: ignore[call-arg]


def test_a_checked_class_is_otherwise_what_it_was() -> None:
    assert (Scaled.__name__, Scaled.version, added.__doc__) == ("Scaled", 7, "The same as a function.")
    assert list(inspect.signature(Scaled).parameters) == ["size", "factor", "times"]

    class Below(Scaled):
        def __init__(self, *, more: int) -> None:
            super().__init__(1, times=more)

    assert Below(more=3).made == (1, 1.0, 3)


def test_every_built_in_checks_its_parameters_whoever_builds_it(registry: Registry) -> None:
    tried = 0
    for kind, about in KINDS.items():
        for entry in registry.entries(kind):
            name = entry.factory.__name__
            with pytest.raises(DakitError, match=rf"^{name}: .*no_such_thing: it has no such parameter; there are"):
                entry.factory(*[None] * about.given, no_such_thing=1)
            tried += 1
    assert tried >= 29


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"steps": -5}, "steps: Input should be greater than 0, not -5"),
        ({"objective": "lsgan"}, "objective: Input should be 'log_saturating', 'log' or 'least_squares', not 'lsgan'"),
        ({"reduction": "average"}, "reduction: Input should be 'mean' or 'sum', not 'average'"),
        ({"teacher_sees": "both"}, "teacher_sees: Input should be 'source' or 'generated', not 'both'"),
        ({"augment": {"flop": 0.5}}, "augment: flop: "),
        ({"generator": "resnet_generator"}, "generator: Input should be an instance of Spec, not 'resnet_generator'"),
    ],
)
def test_a_translator_stage_from_python(registry: Registry, wrong: dict[str, Any], message: str) -> None:
    good = {
        "generator": registry.spec("translator", "resnet_generator", {}),
        "discriminator": registry.spec("discriminator", "patchgan", {}),
        "steps": 5,
    }
    assert TrainTranslator(**good).objective == "log_saturating"
    with pytest.raises(DakitError) as caught:
        TrainTranslator(**{**good, **wrong})
    assert str(caught.value).startswith(f"TrainTranslator: {message}")


def test_other_built_ins_from_python(tmp_path: Path) -> None:
    with pytest.raises(DakitError, match=r"TrainClassifier: classifier: it needs this parameter; steps: it needs"):
        TrainClassifier()  # type: ignore[call-arg]
    with pytest.raises(DakitError, match=r"Random: neighbours: Input should be greater than 0, not 0"):
        Random(neighbours=0)
    with pytest.raises(DakitError, match=r"ResNetCifar: depth: Input should be a valid integer, not '8'"):
        ResNetCifar(3, depth="8")  # type: ignore[arg-type]
    with pytest.raises(DakitError, match=r"image_folder: fit: Input should be 'crop' or 'squash', not 'pad'"):
        image_folder(8, None, root=Folder(tmp_path), fit="pad")  # type: ignore[arg-type]


def test_a_component_is_built_as_before(registry: Registry) -> None:
    spec = registry.spec("classifier", "resnet_cifar", {"depth": 8, "width": 4})
    networks = []
    builds = (
        lambda: spec.build(3),
        lambda: ResNetCifar(3, depth=8, width=4),
        lambda: ResNetCifar(classes=3, depth=8, width=4),
    )
    for build in builds:
        torch.manual_seed(2)
        networks.append(build().state_dict())
    assert all(torch.equal(networks[0][name], other[name]) for other in networks[1:] for name in networks[0])


@pytest.mark.parametrize(
    ("engine", "message"),
    [
        (Engine(device="gpu"), "device: Input should be 'auto', 'cpu', 'cuda' or 'mps', not 'gpu'"),  # type: ignore[arg-type]
        (Engine(precision="fp8"), "precision: Input should be 'fp32', 'bf16' or 'fp16', not 'fp8'"),  # type: ignore[arg-type]
        (Engine(accumulate=0), "accumulate: Input should be greater than 0, not 0"),
        (Engine(checkpoint_minutes=-1.0), "checkpoint_minutes: Input should be greater than 0, not -1.0"),
    ],
)
def test_an_engine_from_python(engine: Engine, message: str) -> None:
    with pytest.raises(DakitError) as caught:
        accelerator(engine)
    assert str(caught.value) == f"Engine: {message}"


def test_defaults_are_filled_in() -> None:
    assert verified(Scaled, {"times": 4}, 1) == {"factor": 1.0, "times": 4}
