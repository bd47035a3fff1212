from __future__ import annotations

import json
import math
from collections import Counter
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn.metrics
import torch
from torch import Tensor, nn

import tiny
from dakit.data.sets import Subset, TensorImages, Unlabelled
from dakit.errors import DakitError
from dakit.interfaces import Context, Engine, Prediction, Trained
from dakit.report.thumbnails import examples, load_strips, pick
from dakit.stages import classifier as classifier_module
from dakit.stages.classifier import SHOWN, TrainClassifier
from dakit.training.checkpoint import load_state

F = tiny.spec(tiny.Classifier)
TEACHER = tiny.spec(tiny.Classifier, norm=True)
LOPSIDED = tiny.spec(tiny.Lopsided)
TRAIN = tiny.images([0, 1, 2, 1], seed=1)
TARGET = Unlabelled(tiny.images([0] * 5, seed=9))
NORMED = tiny.spec(tiny.Classifier, norm=True)
INPUTS = ("train", "extra", "teacher", "init", "target")


def run(folder: Path, *observers: tiny.Unplug, checkpoint_steps: int = 1000, **settings: Any) -> Trained[Any]:
    """One step on all of ``TRAIN``, from given weights, unless told otherwise."""
    inputs = {name: settings.pop(name) for name in INPUTS if name in settings}
    inputs.setdefault("train", TRAIN)
    if "init" not in inputs:
        inputs["init"] = tiny.fresh(settings.get("classifier", F), 50, tiny.CLASSES)
    stage = TrainClassifier(**{"classifier": F, "steps": 1, "batch_size": 4, **settings})
    assert stage.check(frozenset(name for name in inputs if inputs[name] is not None)) == []
    ctx = tiny.context(folder, *observers, checkpoint_steps=checkpoint_steps)
    return stage.run(ctx, **inputs).model


def history(folder: Path) -> dict[str, list[float]]:
    found: dict[str, list[float]] = json.loads((folder / "history.json").read_text())
    return found


def equation_3(logits: Tensor, labels: list[int]) -> float:
    """Mean of -sum_k 1[k = y] log(softmax_k)."""
    total = 0.0
    for row, y in zip(logits.tolist(), labels, strict=True):
        total -= math.log(math.exp(row[y]) / sum(math.exp(value) for value in row))
    return total / len(labels)


def said(network: nn.Module, images: TensorImages) -> Prediction:
    with torch.no_grad():
        prediction: Prediction = network.double()(images.images.double() / 127.5 - 1)
    return prediction


class Attention:
    """The second term of Eq. 7 and 10 with F = sum of |A| over the channels."""

    def __init__(self, beta: float) -> None:
        self.beta = beta

    def __call__(self, teacher: Prediction, student: Prediction) -> Tensor:
        q_t, q_s = (p.maps[0].abs().sum(1).flatten(1) for p in (teacher, student))
        distance = q_t / q_t.norm(dim=1, keepdim=True) - q_s / q_s.norm(dim=1, keepdim=True)
        return self.beta / 2 * distance.norm(dim=1).mean()


# -------------------------------------------------------------------------------------------- the loss
def test_one_step_is_equation_3(tmp_path: Path) -> None:
    run(tmp_path)
    logits = said(tiny.fresh(F, 50, tiny.CLASSES).build(), TRAIN).logits
    expected = equation_3(logits, list(TRAIN.labels))
    right = sum(int(row.argmax()) == y for row, y in zip(logits, TRAIN.labels, strict=True)) / 4
    assert history(tmp_path) == {"step": [1], "cross-entropy": [pytest.approx(expected, rel=1e-5)], "accuracy": [right]}


def test_one_step_is_equation_10(tmp_path: Path) -> None:
    teacher = tiny.fresh(TEACHER, 60, tiny.CLASSES)
    run(tmp_path, teacher=teacher, transfer=tiny.spec(Attention, beta=3.0))
    student = tiny.fresh(F, 50, tiny.CLASSES).build()
    attention = 0.0
    taught, learned = (said(network, TRAIN).maps[0].numpy() for network in (teacher.build(), student))
    for a, b in zip(taught, learned, strict=True):
        q_w, q_t = (np.abs(maps).sum(0).ravel() for maps in (a, b))
        attention += math.sqrt(sum((q_w / math.sqrt(sum(q_w**2)) - q_t / math.sqrt(sum(q_t**2))) ** 2)) / 4
    got = history(tmp_path)
    assert got["transfer"] == [pytest.approx(3.0 / 2 * attention, rel=1e-5)]
    assert got["cross-entropy"] == [
        pytest.approx(equation_3(said(student, TRAIN).logits, list(TRAIN.labels)), rel=1e-5)
    ]


def test_the_gradient_is_that_of_both_terms(tmp_path: Path) -> None:
    """With beta1 = 0 Adam's first moment, kept in a checkpoint, is the last gradient."""
    teacher = tiny.fresh(TEACHER, 60, tiny.CLASSES)
    with pytest.raises(tiny.Interruption):
        run(tmp_path, tiny.Unplug(2), checkpoint_steps=1, steps=2, beta1=0.0, teacher=teacher, transfer=LOPSIDED)
    saved = load_state(tmp_path / "checkpoint.safetensors")["parts"]["optimiser student"]["state"]
    student, x = tiny.fresh(F, 50, tiny.CLASSES).build().double(), TRAIN.images.double() / 127.5 - 1
    prediction = student(x)
    p = torch.exp(prediction.logits) / torch.exp(prediction.logits).sum(1, keepdim=True)
    cross_entropy = -torch.log(p[torch.arange(4), torch.tensor(TRAIN.labels)]).mean()
    transfer = (said(teacher.build(), TRAIN).maps[0] - 2 * prediction.maps[0]).square().mean()
    expected = torch.autograd.grad(cross_entropy + transfer, list(student.parameters()))
    assert len(saved) == len(expected) == 4
    for i, gradient in enumerate(expected):
        torch.testing.assert_close(saved[i]["exp_avg"].double(), gradient, rtol=1e-4, atol=1e-6)


