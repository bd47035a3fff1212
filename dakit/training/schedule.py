"""How the learning rate of a training changes with its steps."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Literal

import annotated_types
import torch

from dakit.interfaces import Fraction


@dataclass(frozen=True)
class Schedule:
    """The course of a learning rate: it rises, stays, and falls. Where it does not fall by name, it stays.

    With n steps done of N, W = round(warmup N) of warm-up and S = max(W, decay_from N), the rate of the next step is
    multiplied by (n + 1) / (W + 1) for n < W, by 1 up to S, and then, with p = (n - S) / (N - S), by

        linear: 1 - p        cosine: (1 + cos(pi p)) / 2        inverse: (1 + 10 p)^(-3/4)

    Cosine is of Loshchilov & Hutter (ICLR 2017), inverse of Ganin et al. (JMLR 2016, section 5.2).

    Attributes:
        warmup: over this fraction of the steps the rate rises linearly.
        decay: how it falls.
        decay_from: from this fraction of the steps on.
    """

    warmup: Annotated[float, annotated_types.Ge(0), annotated_types.Lt(1)] = 0.0
    decay: Literal["none", "linear", "cosine", "inverse"] = "cosine"
    decay_from: Fraction = 0.0

    def factor(self, done: int, steps: int) -> float:
        """By what the full rate is multiplied in the step after ``done`` of ``steps``."""
        warm = round(self.warmup * steps)
        if done < warm:
            return (done + 1) / (warm + 1)
        start = max(warm, self.decay_from * steps)
        if self.decay == "none" or done < start or steps == start:
            return 1.0
        left = (steps - done) / (steps - start)
        if self.decay == "linear":
            return left
        return 0.5 * (1 + math.cos(math.pi * (1 - left))) if self.decay == "cosine" else (1 + 10 * (1 - left)) ** -0.75


class LearningRates:
    """Sets the rates of optimisers before every step, each group's by its own full rate.

    Args:
        optimisers: as their rates are now is the full rate.
        steps: of the training.
        schedule: by what it is multiplied.
    """

    def __init__(self, optimisers: Iterable[torch.optim.Optimizer], steps: int, schedule: Schedule) -> None:
        self.steps = steps
        self.schedule = schedule
        self._rates = [(optimiser, [group["lr"] for group in optimiser.param_groups]) for optimiser in optimisers]

    def set(self, done: int) -> None:
        """Set the rates of the step after ``done`` steps."""
        factor = self.schedule.factor(done, self.steps)
        for optimiser, rates in self._rates:
            for group, rate in zip(optimiser.param_groups, rates, strict=True):
                group["lr"] = rate * factor
