"""Whatever is called, the process is afterwards as it was before for whoever called."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState, PartialState

import dakit.data.files
from dakit.advice.doctor import examine
from dakit.advice.estimates import estimate
from dakit.data.sets import FileImages
from dakit.interfaces import Context, Engine
from dakit.pipeline import run as pipeline
from dakit.pipeline.curve import curve
from dakit.recipe.load import load_recipe
from dakit.registry import Registry
from dakit.results.runs import open_run
from dakit.testing.stages import inputs_of, small_components
from dakit.training.device import accelerator
from dakit.training.surroundings import exact_fp32, undisturbed
from dakit.training.trainer import Trainer
from dakit.use.export import export
from dakit.use.inference import classify, translate
from dakit_builtins.classifiers.resnet_cifar import ResNetCifar
from dakit_builtins.prepare.faces import Cropping, crop_faces
from dakit_builtins.translators.resnet_generator import ResnetGenerator

STATES = (PartialState, AcceleratorState, GradientState)


@pytest.fixture(autouse=True)
def _as_found() -> Iterator[None]:
    """Nothing that is tried out here is left to other tests."""
    before, threads = {kind: kind._shared_state for kind in STATES}, torch.get_num_threads()
    matmul, environment = torch.get_float32_matmul_precision(), dict(os.environ)
    flags = torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark, torch.backends.cudnn.allow_tf32
    for kind in STATES:
        kind._shared_state = {}
    yield
    for kind, state in before.items():
        kind._shared_state = state
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark, torch.backends.cudnn.allow_tf32 = flags
    torch.set_float32_matmul_precision(matmul)
    torch.set_num_threads(threads)
    os.environ.clear()
    os.environ.update(environment)


def surroundings() -> dict[str, Any]:
    """All that a call might change for its caller, as values that can be compared."""
    numpy = np.random.get_state()
    return {
        "python": random.getstate(),
        "numpy": (numpy[0], numpy[1].tolist(), *numpy[2:]),
        "torch": torch.get_rng_state().tolist(),
        "cudnn": [getattr(torch.backends.cudnn, name) for name in ("enabled", "deterministic", "benchmark")],
        "tf32": (torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()),
        "threads": torch.get_num_threads(),
        "filters": list(warnings.filters),
        "handlers": [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)],
        "accelerate": [(id(kind._shared_state), dict(kind._shared_state)) for kind in STATES],
        "environment": dict(os.environ),
        "modes": (torch.is_grad_enabled(), torch.get_default_dtype(), torch.get_deterministic_debug_mode()),
    }


def disturb() -> None:
    """Change all that a component might."""
    random.seed(9)
    np.random.seed(9)
    torch.manual_seed(9)
    torch.backends.cudnn.deterministic ^= True
    torch.backends.cudnn.benchmark ^= True
    torch.backends.cudnn.allow_tf32 ^= True
    torch.set_float32_matmul_precision("medium")
    torch.set_num_threads(torch.get_num_threads() + 1)
    warnings.simplefilter("ignore")
    for kind in STATES:
        kind._shared_state = {}


def test_what_is_disturbed_is_put_back() -> None:
    mine = Accelerator(cpu=True, mixed_precision="bf16")
    before = surroundings()
    with undisturbed():
        AcceleratorState._reset_state(reset_partial_state=True)
        GradientState._reset_state()
        disturb()
        within = surroundings()
    assert surroundings() == before
    same = {name for name in before if within[name] == before[name]}
    assert same == {"handlers", "environment", "modes"}  # which nothing in here changed
    assert (mine.mixed_precision, mine.device.type) == ("bf16", "cpu")
    with mine.autocast():
        assert torch.ones(1, 1).mm(torch.ones(1, 1)).dtype == torch.bfloat16


def test_it_is_put_back_after_an_error_too_and_from_within() -> None:
    before = surroundings()
    seen = []

    @undisturbed()
    def fails(deeper: int) -> None:
        disturb()
        within = surroundings()
        if deeper:
            with pytest.raises(ZeroDivisionError):
                fails(deeper - 1)
        seen.append(surroundings() == within)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails(2)
    assert surroundings() == before
    assert seen == [True] * 3


def test_it_can_be_used_again_and_again() -> None:
    @undisturbed()
    def draw() -> float:
        torch.manual_seed(4)
        return float(torch.rand(()))

    torch.manual_seed(1)
    expected = torch.rand(2).tolist()
    torch.manual_seed(1)
    assert [float(torch.rand(())) for _ in range(2) if draw() == draw()] == expected


def test_a_gpu_in_use_gets_its_states_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a GPU: what torch is told."""
    told: list[Any] = []
    states = [torch.tensor([1, 2], dtype=torch.uint8)]
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_rng_state_all", lambda: states)
    monkeypatch.setattr(torch.cuda, "set_rng_state_all", told.append)
    monkeypatch.setattr(torch.cuda, "manual_seed_all", lambda seed: told.append(seed))
    with undisturbed():
        pass
    assert told == [states]


