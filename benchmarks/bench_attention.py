"""Attention maps and the attention loss, forward and backward, against the form that was published.

Zagoruyko and Komodakis (ICLR 2017) published ``normalize(A.pow(2).mean(1).flatten(1))`` and the mean squared
difference; it holds two more tensors of the size of A.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from dakit.interfaces import Prediction
from dakit.plugins import find_plugins
from dakit.registry import Registry
from dakit.training.trainer import Trainer

SHAPES = [(256, 64), (512, 32), (1024, 16), (2048, 8)]  # the stages of a ResNet-50 that sees 256 pixels
BATCH = 16
FORMS = ["cycleat", "paper", "code"]


def published(teacher: Tensor, student: Tensor) -> Tensor:
    def attention(maps: Tensor) -> Tensor:
        return F.normalize(maps.pow(2).mean(1).view(maps.size(0), -1))

    return (attention(student) - attention(teacher)).pow(2).mean()


@pytest.mark.parametrize(("channels", "side"), SHAPES, ids=[f"{BATCH}x{c}x{s}x{s}" for c, s in SHAPES])
@pytest.mark.parametrize("what", [f"attention/{form}" for form in FORMS])
def bench_attention_loss(
    what: str, channels: int, side: int, trainer: Trainer, measure: Callable[..., None], benchmark: object
) -> None:
    torch.manual_seed(0)
    loss = Registry(find_plugins()).spec("transfer_loss", "attention_transfer", {"form": what.split("/")[1]}).build()
    taught = torch.rand(BATCH, channels, side, side, device=trainer.device)
    maps = torch.rand(BATCH, channels, side, side, device=trainer.device, requires_grad=True)
    empty = torch.zeros(BATCH, 1, device=trainer.device)
    benchmark.extra_info["shape"] = f"{channels}x{side}x{side}"  # type: ignore[attr-defined]

    of_teacher = Prediction(empty, empty, (taught,), rectified=True)

    def ours() -> None:
        maps.grad = None
        loss(of_teacher, Prediction(empty, empty, (maps,), rectified=True)).backward()

    def theirs() -> None:
        maps.grad = None
        published(taught, maps).backward()

    measure(ours, images=BATCH, reference=("published form", theirs))
