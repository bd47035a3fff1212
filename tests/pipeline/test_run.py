from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from dataclasses import replace
from functools import wraps
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dakit.data.sets import Sealed, TensorImages
from dakit.errors import DakitError
from dakit.interfaces import Context, Folder
from dakit.pipeline import run as pipeline
from dakit.pipeline.roles import content_key
from dakit.recipe.load import load_recipe
from dakit.results import record
from dakit.results.runs import open_run
from dakit.results.store import Store, digest
from dakit.results.verify import verify

ROWS = ["s2t", "fine_tune", "attention", "att_gen", "cycleat"]


class Watch:
    """An observer that remembers which stages were made."""

    def __init__(self):
        self.made = []
        self.messages = []

    def message(self, text):
        self.messages.append(text)

    def stage_finished(self, stage, seconds):
        self.made.append(stage.name)


def keys(recipe, out, **choice) -> dict[str, str]:
    """The key of every stage of the first round of ``cycleat``."""
    choice = {"rows": ["cycleat"], "fold": 0, **choice}
    return {step.stage.name: step.key for step, _ in pipeline.plan(recipe, out=out, **choice)}


def changed(recipe, other, out, **choice) -> set[str]:
    """Whose keys differ."""
    one, two = keys(recipe, out, **choice), keys(other, out, **choice)
    assert set(one) == set(two)
    return {name for name in one if one[name] != two[name]}


def states(recipe, out, **choice) -> Counter[str]:
    return Counter(state.split(":")[0] for _, state in pipeline.plan(recipe, out=out, **choice))


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


# -------------------------------------------------------------------------------------------- keys
EVERYTHING = {"pretrain", "stage_1", "stage_2", "synthesise", "select", "adapt", "evaluate"}


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("engine.device=cpu", set()),
        ("engine.channels_last=true", set()),
        ("engine.compile=true", set()),
        ("engine.checkpoint_steps=5", set()),
        ("engine.checkpoint_minutes=5", set()),
        ("title=Another", set()),
        ("evaluate.batch_size=64", set()),  # the default
        ("engine.precision=bf16", EVERYTHING),
        ("engine.accumulate=2", EVERYTHING),
        ("seeds=[1]", EVERYTHING),
        ("data.size=5", EVERYTHING),
        ("data.source.people=6", EVERYTHING),
        ("data.source.split={folds: 5}", EVERYTHING),
        ("data.auxiliary.shift=8", EVERYTHING - {"pretrain"}),
        ("data.target.shift=8", {"select", "adapt", "evaluate"}),
        ("data.target.split={folds: 2}", {"select", "adapt", "evaluate"}),
        ("evaluate.batch_size=63", {"evaluate"}),
        ("adapt.steps=2", {"adapt", "evaluate"}),
        ("components.shallow.scale=0.25", {"adapt", "evaluate"}),
        ("components.nearest.neighbours=1", {"select", "adapt", "evaluate"}),
        ("components.deep.scale=2.0", EVERYTHING - {"stage_1"}),
        ("stage_2.teacher=null", EVERYTHING - {"pretrain", "stage_1"}),
    ],
)
def test_a_key_holds_what_changes_a_result_and_nothing_else(load, tmp_path, override, expected):
    assert changed(load(), load(override), tmp_path) == expected


def test_the_version_of_a_stage_and_of_a_component_are_in_the_key(load, known, tmp_path, monkeypatch):
    before = load()
    monkeypatch.setattr(known.find("stage", "select").factory, "version", 99)
    assert changed(before, load(), tmp_path) == {"select", "adapt", "evaluate"}
    monkeypatch.undo()
    assert changed(before, load(), tmp_path) == set()
    monkeypatch.setattr(known.find("classifier", "toy_classifier").factory, "version", 99, raising=False)
    assert changed(before, load(), tmp_path) == EVERYTHING - {"stage_1"}


