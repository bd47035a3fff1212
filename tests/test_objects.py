"""Components that are given as objects: their kinds, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import toys
from dakit.errors import DakitError
from dakit.interfaces import ImageSet, JobInfo, Prediction, Translator
from dakit.objects import HERE, as_plugin, entries_of, kinds_of, refuse_changed, with_components
from dakit.plugins import find_plugins
from dakit.registry import KINDS, Registry


class Loss:
    def __init__(self, *, weight: float = 1.0) -> None:
        self.weight = weight

    def __call__(self, teacher: Prediction, student: Prediction) -> Tensor:
        return (teacher.logits - student.logits).square().mean() * self.weight


class LossModule(nn.Module):
    def forward(self, teacher: Prediction, student: Prediction) -> Tensor:
        return (teacher.logits - student.logits).abs().mean()


class Pick:
    def __call__(self, pool: Any, anchors: Any, /, *, classifier: Any, device: Any) -> Any: ...


class Clock:
    def stage_finished(self, stage: JobInfo, seconds: float) -> None: ...


class Images:
    def __len__(self) -> int:
        return 0

    def __getitem__(self, index: int) -> Any: ...


class Both(Loss):
    def run(self, ctx: Any) -> None: ...


def pictures(size: int, classes: Any) -> Any: ...


def translator(*, width: int = 3) -> Translator: ...  # type: ignore[empty-body]


def sets(count: int) -> ImageSet | None: ...


@pytest.mark.parametrize(
    ("factory", "kinds"),
    [
        (Loss, ["transfer_loss"]),
        (LossModule, ["transfer_loss"]),
        (Pick, ["selector"]),
        (Clock, ["observer"]),
        (Images, ["dataset"]),
        (pictures, ["dataset"]),
        (sets, ["dataset"]),
        (translator, ["translator"]),
        (toys.toy_images, ["dataset"]),
        (toys.ToyClassifier, ["classifier"]),
        (toys.ToyTranslator, ["translator", "discriminator"]),
        (toys.ToyTrain, ["stage"]),
        (Both, ["stage", "transfer_loss"]),
        (dict, ["dataset"]),
        (object, []),
        (len, []),
    ],
)
def test_the_kind_follows_from_the_shape(factory, kinds):
    assert kinds_of(factory) == kinds


def test_of_every_component_that_is_installed_the_kind_is_among_those_of_its_shape(registry):
    for kind in KINDS:
        for entry in registry.entries(kind):
            if kinds := kinds_of(entry.factory):
                assert kind in kinds, f"{kind} {entry.name}: {kinds}"


@pytest.mark.parametrize(
    ("components", "message"),
    [
        ({"mine": toys.ToyTranslator}, '"translator/mine" or "discriminator/mine"'),
        ({"mine": Both}, "it has the shape of a stage and of a transfer_loss: say which"),
        ({"mine": object}, "its shape is that of no kind"),
        ({"loss/mine": Loss}, 'there is no kind "loss", did you mean|there is no kind "loss"; there are'),
        ({"a b": Loss}, "a name is letters, digits"),
        ({"mine": Loss()}, r"not Loss\(...\): give the class, and its parameters in the recipe"),
        ({3: Loss}, "expected a name"),
    ],
)
def test_what_is_not_clear_is_refused(components, message):
    with pytest.raises(DakitError, match=message):
        entries_of(components)


def test_all_problems_are_told_at_once():
    with pytest.raises(DakitError) as caught:
        entries_of({"a": object, "good": Loss, "b": Loss()})
    assert [line.split(":")[1] for line in str(caught.value).splitlines()] == [" 'a'", " 'b'"]


def test_a_registry_finds_what_was_given_and_checks_its_parameters():
    registry = with_components(Registry(find_plugins()), {"mine": Loss, "discriminator/critic": toys.ToyTranslator})
    spec = registry.spec("transfer_loss", "mine", {"weight": 3})
    assert spec.params == {"weight": 3.0}
    assert len(spec.code) == 64
    assert registry.spec("discriminator", f"{HERE}/critic", {}).build().colour.shape == (3, 1, 1)
    with pytest.raises(DakitError, match='no such parameter, did you mean "weight"'):
        registry.spec("transfer_loss", "mine", {"wieght": 3})
    assert as_plugin(registry.find("transfer_loss", "mine")).distribution == "here/mine"
    assert registry.warnings() == Registry(find_plugins()).warnings()


def test_a_name_that_a_plugin_has_too_asks_for_the_whole_name():
    registry = with_components(Registry(find_plugins()), {"attention_transfer": Loss})
    with pytest.raises(DakitError, match='"dakit/attention_transfer" or "here/attention_transfer"'):
        registry.find("transfer_loss", "attention_transfer")
    assert registry.find("transfer_loss", "here/attention_transfer").factory is Loss


def test_what_cannot_be_told_gets_a_code_of_its_own_each_time_and_says_so(monkeypatch):
    names: dict[str, Any] = {"__name__": "__main__", "drawn": torch.Generator()}
    exec("class Drawn:\n    def __call__(self, teacher, student):\n        return drawn.initial_seed()\n", names)
    (first,), warnings = entries_of({"mine": names["Drawn"]})
    (second,), _ = entries_of({"mine": names["Drawn"]})
    assert first.code != second.code
    assert len(warnings) == 1
    assert "no result of it is reused: drawn is a torch._C.Generator" in warnings[0]
    refuse_changed(Registry(find_plugins(), [first]))  # it is no news
    monkeypatch.setattr("dakit.processes.count", lambda: 2)
    with pytest.raises(DakitError, match=r"cannot be used by several processes: drawn is a torch\._C\.Generator"):
        entries_of({"mine": names["Drawn"]})


def test_what_was_changed_since_is_refused():
    names: dict[str, Any] = {"__name__": "__main__", "scale": 1.0}
    exec("class Scaled:\n    def __call__(self, teacher, student):\n        return scale\n", names)
    registry = with_components(Registry(find_plugins()), {"mine": names["Scaled"]})
    refuse_changed(registry)
    names["scale"] = 2.0
    with pytest.raises(DakitError, match='the transfer_loss "mine", or something that it reads, is another now'):
        refuse_changed(registry)
