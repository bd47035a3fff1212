from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dakit.errors import DakitError
from dakit_builtins.classifiers.resnet_cifar import ResNetCifar


@pytest.mark.parametrize("depth", [8, 38, 56])
def test_layers_and_parameters_by_section_4_2(depth: int) -> None:
    """6n + 2 weighted layers; the shortcuts of option A have no parameters."""
    n = (depth - 2) // 6
    network = ResNetCifar(10, depth=depth)
    assert sum(isinstance(m, (nn.Conv2d, nn.Linear)) for m in network.modules()) == depth
    expected = 3 * 16 * 9 + 2 * 16
    for before, channels in ((16, 16), (16, 32), (32, 64)):
        convolutions = before * channels * 9 + (2 * n - 1) * channels * channels * 9
        expected += convolutions + 2 * n * 2 * channels
    expected += 64 * 10 + 10
    assert sum(p.numel() for p in network.parameters()) == expected


def test_forward_against_functional_form() -> None:
    torch.manual_seed(0)
    network = ResNetCifar(5, depth=14, width=4).double().eval()
    for value in network.state_dict().values():  # batch statistics and affine parameters too
        if value.is_floating_point():
            value.copy_(0.5 * torch.rand_like(value) + 0.05)
    state = network.state_dict()
    for name, value in state.items():
        if "conv" in name:
            value.sub_(value.mean())

    def norm(x: Tensor, name: str) -> Tensor:
        mean, variance = state[f"{name}.running_mean"], state[f"{name}.running_var"]
        scale = state[f"{name}.weight"] / (variance + 1e-5).sqrt()
        return (x - mean.view(-1, 1, 1)) * scale.view(-1, 1, 1) + state[f"{name}.bias"].view(-1, 1, 1)

    images = torch.rand(2, 3, 17, 12, dtype=torch.float64) * 2 - 1
    x = F.conv2d(images, state["conv1.weight"], padding=1)
    torch.testing.assert_close(network.stem(images), x)
    x = norm(x, "bn1").clamp(min=0)
    maps = []
    for stage in range(3):
        for block in range(2):
            name = f"stages.{stage}.{block}"
            stride = 2 if stage and not block else 1
            inner = F.conv2d(x, state[f"{name}.conv1.weight"], stride=stride, padding=1)
            inner = norm(inner, f"{name}.bn1").clamp(min=0)
            inner = norm(F.conv2d(inner, state[f"{name}.conv2.weight"], padding=1), f"{name}.bn2")
            if stride == 2:  # option A: every second pixel, new channels zero
                x = x[:, :, ::2, ::2]
                x = torch.cat([x, torch.zeros_like(x)], dim=1)
            x = (x + inner).clamp(min=0)
        maps.append(x)
    features = x.flatten(2).mean(2)
    logits = features @ state["head.weight"].T + state["head.bias"]

    prediction = network(images)
    assert [tuple(m.shape[1:]) for m in prediction.maps] == [(4, 17, 12), (8, 9, 6), (16, 5, 3)]
    assert all((m >= 0).all() for m in prediction.maps)
    torch.testing.assert_close(prediction.maps, tuple(maps))
    torch.testing.assert_close(prediction.features, features)
    torch.testing.assert_close(prediction.logits, logits)
    torch.testing.assert_close(network.head(prediction.features), prediction.logits)


def test_initialisations() -> None:
    torch.manual_seed(0)
    weight = ResNetCifar(7, width=32).stages[2][1].conv1.weight  # (128, 128, 3, 3)
    assert weight.std().item() == pytest.approx((2 / (128 * 9)) ** 0.5, rel=0.02)
    network = ResNetCifar(7, width=32, initialisation="normal_002")
    assert network.stages[2][1].conv1.weight.std().item() == pytest.approx(0.02, rel=0.02)
    assert network.head.weight.std().item() == pytest.approx(0.02, rel=0.15)
    assert not network.head.bias.any()


@pytest.mark.parametrize(("depth", "nearest"), [(40, "38 or 44"), (7, "8"), (2, "8"), (1, "8")])
def test_other_depths_are_refused(depth: int, nearest: str) -> None:
    with pytest.raises(DakitError, match=rf"depth must be 6n \+ 2, not {depth}; nearest: {nearest}$"):
        ResNetCifar(7, depth=depth)