def test_where_teacher_and_student_look_is_kept(tmp_path: Path) -> None:
    """On the same images, one of each class before a second, by the trained student."""
    teacher = tiny.fresh(TEACHER, 60, tiny.CLASSES)
    student = run(tmp_path, teacher=teacher, transfer=LOPSIDED).build()
    shown = examples(TRAIN.labels, SHOWN)
    ((title, faces),) = load_strips(tmp_path / "attention.npz")
    assert title.split("\n") == [tiny.CLASSES[TRAIN.labels[i]] for i in shown]
    assert (faces == pick(TRAIN, shown)).all()
    with np.load(tmp_path / "attention.npz") as file:
        for name, network in (("teacher", teacher.build()), ("student", student)):
            maps = said(network, TRAIN).maps[0].abs().sum(1).detach().numpy()[shown]
            np.testing.assert_allclose(file[name], maps / maps.max((1, 2), keepdims=True), atol=2e-3)


def test_a_frozen_teacher_stays_as_it_is(tmp_path: Path) -> None:
    """Neither weights nor running statistics change, and no gradient arrives."""
    spec, built = tiny.recorded(tiny.Classifier, norm=True, dropout=0.5)
    teacher = tiny.fresh(spec, 60, tiny.CLASSES)
    before = {name: value.clone() for name, value in teacher.state.items()}
    built.clear()
    run(tmp_path, teacher=teacher, transfer=LOPSIDED, steps=3)
    (f_W,) = built
    assert tiny.same(f_W.state_dict(), before)
    assert not f_W.training
    assert all(p.grad is None and not p.requires_grad for p in f_W.parameters())
    assert tiny.same(teacher.state, before)


def test_a_transfer_loss_with_weights_is_learned(tmp_path: Path) -> None:
    """The student's first layer stands still and is the teacher's own, so teacher = scale * student at scale 1."""
    spec, built = tiny.recorded(tiny.Adapted)
    teacher = tiny.fresh(F, 50, tiny.CLASSES)
    run(tmp_path, teacher=teacher, transfer=spec, update="head", steps=200, lr=0.02)
    assert built[0].scale.item() == pytest.approx(1.0, abs=1e-3)


def test_learning_lowers_the_loss(tmp_path: Path) -> None:
    run(tmp_path, steps=200, lr=0.05)
    losses = history(tmp_path)["cross-entropy"]
    assert losses[-1] < 0.1 * losses[0]
    assert history(tmp_path)["accuracy"][-1] == 1


# ------------------------------------------------------------------------------------------ what learns
def test_update_head_changes_the_head_alone(tmp_path: Path) -> None:
    normed = tiny.spec(tiny.Classifier, norm=True)
    before = tiny.fresh(normed, 50, tiny.CLASSES).state
    after = run(tmp_path, classifier=normed, update="head", steps=3, lr=0.01, weight_decay=0.1).state
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"head.weight", "head.bias"}


def test_update_all_changes_everything(tmp_path: Path) -> None:
    normed = tiny.spec(tiny.Classifier, norm=True)
    before = tiny.fresh(normed, 50, tiny.CLASSES).state
    after = run(tmp_path, classifier=normed, steps=2, lr=0.01).state
    assert not any(torch.equal(before[name], after[name]) for name in before)
    assert after["norm.num_batches_tracked"] == 2


class Headless(nn.Module):
    def __init__(self, classes: int) -> None:
        super().__init__()
        self.inner = tiny.Classifier(classes)

    def forward(self, images: Tensor) -> Prediction:
        prediction: Prediction = self.inner(images)
        return prediction


def test_update_head_needs_a_head(tmp_path: Path) -> None:
    with pytest.raises(DakitError, match='update: "head" needs a classifier with a `head`; Headless has none'):
        run(tmp_path, classifier=tiny.spec(Headless), update="head")


def test_adam_and_decoupled_weight_decay(tmp_path: Path) -> None:
    """The first step of Adam is lr g / (|g| + eps); AdamW first shrinks the weight by lr x decay of it."""
    before = tiny.fresh(F, 50, tiny.CLASSES).state["head.weight"].double()
    plain = run(tmp_path / "0", lr=0.01).state["head.weight"].double()
    decayed = run(tmp_path / "1", lr=0.01, weight_decay=0.3).state["head.weight"].double()
    assert (plain - before).abs().flatten().tolist() == pytest.approx([0.01] * before.numel(), rel=1e-3)
    torch.testing.assert_close(plain - decayed, 0.01 * 0.3 * before, rtol=0, atol=1e-7)


# ------------------------------------------------------------------------------------- start and resume
def test_init_is_what_training_starts_from(tmp_path: Path) -> None:
    start = tiny.fresh(F, 77, tiny.CLASSES)
    made = run(tmp_path, init=start, lr=1e-20)  # too little to move a weight
    assert tiny.same(made.state, start.state)
    assert (made.spec, made.classes) == (F, tiny.CLASSES)


def test_the_result_shares_nothing_with_init(tmp_path: Path) -> None:
    start = tiny.fresh(F, 77, tiny.CLASSES)
    before = {name: value.clone() for name, value in start.state.items()}
    assert not tiny.same(run(tmp_path, init=start, lr=0.1).state, before)
    assert tiny.same(start.state, before)


