from __future__ import annotations

import pytest

from dakit.advice import estimates
from dakit.advice.estimates import estimate
from dakit.data.sets import Sealed
from dakit.pipeline.run import run
from dakit.recipe.load import load_recipe


@pytest.fixture
def recipe(toys, tmp_path):
    import toys as module

    (tmp_path / "toy.yaml").write_text(module.RECIPE)
    return load_recipe(tmp_path / "toy.yaml", plugins=[toys])


def test_every_stage_of_the_method_is_measured_and_counted(recipe, tmp_path):
    found = estimate(recipe, out=tmp_path / "run")
    assert [one.stage for one in found] == [stage.name for stage in recipe.plan("cycleat").stages]
    assert not [one for one in found if one.problem]
    assert all(one.seconds > 0 and one.megabytes > 50 for one in found)
    results = {one.stage: one.results for one in found}
    assert (results["pretrain"], results["stage_1"], results["stage_2"]) == (1, 1, 1)
    assert (results["synthesise"], results["select"]) == (2, 4)  # of stage 1 and 2; for two folds each
    assert results["evaluate"] == 10  # five rows, two folds
    assert not (tmp_path / "run").exists()


def test_what_is_made_already_is_not_counted(recipe, tmp_path):
    run(recipe, out=tmp_path / "run")
    assert {one.results for one in estimate(recipe, out=tmp_path / "run")} == {0}


def test_training_is_scaled_by_steps_and_the_rest_by_images(faces, monkeypatch):
    """With a clock of one second a call, everything can be counted."""
    ticks = iter(range(10**6))
    monkeypatch.setattr(estimates.time, "perf_counter", lambda: float(next(ticks)))
    monkeypatch.setattr(estimates, "_IMAGES", 16)
    recipe = load_recipe(faces / "faces.yaml", overrides=["pretrain.steps=104", "translate.steps=1"])
    found = {one.stage: one for one in estimate(recipe)}
    # Started, four steps, ended: 5 seconds; then 100 more steps of a second each.
    assert found["pretrain"].seconds == pytest.approx(5 + 100)
    assert found["translate"].seconds == pytest.approx(2)  # it has one step in all
    # 16 of 28 images: started, one batch or more, ended.
    assert found["synthesise"].seconds / (28 / 16) == pytest.approx(round(found["synthesise"].seconds / (28 / 16)))


def test_the_test_side_stays_closed(recipe, monkeypatch, tmp_path):
    opened = []
    genuine = Sealed.open
    monkeypatch.setattr(Sealed, "open", lambda self: opened.append(self) or genuine(self))
    estimate(recipe, rows=["cycleat"], out=tmp_path / "run")
    (sealed,) = opened  # by `evaluate`, which was given training images
    data = recipe.plan("cycleat").data["target"]
    images = data.spec.build(data.size, data.classes)
    train = set(data.split.apply(images, 0, 0)["train"])
    assert set(sealed.open().indices) <= train


def test_a_stage_that_cannot_run_says_why(faces):
    recipe = load_recipe(faces / "faces.yaml", overrides=["pretrain.batch_size=64"])
    found = {one.stage: one for one in estimate(recipe)}
    assert "at most" in found["pretrain"].problem
    assert found["adapt"].problem == "needs pretrain.model"
    assert found["translate"].seconds


def test_as_many_images_are_taken_as_a_batch_needs(monkeypatch):
    """As many images are taken as the largest batch needs, and a part for validation besides."""
    monkeypatch.setattr(estimates, "_IMAGES", 8)
    training = {"steps": 10, "batch_size": 20}
    assert estimates._needed(training) == 20
    assert estimates._needed({"batch_size": 64}) == 1  # one that does not train takes what there is
    kept = estimates._needed(training | {"choose": "validation", "validation": 0.2})
    assert kept - round(0.2 * kept) >= 20


def test_stages_with_a_large_batch_are_measured(faces, monkeypatch):
    monkeypatch.setattr(estimates, "_IMAGES", 8)
    recipe = load_recipe(faces / "faces.yaml", overrides=["pretrain.batch_size=24"])
    found = {one.stage: one for one in estimate(recipe)}
    assert found["pretrain"].seconds
    assert not [one for one in found.values() if one.problem]
