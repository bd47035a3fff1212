"""The image translator of CycleGAN."""

from __future__ import annotations

from itertools import chain, pairwise
from typing import ClassVar

import torch
from torch import Tensor, nn

from dakit.errors import DakitError
from dakit.interfaces import Positive
from dakit.parameters import checked
from dakit_builtins.layers import InstanceNorm, ReflectionPad
from dakit_builtins.winograd import WinogradConv2d


@checked
class ResnetGenerator(nn.Module):
    """The residual generator of CycleGAN.

    7x7 convolution, ``downsamplings`` 3x3 convolutions of stride 2, ``blocks`` residual blocks, as many 3x3
    transposed convolutions of stride 2, 7x7 convolution, tanh. Reflection padding, instance norm, ReLU. Weights are
    drawn from N(0, 0.02), biases are 0. With 9 blocks at width 64 it has 11.378 M parameters, and the state
    dict of a published generator (instance norm, no dropout) loads into it with unchanged outputs.

    Images are float ``(B, 3, H, W)`` in [-1, 1], H and W multiples of ``2**downsamplings`` and at least two times
    that (and 4); so is the result.

    Source: Zhu, Park, Isola, Efros, *Unpaired image-to-image translation using cycle-consistent adversarial
    networks*, ICCV 2017, sections 4 and 7.2.

    Args:
        blocks: residual blocks; the paper takes 6 for images of 128 pixels, 9 from 256 pixels on.
        width: channels after the first convolution, doubled by every downsampling.
        downsamplings: the paper takes two. One keeps small things in small images, such as mouths in faces of 40
            pixels; digits of 32 pixels kept their labels better with two.
        winograd: convolve in the residual blocks by :class:`~dakit_builtins.winograd.WinogradConv2d`, which on a CPU
            in fp32 makes training steps 1.2 to 1.3 times as fast from 256 pixels on, or 128 in batches of 4, and
            slower below; elsewhere it changes nothing.

    Raises:
        DakitError: (when called) H or W does not fit.

    >>> sum(p.numel() for p in ResnetGenerator().parameters())
    11378179
    """

    version: ClassVar[int] = 2

    def __init__(
        self, *, blocks: Positive = 9, width: Positive = 64, downsamplings: Positive = 2, winograd: bool = False
    ) -> None:
        super().__init__()
        self.multiple = 2**downsamplings
        widths = [width * 2**i for i in range(downsamplings + 1)]
        down = [nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in pairwise(widths)]
        up = [nn.ConvTranspose2d(a, b, 3, stride=2, padding=1, output_padding=1) for a, b in pairwise(reversed(widths))]
        self.model = nn.Sequential(
            ReflectionPad(3),
            *_normed(nn.Conv2d(3, width, 7)),
            *chain.from_iterable(map(_normed, down)),
            *(_Block(widths[-1], WinogradConv2d if winograd else nn.Conv2d) for _ in range(blocks)),
            *chain.from_iterable(map(_normed, up)),
            ReflectionPad(3),
            nn.Conv2d(width, 3, 7),
            nn.Tanh(),
        )
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
                nn.init.normal_(module.weight, 0.0, 0.02)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]  # every layer here has one

    def forward(self, images: Tensor) -> Tensor:
        """Translate a batch."""
        height, width = images.shape[-2:]
        smallest = max(4, 2 * self.multiple)
        if min(height, width) < smallest or height % self.multiple or width % self.multiple:
            raise DakitError(
                f"resnet_generator needs images whose height and width are multiples of {self.multiple} and at least "
                f"{smallest}, not {height}x{width}"
            )
        translated: Tensor = self.model(images)
        return translated


class _Block(nn.Module):
    """``x + F(x)``, F = two 3x3 convolutions; the attribute's name is that of the published state dicts."""

    def __init__(self, channels: int, convolution: type[nn.Conv2d]) -> None:
        super().__init__()
        self.conv_block = nn.Sequential(
            ReflectionPad(1),
            *_normed(convolution(channels, channels, 3)),
            ReflectionPad(1),
            convolution(channels, channels, 3),
            InstanceNorm(),
        )

    def forward(self, maps: Tensor) -> Tensor:
        return torch.add(maps, self.conv_block(maps))


def _normed(convolution: nn.Conv2d | nn.ConvTranspose2d) -> tuple[nn.Module, nn.Module, nn.Module]:
    return convolution, InstanceNorm(), nn.ReLU(inplace=True)
