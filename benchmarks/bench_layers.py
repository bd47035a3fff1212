"""A layer of our own against torch's, inside the network that uses it: what it earns a user, or it goes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from dakit.plugins import find_plugins
from dakit.registry import Registry
from dakit.training.trainer import Trainer
from dakit_builtins.layers import InstanceNorm

DEMO = {"blocks": 3, "width": 16, "downsamplings": 1}
"""The generator of the demo, trained in channels-last layout."""


def with_torchs_norm(network: nn.Module) -> nn.Module:
    """The same network with ``nn.InstanceNorm2d``."""
    for name, layer in list(network.named_children()):
        if isinstance(layer, InstanceNorm):
            setattr(network, name, nn.InstanceNorm2d(1))
        else:
            with_torchs_norm(layer)
    return network


@pytest.mark.filterwarnings("ignore:input's size at dim=1 does not match")
@pytest.mark.parametrize("what", ["layer/instance_norm"])
def bench_instance_norm(what: str, size: int, batch: int, trainer: Trainer, measure: Callable[..., None]) -> None:
    """The demo's generator, forward and backward, against itself with torch's instance normalisation."""

    def network() -> nn.Module:
        torch.manual_seed(0)
        generator = Registry(find_plugins()).spec("translator", "resnet_generator", DEMO).build()
        return generator.to(trainer.device, memory_format=torch.channels_last)  # type: ignore[no-any-return]

    ours, theirs = network(), with_torchs_norm(network())
    images = torch.rand(batch, 3, size, size, device=trainer.device).to(memory_format=torch.channels_last)

    def step(generator: nn.Module) -> None:
        translated: Tensor = generator(images)
        translated.square().mean().backward()

    measure(lambda: step(ours), images=batch, reference=("torch's InstanceNorm2d", lambda: step(theirs)))
