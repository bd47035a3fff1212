from __future__ import annotations

import pytest

from dakit import interfaces
from dakit.interfaces import Classifier, ImageSet, Spec, Trained
from dakit.recipe.document import Document
from dakit.recipe.plans import Reference, StagePlan
from dakit.recipe.references import Above, reference

STAGES = {"pretrain": {}, "broken": {}, "here": {}, "below": {}}


@pytest.fixture
def ask(known):
    """What an input of the stage ``here`` names, and what is told."""
    train = known.find("stage", "toy_train").factory
    evaluate = known.find("stage", "evaluate").factory
    stages = {"pretrain": Spec("stage", "toy_train", {}, train), "tested": Spec("stage", "evaluate", {}, evaluate)}
    plans = {name: StagePlan(name, spec, {}) for name, spec in stages.items()}
    above = Above({"source": ("train", "test"), "web": ("all",)}, plans)

    def answer(value, wanted=ImageSet):
        document = Document({"stages": STAGES}, {}, "r.yaml")
        found = reference(document, value, wanted, ("stages", "here", "input"), above)
        return found, [line.removeprefix("r.yaml: stages.here.input: ") for line in document.problems.lines]

    return answer


def test_what_may_be_named(ask):
    assert ask("source.train") == (Reference("source", "train"), [])
    assert ask("web.all") == (Reference("web", "all"), [])
    assert ask("source.test", interfaces.TestSet) == (Reference("source", "test"), [])
    assert ask("pretrain.model", Trained[Classifier] | None) == (Reference("pretrain", "model"), [])


@pytest.mark.parametrize(
    ("value", "wanted", "told"),
    [
        (3, ImageSet, "must name what stands above, such as source.train, not 3"),
        ("source.test", ImageSet,
         "source.test holds the test images: only an evaluation stage, such as `evaluate`, may"),
        ("source.all", ImageSet, 'source has no "all" (all of it would include the test images); there'),
        ("web.train", ImageSet, 'web has no "train"; there are: all'),
        ("tested.evaluation", ImageSet,
         "tested.evaluation holds what became of the test images: no stage may read it"),
        ("pretrain.modl", ImageSet, 'stage pretrain makes no "modl", did you mean "model"?'),
        ("pretrain.model", ImageSet, "pretrain.model is Trained[Classifier], but ImageSet is needed"),
        ("below.model", ImageSet, "below does not stand above; a stage may read only what"),
        ("here.model", ImageSet, "here does not stand above; a stage may read only what stands above it"),
        ("sorce.train", ImageSet, 'nothing above is called "sorce", did you mean "source"?'),
        ({"run": "x", "row": "y"}, ImageSet,
         "{run: DIR, row: NAME} is a trained network, but ImageSet is needed"),
    ],
)  # fmt: skip
def test_what_may_not_be_named_is_told_once(ask, value, wanted, told):
    found, problems = ask(value, wanted)
    assert found is None
    assert len(problems) == 1
    assert problems[0].startswith(told)


def test_a_stage_that_has_a_problem_is_not_blamed_below(ask):
    assert ask("broken.model") == (None, [])
