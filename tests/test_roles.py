from __future__ import annotations

import json

import pytest

from dakit import pipeline
from dakit.errors import DakitError, RecipeError


def test_data_that_no_row_needs_is_not_opened(load, tmp_path):
    recipe = load(text={"{use: toy_images, people: 2, shift: 9,": "{use: image_folder, root: /nowhere,"})
    assert len(pipeline.plan(recipe, rows=["s2t"], out=tmp_path)) == 3
    with pytest.raises(DakitError, match="/nowhere"):
        pipeline.plan(recipe, rows=["cycleat"], out=tmp_path)


def test_all_missing_data_is_told_in_one_message_with_a_way_without(load, tmp_path):
    recipe = load(
        text={
            "source: {use: toy_images, people: 5,": "source: {use: image_folder, root: /no/source,",
            "{use: toy_images, people: 2, shift: 9,": "{use: image_folder, root: /no/auxiliary,",
            "big: {data.size: 6, adapt.steps: 9}": "big: {data.size: 6}\n  none: {data.source: {use: toy_images, "
            "split: {holdout: 0.25}}, data.auxiliary: {use: toy_images}}",
        }
    )
    with pytest.raises(DakitError) as caught:
        pipeline.run(recipe, out=tmp_path / "out")
    message = str(caught.value)
    assert "source (image_folder): " in message
    assert "/no/source" in message
    assert "auxiliary (image_folder): " in message
    assert "/no/auxiliary" in message
    assert message.endswith(f"Without any data: dakit run {recipe.file} --profile none")
    assert not (tmp_path / "out").exists()
    assert "/no/auxiliary, /no/source" in pipeline.check_data(recipe)


def test_class_lists_that_differ_are_shown(load, tmp_path):
    recipe = load("data.target.names=[bright, dark]")
    with pytest.raises(RecipeError) as caught:
        pipeline.run(recipe, out=tmp_path)
    message = str(caught.value)
    assert "the class lists differ" in message
    assert "source: dark, bright" in message
    assert "target: bright, dark" in message
    assert "auxiliary" not in message  # it has no labels here


def test_openings_of_the_test_labels_are_counted_over_all_runs(load, tmp_path):
    def told(**options):
        outcome = pipeline.run(load(), out=tmp_path, **options)
        kept = json.loads((tmp_path / "results.json").read_text())["test_labels"]
        assert kept == {"opened": outcome.opened, "needed": outcome.needed}
        return outcome.opened, outcome.needed

    assert told(rows=["s2t"]) == (2, 2)
    assert told(rows=["s2t"]) == (2, 2)  # nothing was opened again
    assert told(rows=["s2t", "fine_tune"]) == (4, 4)
    assert told(rows=["fine_tune"], fresh=["adapt", "evaluate"]) == (6, 2)
    tuned = pipeline.run(load("adapt.steps=2"), rows=["fine_tune"], out=tmp_path)
    assert (tuned.opened, tuned.needed) == (8, 2)
    assert (
        "opened 8 times in this folder, all runs together; this table needs 2; the more often"
        in (tmp_path / "table.md").read_text()
    )


def test_train_and_test_never_share_a_person(load, tmp_path):
    recipe = load("data.target.split={folds: 2}")
    for step, _ in pipeline.plan(recipe, rows=["fine_tune"], out=tmp_path):
        if step.stage.name == "evaluate":
            tested = set(step.inputs["test"]().open().groups)
        elif step.stage.name == "adapt":
            learned = set(step.inputs["train"]().groups)
        else:
            continue
        if step.stage.name == "evaluate":
            assert not learned & tested
            assert len(learned | tested) == 4
