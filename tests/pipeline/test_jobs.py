from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dakit.data.sets import TensorImages
from dakit.errors import DakitError
from dakit.interfaces import Folder
from dakit.pipeline import run as pipeline
from dakit.pipeline.jobs import JobResults
from dakit.pipeline.roles import content_key
from dakit.results.runs import open_run
from dakit.results.store import Store
from planned import Watch, changed, keys, states

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


def test_networks_are_let_go_after_their_last_reader(load, tmp_path, monkeypatch):
    seen = []

    class Watched(JobResults):
        def __init__(self, store):
            super().__init__(store)
            seen.append(self)

    monkeypatch.setattr(pipeline, "JobResults", Watched)
    pipeline.run(load(), out=tmp_path)
    held = {name for result in seen[0]._results.values() for name in result._outputs}
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
