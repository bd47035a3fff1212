from __future__ import annotations

import json

from dakit.pipeline import run as pipeline
from dakit.results.runs import open_run


def test_a_second_run_adds_its_row_to_the_table(load, tmp_path):
    both = pipeline.run(load(), rows=["s2t", "fine_tune"], out=tmp_path / "both")
    pipeline.run(load(), rows=["fine_tune"], out=tmp_path / "one")
    outcome = pipeline.run(load(), rows=["s2t"], out=tmp_path / "one")
    assert list(outcome.summaries) == ["s2t", "fine_tune"]  # in the recipe's order
    assert outcome.comparisons == both.comparisons
    one, two = (json.loads((tmp_path / name / "results.json").read_text())["rows"] for name in ("one", "both"))
    assert one == two
    assert (tmp_path / "one" / "table.md").read_text() == (tmp_path / "both" / "table.md").read_text()
    run = open_run(tmp_path / "one", registry=load().registry)
    assert list(run.rows) == ["s2t", "fine_tune"]
    assert run.classifier("fine_tune", 0, 0)
    assert {"confusion-s2t.png", "confusion-fine_tune.png"} <= {path.name for path in (tmp_path / "one").iterdir()}


def test_folds_that_are_run_one_by_one_come_together(load, tmp_path):
    pipeline.run(load(), rows=["s2t"], fold=0, out=tmp_path)
    outcome = pipeline.run(load(), rows=["s2t"], fold=1, out=tmp_path)
    assert outcome.summaries["s2t"].folds == (0, 1)
    assert outcome.summaries["s2t"].images == 8


def test_a_row_that_belongs_to_another_recipe_leaves_the_table_and_that_is_told(load, tmp_path):
    pipeline.run(load(), rows=["s2t", "fine_tune"], out=tmp_path)
    outcome = pipeline.run(load("adapt.steps=2", "pretrain.steps=2"), rows=["s2t"], out=tmp_path)
    assert list(outcome.summaries) == ["s2t"]
    (text,) = outcome.warnings
    assert text.startswith("fine_tune: what an earlier run made of it is not in this table any more: its recipe, data")
    assert not (tmp_path / "confusion-fine_tune.png").exists()
    assert list(open_run(tmp_path, registry=load().registry).rows) == ["s2t"]
    other = load(text={"  fine_tune: {adapt": "  tuned: {adapt", "[s2t, fine_tune,": "[s2t,"})
    pipeline.run(load(), rows=["fine_tune"], out=tmp_path)
    (text,) = pipeline.run(other, rows=["s2t"], out=tmp_path).warnings
    assert (
        text == "fine_tune: what an earlier run made of it is not in this table any more: this recipe has no such row"
    )