def test_other_networks_or_classes_than_those_of_init_are_refused(tmp_path: Path) -> None:
    wide = tiny.fresh(tiny.spec(tiny.Classifier, width=7), 0, tiny.CLASSES)
    with pytest.raises(DakitError, match=r"init is Classifier \{'width': 7\} .* but the classifier is Classifier \{\}"):
        run(tmp_path, init=wide)
    with pytest.raises(DakitError, match=r"init is .* for \('c', 'b', 'a'\), but .* for \('a', 'b', 'c'\)"):
        run(tmp_path, init=tiny.fresh(F, 0, tiny.CLASSES[::-1]))


# -------------------------------------------------------------------------------------------- batches
class Watched(tiny.Classifier):
    """Remembers the first pixel of every image in every batch that it was trained on."""

    seen: list[list[int]]

    def __init__(self, classes: int) -> None:
        super().__init__(classes)
        self.seen = []

    def forward(self, images: Tensor) -> Prediction:
        if self.training:
            self.seen.append(((images[:, 0, 0, 0] + 1) * 127.5).round().int().tolist())
        return super().forward(images)


def numbered(labels: list[int], first: int) -> TensorImages:
    """Image i is evenly of the value first + i."""
    values = torch.arange(first, first + len(labels), dtype=torch.uint8)
    return TensorImages(values[:, None, None, None].expand(-1, 3, 4, 6).clone(), labels, classes=tiny.CLASSES)


def seen(folder: Path, **settings: Any) -> list[list[int]]:
    spec, built = tiny.recorded(Watched)
    run(folder, **{**settings, "classifier": spec, "init": None})
    batches: list[list[int]] = built[0].seen
    return batches


def test_extra_is_joined_into_one_set(tmp_path: Path) -> None:
    """Six steps of four show all of 9 + 15 images once."""
    batches = seen(tmp_path, train=numbered([0, 1, 2] * 3, 0), extra=numbered([0, 1, 2] * 5, 100), steps=6)
    assert [len(batch) for batch in batches] == [4] * 6
    assert sorted(chain(*batches)) == [*range(9), *range(100, 115)]


def test_extra_share_is_the_share_of_every_batch(tmp_path: Path) -> None:
    """Two of eight come from extra; each set goes round at its own pace: 24 draws of 12 images, 8 of 4."""
    train, extra = numbered([0, 1, 2] * 4, 0), numbered([0, 1, 2, 0], 100)
    batches = seen(tmp_path, train=train, extra=extra, extra_share=0.25, batch_size=8, steps=4)
    assert [sum(value >= 100 for value in batch) for batch in batches] == [2] * 4
    assert [len(batch) for batch in batches] == [8] * 4
    assert Counter(chain(*batches)) == dict.fromkeys([*range(12), *range(100, 104)], 2)


def test_labels_stay_with_their_images(tmp_path: Path) -> None:
    """Light is class 2 in one set, dark is class 1 in the other; that is what is learned."""
    train = TensorImages(torch.full((6, 3, 4, 6), 255, dtype=torch.uint8), [2] * 6, classes=tiny.CLASSES)
    extra = TensorImages(torch.zeros(6, 3, 4, 6, dtype=torch.uint8), [1] * 6, classes=tiny.CLASSES)
    model = run(tmp_path, train=train, extra=extra, extra_share=0.5, steps=100, lr=0.05).build()
    shades = torch.stack([train[0].image, extra[0].image]).float() / 127.5 - 1
    assert model(shades).logits.argmax(1).tolist() == [2, 1]


@pytest.mark.parametrize("extra_share", [None, 0.5])
def test_balanced_batches_hold_every_class_equally_often(tmp_path: Path, extra_share: float | None) -> None:
    labels, more = [0] * 10 + [1] * 2 + [2] * 6, [0] * 6 + [1] * 7 + [2] * 6
    batches = seen(
        tmp_path, train=numbered(labels, 0), extra=numbered(more, 100), extra_share=extra_share,
        balanced=True, batch_size=6, steps=6,
    )  # fmt: skip
    assert len(batches) == 6
    for batch in batches:
        said = [labels[value] if value < 100 else more[value - 100] for value in batch]
        assert Counter(said) == {0: 2, 1: 2, 2: 2}


def test_every_augmented_image_is_changed_by_its_own_draw(tmp_path: Path) -> None:
    same = TensorImages(torch.full((4, 3, 4, 6), 100, dtype=torch.uint8), [0, 1, 2, 0], classes=tiny.CLASSES)
    (batch,) = seen(tmp_path, train=same, augment={"light": 0.5})
    assert len(set(batch)) == 4


# ---------------------------------------------------------------------- optimiser, schedule, average
def by_hand(steps: int, rates: list[float], **groups: float) -> tuple[nn.Module, list[dict[str, Tensor]]]:
    """Full batches of ``TRAIN`` under torch's own AdamW, and the weights after every step."""
    network = tiny.fresh(F, 50, tiny.CLASSES).build().train()
    decayed = [weight for weight in network.parameters() if weight.ndim > 1]
    rest = [weight for weight in network.parameters() if weight.ndim <= 1]
    optimiser = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": groups["weight_decay"]}, {"params": rest, "weight_decay": 0.0}], lr=1.0
    )
    states = []
    for rate in rates[:steps]:
        loss = nn.functional.cross_entropy(network(TRAIN.images.float() / 127.5 - 1).logits, torch.tensor(TRAIN.labels))
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 0.05)
        for group in optimiser.param_groups:
            group["lr"] = rate
        optimiser.step()
        states.append({name: value.detach().clone() for name, value in network.state_dict().items()})
    return network, states


