"""Layers that our translators and discriminators share, in their fastest exact form."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


class InstanceNorm(nn.Module):
    """Instance normalisation without weights: every channel of every image to mean 0 and variance 1.

    ``(x - mean) / sqrt(var + 1e-5)`` over the positions of ``(B, C, H, W)``, var with divisor H W; the same
    values as ``nn.InstanceNorm2d``, which copies channels-last maps to channels-first and back and takes twice
    as long. Here a group norm of one channel per group works on channels-first maps and on a GPU, and a batch norm of
    one image at a time on channels-last ones of a CPU, each in its own layout and precision.

    Source: Ulyanov, Vedaldi, Lempitsky, *Instance normalization*, 2016, Eq. 3.
    """

    def forward(self, maps: Tensor) -> Tensor:
        """``(B, C, H, W)`` to the same shape, layout and dtype."""
        with torch.autocast(maps.device.type, enabled=False):  # which would have the GPU's in fp32
            if maps.is_contiguous() or maps.device.type != "cpu":
                return F.group_norm(maps, maps.shape[1])
            return torch.cat([F.batch_norm(image, None, None, training=True) for image in torch.split(maps, 1)])


class ReflectionPad(nn.ReflectionPad2d):
    """Reflection padding in the precision of its input, where autocast would take fp32 and two more copies.

    Its gradient is the same to the bit in every run, on a GPU too, where torch's is added in any order.
    """

    def forward(self, input: Tensor) -> Tensor:
        """``(B, C, H, W)`` to ``(B, C, H + 2 p, W + 2 p)``."""
        with torch.autocast(input.device.type, enabled=False):
            if input.device.type == "cpu" or torch.compiler.is_compiling():  # whose own gradient has an order
                return super().forward(input)
            padded: Tensor = _Reflected.apply(input, self.padding[0])
            return padded


class _Reflected(torch.autograd.Function):
    """``P_h x P_w^T`` with the 0/1 matrices P of :func:`_reflection`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, pad: int) -> Tensor:
        ctx.pad = pad
        return F.pad(x, (pad, pad, pad, pad), mode="reflect")

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        like = gradient.dtype, gradient.device
        rows, columns = (_reflection(side - 2 * ctx.pad, ctx.pad, *like) for side in gradient.shape[2:])
        return rows.T @ (gradient @ columns), None


@lru_cache(maxsize=64)
def _reflection(size: int, pad: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """``(size + 2 pad, size)``: which position each padded one repeats."""
    places = torch.arange(-pad, size + pad).abs()
    return F.one_hot(size - 1 - (size - 1 - places).abs(), size).to(device, dtype)


class FittedLinear(nn.Module):
    """``features @ weight.T + bias``, put there once by :meth:`take`: what linear estimators of scikit-learn give.

    Buffers, as no gradient trains them: ``weight`` ``(K, D)`` and ``bias`` ``(K,)``, empty before.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weight", torch.empty(0, 0))
        self.register_buffer("bias", torch.empty(0))

    def take(self, coefficients: Any, intercepts: Any) -> None:
        """One row a class, ``(K, D)`` and ``(K,)``; or of two classes one row d, whose logits are then -d/2 and d/2:
        their softmax is the logistic function of d.
        """
        weight, bias = (torch.as_tensor(values, dtype=torch.float64) for values in (coefficients, intercepts))
        if len(weight) == 1:
            weight, bias = torch.cat([-weight / 2, weight / 2]), torch.cat([-bias / 2, bias / 2])
        self.weight, self.bias = weight.float().contiguous(), bias.float().contiguous()

    def forward(self, features: Tensor) -> Tensor:
        """``(B, D)`` to ``(B, K)``."""
        return F.linear(features, self.weight, self.bias)
