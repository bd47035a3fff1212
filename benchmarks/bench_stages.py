"""What surrounds the steps: reading and augmenting images, synthesis, selection, the store, the command line."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from PIL import Image
from torch.nn import functional

from conftest import seconds
from dakit.data.augment import Augmentation
from dakit.data.batches import Batches
from dakit.data.kept import Kept
from dakit.data.sets import TensorImages
from dakit.interfaces import ImageSet, Trained
from dakit.plugins import find_plugins
from dakit.registry import Registry
from dakit.stages.synthesise import Synthesise
from dakit.training.checkpoint import load_state, save_state
from dakit.training.trainer import Trainer

REGISTRY = Registry(find_plugins())
POOL, ANCHORS = 1000, 70


def images(count: int, size: int, seed: int = 0) -> TensorImages:
    pixels = np.random.default_rng(seed).integers(256, size=(count, 3, size, size), dtype=np.uint8)
    return TensorImages(torch.from_numpy(pixels), [i % 7 for i in range(count)], classes=tuple("abcdefg"))


def photographs(root: Path, count: int, size: int) -> ImageSet:
    """A folder of JPEG files."""
    for i, sample in enumerate(images(count, size)):
        folder = root / "abcdefg"[i % 7]
        folder.mkdir(exist_ok=True)
        Image.fromarray(sample.image.permute(1, 2, 0).numpy()).save(folder / f"{i}.jpg")
    made: ImageSet = REGISTRY.spec("dataset", "image_folder", {"root": str(root)}).build(size, tuple("abcdefg"))
    return made


@pytest.mark.parametrize("what", ["data/decode", "data/kept"])
def bench_reading(what: str, size: int, batch: int, tmp_path: Path, measure: Callable[..., None]) -> None:
    """Batches from a folder of JPEG files: every image decoded, or all of them kept from an earlier epoch."""
    folder_set = photographs(tmp_path, max(64, batch), size)
    read = folder_set if what == "data/decode" else Kept(folder_set, tmp_path)
    batches = Batches(read, batch, 0)
    number = iter(range(10**9))
    for _ in range(len(folder_set) // batch + 1):
        batches(next(number))
    measure(lambda: batches(next(number)), images=batch)


@pytest.mark.parametrize("what", ["data/augment"])
def bench_augment(what: str, size: int, batch: int, trainer: Trainer, measure: Callable[..., None]) -> None:
    """Flip and shift, as the recipes do, on the device."""
    augment = Augmentation({"flip": 0.5, "shift": 0.05}).to(trainer.device)
    x = trainer.images(torch.stack([sample.image for sample in images(batch, size)]))
    measure(lambda: augment(x), images=batch)


@pytest.mark.parametrize("what", ["data/epochs"])
def bench_epochs(
    what: str, size: int, batch: int, tmp_path: Path, trainer: Trainer, measure: Callable[..., None], benchmark: Any
) -> None:
    """Whole epochs of JPEG files on their way into a training step: kept, shuffled, on the device, augmented.

    Beside it the growth of this process's memory from the end of the first epoch to that of the tenth, and how many
    images a second a step of ResNet-50 (forward and backward) takes.
    """
    files = photographs(tmp_path, 16 * batch, size)
    batches = Batches(Kept(files, tmp_path), batch, 0)
    augment = Augmentation({"flip": 0.5, "shift": 0.05}).to(trainer.device)
    number = iter(range(10**9))

    def epoch() -> None:
        for _ in range(16):
            augment(trainer.images(batches(next(number)).images))

    memory = []
    for _ in range(10):
        epoch()
        memory.append(psutil.Process().memory_info().rss)
    measure(epoch, images=len(files))
    network = trainer.place(REGISTRY.spec("classifier", "timm", {"arch": "resnet50"}).build(7), train=True)
    x, y = trainer.images(batches(0).images), batches(0).labels.to(trainer.device)

    def step() -> None:
        with trainer.autocast():
            loss = functional.cross_entropy(network(x).logits.float(), y)
        trainer.backward({"loss": loss})

    need = len(x) / min(seconds(step, trainer.device) for _ in range(4))
    benchmark.extra_info["also"] = {
        "MiB by which memory grew in ten epochs": (memory[-1] - memory[0]) / 2**20,
        "images/s of a ResNet-50 step": need,
        "times as fast as that": len(files) / benchmark.stats.stats.median / need,
    }


@pytest.mark.parametrize("what", ["stage/synthesise"])
def bench_synthesise(what: str, size: int, batch: int, trainer: Trainer, measure: Callable[..., None]) -> None:
    """The whole stage on eight batches, writing included."""
    torch.manual_seed(0)
    spec = REGISTRY.spec("translator", "resnet_generator", {"blocks": 9, "width": 64})
    translator = Trained(spec, spec.build().state_dict())
    pool = images(8 * batch, size)
    stage = Synthesise(batch_size=batch)

    def run() -> None:
        (trainer.ctx.folder / "images.npy").unlink(missing_ok=True)
        (trainer.ctx.folder / "checkpoint-0-of-1.json").unlink(missing_ok=True)
        stage.run(trainer.ctx, images=pool, translator=translator)

    measure(run, images=len(pool))


@pytest.mark.parametrize("what", [f"selector/{entry.name}" for entry in REGISTRY.entries("selector")])
def bench_selector(what: str, size: int, trainer: Trainer, measure: Callable[..., None]) -> None:
    """Eight of 1,000 pool images for each of 70 anchors, by the stem of a small classifier.

    Beside a selector that can ration its images it runs with each of them given out at most once.
    """
    torch.manual_seed(0)
    name = what.split("/")[1]
    known = REGISTRY.spec("selector", name, {}).params
    stem = {"extractor": "classifier"} if "extractor" in known else {}
    classifier = trainer.place(REGISTRY.spec("classifier", "resnet_cifar", {}).build(7), train=False)
    pool, anchors = images(POOL, size), images(ANCHORS, size, seed=1)

    def choose(**params: Any) -> Callable[[], Any]:
        selector = REGISTRY.spec("selector", name, stem | params).build()
        return lambda: selector(pool, anchors, classifier=classifier, device=trainer.device)

    reference = ("max_reuse 1", choose(max_reuse=1)) if "max_reuse" in known else None
    measure(choose(), images=POOL + ANCHORS, reference=reference)


@pytest.mark.parametrize("what", ["store/write_checkpoint", "store/read_checkpoint"])
def bench_checkpoint(what: str, tmp_path: Path, measure: Callable[..., None]) -> None:
    """45 MB (one generator of width 64), checksum and flush to the disk included."""
    path = tmp_path / "checkpoint.safetensors"
    state: dict[str, Any] = {str(i): torch.randn(256, 256, 3, 3) for i in range(19)}
    save_state(path, state)
    measure((lambda: save_state(path, state)) if "write" in what else (lambda: load_state(path)))


@pytest.mark.parametrize("what", ["cli/help", "cli/check"])
def bench_start_up(what: str, measure: Callable[..., None]) -> None:
    """A new process; the check of a recipe imports torch, which ``--help`` must not."""
    arguments = ["--help"] if what == "cli/help" else ["check", "cycleat_sfew", "--profile", "demo"]
    command = [sys.executable, "-c", "from dakit.cli import main; main()", *arguments]
    bare = [sys.executable, "-c", "pass" if what == "cli/help" else "import torch"]
    measure(
        lambda: subprocess.run(command, check=True, capture_output=True),
        reference=(" ".join(bare[1:]), lambda: subprocess.run(bare, check=True, capture_output=True)),
    )
