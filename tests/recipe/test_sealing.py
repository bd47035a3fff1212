"""An evaluation stage of a third party, whose names are not dakit's, from the check to the model card."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch

import toys as toy_module
from dakit.advice.doctor import examine, label_noise
from dakit.advice.estimates import estimate
from dakit.data.sets import Sealed, Subset, TensorImages
from dakit.errors import DakitError, RecipeError
from dakit.pipeline import run as pipeline
from dakit.pipeline.curve import curve
from dakit.pipeline.preflight import check_data
from dakit.recipe.sealing import evaluation_faults, evaluation_problem
from dakit.results.runs import INDEX, open_run
from dakit.signatures import evaluation_stage
from dakit.stages.classifier import TrainClassifier
from dakit.stages.evaluate import Evaluate
from dakit.statistics.metrics import Evaluation
from dakit.testing import check_component, check_stage

EVALUATE = "evaluate: {do: evaluate, model: adapt.model, test: target.test}"
FLIPS = {
    EVALUATE: "judge: {do: toy_flips, network: adapt.model, held_out: target.test}",
    "s2t: {evaluate.model: pretrain.model}": "s2t: {judge.network: pretrain.model}",
}


def test_what_an_evaluation_is_is_told_by_its_annotations():
    assert evaluation_stage(Evaluate) == ("test", ("model",), "evaluation")
    assert evaluation_stage(toy_module.ToyFlips) == ("held_out", ("network",), "said")
    assert evaluation_stage(TrainClassifier) is None
    assert evaluation_stage(lambda: None) is None
    assert [evaluation_faults(one) for one in (Evaluate, toy_module.ToyFlips, TrainClassifier)] == [[], [], []]


def test_a_third_partys_evaluation_goes_the_whole_way(load, tmp_path, known):
    recipe = load(text=FLIPS)
    assert recipe.plan("s2t").tested.role == "target"
    assert recipe.plan("s2t").weights == "last"
    check_data(recipe)
    outcome = pipeline.run(recipe, rows=["s2t", "fine_tune"], out=tmp_path / "out")
    # Two folds, and no label of the test side was opened but for the two rows' evaluations.
    assert (outcome.opened, outcome.needed) == (4, 4)
    usual = pipeline.run(load(), rows=["s2t", "fine_tune"], out=tmp_path / "usual")
    # The toys' networks see the mean colour alone, which no flip changes.
    for row in ("s2t", "fine_tune"):
        assert outcome.summaries[row].macro == usual.summaries[row].macro
        assert outcome.summaries[row].images == 8
    verdict = "one seed: of these networks only"
    assert outcome.comparisons["s2t"].verdict == verdict
    assert "Against fine_tune" in (tmp_path / "out" / "table.md").read_text()
    assert "s2t" in (tmp_path / "out" / "report.html").read_text()
    assert json.loads((tmp_path / "out" / "results.json").read_text())["rows"]["s2t"]["images"] == 8

    run = open_run(tmp_path / "out", registry=known)
    (first, second) = run.rounds("s2t")
    assert (first.fold, second.fold) == (0, 1)
    expected = outcome.rounds["s2t"][0].evaluation.probabilities
    np.testing.assert_array_equal(first.evaluation.probabilities, expected)
    model = run.classifier("s2t", 0, 0)
    assert model.origin.stage == "pretrain"
    image = torch.full((1, 3, 4, 4), 0.25)
    assert model.network(image).logits.shape == (1, 2)
    assert run.trained("s2t", 0, 0)[1] == "model"


def test_its_classifier_is_exported_with_a_card(load, tmp_path, known):
    from dakit.use.export import export

    pipeline.run(load(text=FLIPS), rows=["fine_tune"], out=tmp_path / "run")
    run = open_run(tmp_path / "run", registry=known)
    _, agreement = export(run, "fine_tune", 0, 0, kind="torch", out=tmp_path / "out")
    assert agreement.tested
    card = (tmp_path / "out" / "MODEL_CARD.md").read_text()
    assert "Of all stages only `toy_flips` was given the test images." in card
    assert "This very classifier: Ave. " in card


def test_it_has_a_curve_an_estimate_and_is_examined(load, tmp_path):
    recipe = load(text=FLIPS)
    points = curve(recipe, [1, None], rows=["s2t", "fine_tune"], out=tmp_path / "out")
    assert [point.name for point in points] == ["1", "all"]
    assert all(point.outcome.summaries["fine_tune"].images == 8 for point in points)
    assert {one.stage for one in estimate(recipe, rows=["fine_tune"], out=tmp_path / "out")} >= {"judge"}
    examine(recipe)
    pipeline.run(recipe, rows=["cycleat"], out=tmp_path / "noise")
    assert all(finding.check == "labels" for finding in label_noise(recipe, tmp_path / "noise"))


def test_the_kit_asks_an_evaluation_for_more():
    check_stage(toy_module.ToyFlips)
    check_stage(Evaluate)

    def failed(fault: str, factory: Any = toy_module.ToyFlips) -> dict[str, str]:
        found = check_component("stage", factory, {"fault": fault} if fault else {})
        return {result.check: result.problem for result in found if result.problem}

    name = "opens_the_test_set_once_and_makes_an_evaluation"
    assert "it opened the test set 2 times" in failed("twice")[name]
    assert "which are not the 24 test images" in failed("indices")[name]
    assert "the groups of its Evaluation are not those" in failed("groups")[name]
    assert "another stage could read" in failed("", toy_module.ToyLeak)[name]


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("indices", "its Evaluation has 4 images, which are not the 4 test images: `indices` are positions"),
        ("labels", "the labels of its Evaluation are not those of the test images"),
        ("groups", "the groups of its Evaluation are not those of the test images"),
        ("type", "it made a Trained, not an Evaluation"),
    ],
)
def test_an_evaluation_of_other_images_is_refused(load, tmp_path, fault, message):
    recipe = load(text={**FLIPS, "held_out: target.test": f"held_out: target.test, fault: {fault}"})
    with pytest.raises(DakitError, match=message):
        pipeline.run(recipe, rows=["s2t"], out=tmp_path / "out")
    assert not (tmp_path / "out" / "results.json").exists()


def problems(load, old: str, new: str) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        load(text={old: new})
    return list(caught.value.problems)


def test_what_would_let_test_images_out_is_refused(load):
    leak = EVALUATE.replace("do: evaluate", "do: toy_leak")
    (problem,) = problems(load, EVALUATE, leak)
    assert problem.endswith(
        'stages.evaluate.do: stage "toy_leak": it is given test images, so all it may make is an Evaluation '
        "(dakit.statistics.metrics), not also model, which another stage could read"
    )
    more = "evaluate: {do: toy_leak_more, train: target.test, more: target.test}"
    with pytest.raises(RecipeError) as caught:
        load(text={EVALUATE: more, "s2t: {evaluate.model: pretrain.model}": "s2t: {}"})
    told = "\n".join(caught.value.problems)
    assert "an evaluation takes one TestSet, but here are train, more" in told
    assert "the input more, a TestSet, cannot be optional" in told
    assert "not also model" in told
    assert "an evaluation makes one Evaluation (dakit.statistics.metrics), not 0" in told


def test_no_stage_reads_what_a_third_partys_evaluation_made(load):
    flips = FLIPS[EVALUATE]
    below = flips + "\n  look: {do: toy_peek, images: judge.said}"
    with pytest.raises(RecipeError, match=r"judge.said holds what became of the test images: no stage may read it"):
        load(text={**FLIPS, EVALUATE: below})


def test_only_its_test_input_is_given_test_images(load):
    with pytest.raises(RecipeError) as caught:
        load(text={**FLIPS, EVALUATE: "judge: {do: toy_flips, network: target.test, held_out: target.train}"})
    told = "\n".join(caught.value.problems)
    assert "stages.judge.network: target.test holds the test images: only an evaluation stage, such as" in told
    assert "stages.judge.held_out: target.train is ImageSet, but TestSet is needed" in told


def test_a_folder_of_an_earlier_dakit_is_read(load, tmp_path, known):
    pipeline.run(load(), rows=["s2t"], out=tmp_path / "out")
    place = tmp_path / "out" / INDEX
    index = json.loads(place.read_text())
    for job in index["jobs"]:
        del job["evaluates"]
    place.write_text(json.dumps(index))
    run = open_run(tmp_path / "out", registry=known)
    assert len(run.rounds("s2t")) == 2
    assert run.classifier("s2t", 0, 1).origin.stage == "pretrain"


def test_a_sealed_set_describes_itself_without_being_opened():
    pixels = torch.zeros(4, 3, 2, 2, dtype=torch.uint8)
    whole = TensorImages(pixels, [0, 1, 0, 1], ["a", "a", "b", "b"], ("x", "y"))
    opened: list[int] = []
    sealed = Sealed(Subset(whole, [3, 1, 2]), lambda: opened.append(1))
    said = np.array([0, 1, 0])
    fits = Evaluation(
        ("x", "y"), np.array([2, 3, 1]), np.array([0, 1, 1]), said, np.eye(2)[said], np.array(["b", "b", "a"])
    )
    assert evaluation_problem(fits, sealed) == ""
    assert opened == []
