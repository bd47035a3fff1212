"""``dakit bench`` runs pytest in a process of its own, on a plugin's component as on a built-in."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest


def test_measures_saves_and_compares(dakit, tmp_path):
    code, _, _ = dakit("bench", "store", "discriminator", "--size", "32", "--batch", "1,2", "--save", "a", "--json")
    assert code == 0
    run = json.loads((tmp_path / ".benchmarks" / "a.json").read_text())
    assert {row["name"] for row in run["benchmarks"]} == {
        "store/write_checkpoint", "store/read_checkpoint",
        "discriminator/patchgan 32 px 1 images", "discriminator/patchgan 32 px 2 images",
    }  # fmt: skip
    one, two = (row for row in run["benchmarks"] if row["name"].startswith("discriminator"))
    assert all(row["median"] > 0 and row["rounds"] >= 3 for row in run["benchmarks"])
    # Twice the images, twice the operations: 2 x 2.3 GFLOP x 3 (forward, and backward for weights and inputs).
    flops = {row["name"]: row["share"] * row["median"] * run["ceilings"]["flops"] for row in (one, two)}
    assert flops[two["name"]] == pytest.approx(2 * flops[one["name"]])
    code, out, _ = dakit(
        "bench", "store/write_checkpoint", "data/epochs", "--size", "32", "--batch", "2", "--compare", "a"
    )
    assert code == 0
    assert "speed, a = 1" in out
    assert re.search(r"\ndata/epochs 32 px 2 images: MiB by which memory grew in ten epochs .*, times as fast as", out)
    assert "GFLOP/s (a matrix product, or a benchmark that did more)" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--size", "64,x"], "--size 64,x: positive whole numbers separated by commas were expected"),
        (["--batch", "0"], "--batch 0: positive whole numbers"),
        (["--precision", "bf61"], "--precision bf61: expected one of fp32, bf16, fp16"),
        (["--device", "gpu"], "--device gpu: expected one of auto, cpu, cuda, mps"),
        (["--compare", "b"], "--compare b: there is no .benchmarks/b.json"),
        (["--save", "../b"], "--save ../b: a name of letters"),
    ],
)
def test_a_wrong_option_is_named_before_anything_runs(dakit, arguments, message):
    code, out, err = dakit("bench", *arguments)
    assert (code, out) == (2, "")
    assert message in err


def test_an_unknown_benchmark_is_named(tmp_path):
    command = [sys.executable, "-c", "from dakit.cli import main; main()", "bench", "patchgam"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert 'there is no benchmark "patchgam", did you mean "patchgan"?' in done.stderr
    assert "Traceback" not in done.stderr
