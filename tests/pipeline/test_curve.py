from __future__ import annotations

import csv
import json
from collections import Counter

import pytest

import toys as toy_module
from dakit.errors import DakitError
from dakit.files import shipped_recipes
from dakit.interfaces import Observer
from dakit.pipeline import run as pipeline
from dakit.pipeline.curve import _batch_sizes, _jobs, _with, _with_batches, curve
from dakit.recipe.load import load_recipe
from dakit.results.runs import open_run
from dakit.results.verify import verify


class Watch(Observer):
    """An observer that counts which stages were made."""

    def __init__(self):
        self.made = Counter()

    def stage_finished(self, stage, seconds):
        self.made[stage.name] += 1


@pytest.fixture
def load(tmp_path, known):
    def read(*overrides):
        (tmp_path / "toy.yaml").write_text(toy_module.RECIPE)
        return load_recipe(tmp_path / "toy.yaml", overrides=overrides or ["data.target.people=8"], registry=known)

    return read


ROWS = ["s2t", "fine_tune", "cycleat"]


def learned(recipe, folder) -> dict[int, set[int]]:
    """The target images that the fine-tuning row learns from, by fold."""
    return {
        step.fold: set(step.inputs["train"]().indices)
        for step, _ in pipeline.plan(recipe, rows=["fine_tune"], out=folder)
        if step.stage.name == "adapt"
    }


def test_stages_that_read_no_target_labels_run_once(load, tmp_path):
    out, watch = tmp_path / "out", Watch()
    pipeline.run(load(), rows=["cycleat"], out=out)  # what an earlier run made is shared as well
    points = curve(load(), [1, None], draws=2, rows=ROWS, out=out, observers=[watch])
    assert [(point.name, point.per_class) for point in points] == [("1", 1), ("all", 4)]
    # Two folds and two draws of one label; of all labels there is one draw, and cycleat's is there already.
    assert watch.made == {"select": 4, "adapt": 4 + 4 + 2, "evaluate": 2 + 4 + 4 + 2}
    again = Watch()
    once_more = curve(load(), [1, None], draws=2, rows=ROWS, out=out, observers=[again])
    assert [point.outcome.made for point in once_more] == [0, 0]
    assert not again.made
    alone = {point.outcome.summaries["s2t"].macro for point in points}
    assert len(alone) == 1  # it sees no label, so it is the same everywhere
    assert not [found for found in verify(out / "store") if found.damage]


def test_fewer_labels_are_among_more_and_draws_differ(load, tmp_path):
    points = curve(load("data.target.people=20"), [3, 1], draws=3, rows=["fine_tune"], out=tmp_path / "out")
    one, three = (learned(point.recipe, tmp_path / "out") for point in points)
    assert set(one) == set(range(6))
    for fold in one:
        assert len(one[fold]) == 2
        assert one[fold] < three[fold]
    assert len({frozenset(one[fold]) for fold in (0, 2, 4)}) > 1
    assert points[0].outcome.summaries["fine_tune"].repeats == 3


def test_every_number_is_a_run_of_its_own_and_the_curve_is_written(load, tmp_path):
    out = tmp_path / "out"
    points = curve(load(), [2, None], rows=ROWS, out=out)
    found = json.loads((out / "curve" / "curve.json").read_text())
    assert [(p["labels"], p["per_class"], list(p["rows"])) for p in found["points"]] == [
        ("2", 2, ROWS),
        ("all", 4, ROWS),
    ]
    for point in found["points"]:
        folder = out / "curve" / f"labels-{point['labels']}"
        assert json.loads((folder / "results.json").read_text())["rows"] == point["rows"]
        run = open_run(folder)
        assert run.about["recipe"]["data"]["target"]["split"]["per_class"] == (2 if point["labels"] == "2" else None)
        assert len(run.rounds("cycleat")) == 2
    lines = list(csv.DictReader((out / "curve" / "curve.csv").read_text().splitlines()))
    assert [(line["row"], line["labels"]) for line in lines] == [(row, n) for n in ("2", "all") for row in ROWS]
    assert float(lines[2]["macro"]) == 100 * points[0].outcome.summaries["cycleat"].macro
    assert lines[2]["verdict"] == points[0].outcome.comparisons["cycleat"].verdict
    assert (out / "curve" / "curve.png").read_bytes()[:4] == b"\x89PNG"
    svg = (out / "curve" / "curve.svg").read_text()
    assert svg.startswith("<?xml")
    openings = json.loads((out / "test_labels.json").read_text())["opened"]
    assert openings == points[-1].outcome.opened == 2 + 2 * 2 * 2  # s2t once per fold, two rows at two numbers


def test_where_labels_are_fewer_than_a_batch_the_batch_is_smaller_in_all_rows(tmp_path):
    rows = ["s2t_fine_tune"]
    recipe = load_recipe("cycleat_digits", profile="smoke", overrides=["adapt.batch_size=12"])
    fewer = _with(recipe, "target", 1, None)
    sizes = _batch_sizes(fewer, _jobs(fewer, [*rows, "cycleat"], tmp_path))
    assert sizes == {"adapt": 7}  # one of each of seven classes
    fitted = _with_batches(fewer, sizes)
    for row in (*rows, "cycleat"):
        (adapt,) = [stage for stage in fitted.plan(row).stages if stage.name == "adapt"]
        assert adapt.spec.params["batch_size"] == 7
    assert fitted.document["stages"]["adapt"]["batch_size"] == 7
    assert recipe.document["stages"]["adapt"]["batch_size"] == 12


@pytest.mark.parametrize("labels", [[5], [0], [1, 9, None], []])
def test_more_labels_than_there_are_and_none_are_refused_before_anything_runs(load, tmp_path, labels):
    with pytest.raises(
        DakitError, match=r"labels per class: .*: expected numbers from 1 to 4 .*training side of target"
    ):
        curve(load(), labels, rows=["fine_tune"], out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_rows_that_learn_from_no_target_label_have_no_curve(load, tmp_path):
    with pytest.raises(DakitError, match=r"of the rows s2t none learns from target\.train"):
        curve(load(), [1], rows=["s2t"], out=tmp_path / "out")


def test_a_row_that_has_its_own_number_of_labels_or_batch_keeps_it(tmp_path, known):
    row = "variants:\n  one_label: {data.target.split.per_class: 1}\n"
    (tmp_path / "toy.yaml").write_text(toy_module.RECIPE.replace("variants:\n", row))
    recipe = load_recipe(tmp_path / "toy.yaml", overrides=["data.target.people=8"], registry=known)
    with pytest.raises(DakitError, match="one_label is the row with per_class: 1, so it has no curve"):
        curve(recipe, [2], rows=["fine_tune", "one_label"], out=tmp_path / "out")
    text = (
        shipped_recipes()["cycleat_digits"]
        .read_text()
        .replace("variants:\n", "variants:\n  small: {adapt.batch_size: 4}\n")
    )
    (tmp_path / "small.yaml").write_text(text)
    fewer = _with_batches(load_recipe(tmp_path / "small.yaml", profile="smoke"), {"adapt": 6})
    sizes = {
        row: stage.spec.params["batch_size"]
        for row in ("small", "cycleat")
        for stage in fewer.plan(row).stages
        if stage.name == "adapt"
    }
    assert sizes == {"small": 4, "cycleat": 6}
