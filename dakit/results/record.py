"""What results were made with: kept with each of them, and gathered in ``run.json``."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

from dakit import processes
from dakit.interfaces import Engine
from dakit.plugins import Plugin
from dakit.recipe.plans import Recipe

_TOLD = ("versions", "plugins", "device", "tf32", "git")
"""Where these differ, the results of one table are not all of the same making."""


def made_with(engine: Engine, plugins: Iterable[Plugin]) -> dict[str, Any]:
    """What a result that is made now is made with, as plain values.

    Args:
        engine: how it is computed.
        plugins: whose components have a part in it, besides dakit's own.
    """
    return {
        "versions": versions(),
        "plugins": {p.distribution: p.version or f"sha256 {p.code[:12]}" for p in plugins},
        "device": _device(engine),
        "tf32": _tf32(engine),
        "git": _git_revision(),
        "machine": {"python": sys.version.split()[0], "platform": platform.platform(), "cpus": os.cpu_count()},
        "processes": processes.count(),
    }


def gathered(records: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """What several results were made with: of values that differ all are named.

    >>> gathered([{"device": "cpu", "versions": {"torch": "2.6"}}, {"device": "cpu", "versions": {"torch": "2.7"}}])
    {'device': 'cpu', 'versions': {'torch': '2.6 and 2.7'}}
    """
    record: dict[str, Any] = {}
    for key, counts in _counted(records).items():
        values = list(counts)
        value = values[0] if len(values) == 1 else " and ".join(sorted(map(str, values)))
        here = record
        for part in key[:-1]:
            here = here.setdefault(part, {})
        here[key[-1]] = value
    return record


def mixed(records: Iterable[Mapping[str, Any]]) -> list[str]:
    """What the results of one table were not all made with, a text for each.

    >>> mixed([{"device": "cpu"}, {"device": "NVIDIA H200"}, {"device": "cpu"}])
    ['device: cpu (2 results), NVIDIA H200 (1 result)']
    """
    differences = []
    for key, counts in _counted(records).items():
        if key[0] in _TOLD and len(counts) > 1:
            parts = (f"{value} ({n} result{'s' * (n > 1)})" for value, n in counts.most_common())
            differences.append(f"{' '.join(key[1:] or key)}: {', '.join(parts)}")
    return differences


def _counted(records: Iterable[Mapping[str, Any]]) -> dict[tuple[str, ...], Counter[Any]]:
    """How often each value occurs, by key and, in a mapping, by its own keys."""
    counts: dict[tuple[str, ...], Counter[Any]] = {}
    for record in records:
        for name, value in record.items():
            leaves = value.items() if isinstance(value, Mapping) else [(None, value)]
            for inner, leaf in leaves:
                key = (name,) if inner is None else (name, inner)
                counts.setdefault(key, Counter())[leaf] += 1
    return counts


def record(recipe: Recipe, rows: Sequence[str], records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Command, recipe, and what its results were made with, as plain values.

    Args:
        recipe: that was run.
        rows: of the table.
        records: of its results, see :func:`made_with`.
    """
    about = gathered(records)
    return {
        "command": sys.argv,
        "rows": list(rows),
        "recipe": recipe.document,
        "file": recipe.file,
        "profile": recipe.profile,
        "seeds": recipe.seeds,
        "engine": asdict(recipe.engine),
        "plugins": [{"distribution": name, "version": version} for name, version in about.pop("plugins", {}).items()],
        **about,
        "mixed": mixed(records),
    }


@lru_cache
def versions() -> dict[str, str]:
    """Of dakit and of the libraries that results and speed depend on."""
    names = ("dakit", "torch", "torchvision", "timm", "kornia", "accelerate", "scikit-learn", "numpy")
    return {name: importlib.metadata.version(name) for name in names}


def _device(engine: Engine) -> str:
    """What computes, by name."""
    import torch

    if engine.device in ("auto", "cuda") and torch.cuda.is_available():
        return torch.cuda.get_device_name()
    if engine.device in ("auto", "mps") and torch.backends.mps.is_available():
        return "mps"
    return "cpu"


def _tf32(engine: Engine) -> bool:
    """Whether a GPU may round what it multiplies to 10 bits of mantissa."""
    import torch

    return _device(engine) not in ("cpu", "mps") and bool(torch.backends.cudnn.allow_tf32)


@lru_cache
def _git_revision() -> str | None:
    """Of dakit's own checkout, where it runs from one; with a mark where files were changed since."""
    checkout = Path(__file__).parents[2]
    if not (checkout / ".git").exists():
        return None
    revision, changed = _git(checkout, "rev-parse", "HEAD"), _git(checkout, "status", "--porcelain", "-uno")
    return revision and revision + (", changed" if changed else "")


def _git(checkout: Path, *arguments: str) -> str | None:
    try:
        process = subprocess.run(["git", *arguments], cwd=checkout, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return process.stdout.strip()
