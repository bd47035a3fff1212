"""How the learning rate of a training changes with its steps."""

from __future__ import annotations

from collections.abc import Iterable

import torch


class LinearDecay:
    """Constant up to ``decay_from`` of the steps, then linear to zero: ``(steps - n) / (steps - start)`` of the rate.

    Args:
        optimisers: whose rates it sets; as they are now is the full rate.
        steps: of the training.
        decay_from: in [0, 1]; 1 = constant.
    """

    def __init__(self, optimisers: Iterable[torch.optim.Optimizer], steps: int, decay_from: float) -> None:
        self.steps = steps
        self.start = decay_from * steps
        self._rates = [(optimiser, [group["lr"] for group in optimiser.param_groups]) for optimiser in optimisers]

    def factor(self, done: int) -> float:
        """By what the full rate is multiplied in the step after ``done`` steps."""
        if done < self.start or self.steps == self.start:
            return 1.0
        return (self.steps - done) / (self.steps - self.start)

    def set(self, done: int) -> None:
        """Set the rates of the step after ``done`` steps."""
        factor = self.factor(done)
        for optimiser, rates in self._rates:
            for group, rate in zip(optimiser.param_groups, rates, strict=True):
                group["lr"] = rate * factor
