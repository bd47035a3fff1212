"""What a run was made with: ``run.json``."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

from dakit import processes
from dakit.plans import Recipe


def record(recipe: Recipe, rows: Sequence[str]) -> dict[str, Any]:
    """Command, recipe, plugins, versions, revision and machine as plain values."""
    return {
        "command": sys.argv,
        "rows": list(rows),
        "recipe": recipe.document,
        "file": recipe.file,
        "profile": recipe.profile,
        "seeds": recipe.seeds,
        "engine": asdict(recipe.engine),
        "plugins": [asdict(plugin) for plugin in recipe.registry.plugins.found],
        "versions": versions(),
        "git": _git_revision(),
        "machine": {"python": sys.version, "platform": platform.platform(), "cpus": os.cpu_count()},
        "processes": processes.count(),
    }


@lru_cache
def versions() -> dict[str, str]:
    """Of dakit and of the libraries that results and speed depend on."""
    names = ("dakit", "torch", "torchvision", "timm", "kornia", "accelerate", "scikit-learn", "numpy")
    return {name: importlib.metadata.version(name) for name in names}


def _git_revision() -> str | None:
    try:
        found = subprocess.run(
            ["git", "rev-parse", "HEAD"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return found.stdout.strip()
