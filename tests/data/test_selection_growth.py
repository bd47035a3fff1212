"""``benchmarks/selection_growth.py``, tiny."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import tiny
from dakit.files import shipped

growth = tiny.benchmark_file("selection_growth")


def test_pictures_are_the_same_in_every_pass_and_differ() -> None:
    pool, anchors = growth.Drawn(9, 20, 0), growth.Drawn(9, 20, 1)
    assert torch.equal(pool[3].image, growth.Drawn(5, 20, 0)[3].image)
    assert not torch.equal(pool[3].image, pool[4].image)
    assert not torch.equal(pool[3].image, anchors[3].image)
    assert (pool[3].image.shape, pool[3].image.dtype) == ((3, 20, 20), torch.uint8)


def test_the_projection_is_the_line_through_the_two_largest() -> None:
    assert growth.projected([1, 10, 20], [99.0, 3.0, 5.0], 100) == 21


def test_a_table_and_a_file(tmp_path: Path) -> None:
    """In its own process, as its processes begin from its file; with 16 picks of 40 each image can be another."""
    sizes = ["--counts", "40", "--anchors", "2", "--size", "19", "--selectors", "feature_knn, hub-free"]
    command = [
        sys.executable,
        shipped("benchmarks") / "selection_growth.py",
        *sizes,
        "--save",
        tmp_path / "growth.json",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    made = json.loads((tmp_path / "growth.json").read_text())
    (row,) = made["rows"]
    assert (row["selector"], row["count"], row["distinct"], row["agreement"]) == ("feature_knn, hub-free", 40, 16, 1)
    assert row["steps"]["extraction"] > 0
    assert row["steps"]["PCA"] == row["steps"]["t-SNE"] == 0
    assert row["cpu"] == pytest.approx(sum(row["steps"].values()))
    assert made["projected"] == {}  # a line needs two counts
    assert "feature_knn, hub-free" in done.stdout
