from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import tiny
from dakit.data.sets import TensorImages, Unlabelled
from dakit.errors import DakitError
from dakit.interfaces import ImageSet, Prediction, Trained
from dakit.stages.synthesise import Synthesise
from dakit.stages.translator import to_uint8
from dakit.training.trainer import Trainer


class Negative(nn.Module):
    """A known translator, that counts what it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def forward(self, images: Tensor) -> Tensor:
        self.count += len(images)
        return -images


class Black(nn.Module):
    """A translator that knows one image."""

    def forward(self, images: Tensor) -> Tensor:
        return torch.full_like(images, -1.0)


class Normed(nn.Module):
    """What it makes of an image would depend on the others in the batch, were it not in evaluation mode."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)
        self.inner = tiny.Generator()

    def forward(self, images: Tensor) -> Tensor:
        made: Tensor = self.inner(self.norm(images))
        return made


class Threshold(nn.Module):
    """Reads an image as class 0 below, as class 1 above a mean of 0."""

    def __init__(self, classes: int) -> None:
        super().__init__()

    def forward(self, images: Tensor) -> Prediction:
        mean = images.mean((1, 2, 3))
        logits = torch.stack([-mean, mean], 1)
        return Prediction(logits, logits, ())


NEGATIVE = Trained(tiny.spec(Negative), {})


def run(
    folder: Path,
    images: ImageSet,
    *observers: tiny.Unplug,
    batch_size: int = 32,
    checkpoint_steps: int = 1000,
    **inputs: Any,
) -> ImageSet:
    ctx = tiny.context(folder, *observers, checkpoint_steps=checkpoint_steps)
    return Synthesise(batch_size=batch_size).run(ctx, images=images, **{"translator": NEGATIVE, **inputs}).images


def values(*means: int) -> Tensor:
    return torch.tensor(means, dtype=torch.uint8)[:, None, None, None].expand(-1, 3, 2, 2).clone()


def pixels(images: ImageSet) -> Tensor:
    return torch.stack([images[i].image for i in range(len(images))])


def test_to_uint8_undoes_what_the_trainer_does_to_images(tmp_path: Path) -> None:
    every = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16).expand(1, 3, 16, 16)
    images = Trainer(tiny.context(tmp_path)).images(every)
    assert (images.dtype, images.min().item(), images.max().item()) == (torch.float32, -1, 1)
    assert images[0, 0, 3, 7].item() == pytest.approx((3 * 16 + 7) / 127.5 - 1)
    assert torch.equal(to_uint8(images), every)


def test_to_uint8_rounds_and_clips() -> None:
    shades = torch.tensor([-1.5, -1.0, 0.4 / 127.5 - 1, 0.6 / 127.5 - 1, 254.4 / 127.5 - 1, 1.0, 7.0])
    assert to_uint8(shades).tolist() == [0, 0, 0, 1, 254, 255, 255]


def test_output_is_the_translated_image_with_label_and_group(tmp_path: Path) -> None:
    given = TensorImages(tiny.images([0] * 5).images, [2, 0, 1, -1, 2], list("vwxyz"), tiny.CLASSES)
    made = run(tmp_path, given, batch_size=2)
    assert torch.equal(pixels(made), 255 - given.images)
    assert [made[i][1:] for i in range(5)] == [(2, "v"), (0, "w"), (1, "x"), (-1, "y"), (2, "z")]
    assert made.classes == given.classes


def test_images_without_labels_stay_without(tmp_path: Path) -> None:
    made = run(tmp_path, Unlabelled(tiny.images([0, 1])))
    assert (made.classes, list(made.labels)) == ((), [-1, -1])


def test_the_size_of_the_batches_does_not_matter(tmp_path: Path) -> None:
    given = tiny.images([0, 1, 2] * 7)
    translator = tiny.fresh(tiny.spec(Normed), 5)
    one, some, whole = (
        pixels(run(tmp_path / str(size), given, batch_size=size, translator=translator)).int() for size in (1, 4, 100)
    )
    assert (one - whole).abs().max() <= 1  # rounding
    assert (some - whole).abs().max() <= 1
    with torch.no_grad():
        by_hand = to_uint8(translator.build()(given.images.float() / 127.5 - 1)).int()
    assert (whole - by_hand).abs().max() <= 1


def test_agreement_is_the_share_read_as_their_label_by_class(tmp_path: Path) -> None:
    """After negation a is to be dark: 10 and 80 become 245 and 175 (both wrong), 200 becomes 55 (right)."""
    given = TensorImages(values(10, 80, 200, 10, 20, 90, 250), [0, 0, 0, 1, 1, 1, 1], classes=("a", "b", "none"))
    ctx = tiny.context(tmp_path)
    judge = Trained(tiny.spec(Threshold), {}, ("a", "b", "none"))
    Synthesise(batch_size=2).run(ctx, images=given, translator=NEGATIVE, judge=judge)
    assert ctx.facts == {
        "label_agreement": {"mean": pytest.approx((1 / 3 + 3 / 4) / 2, abs=1e-4), "by_class": {"a": 0.3333, "b": 0.75}}
    }
    assert ctx.notes == ["label agreement of translated images: 54% (a 33%, b 75%)"]


