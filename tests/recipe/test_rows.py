from __future__ import annotations

import pytest

import toys as toy_module
from dakit.recipe.document import Document
from dakit.recipe.plans import Reference
from dakit.recipe.rows import COMPONENTS, Doubtful, Row
from dakit.recipe.yaml_lines import read_yaml


@pytest.fixture
def row(known):
    """A checker of the toy recipe's own row, with parts of its text replaced."""

    def make(*replacements: tuple[str, str]) -> Row:
        text = toy_module.RECIPE
        for old, new in replacements:
            assert text.count(old) == 1, old
            text = text.replace(old, new)
        data, lines = read_yaml(text, "toy.yaml")
        return Row(Document(data, lines, "toy.yaml"), known)

    return make


def test_a_row_s_plan_has_what_its_last_stage_needs_and_no_more(row):
    checker = row()
    plan = checker.plan("cycleat")
    assert not checker.document.problems.lines
    assert [stage.name for stage in plan.stages] == list(checker.document.data["stages"])
    assert list(plan.data) == ["source", "auxiliary", "target"]
    pruned = row(("model: adapt.model", "model: pretrain.model")).plan("s2t")
    assert [stage.name for stage in pruned.stages] == ["pretrain", "evaluate"]
    assert list(pruned.data) == ["source", "target"]


def test_pictures_are_needed_besides(row):
    checker = row(("model: adapt.model", "model: pretrain.model"))
    checker.document.data["pictures"] = ["stage_1"]
    assert [stage.name for stage in checker.plan("s2t").stages] == ["pretrain", "stage_1", "evaluate"]


def test_a_role_with_a_wrong_split_is_read_below_as_if_it_had_one(row):
    checker = row(("source: {use: toy_images, people: 5, split: {holdout: 0.2}}",
                   "source: {use: toy_images, people: 5, split: {holdout: 2}}"))  # fmt: skip
    checker.plan("cycleat")
    (problem,) = checker.document.problems.lines
    assert problem.startswith("toy.yaml:7: data.source.split")


def test_a_parameter_that_does_not_fit_is_left_off_and_told_only_where_that_mends_it(row, known):
    reasons: list[str] = []
    stages = (
        "more: {do: train_classifier, train: target.train, classifier: deep, steps: 1, extra_share: 0.5}\n  evaluate:"
    )
    checker = row(("evaluate:", stages))
    key = ("stages", "more", "extra_share")
    checker.plan("x", [Doubtful(key, 0.5, reasons.append)])
    assert reasons == ["`extra_share` needs the input `extra`"]
    assert "extra_share" not in checker.document.data["stages"]["more"]
    assert not checker.document.problems.lines

    checker = row(("evaluate:", stages.replace("steps: 1", "steps: 0")))  # another fault stays, so nothing is left off
    checker.plan("x", [Doubtful(key, 0.5, reasons.append)])
    assert len(reasons) == 1
    assert checker.document.data["stages"]["more"]["extra_share"] == 0.5
    assert any("stages.more.steps" in problem for problem in checker.document.problems.lines)


def test_a_stage_with_a_wrong_component_goes_on_without_parameters(row):
    checker = row(("classifier: deep}", "classifier: deeep}"))
    plan = checker.plan("cycleat")
    (problem,) = checker.document.problems.lines
    assert 'stages.pretrain.classifier: there is no component "deeep"' in problem
    assert plan.stages[0].spec.params == {}
    assert plan.stages[0].inputs == {"train": Reference("source", "train")}


def test_what_stands_in_components_is_neither_data_nor_stage():
    assert {"classifier", "translator", "selector"} <= set(COMPONENTS)
    assert not {"dataset", "observer", "stage"} & set(COMPONENTS)
