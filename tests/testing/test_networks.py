from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dakit.interfaces import Prediction
from dakit.registry import Registry
from dakit.testing import check_component

NEEDED: dict[str, dict[str, Any]] = {"timm": {"arch": "test_resnet"}}


def failed(kind: str, factory: Callable[..., Any], **params: Any) -> set[str]:
    return {result.check for result in check_component(kind, factory, params) if result.problem}


@pytest.mark.parametrize("kind", ["translator", "discriminator", "classifier"])
def test_every_registered_network_keeps_the_contract(registry: Registry, kind: str) -> None:
    for entry in registry.entries(kind):
        if entry.name not in ("torchvision", "frozen_features"):  # the latter: tests/training/test_frozen.py
            assert failed(kind, entry.factory, **NEEDED.get(entry.name, {})) == set(), entry.name


@pytest.mark.slow  # draws the 57 million weights of its smallest network two dozen times
def test_torchvision_keeps_the_contract(registry: Registry) -> None:
    factory = registry.find("classifier", "torchvision").factory
    assert failed("classifier", factory, arch="alexnet") == set()


class Translator(nn.Module):
    """A convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        return torch.tanh(self.layer(images))


class TooLarge(Translator):
    """Leaves [-1, 1]."""

    def forward(self, images: Tensor) -> Tensor:
        return 3 + self.layer(images)


class Shrinking(Translator):
    """Halves the images."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images)[:, :, ::2, ::2]


class NanOnBlack(Translator):
    """Divides by the contrast."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward((images - images.mean()) / images.std())


class Detached(Translator):
    """Lets no gradient through."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images.detach())


class Idle(Translator):
    """Has a weight that does nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))


class InPlace(Translator):
    """Works on its input."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images.mul_(0.5) if not images.requires_grad else images * 0.5)


class BatchMean(Translator):
    """Subtracts the mean of the batch."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images - images.mean(0, keepdim=True))


class Chance(Translator):
    """Adds noise in evaluation mode."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images + torch.randn_like(images))


class Forgetful(Translator):
    """Keeps a tensor outside its state dict."""

    def __init__(self) -> None:
        super().__init__()
        self.shift = torch.rand(1)

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images + self.shift.to(images))


class Fixed(Translator):
    """Makes a float32 tensor of its own."""

    def forward(self, images: Tensor) -> Tensor:
        return torch.tanh(nn.functional.conv2d(images, self.layer.weight.float(), padding=1))


_CALLS = iter(range(10**6))


class Unseeded(Translator):
    """Its weights come from elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        nn.init.constant_(self.layer.weight, 1 / (2 + next(_CALLS)))


class OneColour(Translator):
    """Divides by a standard deviation whose gradient is infinite at 0."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images / (1 + images.var((2, 3), keepdim=True).sqrt()))


class Reseeds(Translator):
    """Always the same weights."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        super().__init__()


_LAYER = nn.Conv2d(3, 3, 3, padding=1)


class Shared(Translator):
    """One layer for all."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = _LAYER


class NoBuffer(Translator):
    """Its tensor stays on the CPU."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = torch.ones(1, 3, 1, 1)

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images) * self.weights


class OneLayout(Translator):
    """Reads memory in one order."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images).view(-1).view(images.shape)


class NoModule:
    """A function in disguise."""

    def __call__(self, images: Tensor) -> Tensor:
        return images


@pytest.mark.parametrize(
    ("factory", "expected"),
    [
        (TooLarge, {"translates_to_the_same_shape_and_range"}),
        (Shrinking, {"translates_to_the_same_shape_and_range"}),
        (NanOnBlack, {"outputs_are_finite", "gradients_are_finite", "evaluation_sees_one_image_at_a_time"}),
        (OneColour, {"gradients_are_finite"}),
        (Reseeds, {"every_build_is_its_own"}),
        (Shared, {"every_build_is_its_own"}),
        (NoBuffer, {"moves_to_other_precisions_and_devices"}),
        (OneLayout, {"moves_to_other_precisions_and_devices"}),
        (Detached, {"gradients_reach_images_and_weights"}),
        (Idle, {"gradients_reach_images_and_weights"}),
        (InPlace, {"leaves_its_input_alone", "evaluation_sees_one_image_at_a_time", "weights_survive_a_file"}),
        (BatchMean, {"evaluation_sees_one_image_at_a_time"}),
        (Chance, {"evaluation_sees_one_image_at_a_time", "weights_survive_a_file"}),
        (Forgetful, {"weights_survive_a_file"}),
        (Fixed, {"moves_to_other_precisions_and_devices", "gradients_reach_images_and_weights"}),
        (Unseeded, {"same_seed_gives_the_same_network"}),
    ],
)
def test_a_broken_translator_fails_its_check(factory: Callable[..., Any], expected: set[str]) -> None:
    assert failed("translator", factory) == expected


def test_a_good_translator_fails_none_and_a_function_is_no_network() -> None:
    assert failed("translator", Translator) == set()
    assert "is_a_module" in failed("translator", NoModule)


class Discriminator(nn.Module):
    """Judges the batch as a whole."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 1, 4, stride=4)

    def forward(self, images: Tensor) -> Tensor:
        return self.layer(images).mean()[None]


def test_a_discriminator_that_does_not_judge_every_image() -> None:
    assert "judges_every_image" in failed("discriminator", Discriminator)


class Classifier(nn.Module):
    """Two convolutions and a head; ``fault`` breaks it."""

    def __init__(self, classes: int, *, fault: str = "") -> None:
        super().__init__()
        self.fault = fault
        self.stem = nn.Conv2d(3, 4, 3, stride=2) if fault != "stem" else nn.Flatten()
        self.first = nn.Conv2d(3, 4, 3, stride=2)
        self.second = nn.Conv2d(4, 6, 3, stride=2)
        self.head = nn.Linear(6, 3 if fault == "classes" else classes)

    def forward(self, images: Tensor) -> Prediction:
        first = self.first(images).relu() + (self.stem(images).relu() if self.fault != "stem" else 0)
        second = self.second(first)
        features = second.relu().mean((2, 3))
        maps = (second, first) if self.fault == "order" else (first, second)
        logits = self.head(features) * (2 if self.fault == "head" else 1)
        return Prediction(logits, features, maps, rectified=self.fault == "rectified")


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ("", set()),
        ("classes", {"predicts_logits_features_and_maps"}),
        ("order", {"predicts_logits_features_and_maps"}),
        ("head", {"head_turns_features_into_logits"}),
        ("stem", {"stem_is_of_images"}),
        ("rectified", {"keeps_what_it_says_of_its_maps"}),
    ],
)
def test_a_broken_classifier_fails_its_check(fault: str, expected: set[str]) -> None:
    assert failed("classifier", Classifier, fault=fault) == expected
