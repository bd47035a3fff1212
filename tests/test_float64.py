"""Apple's GPUs have no float64: nothing that dakit computes on a device may make one there, or bring one to it.

The device here is a pretended one, "cpu:0": a mode that sees every call into torch marks what is brought there and what
is made of it, until ``.cpu()``, and refuses what that device refuses.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map_only

from dakit.data.augment import Augmentation
from dakit.data.features import fit_pca, nearest_with_reuse
from dakit.interfaces import Prediction
from dakit.stages.translator import critic_loss, generator_loss, to_uint8
from dakit_builtins.classifiers.resnet_cifar import ResNetCifar
from dakit_builtins.discriminators.patchgan import PatchGAN
from dakit_builtins.transfer_losses.attention_transfer import AttentionTransfer
from dakit_builtins.transfer_losses.soft_targets import SoftTargets
from dakit_builtins.translators.resnet_generator import ResnetGenerator

THERE, HERE = torch.device("cpu", 0), torch.device("cpu")


def there(tensor: torch.Tensor) -> bool:
    return getattr(tensor, "there", False)


class Refused(Exception):
    """What Apple's framework says of float64."""


class Device(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", "")
        given = tree_leaves((args, kwargs))
        devices = [torch.device(one) for one in given if isinstance(one, torch.device) or one in ("cpu", "cpu:0")]
        marked = any(there(one) for one in given if isinstance(one, torch.Tensor))
        if devices or name == "cpu":
            marked = bool(devices) and devices[0] == THERE

        def mark(tensor: torch.Tensor) -> torch.Tensor:
            if marked and tensor.dtype in (torch.float64, torch.complex128):
                raise Refused(name)
            if there(tensor) != marked:
                tensor = tensor.view_as(tensor) if any(tensor is one for one in given) else tensor
                tensor.there = marked  # type: ignore[attr-defined]
            return tensor

        if name.startswith("__set") or not isinstance(out, (torch.Tensor, tuple, list)):
            return out
        return tree_map_only(torch.Tensor, mark, out)


@pytest.fixture
def device() -> Iterator[torch.device]:
    with Device():
        yield THERE


def rows(count: int, width: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


def test_the_pretended_device_refuses_float64(device: torch.device) -> None:
    one = torch.ones(2).to(device)
    assert [there(x) for x in (one, one + 1, one.cpu(), one.to("cpu"), one[:1], torch.zeros_like(one))] == [
        True, True, False, False, True, True,
    ]  # fmt: skip
    assert one.cpu().double().sum() == 2
    assert there(torch.ones(2).to(one))
    for wrong in (
        lambda: one.double(), lambda: torch.ones(2, dtype=torch.float64).to(device), lambda: one.to(torch.float64),
        lambda: torch.zeros(2, dtype=torch.float64, device=device), lambda: one * torch.ones(2, dtype=torch.float64),
        lambda: torch.ones(2, dtype=torch.float64).to(device).float(),
    ):  # fmt: skip
        with pytest.raises(Refused):
            wrong()


def test_selection(device: torch.device) -> None:
    sample = rows(6, 20)
    wanted = fit_pca(sample.clone(), 3)(sample)
    pca = fit_pca(sample.to(device), 3)
    assert there(pca.axes)
    assert torch.allclose(pca(sample.to(device)).cpu(), wanted, atol=1e-4)
    pool, anchors = rows(30, 4), rows(5, 4, 1)
    groups = {"pool_groups": torch.zeros(30, dtype=torch.int64), "anchor_groups": torch.zeros(5, dtype=torch.int64)}
    wanted = nearest_with_reuse([pool], anchors, 2, max_reuse=1, **groups)
    found = nearest_with_reuse([pool.to(device)], anchors.to(device), 2, max_reuse=1, **groups)
    assert torch.equal(wanted[0], found[0])


@pytest.mark.parametrize(
    "wanted", [{"flip": 0.5}, {"shift": 0.1, "rotate": 10.0, "zoom": 0.1}, {"light": 0.2}, {"colour": 0.2}]
)
def test_augmentation(device: torch.device, wanted: Any) -> None:
    changed = Augmentation(wanted).to(device)(torch.zeros(4, 3, 8, 8).to(device))
    assert there(changed)


@pytest.mark.parametrize("loss", [AttentionTransfer(), SoftTargets()])
def test_transfer_losses(device: torch.device, loss: Any) -> None:
    def said(seed: int) -> Prediction:
        maps = tuple(rows(2, 48, seed).view(2, 3, 4, 4).to(device) for _ in range(2))
        return Prediction(rows(2, 5, seed).to(device), rows(2, 6, seed).to(device), maps)

    assert there(loss(said(0), said(1)))


@pytest.mark.parametrize(
    "network",
    [
        ResNetCifar(2, depth=8, width=4), PatchGAN(width=4, layers=1),
        ResnetGenerator(blocks=1, width=4, downsamplings=1),
    ],
)  # fmt: skip
def test_networks_and_losses(device: torch.device, network: nn.Module) -> None:
    network = network.to(device)
    for tensor in (*network.parameters(), *network.buffers()):
        tensor.there = True
    made = network(rows(2, 3 * 16 * 16).view(2, 3, 16, 16).to(device))
    said = made.logits if isinstance(made, Prediction) else made
    assert there(said)
    for objective in ("log_saturating", "log", "least_squares"):
        assert there(generator_loss(said, objective) + critic_loss(said, said, objective))
    assert not there(to_uint8(said.detach()))
