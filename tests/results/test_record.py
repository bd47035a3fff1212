from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import torch

from dakit.interfaces import Engine
from dakit.plugins import Plugin
from dakit.results.record import gathered, made_with, mixed, record


def test_a_run_can_be_told_from_every_other(load, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["dakit", "run", "toy.yaml"])
    plugins = [
        Plugin("a", "dakit-a", "1.2", (), "active"),
        Plugin("b", "b.py", "", (), "active", (), "0123456789abcdef"),
    ]
    made = made_with(Engine(device="cpu"), plugins)
    found = json.loads(json.dumps(record(load("seeds=[3]"), ["cycleat"], [made, made])))  # plain values
    assert found["command"] == ["dakit", "run", "toy.yaml"]
    assert (found["rows"], found["seeds"], found["processes"]) == (["cycleat"], [3], 1)
    assert (
        found["versions"]["torch"] == torch.__version__.split("+")[0] or found["versions"]["torch"] == torch.__version__
    )
    assert found["plugins"] == [
        {"distribution": "dakit-a", "version": "1.2"},
        {"distribution": "b.py", "version": "sha256 0123456789ab"},
    ]
    assert (found["device"], found["tf32"], found["mixed"]) == ("cpu", False, [])
    root = Path(__file__).parents[2]
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True)
    assert (found["git"] or "").removesuffix(", changed") == head.stdout.strip()


def test_what_differs_is_named_with_how_often():
    old = {"versions": {"torch": "2.6", "timm": "1.0"}, "plugins": {}, "tf32": False, "machine": {"cpus": 2}}
    new = {"versions": {"torch": "2.7", "timm": "1.0"}, "plugins": {"x": "1"}, "tf32": True, "machine": {"cpus": 4}}
    assert gathered([old, new, new]) == {
        "versions": {"torch": "2.6 and 2.7", "timm": "1.0"},
        "plugins": {"x": "1"},
        "tf32": "False and True",
        "machine": {"cpus": "2 and 4"},
    }
    assert mixed([old, new, new]) == [  # by how many cores there were nothing is another
        "torch: 2.7 (2 results), 2.6 (1 result)",
        "tf32: True (2 results), False (1 result)",
    ]
    assert mixed([]) == mixed([old, old]) == []
