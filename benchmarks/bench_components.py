"""Forward and backward of every registered network and loss: parametrised over the registry."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from dakit.interfaces import Prediction
from dakit.plugins import find_plugins
from dakit.registry import KINDS, Registry
from dakit.training.trainer import Trainer

REGISTRY = Registry(find_plugins())
NEEDED: dict[str, dict[str, Any]] = {"torchvision": {"arch": "alexnet"}, "timm": {"arch": "resnet18"}}
NETWORKS = [
    f"{kind}/{e.name}"
    for kind in ("translator", "discriminator", "classifier")
    for e in REGISTRY.entries(kind)
    if e.name != "frozen_features"  # what a stage puts together: see bench_heads.py
]
LOSSES = [f"transfer_loss/{entry.name}" for entry in REGISTRY.entries("transfer_loss")]


@pytest.mark.parametrize("what", NETWORKS)
def bench_network(what: str, size: int, batch: int, trainer: Trainer, measure: Callable[..., None]) -> None:
    kind, name = what.split("/", 1)
    torch.manual_seed(0)
    built = REGISTRY.spec(kind, name, NEEDED.get(name, {})).build(*(7,) * KINDS[kind].given)
    network = trainer.place(built, train=True)
    images = torch.randn(batch, 3, size, size, device=trainer.device).clamp(-1, 1)

    def step() -> None:
        network.zero_grad()
        with trainer.autocast():
            out = network(images)
        (out.logits if isinstance(out, Prediction) else out).float().sum().backward()

    measure(step, images=batch)


@pytest.mark.parametrize("what", LOSSES)
def bench_transfer_loss(what: str, batch: int, trainer: Trainer, measure: Callable[..., None]) -> None:
    """On the four maps of a ResNet-50 that sees 256 pixels; ``--batch`` of them."""
    torch.manual_seed(0)
    loss = REGISTRY.spec(*what.split("/", 1), {}).build()

    def prediction(learn: bool) -> Prediction:
        sizes = ((256, 64), (512, 32), (1024, 16), (2048, 8))
        device = trainer.device
        maps = tuple(torch.rand(batch, c, s, s, device=device, requires_grad=learn) for c, s in sizes)
        return Prediction(
            torch.randn(batch, 7, device=device, requires_grad=learn), torch.randn(batch, 2048, device=device), maps
        )

    teacher, student = prediction(False), prediction(True)

    def step() -> None:
        for leaf in (student.logits, *student.maps):
            leaf.grad = None
        with trainer.autocast():
            value = loss(teacher, student)
        value.backward()

    measure(step, images=batch)
