"""``fda``: the phases of an image with the low-frequency amplitudes of another."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dakit import DakitError
from dakit.interfaces import Positive


class FDA(nn.Module):
    r"""Give each image the low-frequency amplitudes of a reference image, and keep its phases.

    .. math:: x \mapsto \mathcal{F}^{-1}\big[M \mathcal{F}_A(r) + (1 - M) \mathcal{F}_A(x),\ \mathcal{F}_P(x)\big]

    with M one for frequencies of at most ``radius`` cycles per image in height and in width, channel by channel, and
    the result cut to [-1, 1]. The paper gives the radius as a share of the image's side (its beta; 0.01 to 0.09).
    There, r is drawn anew for each image; here the image's own pixels choose it, so that a translation can be repeated.
    Before ``fit_fda`` the references are black.

    Source: Yang and Soatto, *FDA: Fourier domain adaptation for semantic segmentation*, CVPR 2020.

    Args:
        radius: highest frequency that is exchanged, in cycles per image.
        references: how many reference images there are.

    Raises:
        DakitError: (when called) an image is too small to have such frequencies.
    """

    amplitudes: Tensor

    def __init__(self, *, radius: Positive = 1, references: Positive = 16) -> None:
        super().__init__()
        self.radius = radius
        side = 2 * radius + 1
        self.register_buffer("amplitudes", torch.zeros(references, 3, side, side))

    def low(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The spectrum of images in [-1, 1], and its low part ``(B, 3, 2 radius + 1, 2 radius + 1)``.

        Frequencies run from -radius to radius. Divided by the number of pixels, so that references may have another
        size than the images.
        """
        if min(images.shape[2:]) < 2 * self.radius + 1:
            size = f"{images.shape[2]} x {images.shape[3]}"
            most = (min(images.shape[2:]) - 1) // 2
            raise DakitError(f"fda: images of {size} pixels have no radius {self.radius}; at most {most} fits")
        # From [0, 1], where the mean cannot change its sign, which an amplitude does not have.
        precise = images.to(torch.promote_types(images.dtype, torch.float32))
        spectrum = torch.fft.fft2((precise + 1) / 2, norm="forward")
        rows, columns = self._window(images)
        return spectrum, spectrum[..., rows, columns]

    def forward(self, images: Tensor) -> Tensor:
        """Translated images."""
        spectrum, low = self.low(images)
        pixels = ((images.detach().double() + 1) * 127.5).round().sum((1, 2, 3)).long()
        amplitudes = self.amplitudes[pixels % len(self.amplitudes)].to(low.real.dtype)
        mixed = spectrum.clone()
        rows, columns = self._window(images)
        mixed[..., rows, columns] = torch.polar(amplitudes, low.angle())
        out = torch.fft.ifft2(mixed, norm="forward").real * 2 - 1
        return out.clamp(-1, 1).to(images.dtype)

    def _window(self, images: Tensor) -> tuple[Tensor, Tensor]:
        frequencies = torch.arange(-self.radius, self.radius + 1, device=images.device)
        return frequencies[:, None], frequencies