MODERN: dict[str, Any] = {
    "steps": 4, "lr": 0.02,
    "optimiser": {"name": "adamw", "weight_decay": 0.3, "clip": 0.05}, "schedule": {"warmup": 0.5, "decay": "linear"},
}  # fmt: skip
RATES = [0.02 / 3, 0.04 / 3, 0.02, 0.01]


def test_optimiser_and_schedule_are_torchs_by_hand(tmp_path: Path) -> None:
    """But for the order of the images in a batch, which rounds otherwise."""
    made = run(tmp_path, **MODERN).state
    expected = by_hand(4, RATES, weight_decay=0.3)[1][-1]
    for name, value in expected.items():
        torch.testing.assert_close(made[name], value, rtol=1e-4, atol=1e-5)


def test_the_average_is_the_result(tmp_path: Path) -> None:
    made = run(tmp_path, **{**MODERN, "optimiser": {**MODERN["optimiser"], "average": 0.45}}).state
    first, *others = by_hand(4, RATES, weight_decay=0.3)[1]
    for n, state in enumerate(others, start=2):
        d = min(0.45, 1 - n ** (-2 / 3))
        first = {name: d * first[name] + (1 - d) * state[name] for name in first}
    for name, value in first.items():
        torch.testing.assert_close(made[name], value, rtol=1e-4, atol=1e-5)


def test_a_killed_training_with_an_average_ends_bit_identical(tmp_path: Path) -> None:
    settings = {
        **CHOOSE, "steps": 9, "classifier": tiny.spec(tiny.Classifier, norm=True, dropout=0.3), "mixup": 0.3,
        "optimiser": {"weight_decay": 0.1, "body_lr": 0.5, "clip": 1.0, "average": 0.9}, "schedule": {"warmup": 0.2},
    }  # fmt: skip
    ends = []
    for killed in (None, 1, 4, 8):
        folder = tmp_path / str(killed)
        if killed is not None:
            torch.manual_seed(0)
            with pytest.raises(tiny.Interruption):
                run(folder, tiny.Unplug(killed), checkpoint_steps=1, **settings)
        torch.manual_seed(0)
        ends.append(run(folder, checkpoint_steps=1, **settings).state)
    assert all(tiny.same(end, ends[0]) for end in ends)


def test_weights_are_chosen_among_averages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = Looks(monkeypatch)
    torch.manual_seed(0)
    seen_weights: list[dict[str, Tensor]] = []
    inner = classifier_module._Best._look

    def within(best: Any, step: int) -> None:
        seen_weights.append({k: v.clone() for k, v in best.network.state_dict().items()})
        inner(best, step)

    monkeypatch.setattr(classifier_module._Best, "_look", within)
    made = run(tmp_path, **{**CHOOSE, "optimiser": {"momentum": 0.5, "average": 0.8}})
    assert any(tiny.same(made.state, weights) for weights in seen_weights)
    assert not any(tiny.same(made.state, weights) for *_, weights in looks.seen[2:])


def test_the_body_learns_at_a_rate_of_its_own(tmp_path: Path) -> None:
    """The first step of Adam is the rate long, whatever the gradient."""
    before = tiny.fresh(F, 50, tiny.CLASSES).state
    after = run(tmp_path, lr=0.01, optimiser={"body_lr": 0.1}).state
    for name, rate in (("body.weight", 0.001), ("head.weight", 0.01)):
        moved = (after[name] - before[name]).abs().flatten()
        assert moved[moved > 0].tolist() == pytest.approx([rate] * int((moved > 0).sum()), rel=1e-2)


def test_a_loss_with_weights_learns_with_the_optimiser_too(tmp_path: Path) -> None:
    spec, built = tiny.recorded(tiny.Adapted)
    run(tmp_path, teacher=tiny.fresh(F, 50, tiny.CLASSES), transfer=spec, lr=0.01, optimiser={"body_lr": 0.1})
    assert built[0].scale.item() == pytest.approx(0.51, abs=1e-4)


# ----------------------------------------------------------------------------- labels and imbalance
def first_loss(folder: Path, **settings: Any) -> float:
    run(folder, **settings)
    return history(folder)["cross-entropy"][0]


def test_smoothing_weights_and_adjustment_are_torchs(tmp_path: Path) -> None:
    """``TRAIN`` has 1, 2 and 1 images."""
    logits, y = said(tiny.fresh(F, 50, tiny.CLASSES).build(), TRAIN).logits, torch.tensor(TRAIN.labels)
    weights = 4 / (3 * torch.tensor([1.0, 2.0, 1.0]).double())
    expected = nn.CrossEntropyLoss(weight=weights, label_smoothing=0.1)(logits, y)
    found = first_loss(tmp_path / "0", label_smoothing=0.1, class_weights="balanced")
    assert found == pytest.approx(expected.item(), rel=1e-5)
    adjusted = logits + 1.5 * torch.tensor([0.25, 0.5, 0.25]).log()
    found = first_loss(tmp_path / "1", logit_adjustment=1.5)
    assert found == pytest.approx(equation_3(adjusted, list(TRAIN.labels)), rel=1e-5)


