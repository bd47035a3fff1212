"""A stage that is used alone goes on from its own checkpoint, and from no other's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import tiny
from dakit.data.sets import TensorImages
from dakit.interfaces import Context, Engine, Trained
from dakit.stages import translator
from dakit.stages.classifier import TrainClassifier
from dakit.stages.synthesise import Synthesise
from dakit.stages.translator import TrainTranslator
from dakit.training.checkpoint import load_state, save_state
from dakit.training.identity import digest, identity, of_tensors
from dakit.training.seeds import seed_everything

F, G, D = tiny.spec(tiny.Classifier), tiny.spec(tiny.Generator), tiny.spec(tiny.Critic)
ENGINE = Engine(device="cpu", checkpoint_steps=2)
LABELS = [0, 1, 2, 1, 0, 2]
Weights = dict[str, Tensor]


@pytest.fixture(autouse=True)
def _no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are drawn in tests/stages/test_translator.py."""
    monkeypatch.setattr(translator, "curves_png", lambda history, path: None)
    monkeypatch.setattr(translator, "grid_png", lambda rows, names, path: None)


class Hears:
    """An observer that writes down what it is told, and may end the stage in a step."""

    def __init__(self, cut_at: int | None = None) -> None:
        self.cut_at = cut_at
        self.messages: list[str] = []
        self.steps = 0

    def work_started(self, title: str, steps: int | None) -> None: ...

    def epoch(self, done: int) -> None: ...

    def message(self, text: str) -> None:
        self.messages.append(text)

    def step(self, done: int, losses: Any) -> None:
        self.steps += 1
        if self.steps == self.cut_at:
            raise tiny.Interruption


def classifier(folder: Path, hears: Hears, **other: Any) -> Weights:
    """Trained from the same first weights, whatever else."""
    seed_everything(0)
    params = {"classifier": F, "steps": 5, "batch_size": 3, "lr": 1e-2, **other.get("params", {})}
    given = {"train": tiny.images(LABELS, seed=1), **other.get("inputs", {})}
    ctx = Context(folder, 4, ENGINE, (hears,), **other.get("ctx", {}))
    if "engine" in other:
        ctx = replace(ctx, engine=replace(ENGINE, **other["engine"]))
    if "seed" in other:
        ctx = replace(ctx, seed=other["seed"])
    return dict(TrainClassifier(**params).run(ctx, **given).model.state)


def translators(folder: Path, hears: Hears, **other: Any) -> Weights:
    seed_everything(0)
    params = {"generator": G, "discriminator": D, "steps": 5, "batch_size": 2, "samples": 1, **other.get("params", {})}
    given = {"source": tiny.images(LABELS, seed=1), "target": tiny.images(LABELS, seed=2), **other.get("inputs", {})}
    ctx = Context(folder, other.get("seed", 4), replace(ENGINE, **other.get("engine", {})), (hears,))
    return dict(TrainTranslator(**params).run(ctx, **given).translator.state)


def synthesised(folder: Path, hears: Hears, **other: Any) -> Weights:
    params = {"batch_size": 1, **other.get("params", {})}
    given = {"images": tiny.images(LABELS, seed=1), "translator": tiny.fresh(G, 1), **other.get("inputs", {})}
    ctx = Context(folder, other.get("seed", 4), replace(ENGINE, **other.get("engine", {})), (hears,))
    made = Synthesise(**params).run(ctx, **given).images
    return {"pixels": torch.stack([made[i].image for i in range(len(made))]), "labels": torch.tensor(list(made.labels))}


