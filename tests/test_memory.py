"""Freed memory stays with the process while it is asked to, and goes back then."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")

# In a process of its own: what the tests before have allocated decides where a block lies.
COUNT = """
import json, os, psutil, resource, torch
from dakit import memory

torch.set_num_threads(1)
torch.manual_seed(0)
page = os.sysconf("SC_PAGE_SIZE")
widths = [3, 16, 24, 3]
layers = [layer for a, b in zip(widths, widths[1:]) for layer in (torch.nn.Conv2d(a, b, 3), torch.nn.ReLU())]
network = torch.nn.Sequential(*layers)
images = torch.rand(8, 3, 128, 128)

def fresh(steps):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(steps):
        network(images).square().mean().backward()
        network.zero_grad()
    return (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) * page / steps / 2**20

def resident():
    return psutil.Process().memory_info().rss / 2**20

fresh(3)
with memory.kept():
    fresh(3)
    inside, held = fresh(5), resident()
    fresh(20)
    grown = resident() - held
given_back = resident()
print(json.dumps({"fresh": inside, "grown": grown, "given back": held + grown - given_back}))
"""


def counted(tmp_path: Path, **environment: str) -> dict[str, float]:
    """Megabytes: of fresh pages for each step, of growth over twenty, and what is given back in the end."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    told = subprocess.run(
        [sys.executable, "-c", COUNT], env=clean | environment, capture_output=True, text=True, check=True, cwd=tmp_path
    )
    numbers: dict[str, float] = json.loads(told.stdout)
    return numbers


def test_steps_use_what_steps_have_freed_and_give_it_back_in_the_end(tmp_path):
    megabytes = counted(tmp_path)
    assert megabytes["fresh"] < 10
    assert megabytes["grown"] < 10
    assert megabytes["given back"] > 40


def test_what_the_user_asked_of_the_allocator_stands(tmp_path):
    megabytes = counted(tmp_path, MALLOC_MMAP_THRESHOLD_="1000000")
    assert megabytes["fresh"] > 200
    assert megabytes["given back"] < 1
