from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from dataclasses import replace
from functools import wraps
from pathlib import Path

import pytest

from dakit.data.sets import Sealed
from dakit.errors import DakitError
from dakit.pipeline import run as pipeline
from dakit.recipe.load import load_recipe
from dakit.results.runs import open_run
from dakit.results.verify import verify
from planned import ROWS, Watch, keys, states


# ------------------------------------------------------------------------------- sharing, by counting
def test_the_table_of_cycleat_needs_27_stage_runs_not_42(load, tmp_path):
    # By hand: five rows on two folds hold 2 + 3 + 3 + 6 + 7 = 21 stages each time, 42 in all. What does not see the
    # target is made once (pretrain, stage_1, stage_2), what does is made for each fold: synthesise from two
    # translators, which sees no target, twice; a selection for two pools, four; four different f_T, eight; five
    # evaluations, ten. 3 + 2 + 4 + 8 + 10 = 27.
    watch = Watch()
    recipe = load()
    outcome = pipeline.run(recipe, out=tmp_path / "out", observers=[watch])
    assert Counter(watch.made) == {
        "pretrain": 1, "stage_1": 1, "stage_2": 1, "synthesise": 2, "select": 4, "adapt": 8, "evaluate": 10,
    }  # fmt: skip
    assert (outcome.made, outcome.reused) == (27, 0)
    assert [sum(len(recipe.plan(row).stages) for row in ROWS) * 2] == [42]
    assert list(outcome.summaries) == ROWS
    assert {(one.seed, one.fold) for one in outcome.rounds["cycleat"]} == {(0, 0), (0, 1)}
    assert outcome.summaries["cycleat"].images == 8  # every target image is tested once

    again = Watch()
    outcome = pipeline.run(load(), out=tmp_path / "out", observers=[again])
    assert (outcome.made, outcome.reused, again.made) == (0, 27, [])
    assert states(recipe, tmp_path / "out") == {"cached": 27}

    # A third run with another f_T makes only what depends on it.
    last = Watch()
    pipeline.run(load("adapt.steps=2"), out=tmp_path / "out", observers=[last])
    assert Counter(last.made) == {"adapt": 8, "evaluate": 8}

    # The same keys make the same weights, anywhere.
    elsewhere = pipeline.run(load(), out=tmp_path / "elsewhere", rows=["cycleat"], fold=1)
    (one,) = [r.evaluation for r in elsewhere.rounds["cycleat"]]
    (two,) = [r.evaluation for r in outcome.rounds["cycleat"] if r.fold == 1]
    assert one.probabilities.tolist() == two.probabilities.tolist()
    assert (tmp_path / "out" / "table.md").is_file()
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert list(results["rows"]) == ROWS
    run = json.loads((tmp_path / "out" / "run.json").read_text())
    assert run["recipe"]["recipe"] == "toy"
    assert [Path(plugin["distribution"]).name for plugin in run["plugins"]] == ["toys.py"]
    assert run["versions"]["torch"]


def test_stages_are_pruned_back_from_the_last(load):
    recipe = load()
    names = {row: [stage.name for stage in recipe.plan(row).stages] for row in ROWS}
    assert names == {
        "s2t": ["pretrain", "evaluate"],
        "fine_tune": ["pretrain", "adapt", "evaluate"],
        "attention": ["pretrain", "adapt", "evaluate"],
        "att_gen": ["pretrain", "stage_1", "synthesise", "select", "adapt", "evaluate"],
        "cycleat": ["pretrain", "stage_1", "stage_2", "synthesise", "select", "adapt", "evaluate"],
    }
    assert set(recipe.plan("s2t").data) == {"source", "target"}
    assert set(recipe.plan("cycleat").data) == {"source", "auxiliary", "target"}


def test_a_stage_that_draws_a_picture_is_made_as_well(load, tmp_path):
    text = {"evaluate: {do": "look: {do: toy_peek, images: auxiliary.all}\n  evaluate: {do",
            "rows:": "pictures: [look]\nrows:"}  # fmt: skip
    assert "look" in keys(load(text=text), tmp_path, rows=["s2t"])
    assert "look" not in keys(load(text={"evaluate: {do": text["evaluate: {do"]}), tmp_path, rows=["s2t"])


# ----------------------------------------------------------------------------- choosing what to run
def test_until_stops_after_a_stage(load, tmp_path):
    watch = Watch()
    outcome = pipeline.run(load(), rows=["cycleat"], out=tmp_path, until="synthesise", observers=[watch])
    assert watch.made == ["pretrain", "stage_1", "stage_2", "synthesise"]
    assert outcome.summaries == {}
    assert not (tmp_path / "table.md").exists()
    with pytest.raises(DakitError, match='--until synth: cycleat has no such stage, did you mean "synthesise"'):
        pipeline.run(load(), rows=["cycleat"], out=tmp_path, until="synth")


