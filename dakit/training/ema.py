"""An average of a network's weights over the steps of its training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


class WeightAverage:
    """The exponential moving average a of everything w in networks' state dicts: a <- d a + (1 - d) w after each step.

    In step n (from 1) d is ``min(decay, 1 - n^(-2/3))``, so that the first steps, when a network is still far from what
    it will be, are soon forgotten in a short training, too: timm's ``ModelEmaV3`` with ``use_warmup``. Running
    statistics of normalisation layers are averaged alike; counts are copied. A checkpoint holds it.

    Args:
        networks: on the device, as they start.
        decay: in (0, 1).
    """

    def __init__(self, networks: Mapping[str, nn.Module], decay: float) -> None:
        self.networks = dict(networks)
        self.decay = decay
        self.weights = {
            name: {key: value.detach().clone() for key, value in network.state_dict().items()}
            for name, network in networks.items()
        }

    @torch.no_grad()
    def update(self, done: int) -> None:
        """Take in the weights after so many steps."""
        share = 1 - min(self.decay, 1 - done ** (-2 / 3))
        for average, weight in self._pairs():
            if average.is_floating_point():
                average.lerp_(weight, share)
            else:
                average.copy_(weight)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Inside, the networks have the average for weights; afterwards they have their own again."""
        before_average = [(weight, weight.clone()) for _, weight in self._pairs()]
        self.apply()
        try:
            yield
        finally:
            with torch.no_grad():
                for weight, before in before_average:
                    weight.copy_(before)

    @torch.no_grad()
    def apply(self) -> None:
        """Give the networks the average for weights."""
        for average, weight in self._pairs():
            weight.copy_(average)

    def _pairs(self) -> Iterator[tuple[Tensor, Tensor]]:
        for name, network in self.networks.items():
            for key, weight in network.state_dict().items():
                yield self.weights[name][key], weight

    def state_dict(self) -> dict[str, Any]:
        """The average, for a checkpoint."""
        return {name: dict(weights) for name, weights in self.weights.items()}

    def load_state_dict(self, state: Mapping[str, Any], /) -> None:
        """Take the average from a checkpoint; device and layout stay."""
        for name, weights in self.weights.items():
            for key, value in weights.items():
                value.copy_(state[name][key])
