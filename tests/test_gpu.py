"""What a GPU must give: the values of the CPU, every switch, and a run that goes on with the same bits.

Skipped where there is none. To try the tests themselves on a CPU: ``DAKIT_TEST_DEVICE=cpu pytest tests/test_gpu.py``.
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import dakit
import tiny
from dakit.data.sets import TensorImages
from dakit.interfaces import Context, Engine, Prediction, Spec, Trained
from dakit.pipeline.run import plan, run
from dakit.registry import Registry
from dakit.stages.classifier import TrainClassifier
from dakit.stages.translator import ImagePool, TrainTranslator
from dakit.training.trainer import Trainer
from dakit_builtins.layers import InstanceNorm, ReflectionPad
from dakit_builtins.selectors.feature_knn import FeatureKnn
from dakit_builtins.transfer_losses.attention_transfer import AttentionTransfer

DEVICE: Any = os.environ.get("DAKIT_TEST_DEVICE", "cuda")

pytestmark = [
    pytest.mark.skipif(DEVICE == "cuda" and not torch.cuda.is_available(), reason="needs a CUDA GPU"),
    pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning"),  # what torch.compile itself imports,
    pytest.mark.filterwarnings("ignore:TensorFloat32 tensor cores"),  # and what it would rather use
]

SWITCHES = {
    "fp32": {},
    "bf16": {"precision": "bf16"},
    "fp16": {"precision": "fp16"},
    "channels last": {"channels_last": True},
    "bf16, channels last": {"precision": "bf16", "channels_last": True},
    "two batches a step": {"precision": "bf16", "accumulate": 2},
    "compiled": {"compile": True},
    "bf16, channels last, compiled": {"precision": "bf16", "channels_last": True, "compile": True},
}


@pytest.fixture(autouse=True)
def _exact() -> Any:
    """No TF32, whose eleven bits would hide what is compared here."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


@pytest.fixture(params=SWITCHES)
def engine(request: pytest.FixtureRequest) -> Engine:
    switches: dict[str, Any] = SWITCHES[request.param]
    if DEVICE == "cpu" and switches.get("precision") == "fp16":
        pytest.skip("fp16 needs a GPU")
    return Engine(device=DEVICE, **switches)


@pytest.fixture
def parts(registry: Registry) -> dict[str, Spec[Any]]:
    return {
        "generator": registry.spec("translator", "resnet_generator", {"blocks": 2, "width": 8}),
        "discriminator": registry.spec("discriminator", "patchgan", {"width": 8, "layers": 2}),
        "classifier": registry.spec("classifier", "resnet_cifar", {"depth": 8, "width": 8}),
        "transfer": registry.spec("transfer_loss", "attention_transfer", {}),
    }


def shades(count: int, seed: int) -> TensorImages:
    """Dark and bright images, with noise: two classes that a small network can tell apart."""
    labels = np.arange(count) % 2
    noise = np.random.default_rng(seed).integers(0, 90, (count, 3, 32, 32))
    return TensorImages((noise + 150 * labels[:, None, None, None]).astype(np.uint8), labels, classes=("a", "b"))


def gradients(trainer: Trainer, made: dict[str, nn.Module], parts: dict[str, Spec[Any]]) -> list[torch.Tensor]:
    """Of one step of the translators' stage in double precision, by network, on the CPU."""
    nets = {name: trainer.place(network, train=True) for name, network in made.items()}
    stage = TrainTranslator(
        generator=parts["generator"], discriminator=parts["discriminator"], steps=1, objective="log", pool=0
    )
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randint(256, (2, 2, 3, 32, 32), dtype=torch.uint8, generator=generator)
    x_s, x_w = (trainer.images(batch).double() for batch in pixels)
    pools = {"W": ImagePool(0), "S": ImagePool(0)}
    stage.step(trainer, nets, pools, x_s, torch.zeros(2, dtype=torch.long), x_w)
    return [torch.cat([p.grad.flatten().cpu() for p in net.parameters()]) for net in made.values()]  # type: ignore[union-attr]


@pytest.mark.parametrize("channels_last", [False, True])
def test_a_step_has_the_gradients_of_the_cpu(tmp_path: Path, parts: dict[str, Spec[Any]], channels_last: bool) -> None:
    found = []
    for device in ("cpu", DEVICE):
        torch.manual_seed(0)
        made = {name: parts["generator"].build().double() for name in ("G_SW", "G_WS")}
        made |= {name: parts["discriminator"].build().double() for name in ("D_W", "D_S")}
        engine = Engine(device=device, channels_last=channels_last and device != "cpu")
        found.append(gradients(Trainer(Context(tmp_path, engine=engine)), made, parts))
    for one, other in zip(*found, strict=True):
        assert float((one - other).norm() / one.norm()) < 1e-5  # the losses are added in fp32