def test_a_gpu_that_was_not_in_use_is_seeded_as_the_cpu_was(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(31)
    told: list[int] = []
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
    monkeypatch.setattr(torch.cuda, "manual_seed_all", told.append)
    with undisturbed():
        torch.manual_seed(5)
    assert told == [5, 31]


# ------------------------------------------------------------------------------------------- doors
DOORS: dict[str, Callable[[Path, Path], Any]] = {
    "run": lambda faces, out: pipeline.run(load_recipe(faces / "faces.yaml"), rows=["s2t"], fold=0, out=out),
    "plan": lambda faces, out: pipeline.plan(load_recipe(faces / "faces.yaml"), out=out),
    "curve": lambda faces, out: curve(load_recipe(faces / "faces.yaml"), rows=["cycle"], labels=[2], out=faces / "run"),
    "estimate": lambda faces, out: estimate(load_recipe(faces / "faces.yaml"), out=out),
    "examine": lambda faces, out: examine(load_recipe(faces / "faces.yaml")),
    "classifier": lambda faces, out: open_run(faces / "run").classifier("s2t", 0, 0),
    "translator": lambda faces, out: open_run(faces / "run").translator("cycle", 0, 0),
    "classify": lambda faces, out: classify(
        [open_run(faces / "run").classifier("s2t", 0, 0)], photographs(faces), engine=Engine(device="cpu")
    ),
    "translate": lambda faces, out: translate(
        open_run(faces / "run").translator("cycle", 0, 0),
        {path: Path(path.name) for path in photographs(faces)},
        out,
        engine=Engine(device="cpu"),
    ),
    "export": lambda faces, out: export(open_run(faces / "run"), "s2t", 0, 0, kind="torch", out=out),
    "crop_faces": lambda faces, out: crop_faces(
        faces / "web", out, cropping=Cropping(size=16), weights=out, boxes=boxes(faces)
    ),
}


def photographs(faces: Path) -> list[Path]:
    return sorted((faces / "web").glob("*.jpg"))


def boxes(faces: Path) -> dict[str, tuple[float, float, float, float]]:
    return {path.name: (0.0, 0.0, 10.0, 10.0) for path in photographs(faces)}


@pytest.mark.parametrize("door", DOORS)
def test_every_door_leaves_the_process_as_it_was(
    faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, door: str
) -> None:
    """Components that change all that they can, opened and built behind it."""
    disturbed = []

    def disturbing(genuine: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **named: Any) -> Any:
            disturb()
            disturbed.append(genuine)
            return genuine(*args, **named)

        return call

    genuine = {kind: kind.__init__ for kind in (FileImages, ResNetCifar, ResnetGenerator)}  # type: ignore[misc]
    for kind, init in genuine.items():
        monkeypatch.setattr(kind, "__init__", disturbing(init))
    monkeypatch.setattr("dakit_builtins.prepare.faces.image_files", disturbing(dakit.data.files.image_files))
    if door in ("classify", "translate"):  # given models, they open and build nothing
        disturbed.append("set flags for its engine")
    mine = Accelerator(cpu=True, mixed_precision="bf16")
    torch.backends.cudnn.deterministic = False
    before = surroundings()
    DOORS[door](faces, tmp_path / "out")
    assert surroundings() == before
    assert disturbed
    assert (mine.mixed_precision, mine.device.type) == ("bf16", "cpu")


@pytest.mark.parametrize(
    "name", ["train_classifier", "train_translator", "synthesise", "select", "map_domains", "evaluate"]
)
def test_a_stage_that_is_used_alone_leaves_the_process_as_it_was(registry: Registry, tmp_path: Path, name: str) -> None:
    factory = registry.find("stage", name).factory
    params = {"steps": 2, "batch_size": 2} if name.startswith("train") else {}
    spec = registry.spec("stage", name, {**params, **small_components(factory, params)})
    given = inputs_of(spec)
    stage = spec.build()
    mine = Accelerator(cpu=True, mixed_precision="bf16")
    torch.backends.cudnn.deterministic = False
    before = surroundings()
    stage.run(Context(tmp_path, engine=Engine(device="cpu")), **given)
    assert surroundings() == before
    assert (mine.mixed_precision, mine.device.type) == ("bf16", "cpu")


def test_a_trainer_by_itself_takes_nothing_from_an_accelerator_that_is_there(tmp_path: Path) -> None:
    mine = Accelerator(cpu=True, mixed_precision="bf16")
    first = Trainer(Context(tmp_path, engine=Engine(device="cpu", precision="bf16")))
    other = Trainer(Context(tmp_path, engine=Engine(device="cpu")))
    assert (mine.mixed_precision, mine.device.type) == ("bf16", "cpu")
    one = torch.ones(1, 1)
    for trainer, dtype in ((first, torch.bfloat16), (other, torch.float32)):
        with trainer.autocast():
            assert one.mm(one).dtype == dtype


def test_nothing_is_changed_by_importing_dakit() -> None:
    code = (
        "import signal, sys, warnings, torch, PIL.Image, accelerate, pydantic\n"
        "def seen(): return (list(warnings.filters), [signal.getsignal(n) for n in (2, 15)], torch.initial_seed(),"
        " torch.get_num_threads(), torch.backends.cudnn.deterministic)\n"
        "before = seen()\n"
        "import dakit, dakit.stages.classifier, dakit.pipeline.run, dakit.pipeline.curve, dakit.use.export\n"
        "import dakit.use.inference\n"
        "import dakit_builtins.prepare.faces, dakit.advice.doctor, dakit.advice.estimates\n"
        "assert seen() == before, seen()\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# -------------------------------------------------------------------------------------------- fp32
SAID = {
    "as torch comes": "",
    "old: convolutions": "b.cudnn.allow_tf32 = False",
    "old: products": "b.cuda.matmul.allow_tf32 = True",
    "old: high": "torch.set_float32_matmul_precision('high')",
    "old: medium": "torch.set_float32_matmul_precision('medium')",
    "new: all": "b.fp32_precision = 'tf32'",
    "new: all exact": "b.fp32_precision = 'ieee'",
    "new: cuDNN": "b.cudnn.fp32_precision = 'tf32'",
    "new: convolutions": "b.cudnn.conv.fp32_precision = 'ieee'",
    "new: products": "b.cuda.matmul.fp32_precision = 'tf32'",
    "new: on a CPU": "b.mkldnn.matmul.fp32_precision = 'bf16'",
}
EACH = """
import os, sys
import torch
from dakit.training.surroundings import exact_fp32, undisturbed
b = torch.backends
ways = {
    "cudnn": lambda: b.cudnn.allow_tf32, "cublas": lambda: b.cuda.matmul.allow_tf32,
    "matmul": torch.get_float32_matmul_precision,
}
if hasattr(b.cudnn, "conv"):
    ways |= {
        "all": lambda: b.fp32_precision, "cudnn all": lambda: b.cudnn.fp32_precision,
        "conv": lambda: b.cudnn.conv.fp32_precision, "rnn": lambda: b.cudnn.rnn.fp32_precision,
        "product": lambda: b.cuda.matmul.fp32_precision, "cpu all": lambda: b.mkldnn.fp32_precision,
        "cpu conv": lambda: b.mkldnn.conv.fp32_precision, "cpu product": lambda: b.mkldnn.matmul.fp32_precision,
        "cpu rnn": lambda: b.mkldnn.rnn.fp32_precision,
    }
def said():
    found = {}
    for name, way in ways.items():
        try: found[name] = way()
        except RuntimeError: found[name] = "not to be asked in the old way"
    return found
operations = {"conv", "rnn", "product", "cpu conv", "cpu product", "cpu rnn"} & set(ways)
for title, code in CASES.items():
    if os.fork() == 0:  # torch cannot be set back in every way
        try:
            exec(code)
            before = said()
            with undisturbed():
                pass
            assert said() == before, (title, "unused", before, said())
            with undisturbed():
                exact_fp32()
                within = said()
                with undisturbed():
                    exact_fp32()
                assert said() == within
            assert {within[name] for name in operations} <= {"ieee", "none"}, (title, within)
            assert within["cublas"] is not True and within["cudnn"] is not True, (title, within)
            assert said() == before, (title, before, said())
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    assert os.wait()[1] == 0
"""


def test_fp32_is_exact_within_however_the_caller_said_it_and_afterwards_as_it_was() -> None:
    new = hasattr(torch.backends.cudnn, "conv")
    cases = {title: code for title, code in SAID.items() if new or not title.startswith("new")}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", EACH.replace("CASES", repr(cases))], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_an_accelerator_computes_in_exact_fp32() -> None:
    torch.backends.cudnn.allow_tf32 = True
    torch.set_float32_matmul_precision("high")
    with undisturbed():
        accelerator(Engine(device="cpu"))
        assert (torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32) == (False, False)
        assert torch.backends.cudnn.deterministic
    assert (torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32) == (True, True)


def test_exact_fp32_is_said_once() -> None:
    exact_fp32()
    before = surroundings()
    exact_fp32()
    assert surroundings() == before
