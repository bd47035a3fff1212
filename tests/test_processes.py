"""Several processes: in forked children that meet by gloo (``several.py``), and as launchers start them (slow)."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import several
import tiny
from dakit import open_run, processes
from dakit.data.batches import Batches, too_few
from dakit.errors import DakitError
from dakit.training.checkpoint import load_state

SELECTION = "knn tsne ties maps selectors"


def run(folder: Path, count: int, cases: str) -> list[int]:
    """How each process of the cases ended."""
    script = Path(__file__).parent / "several.py"
    ended = subprocess.run(
        [sys.executable, script, folder, str(count), *cases.split()],
        capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    ends: list[int] = json.loads(ended.stdout)
    assert 1 not in ends, ended.stderr
    return ends


@pytest.fixture(scope="module")
def two(tmp_path_factory) -> Path:
    """A folder with what two processes made of every case."""
    folder = tmp_path_factory.mktemp("two")
    cases = (
        f"classifier head averaged translator chance resumed grown synthesise {SELECTION} asked poisoned unused dead"
    )
    with pytest.raises(tiny.Interruption):
        several.translator(folder / "grown", tiny.Unplug(3), steps=4)
    assert run(folder, 2, cases) == [0, -9]
    return folder


@pytest.fixture(scope="module")
def three(tmp_path_factory) -> Path:
    """What three made of the selections."""
    folder = tmp_path_factory.mktemp("three")
    assert run(folder, 3, f"{SELECTION} damaged") == [0, 0, 0]
    return folder


def said(two: Path, case: str, rank: int) -> str:
    return str(json.loads((two / case / f"said-{rank}.json").read_text()))


def weights(two: Path, case: str, rank: int) -> dict[str, torch.Tensor]:
    assert said(two, case, rank) == ""
    return load_file(two / case / f"weights-{rank}.safetensors")


def gradients(folder: Path) -> dict[str, list[torch.Tensor]]:
    """Of the first step, from Adam's first moments: (1 - beta1) g."""
    parts = load_state(folder / "checkpoint.safetensors")["parts"]
    return {
        name: [2 * state["exp_avg"] for state in part["state"].values()]
        for name, part in parts.items()
        if name.startswith("optimiser ")
    }


@pytest.mark.parametrize("case", ["classifier", "translator"])
def test_gradients_are_those_of_one_process_with_the_whole_batch(two, tmp_path, case):
    getattr(several, case)(tmp_path)
    alone, shared = gradients(tmp_path), gradients(two / case)
    assert alone.keys() == shared.keys()
    for name, ours in alone.items():
        for a, b in zip(ours, shared[name], strict=True):
            assert a.abs().max() > 1e-4
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("case", ["classifier", "head", "averaged", "translator", "chance", "synthesise"])
def test_both_processes_have_the_same_weights_but_their_own_statistics(two, case):
    first, second = weights(two, case, 0), weights(two, case, 1)
    different = {name for name in first if not torch.equal(first[name], second[name])}
    statistics = {"classifier.norm.running_mean", "classifier.norm.running_var"}
    assert different == (statistics if case == "chance" else set())


def test_a_linear_probe_moves_the_head_alone(two):
    before = tiny.fresh(several.NORM, 6, tiny.CLASSES).state
    after = weights(two, "head", 0)
    assert {name for name in after if not torch.equal(before[name], after[name])} <= {"head.weight", "head.bias"}


def test_a_checkpoint_holds_each_process_s_own_and_ends_bit_identical(two):
    assert tiny.same(weights(two, "chance", 0), weights(two, "resumed", 0))
    first = load_state(two / "chance" / "checkpoint.safetensors")
    (path,) = (two / "chance").glob("checkpoint-1-*")  # older ones are removed
    second = load_state(path)
    assert first["done"] == 6
    assert second.keys() == {"pool W", "pool S", "samples"}
    for pool in ("pool W", "pool S"):
        for a, b in zip(first["parts"][pool]["images"], second[pool]["images"], strict=True):
            assert not torch.equal(a, b)
    state = first["parts"]["f_W"]
    assert torch.equal(state["norm.running_mean"], weights(two, "chance", 0)["classifier.norm.running_mean"])


def test_another_number_of_processes_goes_on_and_says_so(two, tmp_path):
    folder = shutil.copytree(two / "dead", tmp_path / "alone")
    several.translator(folder, steps=4)
    (note,) = json.loads((folder / "notes.json").read_text())
    assert note.startswith("trained by 2, then 1 processes: the batches are the same, but not bit for bit")
    assert json.loads((folder / "history.json").read_text())["step"] == [1, 2, 3, 4]
    (note,) = json.loads((two / "grown" / "notes.json").read_text())
    assert note.startswith("trained by 1, then 2 processes")
    assert tiny.same(weights(two, "grown", 0), weights(two, "grown", 1))


