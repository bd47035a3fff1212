"""What the benchmarks measured, condensed: one row each, and the ratio to an earlier run with its noise."""

from __future__ import annotations

import platform
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def summary(measured: Mapping[str, Any], *, device: str, precision: str) -> dict[str, Any]:
    """pytest-benchmark's JSON to plain rows.

    Returns:
        machine, git (revision, or None outside a repository), ceilings (FLOP/s and bytes/s, the most that was seen: a
        matrix product and a copy, or a benchmark that did more than the product), and benchmarks, each
        with ``name``, ``median`` and ``spread`` (interquartile range) in seconds, ``rounds``,
        ``images_per_second``, ``share`` (of the ceiling's FLOP/s, in [0, 1]), ``peak`` (bytes), ``also`` (other numbers
        by what they are), and ``against``: what was run in turn with it, its ``median`` and ``peak``, and ``ratio``,
        the median of its time over ours.
    """
    import torch

    from dakit.results.record import versions

    gpu = torch.cuda.is_available() and device in ("auto", "cuda")
    machine = {
        "device": torch.cuda.get_device_name() if gpu else "mps" if device == "mps" else _processor(),
        "threads": torch.get_num_threads(),
        "precision": precision,
        **versions(),
        "python": platform.python_version(),
    }
    rows = []
    measurements = [(bench["extra_info"], bench["stats"]) for bench in measured["benchmarks"]]
    ceilings: dict[str, float] = dict(measurements[-1][0]["ceilings"]) if measurements else {}
    # The product was timed at another moment, on a machine that may have been busy then.
    for facts, stats in measurements:
        ceilings["flops"] = max(ceilings["flops"], facts["ceilings"]["flops"], facts["flops"] / stats["median"])
    for facts, stats in measurements:
        given = [f"{facts[name]} {unit}" for name, unit in (("size", "px"), ("batch", "images")) if name in facts]
        row: dict[str, Any] = {
            "name": " ".join([facts["what"], *([facts["shape"]] if "shape" in facts else []), *given]),
            "median": stats["median"],
            "spread": stats["iqr"],
            "rounds": stats["rounds"],
            "images_per_second": facts["images"] / stats["median"] if facts["images"] else None,
            "share": facts["flops"] / stats["median"] / ceilings["flops"] if facts["flops"] else None,
            "peak": facts["peak"],
            "also": facts.get("also", {}),
        }
        if "reference" in facts:
            row["against"] = {
                "name": facts["reference"],
                "median": facts["reference_median"],
                "peak": facts["reference_peak"],
                "ratio": statistics.median(facts["ratios"]),
            }
        rows.append(row)
    revision = (measured.get("commit_info") or {}).get("id")
    return {"machine": machine, "git": revision, "ceilings": ceilings, "benchmarks": rows}


def ratio(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """How many times as fast as before, with the noise that both spreads leave.

    >>> ratio({"median": 2.0, "spread": 0.08}, {"median": 1.0, "spread": 0.03})
    '2.00x ±0.10'
    """
    value = before["median"] / now["median"]
    noise = value * sum((run["spread"] / run["median"]) ** 2 for run in (before, now)) ** 0.5
    return f"{value:.2f}x ±{noise:.2f}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
