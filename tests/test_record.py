from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import torch

from dakit.record import record


def test_a_run_can_be_told_from_every_other(load, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["dakit", "run", "toy.yaml"])
    found = json.loads(json.dumps(record(load("seeds=[3]"), ["cycleat"])))  # plain values
    assert found["command"] == ["dakit", "run", "toy.yaml"]
    assert (found["rows"], found["seeds"], found["processes"]) == (["cycleat"], [3], 1)
    assert (
        found["versions"]["torch"] == torch.__version__.split("+")[0] or found["versions"]["torch"] == torch.__version__
    )
    assert {plugin["name"] for plugin in found["plugins"]} >= {"builtins", "stages", "toys"}
    root = Path(__file__).parent.parent
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True)
    assert found["git"] == (head.stdout.strip() if head.returncode == 0 else None)
