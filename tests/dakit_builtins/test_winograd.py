from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from dakit_builtins.translators.resnet_generator import ResnetGenerator
from dakit_builtins.winograd import WinogradConv2d, _Winograd


def both(layer: nn.Conv2d, **kinds: Any) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Value and gradients (maps, weights, bias) of a layer and of the plain convolution."""
    x = torch.randn(2, layer.in_channels, 14, 10, dtype=layer.weight.dtype).to(**kinds).requires_grad_()
    wanted = torch.randn(2, layer.out_channels, 12, 8, dtype=layer.weight.dtype)
    found = []
    for made in (layer(x), F.conv2d(x, layer.weight, layer.bias)):
        inputs = [x, layer.weight] + ([] if layer.bias is None else [layer.bias])
        found.append([made, *torch.autograd.grad(made, inputs, wanted)])
    return found[0], found[1]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_it_is_the_plain_convolution(bias: bool, layout: torch.memory_format) -> None:
    torch.manual_seed(0)
    layer = WinogradConv2d(3, 5, 3, bias=bias).double()
    for one, other in zip(*both(layer, memory_format=layout), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_its_gradient_is_that_of_finite_differences() -> None:
    torch.manual_seed(0)
    x = torch.randn(1, 2, 10, 6, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(2, 2, 3, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(_Winograd.apply, (x, weight))


def test_rounding_in_fp32_is_as_documented() -> None:
    torch.manual_seed(0)
    layer = WinogradConv2d(256, 256, 3)
    x = torch.randn(1, 256, 18, 18)
    exact = F.conv2d(x.double(), layer.weight.double(), layer.bias.double())
    error = (layer(x) - exact).norm() / exact.norm()
    direct = (F.conv2d(x, layer.weight, layer.bias) - exact).norm() / exact.norm()
    # And so the other way was taken. How the direct sum is ordered depends on the machine: 3e-7 with AVX-512, 9e-7 with
    # AVX2.
    assert 1.5 * direct < error < 5e-6
    assert direct < 1.5e-6


@pytest.mark.parametrize("way", ["sides", "autocast"])
def test_elsewhere_it_is_the_plain_convolution_to_the_bit(way: str) -> None:
    torch.manual_seed(0)
    layer = WinogradConv2d(3, 4, 3)
    x = torch.randn(1, 3, 9 if way == "sides" else 10, 10)
    with torch.autocast("cpu", torch.bfloat16, enabled=way == "autocast"):
        assert torch.equal(layer(x), nn.Conv2d.forward(layer, x))


def test_a_generator_with_it_has_the_weights_and_the_results_of_one_without() -> None:
    torch.manual_seed(0)
    plain, quick = (ResnetGenerator(blocks=2, width=4, winograd=on).double() for on in (False, True))
    quick.load_state_dict(plain.state_dict(), strict=True)
    images = torch.rand(2, 3, 32, 48, dtype=torch.float64) * 2 - 1
    torch.testing.assert_close(quick(images), plain(images))
    assert sum(isinstance(layer, WinogradConv2d) for layer in quick.modules()) == 4
