"""Networks of a few weights and images of a few pixels, for tests that work a stage's arithmetic out by hand."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dakit.data.sets import TensorImages
from dakit.files import shipped
from dakit.interfaces import Context, Engine, Prediction, Spec, Trained
from dakit.statistics.metrics import Evaluation

CLASSES = ("a", "b", "c")


class Generator(nn.Module):
    """One convolution; every pixel takes part in it."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        return torch.tanh(self.layer(images))


class Critic(nn.Module):
    """One logit for each 2 x 2 patch."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 4, 2, stride=2), nn.LeakyReLU(0.2), nn.Conv2d(4, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.layers(images)
        return logits


class Classifier(nn.Module):
    """A convolution, perhaps batch normalisation and dropout, and a linear head."""

    def __init__(self, classes: int, *, width: int = 4, norm: bool = False, dropout: float = 0.0) -> None:
        super().__init__()
        self.body = nn.Conv2d(3, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width) if norm else nn.Identity()
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(width, classes)

    def forward(self, images: Tensor) -> Prediction:
        maps = self.norm(self.body(images)).relu()
        features = self.dropout(maps.mean((2, 3)))
        return Prediction(self.head(features), features, (maps,))


class Lopsided:
    """A transfer loss that can tell the teacher from the student, and one batch from another."""

    def __call__(self, teacher: Prediction, student: Prediction) -> Tensor:
        return (teacher.maps[0] - 2 * student.maps[0]).square().mean()


class Adapted(nn.Module):
    """A transfer loss with weights of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(0.5))

    def forward(self, teacher: Prediction, student: Prediction) -> Tensor:
        return (teacher.maps[0] - self.scale * student.maps[0]).square().mean()


def spec(factory: Callable[..., Any], **params: Any) -> Spec[Any]:
    return Spec("toy", factory.__name__, params, factory)


def recorded(factory: Callable[..., Any], **params: Any) -> tuple[Spec[Any], list[Any]]:
    """A spec, and a list of all that it will have built."""
    built: list[Any] = []

    def build(*args: Any, **kwargs: Any) -> Any:
        built.append(factory(*args, **kwargs))
        return built[-1]

    return Spec("toy", factory.__name__, params, build), built


def fresh(what: Spec[Any], seed: int, classes: Sequence[str] = ()) -> Trained[Any]:
    """A network with weights drawn from a seed, as if an earlier stage had trained it."""
    torch.manual_seed(seed)
    network: nn.Module = what.build(len(classes)) if classes else what.build()
    return Trained(what, network.state_dict(), tuple(classes))


def images(
    labels: Sequence[int], seed: int = 0, *, size: tuple[int, int] = (4, 6), classes: Sequence[str] = CLASSES
) -> TensorImages:
    """Noise of 3 x 4 x 6 pixels."""
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(256, (len(labels), 3, *size), dtype=torch.uint8, generator=generator)
    return TensorImages(pixels, labels, classes=classes)


class Interruption(Exception):
    """Stands for a power cut."""


class Unplug:
    """An observer that ends the run in one of its steps."""

    def __init__(self, at: int) -> None:
        self.at = at

    def work_started(self, title: str, steps: int | None) -> None: ...

    def step(self, done: int, losses: Mapping[str, float]) -> None:
        if done == self.at:
            raise Interruption

    def epoch(self, done: int) -> None: ...

    def message(self, text: str) -> None: ...


def context(folder: Path, *observers: Unplug, checkpoint_steps: int = 1000) -> Context:
    folder.mkdir(parents=True, exist_ok=True)
    return Context(folder, seed=3, engine=Engine(device="cpu", checkpoint_steps=checkpoint_steps), observers=observers)


def same(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> bool:
    """Whether two state dicts are equal bit by bit."""
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def evaluation(
    labels: Sequence[int], predictions: Sequence[int], classes: int = 2, indices: Sequence[int] | None = None
) -> Evaluation:
    """Certain of every image; images are numbered from 0 where nobody says otherwise."""
    names = tuple("abcdefghijk"[:classes])
    truth, said = np.asarray(labels, np.int64), np.asarray(predictions, np.int64)
    which = np.arange(len(truth)) if indices is None else np.asarray(indices, np.int64)
    return Evaluation(names, which, truth, said, np.eye(classes, dtype=np.float32)[said])


def right(counts: Sequence[int], of: Sequence[int]) -> Evaluation:
    """An evaluation with ``counts[k]`` of ``of[k]`` images of class k right."""
    k = len(of)
    labels = np.repeat(np.arange(k), of)
    place = np.concatenate([np.arange(n) for n in of])
    said = np.where(place < np.asarray(counts)[labels], labels, (labels + 1) % k)
    return evaluation(labels.tolist(), said.tolist(), k)


def benchmark_file(name: str) -> ModuleType:
    """A file of ``benchmarks/``, which is no package, as a module."""
    found = importlib.util.spec_from_file_location(f"benchmarks_{name}", shipped("benchmarks") / f"{name}.py")
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def assert_same(a: Any, b: Any) -> None:
    """Bit for bit, through nested containers."""
    assert type(a) is type(b) or (isinstance(a, dict) and isinstance(b, dict))
    if isinstance(a, torch.Tensor):
        assert a.dtype == b.dtype
        assert torch.equal(a, b)
    elif isinstance(a, dict):
        assert list(a) == list(b)
        for key in a:
            assert_same(a[key], b[key])
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert_same(x, y)
    else:
        assert a == b