def test_without_a_judge_nothing_is_told(tmp_path: Path) -> None:
    ctx = tiny.context(tmp_path)
    Synthesise().run(ctx, images=tiny.images([0, 1]), translator=NEGATIVE)
    assert (ctx.facts, ctx.notes) == ({}, [])


@pytest.mark.parametrize("images", [tiny.images([0, 1], classes=("b", "a")), Unlabelled(tiny.images([0, 1]))])
def test_a_judge_of_other_classes_is_refused(tmp_path: Path, images: ImageSet) -> None:
    judge = Trained(tiny.spec(Threshold), {}, ("a", "b"))
    with pytest.raises(DakitError, match=r"judge knows \('a', 'b'\), but the images have "):
        run(tmp_path, images, judge=judge)


def test_a_judge_needs_labels(tmp_path: Path) -> None:
    judge = Trained(tiny.spec(Threshold), {}, ("a", "b"))
    with pytest.raises(DakitError, match="a judge compares with labels, but no image has one"):
        run(tmp_path, tiny.images([-1, -1], classes=("a", "b")), judge=judge)


def test_stopped_and_run_again_gives_the_same(tmp_path: Path) -> None:
    """What was made up to the last checkpoint is not made again."""
    labels = [0, 1] * 25
    given = tiny.images(labels, size=(2, 2), classes=("a", "b"))
    spec, built = tiny.recorded(Negative)
    inputs = {"translator": Trained(spec, {}), "judge": Trained(tiny.spec(Threshold), {}, ("a", "b")), "batch_size": 1}
    with pytest.raises(tiny.Interruption):
        run(tmp_path, given, tiny.Unplug(34), checkpoint_steps=20, **inputs)
    ctx = tiny.context(tmp_path)
    batch_size = inputs.pop("batch_size")
    resumed = Synthesise(batch_size=batch_size).run(ctx, images=given, **inputs).images
    assert [G.count for G in built] == [34, 30]
    assert torch.equal(pixels(resumed), 255 - given.images)
    dark = (255 - given.images).double().mean((1, 2, 3)).numpy() < 127.5
    right = np.where(np.asarray(labels) == 0, dark, ~dark)
    found = ctx.facts["label_agreement"]["by_class"]
    assert found == pytest.approx({"a": right[::2].mean(), "b": right[1::2].mean()}, abs=1e-4)


def test_what_was_made_is_not_trusted_when_it_was_altered(tmp_path: Path) -> None:
    given = tiny.images([0] * 9)
    with pytest.raises(tiny.Interruption):
        run(tmp_path, given, tiny.Unplug(5), batch_size=1, checkpoint_steps=2)
    with open(tmp_path / "images.npy", "r+b") as file:
        file.seek(-np.load(tmp_path / "images.npy").nbytes + 7, 2)
        file.write(b"?")
    with pytest.raises(DakitError, match=r"images\.npy: is not what was written"):
        run(tmp_path, given, batch_size=1)


def test_a_translator_that_takes_a_label_away_is_told(tmp_path: Path) -> None:
    given = TensorImages(values(*[20] * 20, *[235] * 20), [0] * 20 + [1] * 20, classes=("dark", "bright"))
    judge = Trained(tiny.spec(Threshold), {}, ("dark", "bright"))
    ctx = tiny.context(tmp_path / "black")
    Synthesise().run(ctx, images=given, translator=Trained(tiny.spec(Black), {}), judge=judge)
    (text,) = ctx.warnings
    assert "1 of 2 classes (bright 0 of 20; below 25.0% is told, 50.0% is chance); it reads 100% of all as dark" in text
    ctx = tiny.context(tmp_path / "same")
    Synthesise().run(ctx, images=given, translator=Trained(tiny.spec(nn.Identity), {}), judge=judge)
    assert ctx.warnings == []


# --------------------------------------------------------------------------------- found by mutants
def test_one_process_is_told_as_one(tmp_path: Path) -> None:
    told: list[Any] = []

    class Watcher(tiny.Unplug):
        def work_started(self, title: str, steps: int | None) -> None:
            told.append((title, steps))

        def step(self, done: int, losses: Any) -> None:
            told.append((done, dict(losses)))

    Synthesise(batch_size=2).run(tiny.context(tmp_path, Watcher(0)), images=tiny.images([0, 1, 2]), translator=NEGATIVE)
    assert told == [("translating 3 images", 3), (2, {}), (3, {})]


def test_a_judge_may_know_one_class_of_which_all_images_are(tmp_path: Path) -> None:
    ctx = tiny.context(tmp_path)
    judge = Trained(tiny.spec(Threshold), {}, ("a", "b"))
    images = tiny.images([0, 0], classes=("a", "b"))
    images.images[0], images.images[1] = 200, 50  # whose negatives are dark and light
    Synthesise().run(ctx, images=images, translator=NEGATIVE, judge=judge)
    assert ctx.facts["label_agreement"] == {"mean": 0.5, "by_class": {"a": 0.5}}
