"""The patch discriminator of pix2pix and CycleGAN."""

from __future__ import annotations

from torch import Tensor, nn

from dakit.errors import DakitError
from dakit.interfaces import Positive
from dakit.parameters import checked
from dakit_builtins.layers import InstanceNorm


@checked
class PatchGAN(nn.Module):
    """A discriminator that judges overlapping patches, 70 x 70 pixels large with three layers.

    4x4 convolutions with padding 1: ``layers`` of stride 2, one of stride 1, and one of stride 1 onto the
    logits. Instance norm except after the first and the last, LeakyReLU 0.2. Weights are drawn from
    N(0, 0.02), biases are 0. With the defaults it has 2.765 M parameters, and the state dict of a published
    CycleGAN discriminator loads into it with unchanged outputs.

    Images are float ``(B, 3, H, W)`` in [-1, 1]; the result is ``(B, 1, h, w)``, one logit per patch,
    ``h = floor(H / 2**layers) - 2``.

    Source: Isola, Zhu, Zhou, Efros, *Image-to-image translation with conditional adversarial networks*,
    CVPR 2017, section 3.2.2 and appendix 6.1.2.

    Args:
        width: channels after the first convolution, doubled by each of the next three at most.
        layers: convolutions of stride 2; a logit then sees 16, 34, 70, 142, ... pixels.

    Raises:
        DakitError: (when called) the images are smaller than ``3 * 2**layers`` pixels.

    >>> sum(p.numel() for p in PatchGAN().parameters())
    2764737
    """

    def __init__(self, *, width: Positive = 64, layers: Positive = 3) -> None:
        super().__init__()
        self.smallest = 3 * 2**layers
        widths = [width * min(2**i, 8) for i in range(layers + 1)]
        self.model = nn.Sequential(nn.Conv2d(3, width, 4, stride=2, padding=1), nn.LeakyReLU(0.2, inplace=True))
        for i in range(layers):
            stride = 2 if i < layers - 1 else 1
            self.model.append(nn.Conv2d(widths[i], widths[i + 1], 4, stride=stride, padding=1))
            self.model.append(InstanceNorm())
            self.model.append(nn.LeakyReLU(0.2, inplace=True))
        self.model.append(nn.Conv2d(widths[-1], 1, 4, padding=1))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, 0.0, 0.02)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]  # every layer here has one

    def forward(self, images: Tensor) -> Tensor:
        """One logit per patch."""
        height, width = images.shape[-2:]
        if min(height, width) < self.smallest:
            raise DakitError(
                f"patchgan needs images of at least {self.smallest} x {self.smallest} pixels, not "
                f"{height} x {width}; with fewer layers it takes smaller ones"
            )
        logits: Tensor = self.model(images)
        return logits
