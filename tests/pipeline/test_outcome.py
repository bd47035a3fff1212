from __future__ import annotations

import json

import pytest

from dakit.pipeline import run as pipeline


def test_every_row_is_compared_with_the_baseline(load, tmp_path):
    recipe = load()
    assert recipe.baseline == "fine_tune"
    outcome = pipeline.run(recipe, rows=["s2t", "fine_tune", "cycleat"], out=tmp_path)
    rows = json.loads((tmp_path / "results.json").read_text())["rows"]
    assert rows["fine_tune"]["comparison"] is None
    found = rows["cycleat"]["comparison"]
    assert set(found) == {"baseline", "difference", "interval", "p", "mcnemar_p", "n", "method", "verdict"}
    assert found["difference"] == pytest.approx(rows["cycleat"]["macro"] - rows["fine_tune"]["macro"])
    assert (found["baseline"], found["n"]) == ("fine_tune", 8)
    table = (tmp_path / "table.md").read_text()
    assert f"- cycleat: {outcome.comparisons['cycleat'].verdict} (" in table
    assert (
        "- 95 %: over whole groups of test images; one seed: of these networks only." in table
    )  # the toys have several images of each
    assert rows["cycleat"]["weights"] == "last"
    assert "- Weights of s2t, fine_tune, cycleat: those of the last step." in table
    alone = pipeline.run(recipe, rows=["cycleat"], out=tmp_path / "alone")
    assert alone.comparisons == {"cycleat": "the baseline fine_tune was not run"}


def test_only_a_row_that_learns_from_more_than_the_baseline_shows_lost_to_source(load, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(pipeline, "compare_rows", lambda _, *given: asked.append(given[:2]) or {})
    pipeline.run(load(), rows=["s2t"], out=tmp_path)
    pipeline.run(load(text={"method: cycleat\n": "method: cycleat\nbaseline: attention\n"}), rows=["s2t"], out=tmp_path)
    assert asked == [("fine_tune", ["attention", "att_gen", "cycleat"]), ("attention", ["att_gen", "cycleat"])]
