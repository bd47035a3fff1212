"""Augmentation of whole batches on the device, by kornia."""

from __future__ import annotations

from typing import Annotated

import annotated_types
import torch
from torch import Tensor, nn
from typing_extensions import TypedDict

from dakit.data.randaugment import RandAugment
from dakit.interfaces import Fraction


class Augment(TypedDict, total=False):
    """What may be changed in a training image; what is left out stays as it is.

    flip: probability of a left-right flip. Not for digits or text.
    shift: largest shift, as a fraction of the side.
    rotate: largest rotation in degrees.
    zoom: largest change of scale, as a fraction.
    light: largest change of brightness and contrast, as a fraction: every value is multiplied by a number in
        [1 - light, 1 + light], and so is its distance from the image's mean luminance by another.
    colour: largest change of saturation, as a fraction; the hue turns by at most a quarter of it.
    crop: a part of the image of at least this fraction of its area, with sides of 3:4 to 4:3, fills it.
    randaugment: strength in (0, 1] of two operations of fourteen, see :class:`~dakit.data.randaugment.RandAugment`;
        torchvision's magnitude 9 of 30 is 0.3.
    erase: probability that a rectangle of 2 to 33 % of the area becomes grey (Zhong et al., AAAI 2020).
    """

    __pydantic_config__ = {"extra": "forbid"}  # type: ignore[misc]  # noqa: RUF012

    flip: Fraction
    shift: Fraction
    rotate: Annotated[float, annotated_types.Ge(0), annotated_types.Le(180)]
    zoom: Annotated[float, annotated_types.Ge(0), annotated_types.Lt(1)]
    light: Fraction
    colour: Fraction
    crop: Annotated[float, annotated_types.Gt(0), annotated_types.Le(1)]
    randaugment: Fraction
    erase: Fraction


class Augmentation(nn.Module):
    """Changes each image ``(B, 3, H, W)`` in [-1, 1] by its own random draw, from torch's global generator.

    Empty corners after a shift or rotation are filled by reflection.

    Attributes:
        forms: in how many forms an image can come out: 1 (nothing is done), 2 (flipped or not); None = endless.
        flipped: bool ``(B,)``, which images of the last batch were flipped; None = flips are not wanted.
    """

    def __init__(self, wanted: Augment | None) -> None:
        super().__init__()
        wanted = wanted or {}
        self.flip = wanted.get("flip", 0.0)
        self.flipped: Tensor | None = None
        self.rest = nn.ModuleList()
        shift, rotate, zoom = wanted.get("shift", 0.0), wanted.get("rotate", 0.0), wanted.get("zoom", 0.0)
        light, colour = wanted.get("light", 0.0), wanted.get("colour", 0.0)
        crop, strength, erase = wanted.get("crop", 1.0), wanted.get("randaugment", 0.0), wanted.get("erase", 0.0)
        if shift or rotate or zoom or light or colour or erase:
            import kornia.augmentation as K
        if crop < 1:
            self.rest.append(_Crop(crop))
        if shift or rotate or zoom:
            affine = K.RandomAffine(
                degrees=rotate, translate=(shift, shift), scale=(1 - zoom, 1 + zoom), padding_mode="reflection", p=1.0
            )
            self.rest.append(affine)
        if light:  # ColorJiggle would add to the brightness, not multiply it
            self.rest.append(_Colour(K.ColorJitter(light, light, p=1.0)))
        if colour:
            self.rest.append(_Colour(K.ColorJiggle(0, 0, colour, min(0.5, colour / 4), p=1.0)))
        if strength:
            self.rest.append(_Colour(RandAugment(strength)))
        if erase:
            self.rest.append(K.RandomErasing(scale=(0.02, 0.33), ratio=(0.3, 3.3), value=0.0, p=erase))
        self.forms = None if len(self.rest) else 2 if self.flip else 1

    def forward(self, images: Tensor) -> Tensor:
        """A new batch; the given one stays as it is."""
        if self.flip:
            self.flipped = (torch.rand(len(images)) < self.flip).to(images.device)
            images = torch.where(self.flipped[:, None, None, None], images.flip(3), images)
        for change in self.rest:
            images = change(images)
        return images


class _Crop(nn.Module):
    """A part of each image, of at least ``area``, in the image's own size."""

    def __init__(self, area: float) -> None:
        super().__init__()
        self.area = area

    def forward(self, images: Tensor) -> Tensor:
        import kornia.augmentation as K

        size = (images.shape[2], images.shape[3])  # which kornia must know before it sees an image
        change = K.RandomResizedCrop(
            size, scale=(self.area, 1.0), ratio=(3 / 4, 4 / 3), cropping_mode="resample", p=1.0
        )
        cropped: Tensor = change(images)
        return cropped


class _Colour(nn.Module):
    """Operations on colours want [0, 1]."""

    def __init__(self, jiggle: nn.Module) -> None:
        super().__init__()
        self.jiggle = jiggle

    def forward(self, images: Tensor) -> Tensor:
        changed: Tensor = self.jiggle((images + 1) / 2)
        return changed.clamp(0, 1) * 2 - 1


def mixed(images: Tensor, targets: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    """Mixup (Zhang et al., ICLR 2018): every image with another of its batch, and their targets by the same share.

    Image i becomes s_i x_i + (1 - s_i) x_p(i), with s_i from Beta(alpha, alpha) and p a random order, both drawn from
    torch's global generator.

    Args:
        images: ``(B, 3, H, W)``.
        targets: ``(B, K)``, probabilities of classes.
        alpha: above 0; small = most images stay nearly what one of both was, 1 = every share is as likely.
    """
    share = torch.distributions.Beta(alpha, alpha).sample((len(images),)).to(images.device)
    other = torch.randperm(len(images)).to(images.device)
    of_image, of_target = share[:, None, None, None], share[:, None]
    return (
        of_image * images + (1 - of_image) * images[other],
        of_target * targets + (1 - of_target) * targets[other],
    )
