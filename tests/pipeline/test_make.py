from __future__ import annotations

import json
from functools import wraps

import pytest

from dakit.errors import DakitError
from dakit.interfaces import Context
from dakit.pipeline import run as pipeline
from dakit.results.store import digest
from planned import Watch


def test_a_fault_in_a_stage_says_where_and_keeps_what_was_made(load, known, tmp_path, monkeypatch):
    recipe = load()
    stage = known.find("stage", "evaluate").factory

    @wraps(stage.run)
    def fails(self, ctx, **inputs):
        raise DakitError("out of luck")

    monkeypatch.setattr(stage, "run", fails)
    with pytest.raises(DakitError, match=r"^evaluate \(for s2t, seed 0, fold 0\): out of luck$"):
        pipeline.run(recipe, rows=["s2t"], out=tmp_path)
    monkeypatch.undo()
    outcome = pipeline.run(recipe, rows=["s2t"], out=tmp_path)
    assert (outcome.made, outcome.reused) == (2, 1)


def test_warnings_are_kept_and_told_by_every_later_run(load, known, tmp_path, monkeypatch):
    stage = known.find("stage", "toy_train").factory
    run = stage.run

    @wraps(run)
    def doubts(self, ctx, **inputs):
        ctx.warn("the loss is strange")
        return run(self, ctx, **inputs)

    monkeypatch.setattr(stage, "run", doubts)
    watch = Watch()
    first = pipeline.run(load(), rows=["s2t"], out=tmp_path, observers=[watch])
    assert first.warnings == ("pretrain (for s2t, seed 0, fold 0): the loss is strange",)
    assert "warning: the loss is strange" in watch.messages
    assert not set(first.warnings) & set(first.notes)
    monkeypatch.undo()
    again = pipeline.run(load(), rows=["s2t"], out=tmp_path)
    assert (again.made, again.warnings) == (0, first.warnings)
    assert json.loads((tmp_path / "results.json").read_text())["warnings"] == list(first.warnings)


def test_stages_have_seeds_of_their_own(load, known, tmp_path, monkeypatch):
    seeds = {}
    run = known.find("stage", "toy_train").factory.run

    @wraps(run)
    def noted(self, ctx: Context, **inputs):
        seeds.setdefault(ctx.folder.name.split("-")[0], set()).add(ctx.seed)
        return run(self, ctx, **inputs)

    recipe = load()
    monkeypatch.setattr(known.find("stage", "toy_train").factory, "run", noted)
    pipeline.run(recipe, rows=["fine_tune", "attention"], out=tmp_path)
    assert {name: len(found) for name, found in seeds.items()} == {"pretrain": 1, "adapt": 1}  # rows are paired
    assert seeds["pretrain"] != seeds["adapt"]


def test_a_stage_is_told_its_key_as_its_identity(load, known, tmp_path, monkeypatch):
    """What it leaves to go on from is then of this key, and nothing need be hashed twice."""
    factory, told = known.find("stage", "toy_train").factory, []
    genuine = factory.run

    @wraps(genuine)
    def listening(stage, ctx, **inputs):
        told.append(ctx.identity)
        return genuine(stage, ctx, **inputs)

    monkeypatch.setattr(factory, "run", listening)
    pipeline.run(load(), rows=["fine_tune"], out=tmp_path / "run")
    steps = [step for step, _ in pipeline.plan(load(), rows=["fine_tune"], out=tmp_path / "run")]
    keys = [
        digest([step.key, {name: get() for name, get in step.contents.items()}])  # and what its inputs hold
        for step in steps
        if step.stage.spec.name == "toy_train"
    ]
    assert sorted(told) == sorted(keys)
    assert len(told) == 3  # pretrain, and adapt for two folds
