"""Which optimiser trains a network, and with which weights: what stages share, as a recipe's ``optimiser: {...}``."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import annotated_types
import torch
from torch import nn

from dakit.interfaces import NonNegative


@dataclass(frozen=True)
class Optimiser:
    """An optimiser with what belongs to it; the learning rate is the stage's own ``lr``.

    Attributes:
        name: "adam"; "adamw", whose weight decay is decoupled (Loshchilov & Hutter, ICLR 2019); "sgd", with
            Nesterov's momentum (Sutskever et al., ICML 2013). All as in torch.
        momentum: first-moment decay: beta1 of Adam and AdamW, momentum of SGD (0 = plain).
        beta2: second-moment decay of Adam and AdamW.
        weight_decay: not of biases, nor of anything else with one dimension, such as the scale of a normalisation.
        body_lr: all of a classifier but its ``head`` learns with so much of the learning rate.
        clip: the gradient of all weights of an optimiser is scaled down to this Euclidean norm; None = never.
        average: weights are averaged exponentially over the steps with this decay, and the average is the result;
            None = the last weights are. See :class:`~dakit.training.ema.WeightAverage`.
    """

    name: Literal["adam", "adamw", "sgd"] = "adamw"
    momentum: Annotated[float, annotated_types.Ge(0), annotated_types.Lt(1)] = 0.9
    beta2: Annotated[float, annotated_types.Ge(0), annotated_types.Lt(1)] = 0.999
    weight_decay: NonNegative = 0.0
    body_lr: Annotated[float, annotated_types.Gt(0)] = 1.0
    clip: Annotated[float, annotated_types.Gt(0)] | None = None
    average: Annotated[float, annotated_types.Gt(0), annotated_types.Lt(1)] | None = None

    def build(
        self, modules: Iterable[nn.Module], lr: float, body: Collection[nn.Parameter] = ()
    ) -> torch.optim.Optimizer:
        """The optimiser of all weights of ``modules`` that are learned (``requires_grad``).

        Args:
            modules: networks, and losses with weights.
            lr: learning rate.
            body: those weights that learn with ``body_lr`` of it.
        """
        slower = set(body)
        groups: dict[tuple[float, float], list[nn.Parameter]] = {}
        for module in modules:
            for name, weight in module.named_parameters():
                if weight.requires_grad:
                    rate = lr * self.body_lr if weight in slower else lr
                    decay = 0.0 if weight.ndim <= 1 or name.rpartition(".")[2] == "bias" else self.weight_decay
                    groups.setdefault((rate, decay), []).append(weight)
        parameter_groups: list[dict[str, Any]] = [
            {"params": weights, "lr": rate, "weight_decay": decay} for (rate, decay), weights in groups.items()
        ]
        if self.name == "sgd":
            return torch.optim.SGD(parameter_groups, lr=lr, momentum=self.momentum, nesterov=self.momentum > 0)
        kind = torch.optim.Adam if self.name == "adam" else torch.optim.AdamW
        return kind(parameter_groups, lr=lr, betas=(self.momentum, self.beta2))


def superseded(wanted: Any, **given: tuple[float, float]) -> list[str]:
    """What is wrong where a stage's own parameters say what its ``optimiser`` or ``schedule`` says, too.

    Args:
        wanted: the stage's :class:`Optimiser` or :class:`~dakit.training.schedule.Schedule`; None = there is none.
        given: a parameter of the stage that it stands in place of: its value, and its default.

    >>> superseded(Optimiser(), beta1=(0.9, 0.5), weight_decay=(0.0, 0.0))
    ['`beta1` has no say beside `optimiser`: leave it out, and write momentum: 0.9 within `optimiser`']
    """
    place = type(wanted).__name__.lower()
    return [
        f"`{name}` has no say beside `{place}`: leave it out, and write "
        f"{'momentum' if name == 'beta1' else name}: {value:g} within `{place}`"
        for name, (value, default) in given.items()
        if wanted is not None and value != default
    ]
