"""What every benchmark shares: its options, how it is timed, and what it is measured against."""

from __future__ import annotations

import math
import statistics
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from dakit.errors import did_you_mean
from dakit.interfaces import Context, Engine
from dakit.training.trainer import Trainer

SECONDS = 1.0  # that the rounds of one benchmark may take, but never fewer than three rounds


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("dakit bench")
    group.addoption("--device", default="auto")
    group.addoption("--size", default="64", help="pixels, separated by commas")
    group.addoption("--batch", default="4", help="images, separated by commas")
    group.addoption("--precision", default="fp32")
    group.addoption("--only", action="append", default=[], help="KIND/NAME, KIND or NAME")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    for name in ("size", "batch"):
        if name in metafunc.fixturenames:
            values = [int(value) for value in metafunc.config.getoption(f"--{name}").split(",")]
            metafunc.parametrize(name, values, ids=[f"{name}={value}" for value in values])


def what(item: pytest.Item) -> str:
    """The name of a benchmark: "translator/resnet_generator", "step/translator"."""
    name: str = item.callspec.params["what"]  # type: ignore[attr-defined]
    return name


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    known = {name: None for item in items for name in (what(item), *what(item).split("/"))}
    only = config.getoption("--only")
    for name in only:
        if name not in known:
            raise pytest.UsageError(f'there is no benchmark "{name}"{did_you_mean(name, known)}')
    if only:
        items[:] = [item for item in items if {what(item), *what(item).split("/")} & set(only)]


class Peak(TorchDispatchMode):
    """The most bytes that tensors made inside held at one time; the kernels' own workspace is not seen."""

    def __init__(self) -> None:
        super().__init__()
        self.live = self.most = 0
        self.seen: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        given = {id(t.untyped_storage()) for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)}
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                if id(storage) not in self.seen | given:
                    self.seen.add(id(storage))
                    self.live += storage.nbytes()
                    weakref.finalize(storage, self.freed, id(storage), storage.nbytes())
        self.most = max(self.most, self.live)
        return out

    def freed(self, key: int, size: int) -> None:
        self.seen.discard(key)
        self.live -= size


@pytest.fixture
def trainer(request: pytest.FixtureRequest, tmp_path: Path) -> Trainer:
    """Device and precision as the options say."""
    option = request.config.getoption
    engine = Engine(device=option("--device"), precision=option("--precision"))
    return Trainer(Context(tmp_path, engine=engine))


def wait(device: torch.device) -> None:
    """Until the device has done what it was given."""
    if device.type != "cpu":
        getattr(torch, device.type).synchronize()


def seconds(function: Callable[[], Any], device: torch.device) -> float:
    start = time.perf_counter()
    function()
    wait(device)
    return time.perf_counter() - start


_CEILINGS: dict[str, float] = {}


@pytest.fixture
def ceilings(trainer: Trainer) -> dict[str, float]:
    """What this machine does at best now: a matrix product in FLOP/s and a copy in bytes/s (read and written)."""
    if not _CEILINGS:
        side = 8192 if trainer.device.type == "cuda" else 2048
        a, b = torch.randn(2, side, side, device=trainer.device)
        source = torch.empty(64 * 2**20, device=trainer.device).zero_()
        target = torch.empty_like(source)
        with trainer.autocast():
            product = min(seconds(lambda: a @ b, trainer.device) for _ in range(8))
        copy = min(seconds(lambda: target.copy_(source), trainer.device) for _ in range(8))
        _CEILINGS.update(flops=2 * side**3 / product, bytes=2 * source.nbytes / copy)
    return _CEILINGS


@pytest.fixture
def measure(
    benchmark: Any, trainer: Trainer, ceilings: dict[str, float], request: pytest.FixtureRequest
) -> Callable[..., None]:
    """Time a function, after one call to warm up and one that counts its work and memory.

    With ``reference`` (a name and a function) the two are called in turn, so that both see the same machine.
    """

    def run(
        function: Callable[[], Any], *, images: int = 0, reference: tuple[str, Callable[[], Any]] | None = None
    ) -> None:
        device = trainer.device
        facts: dict[str, Any] = {"what": what(request.node), "images": images, "ceilings": ceilings}
        facts |= {name: request.getfixturevalue(name) for name in ("size", "batch") if name in request.fixturenames}

        def work(called: Callable[[], Any]) -> tuple[float, float]:
            called()
            if device.type == "cuda":
                torch.cuda.reset_peak_memory_stats()
                before = torch.cuda.memory_allocated()
            with Peak() as peak, FlopCounterMode(display=False) as counted:
                called()
            most = torch.cuda.max_memory_allocated() - before if device.type == "cuda" else peak.most
            return counted.get_total_flops(), most

        facts["flops"], facts["peak"] = work(function)
        others: list[float] = []
        setup = None
        if reference is not None:
            facts["reference"], other = reference[0], reference[1]
            _, facts["reference_peak"] = work(other)

            def setup() -> None:
                others.append(seconds(other, device))

        rounds = max(3, min(100, math.ceil(SECONDS / max(1e-6, seconds(function, device)))))
        benchmark.pedantic(lambda: seconds(function, device), setup=setup, rounds=rounds)
        if others:
            ours = benchmark.stats.stats.data
            facts["ratios"] = [other / own for other, own in zip(others, ours, strict=True)]
            facts["reference_median"] = statistics.median(others)
        benchmark.extra_info.update(facts)

    return run
