"""The residual networks of He et al. for small images, among them ResNet-38."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dakit.errors import DakitError
from dakit.interfaces import Positive, Prediction
from dakit.parameters import checked


@checked
class ResNetCifar(nn.Module):
    """A residual network of 6n + 2 layers: 3x3 convolution, three stages of n blocks, mean, linear.

    The stages have ``width``, 2 ``width`` and 4 ``width`` channels; the second and third halve the image.
    Shortcuts are the paper's option A, without parameters: every second pixel, new channels zero. The mean
    over positions lets images of any size through. ReLU follows every sum, so all maps are non-negative.

    Images are float ``(B, 3, H, W)`` in [-1, 1]. Of the :class:`~dakit.interfaces.Prediction`, ``features``
    is ``(B, 4 width)`` and ``maps`` are the outputs of the three stages, at H, H/2 and H/4 (rounded up).

    Source: He, Zhang, Ren, Sun, *Deep residual learning for image recognition*, CVPR 2016, section 4.2.

    Args:
        classes: number of logits.
        depth: 6n + 2: 8, 14, 20, 26, 32, 38, 44, 50, 56, ...
        width: channels of the first stage.
        initialisation: "default" is the paper's (He et al. 2015, scaled by fan-out); "normal_002" draws
            every weight of a convolution or linear layer from N(0, 0.02) and sets biases to 0
            (CycleAT, section 4.2).

    Raises:
        DakitError: the depth is not 6n + 2.

    >>> sum(p.numel() for p in ResNetCifar(10, depth=110).parameters())  # "1.7 M" in the paper's Table 6
    1727962
    """

    def __init__(
        self,
        classes: int,
        *,
        depth: Positive = 38,
        width: Positive = 16,
        initialisation: Literal["default", "normal_002"] = "default",
    ) -> None:
        super().__init__()
        blocks, rest = divmod(depth - 2, 6)
        if blocks < 1 or rest:
            below = 6 * blocks + 2
            near = f"{below} or {below + 6}" if blocks >= 1 else "8"
            raise DakitError(f"resnet_cifar: depth must be 6n + 2, not {depth}; nearest: {near}")
        self.conv1 = nn.Conv2d(3, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.stages = nn.ModuleList(
            nn.Sequential(
                _Block(channels if stage == 0 else channels // 2, channels, stride=1 if stage == 0 else 2),
                *(_Block(channels, channels, stride=1) for _ in range(blocks - 1)),
            )
            for stage, channels in enumerate((width, 2 * width, 4 * width))
        )
        self.head = nn.Linear(4 * width, classes)
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)) and initialisation == "normal_002":
                nn.init.normal_(module.weight, 0.0, 0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def stem(self, images: Tensor) -> Tensor:
        """The output of the first convolution, ``(B, width, H, W)``."""
        first: Tensor = self.conv1(images)
        return first

    def forward(self, images: Tensor) -> Prediction:
        """Classify a batch."""
        x = F.relu(self.bn1(self.stem(images)))
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        features = x.mean(dim=(2, 3))
        return Prediction(self.head(features), features, tuple(maps), rectified=True)


class _Block(nn.Module):
    """``relu(shortcut(x) + F(x))``, F = two 3x3 convolutions with batch norm."""

    def __init__(self, channels_in: int, channels: int, *, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.new_channels = channels - channels_in
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        residual = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        shortcut = x[:, :, :: self.stride, :: self.stride]
        if self.new_channels:
            shortcut = F.pad(shortcut, (0, 0, 0, 0, 0, self.new_channels))
        return F.relu(torch.add(residual, shortcut))
