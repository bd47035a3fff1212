"""One CycleGAN step written the obvious way: fp32, channels first, ``nn.InstanceNorm2d``, one graph for everything.

The yardstick of ``bench_step.py``; it computes what ``train_translator`` does without a classifier.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Generator(nn.Sequential):
    """The generator of CycleGAN (Zhu et al., ICCV 2017, section 7.2)."""

    def __init__(self, blocks: int, width: int) -> None:
        def normed(convolution: nn.Module, channels: int) -> list[nn.Module]:
            return [convolution, nn.InstanceNorm2d(channels), nn.ReLU(inplace=True)]

        def up(channels: int) -> list[nn.Module]:
            layer = nn.ConvTranspose2d(2 * channels, channels, 3, stride=2, padding=1, output_padding=1)
            return normed(layer, channels)

        super().__init__(
            nn.ReflectionPad2d(3),
            *normed(nn.Conv2d(3, width, 7), width),
            *normed(nn.Conv2d(width, 2 * width, 3, stride=2, padding=1), 2 * width),
            *normed(nn.Conv2d(2 * width, 4 * width, 3, stride=2, padding=1), 4 * width),
            *(Block(4 * width) for _ in range(blocks)),
            *up(2 * width),
            *up(width),
            nn.ReflectionPad2d(3),
            nn.Conv2d(width, 3, 7),
            nn.Tanh(),
        )


class Block(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv_block = nn.Sequential(
            nn.ReflectionPad2d(1), nn.Conv2d(channels, channels, 3), nn.InstanceNorm2d(channels), nn.ReLU(inplace=True),
            nn.ReflectionPad2d(1), nn.Conv2d(channels, channels, 3), nn.InstanceNorm2d(channels),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv_block(x)


def discriminator(width: int) -> nn.Sequential:
    """PatchGAN 70 x 70 (Isola et al., CVPR 2017)."""

    def normed(into: int, out: int, stride: int) -> list[nn.Module]:
        return [nn.Conv2d(into, out, 4, stride, 1), nn.InstanceNorm2d(out), nn.LeakyReLU(0.2, inplace=True)]

    return nn.Sequential(
        nn.Conv2d(3, width, 4, 2, 1), nn.LeakyReLU(0.2, inplace=True),
        *normed(width, 2 * width, 2), *normed(2 * width, 4 * width, 2), *normed(4 * width, 8 * width, 1),
        nn.Conv2d(8 * width, 1, 4, 1, 1),
    )  # fmt: skip


class PlainStep:
    """Generators, then discriminators; non-saturating log loss, cycle weight 10, no identity term, no pool."""

    def __init__(self, blocks: int, width: int, lr: float = 2e-4) -> None:
        self.G_SW, self.G_WS = Generator(blocks, width), Generator(blocks, width)
        self.D_W, self.D_S = discriminator(width), discriminator(width)

        def adam(*networks: nn.Module) -> torch.optim.Adam:
            return torch.optim.Adam([p for n in networks for p in n.parameters()], lr, betas=(0.5, 0.999))

        self.optimisers = adam(self.G_SW, self.G_WS), adam(self.D_W, self.D_S)

    def gradients(self, x_s: Tensor, x_w: Tensor) -> dict[str, Tensor]:
        """Every loss, after adding its gradients."""
        critics = (self.D_W, self.D_S)
        for critic in critics:
            critic.requires_grad_(False)
        fake_w, fake_s = self.G_SW(x_s), self.G_WS(x_w)
        losses = {
            "G adversarial W": F.softplus(-self.D_W(fake_w)).mean(),
            "G adversarial S": F.softplus(-self.D_S(fake_s)).mean(),
            "cycle via W": 10 * F.l1_loss(self.G_WS(fake_w), x_s),
            "cycle via S": 10 * F.l1_loss(self.G_SW(fake_s), x_w),
        }
        torch.stack(list(losses.values())).sum().backward()
        for critic in critics:
            critic.requires_grad_(True)
        for name, critic, real, fake in (("D_W", self.D_W, x_w, fake_w), ("D_S", self.D_S, x_s, fake_s)):
            losses[name] = F.softplus(-critic(real)).mean() + F.softplus(critic(fake.detach())).mean()
            losses[name].backward()
        return losses

    def __call__(self, x_s: Tensor, x_w: Tensor) -> None:
        """A whole step."""
        self.gradients(x_s, x_w)
        for optimiser in self.optimisers:
            optimiser.step()
            optimiser.zero_grad()
