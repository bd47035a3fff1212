"""``metric:`` of a recipe, from the check to the table, the page, the curve and the comparison of runs."""

from __future__ import annotations

import csv
import json

import pytest
from sklearn import metrics as reference

from dakit.errors import DakitError, RecipeError
from dakit.pipeline import run as pipeline
from dakit.pipeline.curve import curve
from dakit.report.compare import write_comparison
from dakit.results.runs import open_run
from dakit.statistics.measures import metric_named

ROWS = ["s2t", "fine_tune"]
FILMS = {"target: {use: toy_images, shift: 20,": "target: {use: toy_films, shift: 20,"}


def test_the_table_follows_and_nothing_is_trained_again(load, tmp_path, known):
    first = pipeline.run(load(), rows=ROWS, out=tmp_path / "run")
    before = json.loads((tmp_path / "run" / "results.json").read_text())
    assert before["metric"] == {
        "name": "macro_accuracy", "title": "macro accuracy", "heading": "Ave.", "per_class": "recall",
        "better": "higher",
    }  # fmt: skip
    assert all(row["value"] == row["macro"] for row in before["rows"].values())
    for name in ("accuracy", "macro_f1", "auroc", "ece"):
        metric = metric_named(name)
        outcome = pipeline.run(load(f"metric={name}"), rows=ROWS, out=tmp_path / "run")
        assert (outcome.made, outcome.opened) == (0, first.opened)
        results = json.loads((tmp_path / "run" / "results.json").read_text())
        assert results["metric"] == metric.plain()
        table = (tmp_path / "run" / "table.md").read_text()
        assert f"| {metric.heading} |" in table
        assert f"- {metric.heading}: {metric.about}, in percent;" in table.replace("\\", "")
        assert "*paper*" not in table.replace("  ", "")  # published is macro accuracy
        page = (tmp_path / "run" / "report.html").read_text()
        assert f"<th>{metric.heading}</th>" in page
        assert f"{metric.title} " in page
        best = min if name == "ece" else max
        values = {row: about["value"] for row, about in results["rows"].items()}
        (line,) = {line for line in table.splitlines() if line.startswith(f"| {best(values, key=values.get)} ")}
        assert f"**{best(values.values()):.2f}**" in line
        assert {row: about["macro"] for row, about in results["rows"].items()} == {
            row: about["macro"] for row, about in before["rows"].items()
        }
        per_class = results["rows"]["s2t"]["per_class"]
        assert list(per_class) == ["dark", "bright"]
        assert (set(per_class.values()) == {None}) == (name == "ece")
    again = pipeline.run(load(), rows=ROWS, out=tmp_path / "run")
    assert again.summaries["s2t"].low == first.summaries["s2t"].low
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["rows"] == before["rows"]


def test_folds_are_pooled_as_scikit_learn_would_be_given_them(load, tmp_path):
    outcome = pipeline.run(load("metric=auroc"), rows=["s2t"], out=tmp_path / "run")
    parts = [one.evaluation for one in outcome.rounds["s2t"]]
    labels = [label for part in parts for label in part.labels.tolist()]
    bright = [p for part in parts for p in part.probabilities[:, 1].tolist()]
    assert outcome.summaries["s2t"].value == pytest.approx(reference.roc_auc_score(labels, bright), abs=1e-6)


def test_published_numbers_stand_beside_what_they_are_of(load, tmp_path):
    assert load().published["s2t"]["Ave."] == 15
    assert load("metric=accuracy").published == {}
    says = {"published:\n": "metric: accuracy\npublished_metric: accuracy\npublished:\n", "Ave.: 15": "Accuracy: 15"}
    recipe = load(text=says)
    pipeline.run(recipe, rows=["s2t"], out=tmp_path / "run")
    (paper,) = [line for line in (tmp_path / "run" / "table.md").read_text().splitlines() if "paper" in line]
    assert "*15.00*" in paper
    assert "*15.00*" not in paper.replace("*15.00*", "", 1)


def test_a_vote_over_films(load, tmp_path):
    outcome = pipeline.run(load("metric=vote", text=FILMS), rows=["s2t"], out=tmp_path / "run")
    right = []
    for one in outcome.rounds["s2t"]:
        e = one.evaluation
        for film in sorted(set(e.groups.tolist())):
            mine = e.groups == film
            right.append(e.probabilities[mine].mean(0).argmax() == e.labels[mine][0])
    assert len(right) == 8  # four people, a film of each class, of two images
    assert outcome.summaries["s2t"].value == pytest.approx(sum(right) / 8)