def folder_of_images(root: Path) -> Path:
    for k, name in enumerate(("dark", "bright")):
        (root / name).mkdir(parents=True)
        for i in range(4):
            value = 20 * i + 100 * k
            Image.fromarray(np.full((4, 4, 3), value, np.uint8)).save(root / name / f"{i}.png")
    return root


@pytest.fixture
def from_disk(load, tmp_path):
    """The toy recipe with a source on disk."""

    def read(root, **more):
        return load(text={"source: {use: toy_images, people: 5, split: {holdout: 0.2}}":
                          f"source: {{use: image_folder, root: {root}, split: {{holdout: 0.25}}}}",
                          "size: 4": "size: 4\n  classes: [dark, bright]"}, **more)  # fmt: skip

    return read


def test_data_counts_by_content_not_by_place(from_disk, tmp_path):
    one = folder_of_images(tmp_path / "one")
    two = folder_of_images(tmp_path / "moved")
    with_one = keys(from_disk(one), tmp_path)
    assert with_one["stage_1"]
    # The pixels are the same; only the folder, a parameter of the data set and of nothing else, has another name.
    assert keys(from_disk(two), tmp_path) == with_one
    content = (two / "dark" / "0.png").read_bytes()
    (two / "dark" / "0.png").write_bytes((two / "bright" / "0.png").read_bytes())
    assert {k for k, v in keys(from_disk(two), tmp_path).items() if v != with_one[k]} == EVERYTHING
    (two / "dark" / "0.png").write_bytes(content)
    assert keys(from_disk(two), tmp_path) == with_one


def test_seeds_and_folds_have_their_own_results(load, tmp_path):
    recipe = load("seeds=[0, 1]")
    steps = pipeline.plan(recipe, rows=["cycleat"], out=tmp_path)
    by_stage = Counter(step.stage.name for step, _ in steps)
    assert by_stage == {
        "pretrain": 2, "stage_1": 2, "stage_2": 2, "synthesise": 2, "select": 4, "adapt": 4, "evaluate": 4,
    }  # fmt: skip


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

    make = pipeline._Session.make

    def noted(self, step, *rest):
        current.append(step.stage.spec.name)
        return make(self, step, *rest)

    monkeypatch.setattr(Sealed, "open", open_)
    monkeypatch.setattr(pipeline._Session, "make", noted)
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


# ------------------------------------------------------------- a result is never taken for another
def test_what_makes_the_data_is_in_the_key_and_where_it_lies_is_not(load, tmp_path):
    def reading(root, *, gain):
        plan = load().plan("s2t").data["source"]
        params = {"root": Folder(root), "roots": [Folder(root)], "gain": gain}
        return replace(plan, spec=replace(plan.spec, params=params))

    images = TensorImages(np.zeros((2, 3, 4, 4), np.uint8), [0, 1], classes=("a", "b"))
    key = content_key(reading("/here", gain=1.0), images)
    assert content_key(reading("/there", gain=1.0), images) == key
    assert content_key(reading("/here", gain=2.0), images) != key
    newer = reading("/here", gain=1.0)
    assert content_key(replace(newer, spec=replace(newer.spec, version=2)), images) != key
    assert content_key(replace(newer, spec=replace(newer.spec, code="abc")), images) != key


