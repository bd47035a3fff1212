"""RandAugment where every image of a batch draws its own operations."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

OPERATIONS = 2
"""Every image goes through so many."""


class RandAugment(nn.Module):
    """Two operations of fourteen for each image, drawn for itself (Cubuk et al., NeurIPS 2020): torchvision's own.

    Operations, ranges and signs are those of torchvision's ``RandAugment``, whose 31 magnitudes are ``strength`` x 30;
    bilinear, and grey where nothing is left of the image. Torchvision draws one pair of operations for a whole batch,
    as kornia does.

    Args:
        strength: in [0, 1].
    """

    def __init__(self, strength: float) -> None:
        super().__init__()
        self.strength = strength

    def forward(self, images: Tensor) -> Tensor:
        """``(B, 3, H, W)`` in [0, 1]; a new batch. Draws from torch's global generator."""
        names = list(operations(self.strength, 1, images.shape[2:]))
        for _ in range(OPERATIONS):
            drawn = torch.randint(len(names), (len(images),))
            signs = torch.where(torch.rand(len(images)) < 0.5, -1, 1)
            changed = images.clone()
            for sign in (-1, 1):
                for number, change in enumerate(operations(self.strength, sign, images.shape[2:]).values()):
                    chosen = torch.nonzero((drawn == number) & (signs == sign)).flatten().to(images.device)
                    if len(chosen):
                        changed[chosen] = change(images[chosen])
            images = changed
        return images


def operations(strength: float, sign: int, size: torch.Size) -> Mapping[str, Callable[[Tensor], Tensor]]:
    """What can be done with images ``(B, 3, H, W)`` in [0, 1].

    Args:
        strength: in [0, 1].
        sign: 1 or -1: which way those that have two go.
        size: (H, W); a shift is a fraction of it.
    """
    from torchvision.transforms.v2 import functional as F

    factor, shear = 1 + sign * 0.9 * strength, math.degrees(math.atan(sign * 0.3 * strength))
    down, right = (int(sign * strength * 150 / 331 * side) for side in size)

    def affine(
        images: Tensor, shear: tuple[float, float] = (0, 0), shift: tuple[int, int] = (0, 0), corner: bool = False
    ) -> Tensor:
        changed: Tensor = F.affine(
            images, angle=0.0, translate=list(shift), scale=1.0, shear=list(shear), fill=[0.5],
            interpolation=F.InterpolationMode.BILINEAR, center=[0, 0] if corner else None,
        )  # fmt: skip
        return changed

    return {
        "Identity": lambda x: x,
        "ShearX": lambda x: affine(x, shear=(shear, 0), corner=True),
        "ShearY": lambda x: affine(x, shear=(0, shear), corner=True),
        "TranslateX": lambda x: affine(x, shift=(right, 0)),
        "TranslateY": lambda x: affine(x, shift=(0, down)),
        "Rotate": lambda x: F.rotate(x, sign * 30.0 * strength, F.InterpolationMode.BILINEAR, fill=[0.5]),
        "Brightness": lambda x: F.adjust_brightness(x, factor),
        "Color": lambda x: F.adjust_saturation(x, factor),
        "Contrast": lambda x: F.adjust_contrast(x, factor),
        "Sharpness": lambda x: F.adjust_sharpness(x, factor),
        "Posterize": lambda x: F.posterize(x, round(8 - 4 * strength)),
        "Solarize": lambda x: F.solarize(x, 1 - strength),
        "AutoContrast": F.autocontrast,
        "Equalize": F.equalize,
    }