def test_synthesis_is_shared_and_the_same(two, tmp_path):
    alone, shared = several.synthesise(tmp_path)["images"], weights(two, "synthesise", 0)["images"]
    assert len(alone.unique()) > 50
    torch.testing.assert_close(alone.int(), shared.int(), rtol=0, atol=1)  # rounding
    agreement = [json.loads((folder / "facts.json").read_text()) for folder in (tmp_path, two / "synthesise")]
    assert agreement[0] == agreement[1]
    for rank, (start, stop) in enumerate(((0, 6), (6, 12))):
        log = json.loads((two / "synthesise" / f"checkpoint-{rank}-of-2.json").read_text())
        assert log["done"] == stop
        assert len(log["read_as"]) == stop - start


# ------------------------------------------------------------------------------------- selection
def own(count: int, chunks: int, rank: int, images: int) -> list[int]:
    """The images of whole chunks of four that fall to one of ``count`` processes."""
    return list(range(4 * (chunks * rank // count), min(4 * (chunks * (rank + 1) // count), images)))


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("case", ["knn", "tsne", "ties", "maps"])
def test_a_selection_is_shared_and_bit_for_bit_the_same(request, count, case):
    folder = request.getfixturevalue({2: "two", 3: "three"}[count])
    made = [weights(folder, case, rank) for rank in range(count)]
    names = {name.removeprefix("alone ") for name in made[0] if name.startswith("alone ")} - {"read"}
    assert names >= {"knn": {"indices"}, "tsne": {"exact"}, "ties": {"40 indices"}, "maps": {"points_3d"}}[case]
    for rank in range(count):
        for name in names - ({"points_3d"} if rank else set()):  # which the first makes alone
            assert torch.equal(made[rank][f"shared {name}"], made[0][f"alone {name}"]), name


@pytest.mark.parametrize("count", [2, 3])
def test_each_process_reads_its_own_part_of_the_pool(request, count):
    folder = request.getfixturevalue({2: "two", 3: "three"}[count])
    drawn = torch.randperm(54, generator=torch.Generator().manual_seed(1))[:20].sort().values
    sample = [i for i in drawn.tolist() if i < 45]
    for rank in range(count):
        exact = [0, *own(count, 12, rank, 45)]  # the first image tells the size
        assert weights(folder, "knn", rank)["shared read"].tolist() == exact
        assert weights(folder, "knn", rank)["alone read"].tolist() == [0, *range(45)]
        joined = own(count, 14, rank, 45)  # pool and anchors, one after the other
        projected = [0, *([] if rank else sample), *joined]
        assert weights(folder, "tsne", rank)["shared read"].tolist() == projected + exact


@pytest.mark.parametrize("count", [2, 3])
def test_a_selector_is_called_by_all_only_where_it_says_so(request, count):
    folder = request.getfixturevalue({2: "two", 3: "three"}[count])
    for rank in range(count):
        made = weights(folder, "selectors", rank)
        assert (made["stranger"].unique().tolist(), made["sharing"].unique().tolist()) == ([0], [count - 1])


def test_a_process_that_cannot_read_its_part_ends_the_others(three):
    assert said(three, "damaged", 2) == "DakitError: image 44 is damaged"
    for rank in (0, 1):
        assert said(three, "damaged", rank).startswith("DakitError: another process of this run has ended")


# ---------------------------------------------------------------------------------------- failing
def test_what_one_must_do_all_do(two):
    for rank in (0, 1):
        assert said(two, "asked", rank) == "Stopped: SIGTERM"  # only the second process had the signal
        assert said(two, "poisoned", rank).startswith("NonFiniteLoss: t: step 2 of 4: a loss is not finite")
        assert said(two, "unused", rank).startswith(
            "DakitError: a network has weights that the losses do not depend on"
        )
    assert load_state(two / "asked" / "checkpoint.safetensors")["done"] == 3
    assert (two / "asked" / "checkpoint-1-3.safetensors").is_file()
    assert load_state(two / "poisoned" / "checkpoint.safetensors")["done"] == 1


def test_a_process_that_dies_ends_the_others(two):
    assert said(two, "dead", 0).startswith("DakitError: another process of this run has ended or cannot be reached;")
    assert not (two / "dead" / "said-1.json").exists()
    assert load_state(two / "dead" / "checkpoint.safetensors")["done"] == 2


# ------------------------------------------------------------------------------- without the others
@pytest.fixture
def third_of_four(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("RANK", "2")


def test_one_process_is_the_first_of_one(monkeypatch):
    assert (processes.count(), processes.rank(), processes.first()) == (1, 0, True)
    assert processes.agree(True, False) == (True, False)
    assert processes.mean([1.5]) == [1.5]
    assert processes.part([1, 2, 3]) == [1, 2, 3]
    monkeypatch.setenv("WORLD_SIZE", "4")  # some clusters set it everywhere
    assert processes.count() == 1


def test_each_reads_its_own_part_of_the_same_batch(monkeypatch):
    pictures = tiny.images([0, 1, 2] * 5, seed=1)
    whole = [Batches(pictures, 6, seed=3)(n) for n in range(5)]
    parts = []
    monkeypatch.setenv("WORLD_SIZE", "3")
    for rank in range(3):
        monkeypatch.setenv("RANK", str(rank))
        batches = Batches(pictures, 6, seed=3)
        parts.append([batches(n) for n in range(5)])
        batches._ahead[1].result()  # before the environment changes
    for n, batch in enumerate(whole):
        for field in ("images", "labels", "indices"):
            assert torch.equal(torch.cat([getattr(part[n], field) for part in parts]), getattr(batch, field))


def test_a_batch_that_cannot_be_shared_is_refused(third_of_four):
    assert too_few(8, {"train": (8, 100)}) == []
    (text,) = too_few(10, {"train": (8, 100), "extra": (2, None)})
    assert text == (
        "batch_size: 10 takes 2 images of extra a step, but 4 processes share them equally; expected a multiple of 4"
    )


def test_what_the_first_does_alone_it_does_whole(third_of_four):
    assert processes.count() == 4
    assert not processes.first()
    with processes.alone():
        assert (processes.count(), processes.rank()) == (1, 0)
    assert processes.rank() == 2


def test_only_a_lost_connection_is_told_as_one():
    with pytest.raises(
        DakitError, match=r"goes on from the last checkpoint \(\[gloo\] Connection closed by peer \[x\]"
    ):
        with processes.meeting():
            raise RuntimeError("[gloo] Connection closed by peer [x]. This is typical")
    with pytest.raises(RuntimeError, match="size mismatch"):
        with processes.meeting():
            raise RuntimeError("size mismatch")


def test_more_processes_than_gpus_are_refused(third_of_four, monkeypatch):
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(DakitError, match="4 processes were started on this machine, but it has 2 GPUs"):
        processes.join(cuda=True)


# --------------------------------------------------------------------------------------- launchers
def test_the_page_s_slurm_script_is_one():
    page = (Path(__file__).parent.parent / "docs" / "many-machines.md").read_text(encoding="utf-8")
    (script,) = re.findall(r"```bash\n(#!/bin/bash\n.*?)```", page, re.DOTALL)
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)
    lines = script.splitlines()
    settings = [line.startswith("#SBATCH") for line in lines]
    assert settings.index(True) == 1  # Slurm reads none below the first command
    assert sorted(settings[1:], reverse=True) == settings[1:]


SMALL = [
    "--profile", "smoke", "--variant", "cycleat", "--fold", "0", "--set", "stage_1.batch_size=2",
    "--set", "stage_2.batch_size=2", "--set", "engine.checkpoint_steps=1", "--plugin", "fault.py", "--out", "out",
]  # fmt: skip
FAULT = '''
import os
import signal
from dakit import hookimpl
from dakit.data import batches

made = batches.Batches._make

def make(self, n):
    """The second process ends in the third batch, when it is told to."""
    if n == 2 and os.environ.get("RANK") == "1" and "FAULT" in os.environ:
        os.kill(os.getpid(), signal.SIGKILL)
    return made(self, n)

batches.Batches._make = make

@hookimpl
def dakit_classifiers():
    return {}
'''


TORCHRUN = "torch.distributed.run --standalone --nproc-per-node 2"
ACCELERATE = (
    "accelerate.commands.launch --multi_gpu --num_processes 2 --num_machines 1 --main_process_port 0 "
    "--mixed_precision no --dynamo_backend no"
)


def launch(folder: Path, *arguments: str, by: str = TORCHRUN, device: str = "cpu", **environment: str):
    """Two processes of a dakit command."""
    return subprocess.run(
        [sys.executable, "-m", *by.split(), "-m", "dakit", *arguments, "--set", f"engine.device={device}"],
        cwd=folder, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("by", [TORCHRUN, ACCELERATE], ids=["torchrun", "accelerate"])
def test_a_whole_recipe_runs_in_two_processes(tmp_path, by):
    (tmp_path / "fault.py").write_text(FAULT)
    ended = launch(tmp_path, "run", "cycleat_sfew", *SMALL, by=by)
    assert ended.returncode == 0, ended.stderr
    assert len(re.findall(r"made \d+ stage results, reused 0", ended.stdout)) == 1  # told once
    run = open_run(tmp_path / "out")
    assert json.loads((tmp_path / "out" / "run.json").read_text())["processes"] == 2
    (predictions,) = run.rounds("cycleat")
    assert len(predictions.evaluation.labels) == 21


@pytest.mark.slow
def test_a_killed_process_ends_the_run_which_one_process_finishes(tmp_path, dakit):
    (tmp_path / "fault.py").write_text(FAULT)
    ended = launch(tmp_path, "run", "cycleat_sfew", *SMALL, FAULT="")
    assert ended.returncode == 1
    assert "dakit, process 0 of 2: " in ended.stderr
    assert not list((tmp_path / "out" / "store").glob("*/done.json"))
    code, out, err = dakit("run", "cycleat_sfew", *SMALL, "--set", "engine.device=cpu")
    assert code == 0, err
    assert "going on from step" in out + err
    assert "trained by 2, then 1 processes" in out + err


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_a_whole_recipe_runs_on_two_gpus(tmp_path):
    (tmp_path / "fault.py").write_text(FAULT)
    ended = launch(tmp_path, "run", "cycleat_sfew", *SMALL, device="cuda")
    assert ended.returncode == 0, ended.stderr
    assert (tmp_path / "out" / "results.json").is_file()