def test_one_fold(load, tmp_path):
    outcome = pipeline.run(load(), rows=["s2t"], out=tmp_path, fold=1)
    assert [(one.seed, one.fold) for one in outcome.rounds["s2t"]] == [(0, 1)]
    assert outcome.made == 2
    for fold in (-1, 2):
        with pytest.raises(DakitError, match=f"--fold {fold}: s2t has the folds 0 to 1"):
            pipeline.run(load(), rows=["s2t"], out=tmp_path, fold=fold)


def test_fresh_makes_a_stage_anew(load, tmp_path):
    pipeline.run(load(), rows=["fine_tune"], out=tmp_path)
    watch = Watch()
    outcome = pipeline.run(load(), rows=["fine_tune"], out=tmp_path, fresh=["adapt"], observers=[watch])
    assert watch.made == ["adapt", "adapt"]
    assert outcome.reused == 3
    with pytest.raises(DakitError, match='--fresh adopt: no such stage, did you mean "adapt"'):
        pipeline.run(load(), rows=["fine_tune"], out=tmp_path, fresh=["adopt"])


def test_unknown_rows(load, tmp_path):
    with pytest.raises(DakitError, match='no variant "s2s", did you mean "s2t"'):
        pipeline.run(load(), rows=["s2s"], out=tmp_path)


def test_a_plan_says_why(load, tmp_path):
    assert states(load(), tmp_path, rows=["fine_tune"]) == {"will run": 5}
    assert {state for _, state in pipeline.plan(load(), out=tmp_path)} == {"will run: never made before"}
    pipeline.run(load(), rows=["fine_tune"], out=tmp_path, fold=0)
    told = {step.stage.name: state for step, state in pipeline.plan(load("adapt.steps=4"), rows=["fine_tune"],
                                                                     out=tmp_path, fold=0)}  # fmt: skip
    assert told == {
        "pretrain": "cached",
        "adapt": "will run: steps: 1 -> 4",
        "evaluate": "will run: model is another",
    }
    told = {step.stage.name: state for step, state in pipeline.plan(load("seeds=[3]"), rows=["s2t"], out=tmp_path,
                                                                     fold=0)}  # fmt: skip
    assert "seed: 0 -> 3" in told["pretrain"]


def test_a_plan_writes_nothing_and_knows_an_interrupted_stage(load, tmp_path):
    out = tmp_path / "out"
    steps = pipeline.plan(load(), rows=["s2t"], out=out)
    assert not out.exists()
    name, key = steps[0][0].stage.name, steps[0][0].key
    part = out / "store" / f"{name}-{key[:16]}.part"
    part.mkdir(parents=True)
    (part / "checkpoint.safetensors").write_bytes(b"")
    assert pipeline.plan(load(), rows=["s2t"], out=out)[0][1] == "goes on from its checkpoint"


# ------------------------------------------------------------------------------------------ faults


def test_a_row_that_lost_against_the_source_alone_is_told(load, known, tmp_path, monkeypatch):
    stage = known.find("stage", "evaluate").factory
    run = stage.run

    @wraps(run)
    def always_right_or_wrong(self, ctx, model, test):
        evaluation = run(self, ctx, model=model, test=test).evaluation
        right = evaluation.labels if model.spec.params["scale"] == 1 else 1 - evaluation.labels  # pretrain: 1
        return type(run(self, ctx, model=model, test=test))(replace(evaluation, predictions=right))

    monkeypatch.setattr(stage, "run", always_right_or_wrong)
    # The images of four people would be too few, even so.
    outcome = pipeline.run(load("data.target.people=20"), rows=["s2t", "fine_tune"], out=tmp_path)
    (text,) = outcome.warnings
    assert text.startswith("fine-tuning lost: fine_tune is worse than s2t, which saw no target label (one seed: of ")
    assert ": -100.00 points" in text
    assert pipeline.run(load(), rows=["fine_tune"], out=tmp_path / "alone").warnings == ()  # nothing to compare with


def test_a_folder_that_cannot_be_written(load, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DakitError, match=r"--out .*file: cannot be written"):
        pipeline.run(load(), rows=["s2t"], out=tmp_path / "file")