def test_what_reads_a_result_is_made_anew_only_where_that_became_another(load, tmp_path):
    pipeline.run(load(), rows=["s2t"], out=tmp_path)
    watch = Watch()
    pipeline.run(load(), rows=["s2t"], out=tmp_path, fresh=["pretrain"], observers=[watch])
    assert watch.made == ["pretrain"]  # the same bytes: its readers stay

    # As if another library had trained it: other bytes, the same key.
    step = next(step for step, _ in pipeline.plan(load(), rows=["s2t"], out=tmp_path) if step.stage.name == "pretrain")
    store = Store(tmp_path / "store", load().registry)
    marker = store.open("pretrain", step.key, {}).marker
    trained = store.open("pretrain", step.key, {}).output("model")
    other = replace(trained, state={name: -value for name, value in trained.state.items()})
    store.discard("pretrain", step.key)
    about = {name: marker[name] for name in ("notes", "warnings", "facts", "made_with")}
    made = type("Model", (), {"_asdict": lambda self: {"model": other}})()
    store.make("pretrain", step.key, step.made_of, {}, lambda folder: (made, about), marker["inputs"])
    assert states(load(), tmp_path, rows=["s2t"]) == {"cached": 1, "will run": 2}
    watch = Watch()
    outcome = pipeline.run(load(), rows=["s2t"], out=tmp_path, observers=[watch])
    assert watch.made == ["evaluate", "evaluate"]
    (said, _) = [one.evaluation for one in outcome.rounds["s2t"]]
    (plain, _) = [one.evaluation for one in pipeline.run(load(), rows=["s2t"], out=tmp_path / "x").rounds["s2t"]]
    # The head's sign is turned: the two logits of an image are those of before, times -1.
    np.testing.assert_allclose(said.probabilities, plain.probabilities[:, ::-1], rtol=1e-5)


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


def test_networks_are_let_go_after_their_last_reader(load, tmp_path, monkeypatch):
    sessions = []
    carry_out = pipeline._carry_out

    def seen(session, chosen, steps):
        sessions.append(session)
        return carry_out(session, chosen, steps)

    monkeypatch.setattr(pipeline, "_carry_out", seen)
    pipeline.run(load(), out=tmp_path)
    held = {name for result in sessions[0]._results.values() for name in result._outputs}
    assert held == {"evaluation"}


# ----------------------------------------------------------------------- a network of another run
def test_a_network_of_another_run_starts_a_recipe(load, tmp_path):
    first = pipeline.run(load(), rows=["s2t"], out=tmp_path / "first")
    there = open_run(tmp_path / "first", registry=load().registry)
    init = f"{{run: {tmp_path / 'first'}, row: s2t}}"
    recipe = load(f"adapt.init={init}", f"adapt.teacher={init}")
    plan = next(step for step, _ in pipeline.plan(recipe, rows=["fine_tune"], out=tmp_path / "second"))
    assert plan.stage.name == "adapt"  # pretrain is not needed
    assert plan.inputs["init"]().state.keys() == there.classifier("s2t", 0, 0).network.state_dict().keys()
    result, output = there.trained("s2t", 0, 0)
    assert plan.made_of["inputs"]["init"] == result.content(output)
    outcome = pipeline.run(recipe, rows=["fine_tune"], out=tmp_path / "second")
    assert outcome.made == 4
    (text,) = outcome.warnings
    assert "whether it learned from this recipe's test images is not known here" in text
    assert pipeline.run(recipe, rows=["fine_tune"], out=tmp_path / "second").made == 0
    assert first.made == 3


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("{run: nowhere, row: s2t}", "nowhere is not the folder of a run"),
        ("{run: FIRST, row: s2s}", 'no row "s2s" was run, did you mean "s2t"?'),
        ("{run: FIRST, row: s2t, fold: 7}", "s2t was not run with seed 0 fold 7"),
        ("{run: FIRST}", "needs this parameter"),
        ("{run: FIRST, row: s2t, rwo: 1}", "has no such parameter"),
    ],
)
def test_a_network_of_another_run_that_is_not_there(load, tmp_path, given, message):
    pipeline.run(load(), rows=["s2t"], fold=0, out=tmp_path / "first")
    with pytest.raises(DakitError) as caught:
        pipeline.run(
            load(f"adapt.init={given.replace('FIRST', str(tmp_path / 'first'))}"), rows=["fine_tune"], out=tmp_path
        )
    assert message in str(caught.value)


def test_images_of_another_run_are_no_network(load, tmp_path):
    with pytest.raises(DakitError, match="is a trained network, but ImageSet is needed"):
        load("adapt.train={run: x, row: y}")


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