def test_a_wrong_name_is_told_with_the_nearest(load):
    with pytest.raises(RecipeError) as caught:
        load(text={"method: cycleat\n": "method: cycleat\nmetric: macro_acuracy\npublished_metric: f1\n"})
    first, second = caught.value.problems
    assert first.endswith('toy.yaml:4: metric: there is no metric "macro_acuracy", did you mean "macro_accuracy"?')
    assert "toy.yaml:5: published_metric: there is no metric" in second
    with pytest.raises(RecipeError, match="metric: must be a text, not 3"):
        load("metric=3")
    with pytest.raises(RecipeError, match="a variant changes data, components and stages only"):
        load(text={"  s2t: {evaluate.model: pretrain.model}": "  s2t: {evaluate.model: pretrain.model, metric: ece}"})


def test_what_a_metric_needs_is_asked_before_anything_runs(load, tmp_path):
    # People with an image of each class cannot vote; people of no name neither.
    with pytest.raises(RecipeError) as caught:
        pipeline.run(load("metric=vote"), rows=["s2t"], out=tmp_path / "run")
    assert "metric: vote: target (seed 0): a vote needs groups of one class each; 4 of 4 groups" in str(caught.value)
    assert "such as person 0 with bright, dark" in str(caught.value)
    nameless = {"target: {use: toy_images, shift: 20,": "target: {use: toy_films, named: false, shift: 20,"}
    with pytest.raises(RecipeError, match="a vote needs groups, such as films; no test image has one"):
        pipeline.run(load("metric=vote", text=nameless), rows=["s2t"], out=tmp_path / "run")
    # A test part that lacks a class: half of the films of one class.
    lacking = {"target: {use: toy_images, shift: 20, split: {folds: predefined}}":
               "target: {use: toy_films, by_class: true, shift: 20, split: {predefined: test}}"}  # fmt: skip
    with pytest.raises(RecipeError, match=r"metric: auroc: target .seed 0.: AUROC needs test images of every class"):
        pipeline.run(load("metric=auroc", text=lacking), rows=["s2t"], out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    assert pipeline.run(load("metric=ece", text=lacking), rows=["s2t"], out=tmp_path / "run").summaries
    # Before the evaluation nothing is asked of it.
    assert pipeline.run(load("metric=auroc", text=lacking), rows=["s2t"], out=tmp_path / "u", until="pretrain").made


def test_the_curve_is_of_the_metric(load, tmp_path):
    points = curve(load("metric=ece"), [1, None], rows=ROWS, out=tmp_path / "run")
    whole = json.loads((tmp_path / "run" / "curve" / "curve.json").read_text())
    assert whole["metric"]["name"] == "ece"
    with (tmp_path / "run" / "curve" / "curve.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert float(lines[0]["ece"]) == 100 * points[0].outcome.summaries["s2t"].value
    assert "calibration error in percent, 95 % interval; less is better" in (
        tmp_path / "run" / "curve" / "curve.svg"
    ).read_text().replace("&#x20;", " ")


def test_runs_of_one_metric_are_compared(load, tmp_path, known):
    for name in ("ece", "auroc"):
        pipeline.run(load(f"metric={name}"), rows=["s2t"], out=tmp_path / name)
    pipeline.run(load("metric=ece", "pretrain.steps=2"), rows=["s2t"], out=tmp_path / "other")
    runs = {name: open_run(tmp_path / name, registry=known) for name in ("ece", "auroc", "other")}
    write_comparison([runs["ece"], runs["other"]], tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert "Calibration error in percent (less is better)" in page
    assert "<th>ECE</th>" in page
    with pytest.raises(DakitError, match=r"about different metrics .ece: ece; auroc: auroc.; run one again with --set"):
        write_comparison([runs["ece"], runs["auroc"]], tmp_path / "page.html")


def test_the_card_is_of_the_metric(load, tmp_path, known):
    from dakit.use.export import export

    pipeline.run(load("metric=macro_f1"), rows=["s2t"], out=tmp_path / "run")
    export(open_run(tmp_path / "run", registry=known), "s2t", 0, 0, kind="torch", out=tmp_path / "out")
    card = (tmp_path / "out" / "MODEL_CARD.md").read_text()
    assert "Macro F1 (F1: the mean of the classes' F1), and F1 per class, in percent." in card
    assert "This very classifier: F1 " in card
    assert "Chance is" not in card
