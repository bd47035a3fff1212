"""Layers that our translators and discriminators share, in their fastest exact form."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class InstanceNorm(nn.Module):
    """Instance normalisation without weights: every channel of every image to mean 0 and variance 1.

    ``(x - mean) / sqrt(var + 1e-5)`` over the positions of ``(B, C, H, W)``, var with divisor H W; the same
    values as ``nn.InstanceNorm2d``, which copies channels-last maps to channels-first and back and takes twice
    as long. Here a group norm of one channel per group works on channels-first maps, and a batch norm of one
    image at a time on channels-last ones, each in its own layout and precision.

    Source: Ulyanov, Vedaldi, Lempitsky, *Instance normalization*, 2016, Eq. 3.
    """

    def forward(self, maps: Tensor) -> Tensor:
        """``(B, C, H, W)`` to the same shape, layout and dtype."""
        with torch.autocast(maps.device.type, enabled=False):  # which would have the GPU's in fp32
            if maps.is_contiguous():
                return F.group_norm(maps, maps.shape[1])
            return torch.cat([F.batch_norm(image, None, None, training=True) for image in torch.split(maps, 1)])


class ReflectionPad(nn.ReflectionPad2d):
    """Reflection padding in the precision of its input, where autocast would take fp32 and two more copies."""

    def forward(self, input: Tensor) -> Tensor:
        """``(B, C, H, W)`` to ``(B, C, H + 2 p, W + 2 p)``."""
        with torch.autocast(input.device.type, enabled=False):
            return super().forward(input)
