from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from dakit.errors import DakitError
from dakit_builtins.translators.resnet_generator import ResnetGenerator


def published_keys(blocks: int) -> list[str]:
    """The names in the PyTorch CycleGAN repository's generators with instance norm and no dropout."""
    layers = ["model.1", "model.4", "model.7"]
    layers += [f"model.{10 + i}.conv_block.{j}" for i in range(blocks) for j in (1, 5)]
    layers += [f"model.{10 + blocks + i}" for i in (0, 3, 7)]
    return [f"{layer}.{name}" for layer in layers for name in ("weight", "bias")]


def by_hand(state: dict[str, Tensor], x: Tensor, blocks: int) -> Tensor:
    """The forward pass from section 7.2 of the paper, in functional form."""

    def norm(x: Tensor) -> Tensor:
        mean = x.mean((2, 3), keepdim=True)
        return (x - mean) / (((x - mean) ** 2).mean((2, 3), keepdim=True) + 1e-5).sqrt()

    def weights(name: str) -> tuple[Tensor, Tensor]:
        return state[f"{name}.weight"], state[f"{name}.bias"]

    def reflect(x: Tensor, n: int) -> Tensor:
        return F.pad(x, (n, n, n, n), mode="reflect")

    x = F.relu(norm(F.conv2d(reflect(x, 3), *weights("model.1"))))
    x = F.relu(norm(F.conv2d(x, *weights("model.4"), stride=2, padding=1)))
    x = F.relu(norm(F.conv2d(x, *weights("model.7"), stride=2, padding=1)))
    for i in range(blocks):
        inner = F.relu(norm(F.conv2d(reflect(x, 1), *weights(f"model.{10 + i}.conv_block.1"))))
        x = x + norm(F.conv2d(reflect(inner, 1), *weights(f"model.{10 + i}.conv_block.5")))
    for i in (0, 3):
        w, b = weights(f"model.{10 + blocks + i}")
        x = F.relu(norm(F.conv_transpose2d(x, w, b, stride=2, padding=1, output_padding=1)))
    return torch.tanh(F.conv2d(reflect(x, 3), *weights(f"model.{17 + blocks}")))


def test_published_size_and_names() -> None:
    state = ResnetGenerator().state_dict()
    assert list(state) == published_keys(9)
    assert sum(value.numel() for value in state.values()) == 11_378_179  # 11.378 M
    assert state["model.1.weight"].shape == (64, 3, 7, 7)
    assert state["model.18.conv_block.5.weight"].shape == (256, 256, 3, 3)
    assert state["model.19.weight"].shape == (256, 128, 3, 3)
    assert state["model.26.weight"].shape == (3, 64, 7, 7)


@pytest.mark.parametrize("size", [(16, 24), (8, 8)])
@pytest.mark.parametrize("training", [True, False])
def test_published_weights_give_the_published_outputs(size: tuple[int, int], training: bool) -> None:
    torch.manual_seed(0)
    network = ResnetGenerator(blocks=2, width=4).double().train(training)
    # Far from the initialisation, with biases: a published state dict.
    shapes = {key: value.shape for key, value in network.state_dict().items()}
    assert list(shapes) == published_keys(2)
    state = {key: 0.3 * torch.randn(shape, dtype=torch.float64) for key, shape in shapes.items()}
    network.load_state_dict(state, strict=True)
    images = torch.rand(2, 3, *size, dtype=torch.float64) * 2 - 1
    torch.testing.assert_close(network(images), by_hand(state, images, 2))


def test_initialisation_is_normal_002() -> None:
    torch.manual_seed(0)
    for name, value in ResnetGenerator(blocks=1, width=16).state_dict().items():
        if name.endswith("bias"):
            assert not value.any()
        else:
            error = 1 / value.numel() ** 0.5  # of the mean, in standard deviations
            assert abs(value.mean().item()) < 5 * 0.02 * error
            assert value.std().item() == pytest.approx(0.02, rel=5 * error)


@pytest.mark.parametrize(("downsamplings", "stride", "channels"), [(1, 2, 8), (3, 8, 32)])
def test_other_numbers_of_downsamplings(downsamplings: int, stride: int, channels: int) -> None:
    torch.manual_seed(0)
    network = ResnetGenerator(blocks=2, width=4, downsamplings=downsamplings)
    seen: list[tuple[int, ...]] = []
    for name, module in network.named_modules():
        if name.endswith("conv_block"):
            module.register_forward_hook(lambda _, into, __: seen.append(tuple(into[0].shape)))
    images = torch.rand(2, 3, 32, 2 * stride) * 2 - 1
    assert network(images).shape == images.shape
    assert seen == 2 * [(2, channels, 32 // stride, 2)]
    with pytest.raises(DakitError, match=f"multiples of {stride} and at least {max(4, 2 * stride)}, not 32x{stride}"):
        network(images[..., :stride])
    with pytest.raises(DakitError, match="not 32x33"):
        network(torch.zeros(1, 3, 32, 33))


@pytest.mark.parametrize("size", [(30, 32), (32, 30), (4, 32)])
def test_sizes_that_do_not_fit_are_refused(size: tuple[int, int]) -> None:
    with pytest.raises(DakitError, match=f"multiples of 4 and at least 8, not {size[0]}x{size[1]}"):
        ResnetGenerator(blocks=1, width=2)(torch.zeros(1, 3, *size))
