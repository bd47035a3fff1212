from __future__ import annotations

import json

from dakit.pipeline import run as pipeline
from dakit.results import record
from dakit.results.runs import open_run


def test_a_table_says_what_its_results_were_made_with(load, tmp_path, monkeypatch):
    now = record.versions()
    pipeline.run(load(), rows=["s2t"], out=tmp_path)
    monkeypatch.setattr(record, "versions", lambda: {**now, "torch": "9.9"})
    outcome = pipeline.run(load(), rows=["s2t"], out=tmp_path)
    assert (outcome.made, outcome.warnings) == (0, ())
    for about in (outcome.made_with, *(json.loads((tmp_path / f).read_text()) for f in ("run.json",))):
        assert about["versions"] == now  # not the last command's
    outcome = pipeline.run(load(), rows=["s2t", "fine_tune"], out=tmp_path)
    assert outcome.made == 4
    (text,) = outcome.warnings
    assert (
        text == f"the results of this table were not all made alike: torch: 9.9 (4 results), {now['torch']} (3 results)"
    )
    assert json.loads((tmp_path / "run.json").read_text())["versions"]["torch"] == f"{now['torch']} and 9.9"
    assert {record["versions"]["torch"] for record in open_run(tmp_path, registry=load().registry).made_with} == {
        now["torch"], "9.9",
    }  # fmt: skip