def translated(folder: Path, engine: Engine, parts: dict[str, Spec[Any]], *observers: Any) -> Any:
    """Stage II: every network, a pool, all that is random."""
    folder.mkdir(exist_ok=True)
    torch.manual_seed(0)
    teacher = parts["classifier"].build(2)
    stage = TrainTranslator(
        **parts, steps=6, batch_size=4, objective="log", lr=1e-3, pool=6, samples=2,
        augment={"flip": 0.5, "shift": 0.1, "rotate": 8, "zoom": 0.1, "light": 0.2},
    )  # fmt: skip
    given = Trained(parts["classifier"], teacher.state_dict(), ("a", "b"))
    context = Context(folder, seed=3, engine=engine, observers=observers)
    return stage.run(context, source=shades(16, 0), target=shades(12, 1), teacher=given, init_classifier=given)


def classified(folder: Path, engine: Engine, parts: dict[str, Spec[Any]], *observers: Any, steps: int = 8) -> Any:
    folder.mkdir(exist_ok=True)
    torch.manual_seed(0)
    stage = TrainClassifier(
        classifier=parts["classifier"], steps=steps, batch_size=8, lr=0.01,
        augment={"flip": 0.5, "shift": 0.1, "rotate": 8, "zoom": 0.1, "light": 0.1},
    )  # fmt: skip
    return stage.run(Context(folder, seed=3, engine=engine, observers=observers), train=shades(16, 0))


def test_every_switch_learns(tmp_path: Path, parts: dict[str, Spec[Any]], engine: Engine) -> None:
    model = classified(tmp_path, engine, parts, steps=40).model
    network, test = model.build().eval(), shades(20, 5)
    assert all(value.device.type == "cpu" for value in model.state.values())
    with torch.no_grad():
        said = network(torch.from_numpy(test.images) / 127.5 - 1).logits.argmax(1)
    assert float((said == torch.tensor(test.labels)).float().mean()) >= 0.9


@pytest.mark.parametrize("stage", [translated, classified])
def test_killed_and_run_again_ends_with_the_same_bits(
    tmp_path: Path, parts: dict[str, Spec[Any]], engine: Engine, stage: Any
) -> None:
    if engine.compile:
        pytest.skip("what is compiled anew may round otherwise: not promised")
    engine = dataclasses.replace(engine, checkpoint_steps=1)
    whole = stage(tmp_path / "whole", engine, parts)
    with pytest.raises(tiny.Interruption):
        stage(tmp_path / "cut", engine, parts, tiny.Unplug(3))
    resumed = stage(tmp_path / "cut", engine, parts)
    for one, other in zip(whole, resumed, strict=True):
        assert tiny.same(one.state, other.state)
    first, second = ((tmp_path / name / "history.json").read_bytes() for name in ("whole", "cut"))
    assert first == second


@pytest.mark.parametrize("layer", [ReflectionPad(3), InstanceNorm(), nn.ReflectionPad2d(1)])
def test_a_layer_has_the_values_and_gradients_of_the_cpu(layer: nn.Module) -> None:
    found = []
    for device in ("cpu", DEVICE):
        x = torch.rand(2, 4, 9, 11, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        x = x.to(device).requires_grad_()
        made = layer.to(device).double()(x)
        made.square().sum().backward()
        found.append((made.detach().cpu(), x.grad.cpu()))  # type: ignore[union-attr]
    torch.testing.assert_close(found[0], found[1])


@pytest.mark.parametrize("form", ["cycleat", "paper", "code"])
def test_attention_is_the_cpus_and_makes_nothing_of_the_maps_size_but_their_gradient(form: Any) -> None:
    maps = torch.rand(2, 4, 64, 32, 32, generator=torch.Generator().manual_seed(0))
    found = []
    for device in ("cpu", DEVICE):
        taught, said = (part.to(device) for part in maps.clone())
        said.requires_grad_()
        empty = torch.zeros(4, 1, device=device)
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
        views = [Prediction(empty, empty, (part,), rectified=True) for part in (taught, said)]
        value = AttentionTransfer(form=form)(*views)
        value.backward()
        if device == "cuda":
            assert torch.cuda.max_memory_allocated() - before < 1.5 * said.nbytes
        found.append((value.detach().cpu(), said.grad.cpu()))  # type: ignore[union-attr]
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-9)


def test_the_exact_neighbours_are_the_cpus(parts: dict[str, Spec[Any]]) -> None:
    torch.manual_seed(0)
    stem = parts["classifier"].build(2).eval()
    choose = FeatureKnn(neighbours=3, extractor="classifier", batch=16)
    found = [
        choose(shades(60, 0), shades(7, 1), classifier=stem.to(device), device=torch.device(device))
        for device in ("cpu", DEVICE)
    ]
    assert torch.equal(found[0].indices, found[1].indices)
    torch.testing.assert_close(found[0].distances, found[1].distances, rtol=1e-4, atol=1e-4)


def test_a_whole_recipe(tmp_path: Path) -> None:
    recipe = dakit.load_recipe("cycleat_sfew", profile="smoke", overrides=[f"engine.device={DEVICE}"])
    rows = list(recipe.plans)
    outcome = run(recipe, rows=rows, out=tmp_path)
    assert set(outcome.summaries) == set(rows)
    assert {state for _, state in plan(recipe, rows=rows, out=tmp_path)} == {"cached"}
