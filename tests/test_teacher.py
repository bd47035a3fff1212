from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import tiny
from dakit import teacher as teacher_module
from dakit.data.augment import Augment, Augmentation
from dakit.interfaces import Context, Engine, Prediction
from dakit.teacher import Teacher
from dakit.training import Trainer
from dakit_builtins.attention_transfer import AttentionTransfer
from dakit_builtins.soft_targets import SoftTargets

IMAGES = tiny.images([0, 1, 2, 1, 0], seed=4)


class Counted(nn.Module):
    """A classifier that counts the images it sees; its weights are not symmetric."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.network = tiny.Classifier(3)
        self.seen = 0

    def forward(self, images: Tensor) -> Prediction:
        assert not torch.is_grad_enabled()
        self.seen += len(images)
        said: Prediction = self.network(images)
        return said._replace(rectified=True)


def made(folder: Path, augment: Augment, loss: Any, draws: int = 100, **engine: Any) -> tuple[Teacher, Counted, Any]:
    trainer = Trainer(Context(folder, engine=Engine(device="cpu", **engine)))
    network, change = Counted().eval().requires_grad_(False), Augmentation(augment)
    return Teacher(trainer, network, loss, IMAGES, change, draws=draws, batch_size=2), network, change


def batch(indices: list[int]) -> Tensor:
    return torch.stack([IMAGES[i].image for i in indices]) / 127.5 - 1


@pytest.mark.parametrize("loss", [AttentionTransfer(), AttentionTransfer(form="code"), SoftTargets()])
@pytest.mark.parametrize("augment", [{}, {"flip": 0.5}])
def test_kept_answers_give_the_loss_of_fresh_ones(tmp_path: Path, augment: Augment, loss: Any) -> None:
    taught, network, change = made(tmp_path, augment, loss)
    forms = 2 if augment else 1
    assert taught.keeps
    torch.manual_seed(1)
    student = tiny.Classifier(3)
    before = network.seen
    for indices in ([0, 1, 2], [4, 4, 0, 3]):
        x = change(batch(indices))
        said = student(x)
        kept = loss(taught(x, torch.tensor(indices), change.flipped), said)
        with torch.no_grad():
            fresh = loss(network.network(x), said)
        assert kept.item() == pytest.approx(fresh.item(), rel=2e-3)  # half precision has 11 bits
    assert network.seen == before == forms * len(IMAGES) + 1  # and a look at the first, for the shapes
    taught.forget()
    assert not list(tmp_path.glob("teacher*"))


@pytest.mark.parametrize(
    ("augment", "draws", "loss"),
    [
        ({"flip": 0.5, "shift": 0.1}, 100, SoftTargets()),  # a shifted image is another one each time
        ({"flip": 0.5}, 9, SoftTargets()),  # two forms of five images cost more than nine looks
        ({}, 100, tiny.Lopsided()),  # does not say what it needs
    ],
)
def test_looks_at_every_batch_where_keeping_would_be_wrong_or_dear(
    tmp_path: Path, augment: Augment, draws: int, loss: Any
) -> None:
    taught, network, change = made(tmp_path, augment, loss, draws)
    assert not taught.keeps
    x = change(batch([3, 1]))
    with torch.no_grad():
        assert torch.equal(taught(x, torch.tensor([3, 1]), change.flipped).logits, network.network(x).logits)
    assert network.seen == 2
    assert not list(tmp_path.iterdir())


def test_more_than_there_is_room_for_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three logits of two bytes for each of five images: 30 bytes."""
    monkeypatch.setattr(teacher_module, "ROOM", 29)
    assert not made(tmp_path, {}, SoftTargets())[0].keeps
    monkeypatch.setattr(teacher_module, "ROOM", 30)
    assert made(tmp_path, {}, SoftTargets())[0].keeps


def test_a_killed_run_uses_what_was_finished_and_does_again_what_was_not(tmp_path: Path) -> None:
    first, _, _ = made(tmp_path, {}, SoftTargets())
    x, which = batch([2]), torch.tensor([2])
    expected = first(x, which, None)
    again, network, _ = made(tmp_path, {}, SoftTargets())
    assert network.seen == 1  # the shapes alone
    assert torch.equal(again(x, which, None).logits, expected.logits)
    (tmp_path / "teacher.json").unlink()
    third, network, _ = made(tmp_path, {}, SoftTargets())
    assert network.seen == 1 + len(IMAGES)
    assert torch.equal(third(x, which, None).logits, expected.logits)


# --------------------------------------------------------------------------------- found by mutants
@pytest.mark.parametrize(("augment", "forms"), [({}, 1), ({"flip": 0.5}, 2)])
def test_the_look_at_all_images_is_told_batch_by_batch(tmp_path: Path, augment: Augment, forms: int) -> None:
    """Five images in batches of two are three steps, in however many forms."""
    told: list[Any] = []

    class Watcher(tiny.Unplug):
        def work_started(self, title: str, steps: int | None) -> None:
            told.append((title, steps))

        def step(self, done: int, losses: Any) -> None:
            told.append((done, dict(losses)))

    trainer = Trainer(tiny.context(tmp_path, Watcher(0)))
    network = Counted().eval().requires_grad_(False)
    Teacher(trainer, network, SoftTargets(), IMAGES, Augmentation(augment), draws=100, batch_size=2)
    assert told == [("the teacher looks once at 5 images", 3), (1, {}), (2, {}), (3, {})]
    assert network.seen == 5 * forms + 1


def test_it_keeps_from_the_draws_on_at_which_that_costs_no_more(tmp_path: Path) -> None:
    """Two forms of five images are ten looks."""
    assert not made(tmp_path / "9", {"flip": 0.5}, SoftTargets(), 9)[0].keeps
    (tmp_path / "10").mkdir()
    assert made(tmp_path / "10", {"flip": 0.5}, SoftTargets(), 10)[0].keeps
