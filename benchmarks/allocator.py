"""What it is worth that a training step's freed memory stays with the process (``dakit.memory``), on a CPU.

    python benchmarks/allocator.py --size 128 --batch 1 --precision fp32 bf16

One translator step of ``bench_step.py``, in processes of their own that take turns: with the C library as it is, and
inside ``memory.kept()``. The plain step runs as it is. CPU seconds of one thread, which other work disturbs least.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Literal

import psutil
import torch

from dakit import memory
from dakit.cli.common import table
from dakit.interfaces import Context, Engine
from dakit.training import Trainer

Precision = Literal["fp32", "bf16"]


def seconds(size: int, batch: int, steps: int, precision: Precision | None, kept: bool) -> tuple[float, float]:
    """Median CPU seconds of a step, and the resident megabytes at the end; without a precision the plain step's."""
    import bench_step
    import plain_step

    torch.manual_seed(0)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder, memory.kept() if kept else nullcontext():
        trainer = Trainer(Context(Path(folder), engine=Engine(device="cpu", precision=precision or "fp32")))
        if precision is None:
            x_s, x_w = (bench_step.noise(trainer, batch, size) for _ in range(2))
            step = partial(plain_step.PlainStep(bench_step.BLOCKS, bench_step.WIDTH), x_s, x_w)
        else:
            step = bench_step.translator_step(trainer, size, batch, second=False)
        times = []
        for _ in range(steps + 2):
            start = time.process_time()
            step()
            times.append(time.process_time() - start)
        held = psutil.Process().memory_info().rss / 2**20
    return statistics.median(times[2:]), held


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=128, help="pixels")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--steps", type=int, default=5, help="timed in each turn, after two")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--precision", nargs="+", default=["fp32", "bf16"], choices=["fp32", "bf16"])
    args = parser.parse_args()
    ways: list[tuple[Precision | None, bool]] = [(None, False)]
    ways += [(precision, kept) for precision in args.precision for kept in (False, True)]
    seen: dict[tuple[Precision | None, bool], list[tuple[float, float]]] = {way: [] for way in ways}
    for _ in range(args.turns):
        for way in ways:
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
                seen[way].append(process.submit(seconds, args.size, args.batch, args.steps, *way).result())
    rows = []
    for (precision, kept), results in seen.items():
        ratios = [plain[0] / mine[0] for plain, mine in zip(seen[None, False], results, strict=True)]
        rows.append(
            [
                f"{precision or 'plain, fp32'}{', kept' if kept else ''}",
                f"{statistics.median(s for s, _ in results):.3f} s",
                f"{statistics.median(ratios):.2f}x ({min(ratios):.2f} to {max(ratios):.2f})",
                f"{max(held for _, held in results):.0f} MiB",
            ]
        )
    table(["step", "CPU, median", "plain / this", "resident"], rows)


if __name__ == "__main__":
    main()
