"""Real processes and real signals: a run waits in a step, at a pipe, until the test has seen and sent what it wants."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dakit.training.checkpoint import load_state

PLUGIN = '''
import os
import torch
from dakit import hookimpl
from toys import ToyClassifier

class Waits(ToyClassifier):
    """A linear layer that waits in its third batch, when it is told where."""

    batches = 0

    def forward(self, images):
        Waits.batches += self.training and torch.is_grad_enabled()
        if Waits.batches == 3 and "REACHED" in os.environ:
            os.write(int(os.environ["REACHED"]), b"here")
            os.read(int(os.environ["GO"]), 1)
        return super().forward(images)

@hookimpl
def dakit_classifiers():
    return {"waits": Waits}
'''
RECIPE = """\
recipe: waits
method: s2t
engine: {device: cpu, checkpoint_steps: 2}
rows: [s2t]
data:
  size: 4
  source: {use: toy_images}
  target: {use: toy_images, shift: 20, split: {holdout: 0.5}}
components:
  network: {use: waits}
stages:
  pretrain: {do: train_classifier, train: source.all, classifier: network, steps: 6, batch_size: 4}
  evaluate: {do: evaluate, model: pretrain.model, test: target.test}
"""


@pytest.fixture
def start(tmp_path, toys):
    """Start a dakit command: a process, a pipe that says when its third step is reached, and one to let it go on.

    A process that ends closes its ends of the pipes, so nobody waits for it in vain.
    """
    (tmp_path / "waits.py").write_text(PLUGIN)
    (tmp_path / "waits.yaml").write_text(RECIPE)
    started = []

    def run(*arguments: str, waits: bool = True):
        reached, tell = os.pipe()
        wait, go = os.pipe()
        ends = {"REACHED": str(tell), "GO": str(wait)} if waits else {}
        process = subprocess.Popen(
            [sys.executable, "-c", "from dakit.cli import main; main()", *arguments],
            cwd=tmp_path, env={**os.environ, **ends, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(toys.parent)},
            pass_fds=(tell, wait), text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        os.close(tell)
        os.close(wait)
        started.append((process, reached, go))
        return started[-1]

    yield run
    for process, reached, go in started:
        process.kill()
        process.communicate()
        os.close(reached)
        os.close(go)


@pytest.fixture
def command(toys):
    """The arguments of a run."""
    return ("run", "waits.yaml", "--plugin", str(toys), "--plugin", "waits.py")


def heard(process, number):
    """Wait until a process says that it has had the signal."""
    assert process.stderr.readline() == "\n"
    assert process.stderr.readline().startswith(f"dakit: {number.name}: stopping after this step and a checkpoint;")


def steps_kept(folder: Path) -> int:
    (path,) = folder.glob("store/pretrain-*.part/checkpoint.safetensors")
    return load_state(path)["done"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_finishes_the_step_keeps_it_and_says_how_to_go_on(start, command, tmp_path, number, code):
    process, reached, go = start(*command, "--fresh", "pretrain", "--out", "a folder")
    assert os.read(reached, 4) == b"here", process.communicate()
    process.send_signal(number)
    heard(process, number)
    os.write(go, b"!")
    _, err = process.communicate()
    assert process.returncode == code, err
    again = shlex.join(["dakit", *command, "--out", "a folder"])  # without --fresh: it would begin anew
    assert err.splitlines()[-1] == f"dakit: stopped by {number.name}; to go on: {again}"
    assert steps_kept(tmp_path / "a folder") == 3
    if number == signal.SIGTERM:
        gone_on, *_ = start(*shlex.split(again)[1:], waits=False)
        _, err = gone_on.communicate()
        assert gone_on.returncode == 0, err
        assert "going on from step 3 of 6" in err


def test_a_second_run_is_kept_out_and_a_second_signal_stops_at_once(start, command, tmp_path):
    process, reached, _ = start(*command, "--out", "out")
    assert os.read(reached, 4) == b"here", process.communicate()
    second, *_ = start(*command, "--out", "out", waits=False)
    _, err = second.communicate()
    assert second.returncode == 2
    assert f"another run is writing here (pid {process.pid} on " in err
    process.send_signal(signal.SIGTERM)
    heard(process, signal.SIGTERM)
    process.send_signal(signal.SIGINT)
    process.communicate()  # the step never ends: nobody writes into the pipe
    assert process.returncode == -signal.SIGINT  # 130 in a shell
    assert steps_kept(tmp_path / "out") == 2
