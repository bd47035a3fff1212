"""A run that is killed, and run again, ends in the very files of one that was left alone."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import killing
from dakit.results.verify import verify


def artifacts(folder: Path) -> dict[str, str]:
    """SHA-256 of every file that a run leaves; of what tells of the run itself, only what the result is."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if not path.is_file() or name in ("run.json", "store/lock", "report.html", "test_labels.json"):
            continue  # the command, who ran it, a page that tells of both, and how often test labels were opened:
            # once more, rightly, where a run was killed between opening them and keeping what it saw
        content = path.read_bytes()
        if path.name == "done.json":
            marker = json.loads(content)
            told = ("seconds", "checksum", "peak_bytes", "device_peak_bytes")
            content = json.dumps({key: value for key, value in marker.items() if key not in told}).encode()
        if name == "results.json":
            results = json.loads(content)
            del results["made"], results["reused"], results["folder"], results["test_labels"]
            content = json.dumps(results).encode()
        if name == "table.md":
            content = re.sub(rb"\n- Test labels were opened .*", b"", content)
        found[name] = hashlib.sha256(content).hexdigest()
    return found


def survives(folder: Path, seed: int, kills: int, how: str) -> list[str]:
    """Kill runs, compare each with the one that was left alone, and tell where they died."""
    done = subprocess.run(
        [sys.executable, killing.__file__, folder, str(seed), str(kills), how],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    whole = artifacts(folder / "whole")
    stages = {name.split("/")[1].rsplit("-", 1)[0] for name in whole if name.startswith("store/")}
    assert stages == {
        "pretrain", "pretrain_shallow", "stage_1", "stage_2", "synthesise", "select", "domains", "probe", "adapt",
        "evaluate",
    }  # fmt: skip
    assert not any(Path(name).name.startswith((".", "checkpoint")) for name in whole)
    for chain in range(told["chains"]):
        killed = artifacts(folder / str(chain))
        assert {name for name in {*whole, *killed} if whole.get(name) != killed.get(name)} == set()
        assert not any(checked.damage for checked in verify(folder / str(chain) / "store"))
    assert len(told["deaths"]) >= kills
    return told["deaths"]


def test_killed_a_few_times(tmp_path):
    survives(tmp_path, 1, 3, "write")


@pytest.mark.slow
def test_killed_at_many_moments(tmp_path):
    deaths = survives(tmp_path, 2, 40, "write")
    kinds = {death.split(" ")[0] for death in deaths}
    assert {"open", "os.rename", "half"} <= kinds
    assert kinds & {"backward", "step"}  # within a step; which of the two is a matter of the draw
    assert any("checkpoint" in death for death in deaths)


@pytest.mark.slow
def test_killed_by_the_clock(tmp_path):
    assert set(survives(tmp_path, 3, 25, "clock")) == {"SIGALRM"}