OTHER_IMAGES = tiny.images(LABELS, seed=9)
OTHER_LABELS = tiny.images(LABELS[::-1], seed=1)
CHANGES: dict[str, tuple[Callable[..., Weights], dict[str, Any]]] = {
    "learning rate": (classifier, {"params": {"lr": 1e-1}}),
    "steps": (classifier, {"params": {"steps": 4}}),
    "augmentation": (classifier, {"params": {"augment": {"flip": 1.0}}}),
    "network": (classifier, {"params": {"classifier": tiny.spec(tiny.Classifier, width=5)}}),
    "seed": (classifier, {"seed": 5}),
    "precision": (classifier, {"engine": {"precision": "bf16"}}),
    "accumulated batches": (classifier, {"engine": {"accumulate": 2}}),
    "images": (classifier, {"inputs": {"train": OTHER_IMAGES}}),
    "labels": (classifier, {"inputs": {"train": OTHER_LABELS}}),
    "another input": (classifier, {"inputs": {"extra": OTHER_IMAGES}}),
    "first weights": (classifier, {"inputs": {"init": tiny.fresh(F, 8, tiny.CLASSES)}}),
    "translators' rate": (translators, {"params": {"lr": 1e-1}}),
    "translators' objective": (translators, {"params": {"objective": "log"}}),
    "translators' target": (translators, {"inputs": {"target": OTHER_IMAGES}}),
    "translators' seed": (translators, {"seed": 5}),
    "translator": (synthesised, {"inputs": {"translator": tiny.fresh(G, 2)}}),
    "translated images": (synthesised, {"inputs": {"images": OTHER_IMAGES}}),
    "labels alone": (synthesised, {"inputs": {"images": OTHER_LABELS}}),
    "fewer images": (synthesised, {"inputs": {"images": tiny.images(LABELS[:4], seed=1)}}),
    "more images": (synthesised, {"inputs": {"images": tiny.images(LABELS * 2, seed=1)}}),
    "size of images": (synthesised, {"inputs": {"images": tiny.images(LABELS, seed=1, size=(6, 4))}}),
}


@pytest.mark.parametrize("cut_at", [None, 3])
@pytest.mark.parametrize("change", CHANGES)
def test_with_another_one_it_begins_anew_in_the_same_folder(tmp_path: Path, change: str, cut_at: int | None) -> None:
    """After a first one that ended, or was cut off, what comes is what would have come in an empty folder."""
    stage, other = CHANGES[change]
    for folder in ("used", "empty", "first"):
        (tmp_path / folder).mkdir()
    first = stage(tmp_path / "first", Hears())
    if cut_at is None:
        stage(tmp_path / "used", Hears())
    else:
        with pytest.raises(tiny.Interruption):
            stage(tmp_path / "used", Hears(cut_at))
    assert list((tmp_path / "used").glob("checkpoint*"))
    second, expected = Hears(), Hears()
    found = stage(tmp_path / "used", second, **other)
    assert tiny.same(found, stage(tmp_path / "empty", expected, **other))
    assert second.steps == expected.steps
    assert not any("going on" in text for text in second.messages)
    assert not tiny.same(found, first)


@pytest.mark.parametrize("stage", [classifier, translators, synthesised])
def test_with_the_same_it_goes_on(tmp_path: Path, stage: Callable[..., Weights]) -> None:
    (tmp_path / "whole").mkdir()
    (tmp_path / "cut").mkdir()
    whole = stage(tmp_path / "whole", Hears())
    with pytest.raises(tiny.Interruption):
        stage(tmp_path / "cut", Hears(3))
    hears = Hears()
    assert tiny.same(stage(tmp_path / "cut", hears, engine={"checkpoint_steps": 3}), whole)
    assert hears.steps < 5
    again = Hears()
    assert tiny.same(stage(tmp_path / "cut", again), whole)


def test_it_is_told_that_it_begins_anew(tmp_path: Path) -> None:
    classifier(tmp_path, Hears())
    hears = Hears()
    classifier(tmp_path, hears, params={"lr": 1e-1})
    (text,) = [text for text in hears.messages if "checkpoint" in text]
    assert text == (
        f"the checkpoint in {tmp_path} was of another training (other parameters, inputs, seed or precision) and is "
        "removed: this one begins anew"
    )


def test_a_checkpoint_that_does_not_say_whose_it_is_is_not_taken_up(tmp_path: Path) -> None:
    """As dakit 0.2.0 wrote them."""
    whole = classifier(tmp_path, Hears())
    place = tmp_path / "checkpoint.safetensors"
    state = load_state(place)
    del state["identity"]
    state["parts"]["student"]["head.weight"] += 1
    save_state(place, state)
    assert tiny.same(classifier(tmp_path, Hears()), whole)


def test_images_that_somebody_holds_are_not_written_over(tmp_path: Path) -> None:
    """The array is mapped from the file: what a notebook still looks at must not turn into other images."""
    ctx = Context(tmp_path, engine=ENGINE)
    first = Synthesise().run(ctx, images=tiny.images(LABELS, seed=1), translator=tiny.fresh(G, 1)).images
    before = torch.stack([first[i].image for i in range(len(first))])
    second = Synthesise().run(ctx, images=tiny.images(LABELS, seed=1), translator=tiny.fresh(G, 2)).images
    assert torch.equal(torch.stack([first[i].image for i in range(len(first))]), before)
    assert not torch.equal(torch.stack([second[i].image for i in range(len(second))]), before)


