"""Forward and backward of every registered network, on the CPU, at a small size: ``pytest benchmarks``.

Parametrised over the registry, so a plugin's component is measured for free. Figures are of one machine and
one moment: compare only what was measured in one run.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from dakit.interfaces import Prediction
from dakit.plugins import find_plugins
from dakit.registry import KINDS, Registry

REGISTRY = Registry(find_plugins())
SIZE, BATCH = 64, 4
NEEDED: dict[str, dict[str, Any]] = {"torchvision": {"arch": "alexnet"}, "timm": {"arch": "resnet18"}}


@pytest.mark.parametrize(
    ("kind", "name"),
    [(kind, entry.name) for kind in ("translator", "discriminator", "classifier") for entry in REGISTRY.entries(kind)],
)
def bench_network(benchmark: Any, kind: str, name: str) -> None:
    torch.manual_seed(0)
    given = (7,) * KINDS[kind].given
    network = REGISTRY.spec(kind, name, NEEDED.get(name, {})).build(*given)
    images = torch.randn(BATCH, 3, SIZE, SIZE).clamp(-1, 1)

    def step() -> None:
        out = network(images)
        (out.logits if isinstance(out, Prediction) else out).sum().backward()

    benchmark.extra_info.update(size=SIZE, batch=BATCH, threads=torch.get_num_threads())
    benchmark(step)


@pytest.mark.parametrize("name", [entry.name for entry in REGISTRY.entries("transfer_loss")])
def bench_transfer_loss(benchmark: Any, name: str) -> None:
    torch.manual_seed(0)
    loss = REGISTRY.spec("transfer_loss", name, {}).build()

    def prediction() -> Prediction:
        sizes = ((256, 64), (512, 32), (1024, 16), (2048, 8))
        maps = tuple(torch.rand(4, c, s, s, requires_grad=True) for c, s in sizes)
        return Prediction(torch.randn(4, 7, requires_grad=True), torch.randn(4, 2048), maps)

    teacher, student = prediction(), prediction()
    benchmark(lambda: loss(teacher, student).backward())
