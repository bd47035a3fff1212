from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dakit.errors import DakitError
from dakit_builtins.discriminators.patchgan import PatchGAN
from dakit_builtins.layers import InstanceNorm


def test_published_size_and_names() -> None:
    state = PatchGAN().state_dict()
    assert list(state) == [f"model.{i}.{name}" for i in (0, 2, 5, 8, 11) for name in ("weight", "bias")]
    assert [state[f"model.{i}.weight"].shape[0] for i in (0, 2, 5, 8, 11)] == [64, 128, 256, 512, 1]
    assert sum(value.numel() for value in state.values()) == 2_764_737  # 2.765 M


@pytest.mark.parametrize("training", [True, False])
def test_published_weights_give_the_published_outputs(training: bool) -> None:
    torch.manual_seed(0)
    network = PatchGAN(width=4).double().train(training)
    shapes = {key: value.shape for key, value in network.state_dict().items()}
    state = {key: 0.3 * torch.randn(shape, dtype=torch.float64) for key, shape in shapes.items()}
    network.load_state_dict(state, strict=True)
    images = torch.rand(2, 3, 32, 41, dtype=torch.float64) * 2 - 1

    def leaky(x: Tensor) -> Tensor:
        return torch.where(x > 0, x, 0.2 * x)

    def norm(x: Tensor) -> Tensor:
        mean = x.mean((2, 3), keepdim=True)
        return (x - mean) / (((x - mean) ** 2).mean((2, 3), keepdim=True) + 1e-5).sqrt()

    x = leaky(F.conv2d(images, state["model.0.weight"], state["model.0.bias"], stride=2, padding=1))
    for i, stride in ((2, 2), (5, 2), (8, 1)):
        w, b = state[f"model.{i}.weight"], state[f"model.{i}.bias"]
        x = leaky(norm(F.conv2d(x, w, b, stride=stride, padding=1)))
    expected = F.conv2d(x, state["model.11.weight"], state["model.11.bias"], padding=1)
    logits = network(images)
    assert logits.shape == (2, 1, 32 // 8 - 2, 41 // 8 - 2)
    torch.testing.assert_close(logits, expected)


@pytest.mark.parametrize(("layers", "pixels"), [(1, 16), (2, 34), (3, 70)])
def test_receptive_field(layers: int, pixels: int) -> None:
    torch.manual_seed(0)
    network = PatchGAN(width=2, layers=layers).double()

    # By calculation: each layer back, r -> (r - 1) stride + kernel.
    field = 1
    for module in reversed(network.model):
        if isinstance(module, nn.Conv2d):
            field = (field - 1) * module.stride[0] + module.kernel_size[0]
    assert field == pixels

    # By gradient, without the norm, through which every pixel reaches every logit.
    for i, module in enumerate(network.model):
        if isinstance(module, InstanceNorm):
            network.model[i] = nn.Identity()
    images = torch.randn(1, 3, 128, 128, dtype=torch.float64, requires_grad=True)
    logits = network(images)
    logits[0, 0, logits.shape[2] // 2, logits.shape[3] // 2].backward()
    assert images.grad is not None
    touched = images.grad[0].abs().sum(0) > 0
    rows, columns = touched.any(1).nonzero(), touched.any(0).nonzero()
    assert int(rows.max() - rows.min()) + 1 == pixels
    assert int(columns.max() - columns.min()) + 1 == pixels


def test_initialisation_is_normal_002() -> None:
    torch.manual_seed(0)
    for name, value in PatchGAN(width=16).state_dict().items():
        if name.endswith("bias"):
            assert not value.any()
        else:
            assert value.std().item() == pytest.approx(0.02, rel=5 / value.numel() ** 0.5)


@pytest.mark.parametrize(("layers", "smallest"), [(2, 12), (3, 24)])
def test_smallest_image(layers: int, smallest: int) -> None:
    network = PatchGAN(width=2, layers=layers)
    assert network(torch.zeros(1, 3, smallest, smallest)).shape == (1, 1, 1, 1)
    with pytest.raises(DakitError, match=f"at least {smallest} x {smallest} pixels, not {smallest - 1} x 64"):
        network(torch.zeros(1, 3, smallest - 1, 64))
    # The bound is no stricter than the network itself.
    with pytest.raises(ValueError, match="more than 1"):
        network.model(torch.zeros(1, 3, smallest - 1, smallest - 1))
