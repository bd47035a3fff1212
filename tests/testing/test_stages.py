from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import pytest
import torch

import tiny
from dakit.interfaces import Classifier, Context, ImageSet, Positive, Spec, Trained
from dakit.registry import Registry
from dakit.testing import check_component, check_stage
from dakit.testing.stages import small, small_components
from dakit.training.trainer import trained


@pytest.fixture(autouse=True)
def _no_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stage is run two dozen times, and seven eighths of it would be the drawing of its curves."""
    monkeypatch.setattr("dakit.stages.translator.curves_png", lambda history, path: path.touch())


def failed(factory: Callable[..., Any], **params: Any) -> set[str]:
    given = params | small_components(factory, params)
    return {result.check for result in check_component("stage", factory, given) if result.problem}


NEEDED: dict[str, dict[str, Any]] = {"train_classifier": {"steps": 5, "batch_size": 8}}
NEEDED["train_translator"] = {"steps": 4, "batch_size": 2, "samples": 2, "sample_rows": 2}


@pytest.mark.parametrize(
    "name", ["evaluate", "map_domains", "select", "synthesise", "train_classifier", "train_translator"]
)
def test_built_in_stages_keep_the_contract(registry: Registry, name: str) -> None:
    assert name in {entry.name for entry in registry.entries("stage")}
    assert failed(registry.find("stage", name).factory, **NEEDED.get(name, {})) == set()


def test_with_all_that_a_resumed_run_could_get_wrong(registry: Registry) -> None:
    """Dropout, augmentation, a falling rate, two sets, a pool, the best weights so far, a loss that learns."""
    learns = {"transfer": tiny.spec(tiny.Adapted), "augment": {"flip": 0.5, "light": 0.2}, "decay_from": 0.3}
    classifier = registry.find("stage", "train_classifier").factory
    joined = {"steps": 7, "batch_size": 8, "extra_share": 0.5, "weight_decay": 0.01}
    assert failed(classifier, **learns, **joined) == set()
    assert failed(classifier, steps=11, batch_size=8, choose="validation") == set()
    translator = registry.find("stage", "train_translator").factory
    assert failed(translator, **learns, **NEEDED["train_translator"], pool=3, classifier=small("classifier")) == set()


class Made(NamedTuple):
    model: Trained[Classifier]


class Draw:
    """Draws a ``classifier``'s weights in ``steps`` steps, keeping a checkpoint; ``fault`` breaks it."""

    version: ClassVar[int] = 1

    def __init__(self, *, classifier: Spec[Classifier], steps: Positive = 4, fault: str = "") -> None:
        self.classifier, self.steps, self.fault = classifier, steps, fault

    def run(self, ctx: Context, *, train: ImageSet, init: Trained[Classifier] | None = None) -> Made:
        network = self.classifier.build(len(train.classes))
        place = ctx.folder / "checkpoint.json"
        done, total = json.loads(place.read_text()) if place.is_file() else (0, 0.0)
        while done < self.steps:
            torch.manual_seed(ctx.seed + done)
            total += float(torch.rand(()))
            done += 1
            place.write_text(json.dumps([done, 0.0 if self.fault == "no checkpoint of the sum" else total]))
            for observer in ctx.observers:
                observer.step(done, {})
        if self.fault == "chance":
            total += next(_CALLS)
        if self.fault == "changes":
            train.images.zero_()  # type: ignore[attr-defined]
        for weight in network.parameters():
            torch.nn.init.constant_(weight, total)
        if self.fault == "another network":
            network = torch.nn.Linear(2, 2)
        return Made(None if self.fault == "nothing" else trained(network, self.classifier, train.classes))  # type: ignore[arg-type]


_CALLS = iter(range(10**6))


class Unversioned(Draw):
    """Says "one"; ``steps``, ``fault`` and ``classifier`` are as before."""

    version = "one"  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ("", set()),
        ("no checkpoint of the sum", {"killed_and_resumed_it_ends_the_same"}),
        ("chance", {"same_seed_gives_the_same_result", "killed_and_resumed_it_ends_the_same"}),
        ("changes", {"leaves_its_inputs_alone"}),
    ],
)
def test_a_broken_stage_fails_its_check(fault: str, expected: set[str]) -> None:
    assert failed(Draw, fault=fault) == expected


def test_a_result_that_is_not_there_or_a_version_that_is_no_number() -> None:
    assert "makes_what_it_says" in failed(Draw, fault="nothing")
    assert "makes_what_it_says" in failed(Draw, fault="another network")
    assert failed(Unversioned) == {"says_what_it_takes_and_makes"}


def test_the_error_for_authors_names_the_check() -> None:
    check_stage(Draw, steps=3)
    with pytest.raises(AssertionError, match="killed_and_resumed_it_ends_the_same: killed in step"):
        check_stage(Draw, fault="no checkpoint of the sum")


class Number(NamedTuple):
    number: float


class Counts:
    """Returns what the store cannot keep."""

    version: ClassVar[int] = 1

    def run(self, ctx: Context, *, images: ImageSet) -> Number:
        return Number(float(len(images)))


class Untold(Counts):
    """Returns a plain dictionary."""

    def run(self, ctx: Context, *, images: ImageSet) -> dict[str, int]:  # type: ignore[override]
        return {"count": len(images)}


def test_a_result_that_cannot_be_kept() -> None:
    assert failed(Counts) == {"a_rerun_is_read_from_the_store"}
    assert "says_what_it_takes_and_makes" in failed(Untold)