@pytest.mark.parametrize(("share", "prior"), [(None, [0.3, 0.4, 0.3]), (0.25, [0.3125, 0.4375, 0.25])])
def test_extra_counts_by_what_is_drawn_of_it(tmp_path: Path, share: float | None, prior: list[float]) -> None:
    """Joined, ten images are drawn alike; else six and two of eight, so that four come round in two steps."""
    train, extra = tiny.images([0, 1, 1, 2, 1, 0], seed=6), tiny.images([2, 2, 0, 1], seed=7)
    settings: dict[str, Any] = {"batch_size": 10} if share is None else {"batch_size": 8, "extra_share": share}
    run(tmp_path, train=train, extra=extra, steps=2, lr=1e-20, logit_adjustment=1.0, **settings)
    network = tiny.fresh(F, 50, tiny.CLASSES).build()
    first, second = (
        equation_3(said(network, images).logits + torch.tensor(prior).log(), list(images.labels))
        for images in (train, extra)
    )
    part = 0.4 if share is None else share
    expected = (1 - part) * first + part * second
    assert sum(history(tmp_path)["cross-entropy"]) / 2 == pytest.approx(expected, rel=1e-5)


def test_mixup_is_cross_entropy_with_both_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each image is a quarter its own, three quarters the next one's."""

    def quarter(images: Tensor, targets: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
        assert alpha == 0.7
        given.append((images, targets))
        return tuple(0.25 * part + 0.75 * part.roll(-1, 0) for part in (images, targets))  # type: ignore[return-value]

    given: list[tuple[Tensor, Tensor]] = []
    monkeypatch.setattr(classifier_module, "mixed", quarter)
    run(tmp_path, mixup=0.7)
    ((x, targets),) = given
    labels = targets.argmax(1).tolist()
    assert targets.tolist() == torch.eye(3)[labels].tolist()
    network = tiny.fresh(F, 50, tiny.CLASSES).build()
    with torch.no_grad():
        logits = network(0.25 * x + 0.75 * x.roll(-1, 0)).logits
    after = labels[1:] + labels[:1]
    expected = 0.25 * equation_3(logits, labels) + 0.75 * equation_3(logits, after)
    assert history(tmp_path)["cross-entropy"] == [pytest.approx(expected, rel=1e-5)]
    right = sum(int(row.argmax()) == y for row, y in zip(logits, after, strict=True)) / 4
    assert history(tmp_path)["accuracy"] == [right]


# --------------------------------------------------------------- what is frozen, and by which statistics
STATISTICS = {"norm.running_mean", "norm.running_var", "norm.num_batches_tracked"}


def changed(folder: Path, **settings: Any) -> set[str]:
    """Which of the tensors of a network with batch normalisation three steps change."""
    before = tiny.fresh(NORMED, 50, tiny.CLASSES).state
    after = run(folder, classifier=NORMED, steps=3, lr=0.01, **settings).state
    return {name for name in before if not torch.equal(before[name], after[name])}


@pytest.mark.parametrize("optimiser", [None, {"weight_decay": 0.1, "average": 0.9}])
def test_what_freezing_leaves(tmp_path: Path, optimiser: Any) -> None:
    body, norm, head = ({f"{part}.{kind}" for kind in ("weight", "bias")} for part in ("body", "norm", "head"))
    found = {
        name: changed(tmp_path / str(number), optimiser=optimiser, **settings)
        for number, (name, settings) in enumerate({
            "none": {},
            "norms": {"freeze": "norms"},
            "body": {"freeze": "body"},
            "statistics": {"normalisation": "frozen"},
            "both": {"freeze": "norms", "normalisation": "frozen"},
        }.items())
    }  # fmt: skip
    assert found == {
        "none": body | norm | head | STATISTICS,
        "norms": body | head | STATISTICS,
        "body": head | STATISTICS,
        "statistics": body | norm | head,
        "both": body | head,
    }


def test_frozen_statistics_are_those_that_are_trained_with(tmp_path: Path) -> None:
    """Also after a look at the images kept for validation, which sets the network to evaluation and back."""
    start = tiny.fresh(NORMED, 50, tiny.CLASSES)
    expected = equation_3(said(start.build(), TRAIN).logits, list(TRAIN.labels))
    found = first_loss(tmp_path / "0", classifier=NORMED, init=start, normalisation="frozen")
    assert found == pytest.approx(expected, rel=1e-5)
    spec, built = tiny.recorded(tiny.Classifier, norm=True)
    run(tmp_path / "1", **{**CHOOSE, "classifier": spec, "normalisation": "frozen"})
    assert built[0].norm.num_batches_tracked == 0


def test_adapted_statistics_are_of_the_target(tmp_path: Path) -> None:
    ctx = tiny.context(tmp_path / "0")
    start = tiny.fresh(NORMED, 50, tiny.CLASSES)
    stage = TrainClassifier(classifier=NORMED, steps=3, batch_size=4, normalisation="adapt")
    made = stage.run(ctx, train=TRAIN, init=start, target=TARGET).model
    network = run(tmp_path / "1", classifier=NORMED, init=start, steps=3).build()
    x = TARGET.base.images.float() / 127.5 - 1  # type: ignore[attr-defined]
    torch.optim.swa_utils.update_bn([x[:3], x[3:]], network)
    assert tiny.same(made.state, network.state_dict())
    assert ctx.facts["adapted"] == {"images": 5}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"normalisation": "frozen"},
            "normalisation: frozen needs batch normalisation; Classifier has none; expected t",
        ),
        (
            {"normalisation": "adapt", "target": TARGET},
            "normalisation: adapt needs batch normalisation; Classifier has",
        ),
        ({"freeze": "norms"}, "freeze: norms needs normalisation layers with weights; Classifier has none"),
        (
            {"classifier": tiny.spec(Headless), "freeze": "body"},
            "freeze: body needs a classifier with a `head`; Headless",
        ),
        (
            {"classifier": tiny.spec(Headless), "optimiser": {"body_lr": 0.1}},
            "optimiser.body_lr needs a classifier with",
        ),
        (
            {"classifier": NORMED, "normalisation": "adapt", "target": tiny.images([])},
            "target: there are no images to estimate statistics on",
        ),
    ],
)
def test_what_a_network_must_have(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(DakitError) as caught:
        run(tmp_path, init=None, **settings)
    assert message in str(caught.value)


# --------------------------------------------------------------------------------------------- mistakes
@pytest.mark.parametrize("wrong", [Unlabelled(TRAIN), tiny.images([0, -1, 1, 2])])
def test_every_image_needs_a_label(tmp_path: Path, wrong: Any) -> None:
    with pytest.raises(DakitError, match="train: every image needs a label"):
        run(tmp_path, train=wrong)
    with pytest.raises(DakitError, match="extra: every image needs a label"):
        run(tmp_path, extra=wrong)


def test_extra_of_other_classes_is_refused(tmp_path: Path) -> None:
    other = tiny.images([0, 1], classes=("c", "b", "a"))
    with pytest.raises(DakitError, match=r"extra has the classes \('c', 'b', 'a'\), but train has \('a', 'b', 'c'\)"):
        run(tmp_path, extra=other)


@pytest.mark.parametrize(
    ("settings", "inputs", "problem"),
    [
        ({}, set(), None),
        ({"transfer": LOPSIDED}, {"teacher"}, None),
        ({"extra_share": 0.5}, {"extra"}, None),
        ({"transfer": LOPSIDED}, set(), "`teacher` and `transfer` go together"),
        ({}, {"teacher"}, "`teacher` and `transfer` go together"),
        ({"extra_share": 0.5}, set(), "`extra_share` needs the input `extra`"),
        ({"extra_share": 0.1}, {"extra"}, "extra_share 0.1 of a batch of 4 leaves one side empty"),
        ({"extra_share": 0.9}, {"extra"}, "extra_share 0.9 of a batch of 4 leaves one side empty"),
        ({"optimiser": {"weight_decay": 0.1}, "schedule": {"warmup": 0.1}}, set(), None),
        ({"optimiser": {}, "beta1": 0.9}, set(), "`beta1` has no say beside `optimiser`: leave it out, and write mom"),
        ({"optimiser": {}, "weight_decay": 0.1}, set(), "`weight_decay` has no say beside `optimiser`"),
        (
            {"schedule": {}, "decay_from": 0.5},
            set(),
            "`decay_from` has no say beside `schedule`: leave it out, and wri",
        ),
        ({"normalisation": "adapt"}, {"target"}, None),
        ({"normalisation": "adapt"}, set(), "`target` and `normalisation: adapt` go together"),
        ({"normalisation": "frozen"}, {"target"}, "`target` and `normalisation: adapt` go together"),
        ({"update": "head", "normalisation": "adapt"}, {"target"}, "for `normalisation: adapt` write freeze: body"),
        ({"update": "head", "normalisation": "frozen"}, set(), None),
        ({"update": "head", "freeze": "body"}, set(), "`update: head` freezes more than `freeze: body` does"),
        (
            {"update": "head", "optimiser": {"body_lr": 0.1}},
            set(),
            "a body that learns, and with `update: head` it does",
        ),
        (
            {"freeze": "body", "optimiser": {"body_lr": 0.1}},
            set(),
            "a body that learns, and with `freeze: body` it does",
        ),
        ({"freeze": "norms", "optimiser": {"body_lr": 0.1}}, set(), None),
        ({"mixup": 0.2, "transfer": LOPSIDED}, {"teacher"}, "`mixup` and a teacher do not go together: leave out `mix"),
        ({"balanced": True, "class_weights": "balanced"}, set(), "`balanced: true` and `class_weights: balanced` each"),
        ({"class_weights": "balanced", "logit_adjustment": 1.0}, set(), "`class_weights: balanced` and `logit_adjustm"),
    ],
)
def test_check(settings: dict[str, Any], inputs: set[str], problem: str | None) -> None:
    stage = TrainClassifier(**{"classifier": F, "steps": 1, "batch_size": 4, **settings})
    problems = stage.check(frozenset({"train", *inputs}))
    assert len(problems) == (problem is not None)
    assert problem is None or problem in problems[0]


@pytest.mark.parametrize(
    ("settings", "sizes", "problem"),
    [
        ({}, {"train": 4}, None),
        ({}, {"train": 3}, "batch_size: 4 takes 4 images of train a step, but there are 3; at most 3 fits"),
        ({}, {"train": 3, "extra": 1}, None),
        ({}, {"train": 1, "extra": 2}, "takes 4 images of train and extra a step, but there are 3; at most 3 fits"),
        ({}, {"train": 1, "extra": None}, None),  # an earlier stage makes it
        ({"extra_share": 0.25}, {"train": 2, "extra": 9}, "takes 3 images of train a step, but there are 2"),
        ({"extra_share": 0.5}, {"train": 2, "extra": 1}, "takes 2 images of extra a step, but there are 1; at most 2"),
        ({"extra_share": 0.5}, {"train": 2, "extra": None}, None),
    ],
)
def test_a_batch_larger_than_the_set_is_refused(
    settings: dict[str, Any], sizes: dict[str, int | None], problem: str | None
) -> None:
    found = TrainClassifier(classifier=F, steps=1, batch_size=4, **settings).check_sizes(sizes)
    assert len(found) == (problem is not None)
    assert problem is None or problem in found[0]


def test_a_batch_is_never_made_smaller(tmp_path: Path) -> None:
    with pytest.raises(DakitError, match="batch_size: 5 takes 5 images of train a step, but there are 4"):
        TrainClassifier(classifier=F, steps=1, batch_size=5).run(tiny.context(tmp_path), train=TRAIN)


def test_facts(tmp_path: Path) -> None:
    ctx = tiny.context(tmp_path)
    extra = tiny.images([0, 1], seed=5)
    TrainClassifier(classifier=F, steps=3, batch_size=4).run(ctx, train=TRAIN, extra=extra)
    kept = history(tmp_path)
    assert ctx.facts["train"] == {
        "images": 4,
        "extra": 2,
        "last_loss": kept["cross-entropy"][-1],
        "last_accuracy": kept["accuracy"][-1],
    }


# ------------------------------------------------------------------------------- which weights are taken
MANY = tiny.images([0, 1, 2] * 8, seed=11)
CHOOSE = {"train": MANY, "init": None, "steps": 20, "lr": 0.05, "choose": "validation", "validation": 0.25}


class Looks:
    """What the stage sees each time it looks at the images that it keeps."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seen: list[tuple[float, float, dict[str, Tensor]]] = []
        look = classifier_module._Best.look

        def noted(best: Any, step: int) -> None:
            look(best, step)
            self.images = best.images
            self.seen.append(
                (*self.measure(best.network), {k: v.clone() for k, v in best.network.state_dict().items()})
            )

        monkeypatch.setattr(classifier_module._Best, "look", noted)

    def measure(self, network: nn.Module) -> tuple[float, float]:
        """Macro accuracy and minus the cross-entropy, by scikit-learn."""
        x = torch.stack([self.images[i].image for i in range(len(self.images))]).float() / 127.5 - 1
        mode = network.training
        with torch.no_grad():
            p = network.eval()(x).logits.double().softmax(1).numpy()
        network.train(mode)
        labels = list(self.images.labels)
        macro = sklearn.metrics.balanced_accuracy_score(labels, p.argmax(1))
        return macro, -sklearn.metrics.log_loss(labels, p, labels=[0, 1, 2])


def test_the_best_on_validation_images_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = Looks(monkeypatch)
    ctx = tiny.context(tmp_path)
    torch.manual_seed(0)
    settings = {name: value for name, value in CHOOSE.items() if name not in ("train", "init")}
    model = TrainClassifier(classifier=F, batch_size=4, **settings).run(ctx, train=MANY).model
    assert len(looks.seen) == 11
    best = max(range(11), key=lambda n: tuple(round(value, 5) for value in looks.seen[n][:2]))
    assert 0 < best < 10  # neither the first nor the last, or this test shows nothing
    assert tiny.same(model.state, looks.seen[best][2])
    macro, minus = looks.seen[best][:2]
    assert ctx.facts["chosen"] == {
        "images": 6, "steps": 2 * best, "macro": pytest.approx(macro), "cross_entropy": pytest.approx(-minus, rel=1e-4),
    }  # fmt: skip


def test_validation_images_are_not_learned_from_and_are_whole_groups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = Looks(monkeypatch)
    labels = [0, 1, 2] * 8
    people = TensorImages(numbered(labels, 0).images, labels, [f"person {i // 6}" for i in range(24)], tiny.CLASSES)
    batches = seen(tmp_path, **{**CHOOSE, "train": people, "extra": numbered([0, 1, 2] * 3, 100), "steps": 27})
    kept = looks.images
    assert isinstance(kept, Subset)
    assert kept.base is people  # of the training side, not of extra
    assert (len(kept), len(set(kept.groups)), sorted(set(kept.labels))) == (6, 1, [0, 1, 2])
    assert set(chain(*batches)) == {*range(24), *range(100, 109)} - set(kept.indices)


def test_a_published_part_for_validation_is_what_is_chosen_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = Looks(monkeypatch)
    labels = [0, 1, 2] * 8
    parts = ["Valid" if i % 24 >= 18 else "train" for i in range(24)]
    people = TensorImages(numbered(labels, 0).images, labels, None, tiny.CLASSES, parts)
    batches = seen(tmp_path, **{**CHOOSE, "train": people, "steps": 27})
    assert list(looks.images.indices) == list(range(18, 24))
    assert set(chain(*batches)) == set(range(18))


def test_a_published_part_for_validation_without_a_class_is_passed_over_and_that_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = Looks(monkeypatch)
    labels = [0, 1, 2] * 8
    people = TensorImages(numbered(labels, 0).images, labels, None, tiny.CLASSES, ["val"] * 2 + ["train"] * 22)
    ctx = tiny.context(tmp_path)
    settings = {name: value for name, value in CHOOSE.items() if name not in ("train", "init")}
    TrainClassifier(classifier=F, batch_size=4, **settings).run(ctx, train=people)
    assert len(looks.images) == 6  # a quarter
    assert ctx.notes == [
        f"the published part for validation is not used to choose the weights: it, or the rest, has no image of "
        f"{tiny.CLASSES[2]}"
    ]
    assert "chosen_on" not in ctx.facts


def test_the_head_alone_can_be_chosen_by_validation(tmp_path: Path) -> None:
    start = tiny.fresh(tiny.spec(tiny.Classifier, norm=True), 5, tiny.CLASSES)
    settings = {**CHOOSE, "classifier": start.spec, "init": start, "update": "head"}
    model = run(tmp_path, **settings)
    changed = {name for name in model.state if not torch.equal(model.state[name], start.state[name])}
    assert changed <= {"head.weight", "head.bias"}


def test_too_few_images_for_validation_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DakitError, match=r'choose: validation: .*class "a" has 1 images .*choose: last needs no'):
        run(tmp_path, **{**CHOOSE, "train": tiny.images([0, 1, 2, 1, 2, 1, 2])})
    found = TrainClassifier(classifier=F, steps=1, batch_size=4, choose="validation").check_sizes({"train": 4})
    assert found == ["batch_size: 4 takes 4 images of train a step, but there are 3; at most 3 fits"]


# --------------------------------------------------------------------------------- found by mutants
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_the_moments_are_adams(tmp_path: Path, weight_decay: float) -> None:
    """After one step m = (1 - beta1) g and v = (1 - beta2) g^2, where beta2 = 0.999."""
    saved = {}
    for beta1 in (0.0, 0.25):
        folder = tmp_path / str(beta1)
        with pytest.raises(tiny.Interruption):
            run(folder, tiny.Unplug(2), checkpoint_steps=1, steps=2, beta1=beta1, weight_decay=weight_decay)
        parts = load_state(folder / "checkpoint.safetensors")["parts"]
        assert set(parts) == {"student", "optimiser student"}
        state = parts["optimiser student"]["state"]
        saved[beta1] = [moments for _, moments in sorted(state.items())]
    for zero, quarter in zip(saved[0.0], saved[0.25], strict=True):
        g = zero["exp_avg"]
        torch.testing.assert_close(quarter["exp_avg"], 0.75 * g, rtol=1e-5, atol=1e-9)
        torch.testing.assert_close(quarter["exp_avg_sq"], 0.001 * g**2, rtol=1e-4, atol=1e-15)


class Kept(tiny.Lopsided):
    """A loss whose teacher may be kept: it needs the maps alone."""

    def condense(self, teacher: Prediction) -> Prediction:
        return Prediction(teacher.logits[:, :0], teacher.features[:, :0], teacher.maps)


@pytest.mark.parametrize(("extra_share", "times"), [(None, 1), (0.5, 1), (0.5, 3)])
def test_a_kept_teacher_answers_for_the_images_of_extra(tmp_path: Path, extra_share: float | None, times: int) -> None:
    """Each batch holds all of ``train`` and ``extra``, so the loss is that of all pairs, whatever the order."""
    teacher, start = tiny.fresh(TEACHER, 60, tiny.CLASSES), tiny.fresh(F, 50, tiny.CLASSES)
    extra = tiny.images([2, 0, 1, 2], seed=7)
    run(
        tmp_path, extra=extra, extra_share=extra_share, batch_size=8, steps=times, lr=1e-20,
        teacher=teacher, init=start, transfer=tiny.spec(Kept),
    )  # fmt: skip
    taught, learned = (
        torch.cat([said(network.build().eval(), images).maps[0] for images in (TRAIN, extra)])
        for network in (teacher, start)
    )
    expected = float((taught - 2 * learned).square().mean())
    assert history(tmp_path)["transfer"] == [pytest.approx(expected, rel=1e-3)] * times  # kept in half precision
    assert not list(tmp_path.glob("teacher*"))


def test_what_is_not_learned_gets_no_gradient(tmp_path: Path) -> None:
    """A probe would otherwise pay for a backward pass through all of the network."""
    spec, built = tiny.recorded(tiny.Classifier)
    run(tmp_path, classifier=spec, init=None, update="head")
    assert [name for name, p in built[0].named_parameters() if p.requires_grad] == ["head.weight", "head.bias"]
    assert built[0].body.weight.grad is None


def test_every_seed_keeps_other_images_for_validation(tmp_path: Path) -> None:
    """And the same seed the same, whatever stands in torch's own generator."""
    learned = []
    for number, seed in enumerate((3, 3, 4, 5)):
        spec, built = tiny.recorded(Watched)
        stage = TrainClassifier(classifier=spec, steps=9, batch_size=4, choose="validation", validation=0.25)
        (tmp_path / str(number)).mkdir()
        torch.manual_seed(number)
        context = Context(tmp_path / str(number), seed=seed, engine=Engine(device="cpu"))
        stage.run(context, train=numbered([0, 1, 2] * 16, 0))
        learned.append({value for batch in built[0].seen for value in batch})
    assert [len(some) for some in learned] == [36] * 4  # nine batches show all once
    assert learned[0] == learned[1]
    assert len(set(map(frozenset, learned))) == 3


def test_the_draws_of_version_3(tmp_path: Path) -> None:
    """Not right or wrong, but the same in every release: where they change, ``version`` must rise with them."""
    train, extra = numbered([0, 1, 2] * 4, 0), numbered([0, 1, 2, 0], 100)
    assert TrainClassifier.version == 3
    assert seen(tmp_path / "0", train=train, steps=3) == [[5, 4, 9, 8], [6, 7, 0, 11], [10, 3, 1, 2]]
    both = seen(tmp_path / "1", train=train, extra=extra, extra_share=0.25, batch_size=8, steps=2)
    assert both == [[5, 4, 9, 8, 6, 7, 103, 100], [0, 11, 10, 3, 1, 2, 102, 101]]
    without = seen(tmp_path / "2", train=train, choose="validation", validation=0.25, batch_size=3, steps=3)
    assert without == [[6, 9, 2], [11, 7, 10], [5, 3, 4]]


def test_of_equals_the_first_is_taken(tmp_path: Path) -> None:
    """A learning rate that moves no weight leaves eleven of them."""
    ctx = tiny.context(tmp_path)
    stage = TrainClassifier(classifier=F, steps=10, batch_size=4, lr=1e-20, choose="validation", validation=0.25)
    stage.run(ctx, train=MANY)
    assert ctx.facts["chosen"]["steps"] == 0