def test_an_image_that_vanishes_is_named_and_earlier_results_stay(faces, tmp_path, monkeypatch):
    def full(*args):
        raise OSError("No space left on device")

    monkeypatch.setattr(os, "pwrite", full)  # so that images are decoded when they are read
    shutil.copytree(faces, tmp_path / "faces", ignore=shutil.ignore_patterns("run"))
    recipe = tmp_path / "faces" / "faces.yaml"
    recipe.write_text(recipe.read_text().replace(str(faces), str(tmp_path / "faces")))
    gone, kept = tmp_path / "faces" / "target" / "AN", tmp_path / "AN"
    loaded = load_recipe(recipe, overrides=["adapt.extra=null", "adapt.batch_size=2"])

    class Unplugs(Watch):
        def stage_finished(self, stage, seconds):
            super().stage_finished(stage, seconds)
            gone.rename(kept)

    watch = Unplugs()
    with pytest.raises(DakitError, match=r"^adapt .*target/AN/\d\.png: cannot be read as an image: No such file"):
        pipeline.run(loaded, rows=["cycle"], fold=0, out=tmp_path / "out", observers=[watch])
    assert watch.made == ["pretrain"]
    assert not any(checked.damage for checked in verify(tmp_path / "out" / "store"))
    kept.rename(gone)
    assert pipeline.run(loaded, rows=["cycle"], fold=0, out=tmp_path / "out").reused == 1


def test_a_truncated_result_is_named_when_it_is_needed(load, tmp_path):
    pipeline.run(load(), rows=["s2t"], out=tmp_path)
    (found,) = (tmp_path / "store").glob("pretrain-*/model.safetensors")
    found.write_bytes(found.read_bytes()[:-4])
    with pytest.raises(DakitError, match=r"truncated or altered.*--fresh pretrain"):
        pipeline.run(load(), rows=["fine_tune"], out=tmp_path)
    pipeline.run(load(), rows=["fine_tune"], out=tmp_path, fresh=["pretrain"])


# ------------------------------------------------------------------------------------- test images
def test_only_evaluate_opens_the_test_images(load, tmp_path, monkeypatch):
    opened = []
    whole = Sealed.open
    current = []

    def open_(self):
        opened.append(current[-1])
        return whole(self)

    make = pipeline.make

    def noted(job, *rest):
        current.append(job.stage.spec.name)
        return make(job, *rest)

    monkeypatch.setattr(Sealed, "open", open_)
    monkeypatch.setattr(pipeline, "make", noted)
    pipeline.run(load(), rows=["cycleat"], out=tmp_path)
    assert opened == ["evaluate", "evaluate"]


def test_no_other_stage_can_reach_a_test_image(load, tmp_path, monkeypatch):
    """Every way from what a stage is given to a test image's label or pixels ends in -1, an error, or nothing."""

    def refuse(self):
        raise AssertionError("a test set was opened")

    monkeypatch.setattr(Sealed, "open", refuse)
    pipeline.run(load(), out=tmp_path, until="adapt", rows=ROWS[1:])  # all but the evaluation runs without labels
    seen = 0
    for step, _ in pipeline.plan(load(), rows=ROWS, out=tmp_path):
        for name, get in step.inputs.items():
            if step.stage.inputs[name].producer != "target":
                continue
            images = get()
            if step.stage.spec.name == "evaluate":
                with pytest.raises(AssertionError, match="was opened"):
                    images.open()
                assert [known for known in dir(images) if known[0] != "_"] == ["fingerprint", "open"]
                continue
            seen += 1
            whole = images.base
            others = sorted(set(range(len(whole))) - set(images.indices))
            assert [whole.labels[i] for i in others] == [-1] * 4
            for i in others:
                with pytest.raises(DakitError, match="not in the training side"):
                    whole[i]
            assert not [
                known
                for known in vars(whole)
                if known[0] != "_" and known not in ("classes", "labels", "groups", "parts")
            ]
    assert seen > 4


# ------------------------------------------------------------------------------ repeats and verdicts
def test_repeats_are_run_shared_and_counted_as_repeats(load, tmp_path):
    watch = Watch()
    recipe = load("data.target.split={folds: 2, repeats: 3}")
    outcome = pipeline.run(recipe, rows=["fine_tune"], out=tmp_path, observers=[watch])
    assert [(one.fold, one.repeat) for one in outcome.rounds["fine_tune"]] == [(n, n // 2) for n in range(6)]
    assert Counter(watch.made) == {"pretrain": 1, "adapt": 6, "evaluate": 6}
    summary = outcome.summaries["fine_tune"]
    assert (summary.repeats, summary.images, summary.confusion.sum()) == (3, 8, 24)
    again = open_run(tmp_path).rounds("fine_tune")
    assert [(one.fold, one.repeat) for one in again] == [(n, n // 2) for n in range(6)]
