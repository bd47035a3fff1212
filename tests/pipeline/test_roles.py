from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from functools import partial

import pytest

from dakit.data import sets
from dakit.errors import DakitError, RecipeError
from dakit.pipeline import run as pipeline
from dakit.pipeline.preflight import check_data
from dakit.recipe.load import load_recipe


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
    assert "/no/auxiliary, /no/source" in check_data(recipe)


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
    assert told(rows=["fine_tune"], fresh=["adapt", "evaluate"]) == (6, 4)  # s2t stays in the table
    tuned = pipeline.run(load("adapt.steps=2"), rows=["fine_tune"], out=tmp_path)
    assert (tuned.opened, tuned.needed) == (8, 4)
    assert (
        "opened 8 times in this folder, all runs together; this table needs 4; the more often"
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


@pytest.fixture
def photos(faces, tmp_path, monkeypatch):
    """A recipe for a copy of the faces, of which one is damaged and none is known; (recipe's file, damaged file)."""
    monkeypatch.setenv("DAKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(sets.time, "time_ns", lambda clock=sets.time.time_ns: clock() + 10**10)  # written long ago
    root = shutil.copytree(faces, tmp_path / "faces", ignore=shutil.ignore_patterns("run"))
    (root / "faces.yaml").write_text((root / "faces.yaml").read_text().replace(str(faces), str(root)))
    torn = root / "source" / "HA" / "2.png"
    torn.write_bytes(torn.read_bytes()[:-200])
    return root / "faces.yaml", torn


@pytest.fixture
def decoded(monkeypatch):
    """How often each file was decoded."""
    counts = Counter()

    def read_image(path, *args, read=sets.read_image):
        counts[path] += 1
        return read(path, *args)

    monkeypatch.setattr(sets, "read_image", read_image)
    return counts


def pictures(folder):
    return Counter(path for path in folder.rglob("*") if path.suffix in (".png", ".jpg"))


def test_every_file_is_decoded_once_in_a_run(photos, decoded, tmp_path, monkeypatch):
    file, torn = photos
    everything = pictures(file.parent)
    for out in ("first", "second"):  # in the second the good ones are known as such
        outcome = pipeline.run(load_recipe(file, overrides=["data.on_bad_image=skip"]), out=tmp_path / out)
        assert f"1 of 28 images cannot be read and are left out:\n  {torn}: " in outcome.warnings[0]
        assert decoded == everything
        decoded.clear()
    monkeypatch.setenv("DAKIT_CACHE", str(tmp_path / "other"))
    with pytest.raises(DakitError, match="1 of 28 images cannot be read"):
        pipeline.run(load_recipe(file), out=tmp_path / "refused")
    assert decoded == everything
    torn.unlink()
    for cache in ("other", "new"):
        monkeypatch.setenv("DAKIT_CACHE", str(tmp_path / cache))
        decoded.clear()
        pipeline.run(load_recipe(file), out=tmp_path / f"whole-{cache}")
        assert decoded == everything - Counter([torn])


def test_keys_are_those_of_a_set_that_never_had_the_damaged_file(photos, tmp_path):
    file, _ = photos
    planned = partial(pipeline.plan, load_recipe(file, overrides=["data.on_bad_image=skip"]), out=tmp_path / "out")
    last = file.parent / "source" / "SU" / "3.png"  # groups are numbered by file: no other one's changes without it
    last.write_text("no image")
    keys = [step.key for step, _ in planned()]
    last.unlink()
    assert [step.key for step, _ in planned()] == keys


def test_who_only_looks_keeps_nothing(photos, decoded, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "pwrite", lambda *args: pytest.fail("an image was kept"))
    file, _ = photos
    recipe = load_recipe(file, overrides=["data.on_bad_image=skip"])
    assert check_data(recipe) == "data: found, and the class lists agree; every network takes an image"
    assert decoded == pictures(file.parent)
    pipeline.plan(recipe, out=tmp_path / "out")
