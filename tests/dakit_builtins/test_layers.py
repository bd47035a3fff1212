from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from dakit_builtins.layers import InstanceNorm, ReflectionPad, _Reflected


def by_hand(x: Tensor) -> Tensor:
    mean = x.mean((2, 3), keepdim=True)
    return (x - mean) / (((x - mean) ** 2).mean((2, 3), keepdim=True) + 1e-5).sqrt()


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("shape", [(1, 3, 4, 5), (3, 2, 8, 8)])
def test_instance_norm_is_its_formula_with_its_gradient(layout: torch.memory_format, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    given = torch.randn(shape, dtype=torch.float64) * 3 + 1
    weights = torch.randn(shape, dtype=torch.float64)
    x = given.clone(memory_format=layout).requires_grad_()
    y = given.clone().requires_grad_()
    out, expected = InstanceNorm()(x), by_hand(y)
    torch.testing.assert_close(out, expected)
    assert out.is_contiguous(memory_format=layout)
    (out * weights).sum().backward()
    (expected * weights).sum().backward()
    torch.testing.assert_close(x.grad, y.grad)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_layers_stay_in_the_precision_of_their_input(layout: torch.memory_format) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 3, 6, 6).to(torch.bfloat16, memory_format=layout)
    with torch.autocast("cpu", torch.bfloat16):
        assert nn.ReflectionPad2d(2)(x).dtype == torch.float32  # what the layer is for
        padded, normed = ReflectionPad(2)(x), InstanceNorm()(x)
    assert padded.dtype == normed.dtype == torch.bfloat16
    assert torch.equal(padded.float(), nn.ReflectionPad2d(2)(x.float()))
    torch.testing.assert_close(normed.float(), by_hand(x.float()), rtol=2e-2, atol=2e-2)  # bf16 has 8 bits


@pytest.mark.parametrize("pad", [1, 3])
def test_the_gradient_of_reflection_on_a_gpu_is_that_of_a_cpu(pad: int) -> None:
    torch.manual_seed(0)
    given = torch.randn(2, 3, 5, 7, dtype=torch.float64)
    wanted = torch.randn(2, 3, 5 + 2 * pad, 7 + 2 * pad, dtype=torch.float64)
    found = []
    for layer in (nn.ReflectionPad2d(pad), lambda x: _Reflected.apply(x, pad)):
        x = given.clone().requires_grad_()
        made = layer(x)
        (made * wanted).sum().backward()
        found.append((made.detach(), x.grad))
    torch.testing.assert_close(found[0], found[1], rtol=1e-14, atol=1e-14)