def test_an_identity_that_is_given_is_the_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a run, where it is the key: nothing is hashed then."""
    monkeypatch.setattr(TensorImages, "fingerprint", lambda self: pytest.fail("hashed"))
    whole = classifier(tmp_path, Hears(), ctx={"identity": "a"})
    assert load_state(tmp_path / "checkpoint.safetensors")["identity"] == "a"
    again = Hears()
    assert tiny.same(classifier(tmp_path, again, ctx={"identity": "a"}), whole)
    assert again.steps == 1  # its last checkpoint is of the fourth step
    other = Hears()
    assert tiny.same(classifier(tmp_path, other, ctx={"identity": "b"}), whole)
    assert other.steps == 5


def test_the_context_that_was_given_stays_as_it_is(tmp_path: Path) -> None:
    ctx = Context(tmp_path, engine=ENGINE)
    TrainClassifier(classifier=F, steps=1, batch_size=3).run(ctx, train=tiny.images(LABELS))
    assert ctx.identity == ""
    assert ctx.facts["train"]["images"] == 6  # and is the one that is told


# ----------------------------------------------------------------------------------------- digests
def test_equal_content_is_one_identity_and_speed_is_none_of_it(tmp_path: Path) -> None:
    def of(folder: str, lr: float = 1e-3, **engine: Any) -> str:
        stage = TrainClassifier(classifier=F, steps=3, lr=lr)
        inputs = {"train": tiny.images(LABELS, seed=1), "init": tiny.fresh(F, 2, tiny.CLASSES), "extra": None}
        return identity(stage, Context(tmp_path / folder, 1, Engine(device="cpu", **engine)), inputs)

    assert of("one") == of("other", compile=True, channels_last=True, checkpoint_steps=7, checkpoint_minutes=1.0)
    assert len({of("one"), of("one", lr=1e-4), of("one", precision="bf16"), of("one", accumulate=2)}) == 4


def test_attributes_count_as_they_are_when_it_runs() -> None:
    stage = TrainClassifier(classifier=F, steps=3)
    before = identity(stage, Context(Path()), {})
    stage.steps = 4
    assert identity(stage, Context(Path()), {}) != before


def test_all_that_an_earlier_stage_made_counts() -> None:
    one, other = (tuple(tiny.fresh(G, seed) for seed in seeds) for seeds in ((1, 2), (1, 3)))
    found = {identity(Synthesise(), Context(Path()), {"init": made}) for made in (one, other, one[:1], None)}
    assert len(found) == 4


def test_a_trained_network_is_its_spec_classes_and_weights() -> None:
    network = tiny.fresh(F, 1, tiny.CLASSES)
    others = [
        Trained(tiny.spec(tiny.Classifier, width=9), network.state, network.classes),
        Trained(F, network.state, ("a", "c", "b")),
        Trained(F, {**network.state, "head.bias": network.state["head.bias"] + 1}, network.classes),
    ]
    found = {identity(Synthesise(), Context(Path()), {"init": made}) for made in (network, *others)}
    assert len(found) == 4


def test_tensors_are_told_apart_by_name_type_shape_and_content() -> None:
    x = torch.arange(6.0)
    different = [
        {"a": x}, {"b": x}, {"a": x.reshape(2, 3)}, {"a": x.double()}, {"a": x.bfloat16()}, {"a": x + 1}, {},
        {"a": torch.tensor(0.0)}, {"a": torch.zeros(1)}, {"a": torch.zeros(0)}, {"a": x.view(torch.int32)},
    ]  # fmt: skip
    assert len({of_tensors(tensors) for tensors in different}) == len(different)
    assert of_tensors({"a": x.reshape(2, 3).T}) == of_tensors({"a": x.reshape(2, 3).T.contiguous()})
    assert of_tensors({"a": x, "b": x}) == of_tensors({"b": x, "a": x})


def test_a_digest_is_of_the_value() -> None:
    assert digest({"a": 1, "b": [2.5, None]}) == digest({"b": (2.5, None), "a": 1})
    assert digest({"a": 1}) != digest({"a": "1"})
