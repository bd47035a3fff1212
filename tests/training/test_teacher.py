from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import tiny
from dakit.data.augment import Augment, Augmentation
from dakit.interfaces import Context, Engine, ImageSet, Prediction
from dakit.stages.classifier import TrainClassifier
from dakit.training import teacher as teacher_module
from dakit.training.seeds import seed_everything
from dakit.training.teacher import Teacher
from dakit.training.trainer import Trainer
from dakit_builtins.transfer_losses.attention_transfer import AttentionTransfer
from dakit_builtins.transfer_losses.soft_targets import SoftTargets

IMAGES = tiny.images([0, 1, 2, 1, 0], seed=4)


class Counted(nn.Module):
    """A classifier that counts the images it sees; its weights are not symmetric."""

    def __init__(self, seed: int = 5) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.network = tiny.Classifier(3)
        self.seen = 0

    def forward(self, images: Tensor) -> Prediction:
        assert not torch.is_grad_enabled()
        self.seen += len(images)
        said: Prediction = self.network(images)
        return said._replace(rectified=True)


def made(
    folder: Path,
    augment: Augment,
    loss: Any,
    draws: int = 100,
    *,
    seed: int = 5,
    images: ImageSet = IMAGES,
    identity: str = "",
    **engine: Any,
) -> tuple[Teacher, Counted, Any]:
    folder.mkdir(exist_ok=True)
    trainer = Trainer(Context(folder, engine=Engine(device="cpu", **engine), identity=identity))
    network, change = Counted(seed).eval().requires_grad_(False), Augmentation(augment)
    return Teacher(trainer, network, loss, images, change, draws=draws, batch_size=2), network, change


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


LOOKS = 1 + len(IMAGES)  # the shapes, and every image


@pytest.mark.parametrize(
    "other",
    [
        {"seed": 6},
        {"images": tiny.images([0, 1, 2, 1, 0], seed=5)},
        {"loss": SoftTargets(temperature=2.0)},
        {"precision": "bf16"},
        {"identity": "of another stage"},
    ],
)
def test_what_another_stage_s_teacher_said_is_not_taken(tmp_path: Path, other: dict[str, Any]) -> None:
    x, which = batch([2]), torch.tensor([2])
    made(tmp_path / "used", {}, SoftTargets())
    given = {"loss": SoftTargets(), **other}
    (taught, network, _), (expected, _, _) = (made(tmp_path / name, {}, **given) for name in ("used", "empty"))
    assert network.seen == LOOKS
    assert torch.equal(taught(x, which, None).logits, expected(x, which, None).logits)
    again, network, _ = made(tmp_path / "used", {}, **given)
    assert network.seen == 1
    assert torch.equal(again(x, which, None).logits, expected(x, which, None).logits)


@pytest.mark.parametrize("damage", ["truncated", "altered", "gone", "marker", "old marker"])
def test_a_damaged_answer_is_asked_for_again(tmp_path: Path, damage: str) -> None:
    x, which = batch([2]), torch.tensor([2])
    expected = made(tmp_path, {}, SoftTargets())[0](x, which, None).logits
    path = tmp_path / "teacher-0.npy"
    content = path.read_bytes()
    if damage == "gone":
        path.unlink()
    elif damage == "marker":
        (tmp_path / "teacher.json").write_text("{")
    elif damage == "old marker":
        (tmp_path / "teacher.json").write_text(json.dumps({"images": len(IMAGES)}))  # as dakit 0.2.0 wrote it
    else:
        path.write_bytes(content[:-3] if damage == "truncated" else content[:-1] + bytes([content[-1] ^ 1]))
    taught, network, _ = made(tmp_path, {}, SoftTargets())
    assert network.seen == LOOKS
    assert torch.equal(taught(x, which, None).logits, expected)


def test_killed_before_any_write_or_removal_the_same_call_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files that are there are taken, forgotten and made anew; each time it dies one event later."""
    x, which = batch([2, 4]), torch.tensor([2, 4])
    loss = AttentionTransfer()
    expected = made(tmp_path / "whole", {}, loss)[0](x, which, None)
    left = 0

    def mortal(genuine: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **named: Any) -> Any:
            nonlocal left
            left -= 1
            if left == 0:
                raise tiny.Interruption
            return genuine(*args, **named)

        return call

    for owner, name in ((Path, "unlink"), (teacher_module, "write_json"), (teacher_module, "_created")):
        monkeypatch.setattr(owner, name, mortal(getattr(owner, name)))

    def live(folder: Path) -> None:
        for _ in range(2):
            taught, _, _ = made(folder, {}, loss)
            said = taught(x, which, None)
            assert all(torch.equal(one, other) for one, other in zip(said.maps, expected.maps, strict=True))
            taught.forget()
            assert not list(folder.glob("teacher*"))

    died, after = 0, 0
    while True:
        after += 1
        folder = tmp_path / str(after)
        left = after
        try:
            live(folder)
        except tiny.Interruption:
            died += 1
            left = -1
            live(folder)
        else:
            break
    assert died > 8  # two lives of two maps at least, with a marker each


def test_a_stage_killed_while_it_forgets_its_teacher_ends_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After its last step and before its result: what is left may be some of the files."""
    network = tiny.spec(tiny.Classifier)
    stage = TrainClassifier(classifier=network, steps=6, batch_size=3, transfer=tiny.spec(AttentionTransfer))
    teacher = tiny.fresh(network, 3, tiny.CLASSES)
    genuine, left = Path.unlink, 0

    def unlink(path: Path, missing_ok: bool = False) -> None:
        nonlocal left
        if path.name.startswith("teacher"):
            left -= 1
            if left == 0:
                raise tiny.Interruption
        genuine(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", unlink)

    def weights(folder: Path) -> dict[str, Tensor]:
        seed_everything(0)
        return dict(stage.run(tiny.context(folder, checkpoint_steps=4), train=IMAGES, teacher=teacher).model.state)

    whole = weights(tmp_path / "whole")
    for at in (2, 3):  # the first is before there is anything; then the marker, and the one array
        left = at
        with pytest.raises(tiny.Interruption):
            weights(tmp_path / str(at))
        assert tiny.same(weights(tmp_path / str(at)), whole)
        assert not list((tmp_path / str(at)).glob("teacher*"))
