"""Whole training steps, each against what it is compared with, in turn: what a user waits for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import plain_step
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dakit.interfaces import Classifier, Discriminator, Prediction, Spec, TransferLoss, Translator
from dakit.plugins import find_plugins
from dakit.registry import Registry
from dakit.stages.translator import ImagePool, TrainTranslator
from dakit.training.trainer import Trainer

REGISTRY = Registry(find_plugins())
BLOCKS, WIDTH, CLASSES = 9, 64, 7


def spec(kind: str, name: str, **params: Any) -> Spec[Any]:
    return REGISTRY.spec(kind, name, params)


DISCRIMINATOR: Spec[Discriminator] = spec("discriminator", "patchgan", width=WIDTH)
CLASSIFIER: Spec[Classifier] = spec("classifier", "timm", arch="resnet50")
ATTENTION: Spec[TransferLoss] = spec("transfer_loss", "attention_transfer")


def noise(trainer: Trainer, batch: int, size: int) -> Tensor:
    return trainer.images(torch.randint(256, (batch, 3, size, size), dtype=torch.uint8))


def translator_step(
    trainer: Trainer, size: int, batch: int, *, second: bool, winograd: bool = False
) -> Callable[[], None]:
    """Stage I, or stage II with f_W and attention from f_S, by the stage's own step."""
    generator: Spec[Translator] = spec("translator", "resnet_generator", blocks=BLOCKS, width=WIDTH, winograd=winograd)
    stage = TrainTranslator(
        generator=generator, discriminator=DISCRIMINATOR, steps=1, objective="log", cycle_weight=10.0, pool=0,
        classifier=CLASSIFIER if second else None, transfer=ATTENTION if second else None,
    )  # fmt: skip
    made: dict[str, nn.Module] = {name: generator.build() for name in ("G_SW", "G_WS")}
    made |= {name: DISCRIMINATOR.build() for name in ("D_W", "D_S")}
    made |= {"f_W": CLASSIFIER.build(CLASSES)} if second else {}
    nets = {name: trainer.place(network, train=True) for name, network in made.items()}
    f_S = trainer.place(CLASSIFIER.build(CLASSES), train=False) if second else None
    teach = None if f_S is None else lambda fake_w: f_S(x_s)
    transfer = ATTENTION.build() if second else None
    optimisers = stage.optimisers(nets, transfer).values()
    pools = {"W": ImagePool(0), "S": ImagePool(0)}
    x_s, x_w = noise(trainer, batch, size), noise(trainer, batch, size)
    y_s = torch.randint(CLASSES, (batch,), device=trainer.device)

    def step() -> None:
        stage.step(trainer, nets, pools, x_s, y_s, x_w, teach, transfer)
        for optimiser in optimisers:
            optimiser.step()
            optimiser.zero_grad()

    return step


@pytest.mark.parametrize("what", ["step/translator", "step/translator_with_winograd"])
def bench_translator_step(what: str, size: int, batch: int, trainer: Trainer, measure: Callable[..., None]) -> None:
    """Stage I without a classifier, the generator as it is or in Winograd's form, against the plain step (fp32)."""
    torch.manual_seed(0)
    plain = plain_step.PlainStep(BLOCKS, WIDTH)
    for network in (plain.G_SW, plain.G_WS, plain.D_W, plain.D_S):
        network.to(trainer.device)
    x_s, x_w = noise(trainer, batch, size), noise(trainer, batch, size)
    ours = translator_step(trainer, size, batch, second=False, winograd=what.endswith("winograd"))
    measure(ours, images=batch, reference=("plain step, fp32", lambda: plain(x_s, x_w)))


@pytest.mark.parametrize("what", ["step/translator_with_f_W"])
def bench_stage_2_step(what: str, size: int, batch: int, trainer: Trainer, measure: Callable[..., None]) -> None:
    """Stage II: f_W with its labels and attention from f_S, against stage I's step."""
    torch.manual_seed(0)
    first = translator_step(trainer, size, batch, second=False)
    measure(
        translator_step(trainer, size, batch, second=True), images=batch, reference=("step without classifier", first)
    )


@pytest.mark.parametrize(
    "what", ["step/classifier", "step/classifier_with_teacher", "step/classifier_with_kept_teacher"]
)
def bench_classifier_step(what: str, size: int, batch: int, trainer: Trainer, measure: Callable[..., None]) -> None:
    """ResNet-50, cross-entropy; with a teacher, attention transfer too, against what it may cost.

    That is the step without, or without and a forward pass of the teacher where its answers are not kept.
    """
    torch.manual_seed(0)
    student = trainer.place(CLASSIFIER.build(CLASSES), train=True)
    teacher = trainer.place(CLASSIFIER.build(CLASSES), train=False)
    transfer = ATTENTION.build()
    optimiser = torch.optim.Adam(student.parameters(), lr=1e-4)
    x, y = noise(trainer, batch, size), torch.randint(CLASSES, (batch,), device=trainer.device)

    with torch.no_grad(), trainer.autocast():
        kept = transfer.condense(teacher(x))

    def step(teach: Callable[[], Prediction] | None) -> None:
        with trainer.autocast():
            said = student(x)
            losses = {"cross-entropy": F.cross_entropy(said.logits.float(), y)}
            if teach is not None:
                with torch.no_grad():
                    view = teach()
                losses["transfer"] = transfer(view, said)
        trainer.backward(losses)
        optimiser.step()
        optimiser.zero_grad()

    def alone() -> None:
        with torch.no_grad(), trainer.autocast():
            teacher(x)
        step(None)

    if what == "step/classifier":
        measure(lambda: step(None), images=batch)
    elif what == "step/classifier_with_teacher":
        measure(lambda: step(lambda: teacher(x)), images=batch, reference=("step and teacher's forward", alone))
    else:
        measure(lambda: step(lambda: kept), images=batch, reference=("step without teacher", lambda: step(None)))
