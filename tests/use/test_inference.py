from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dakit.errors import DakitError
from dakit.pipeline.run import run
from dakit.recipe.load import load_recipe
from dakit.results.runs import Run, open_run
from dakit.use.inference import classify, find_images, passed_over, translate


@pytest.fixture(scope="module")
def opened(faces: Path) -> Run:
    return open_run(faces / "run")


def target_files(faces: Path) -> list[Path]:
    """As the data set orders them."""
    return sorted((faces / "target").glob("*/*.png"))


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image).transpose(2, 0, 1)


def test_predictions_are_the_stored_ones_to_the_bit(faces: Path, opened: Run) -> None:
    for row in ("s2t", "cycle"):
        for seed, fold, evaluation, _ in opened.rounds(row):
            files = [target_files(faces)[i] for i in evaluation.indices]
            said = classify([opened.classifier(row, seed, fold)], files, engine=opened.engine)
            assert [one.path for one in said] == files
            np.testing.assert_array_equal(np.float32([one.probabilities for one in said]), evaluation.probabilities)
            assert np.ptp(evaluation.probabilities, axis=0).max() > 0.01  # not one answer for all
            # In other batches: to rounding.
            again = classify([opened.classifier(row, seed, fold)], files, engine=opened.engine, batch_size=5)
            np.testing.assert_allclose([one.probabilities for one in again], evaluation.probabilities, atol=1e-6)


def test_of_several_classifiers_the_mean(faces: Path, opened: Run) -> None:
    models = [opened.classifier("cycle", 0, fold) for fold in (0, 1)]
    files = target_files(faces)[:5]
    each = [[one.probabilities for one in classify([model], files, engine=opened.engine)] for model in models]
    both = [one.probabilities for one in classify(models, files, engine=opened.engine)]
    np.testing.assert_allclose(both, np.mean(each, axis=0), atol=1e-7)
    assert not np.allclose(each[0], each[1])
    with pytest.raises(DakitError, match="have no mean"):
        classify([models[0], opened.translator("cycle", 0, 0)], files, engine=opened.engine)


def test_a_file_that_cannot_be_read_keeps_its_place(faces: Path, opened: Run, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no image")
    good = target_files(faces)[0]
    model = opened.classifier("cycle", 0, 0)
    said = classify([model], [tmp_path / "broken.png", good, tmp_path / "gone.png"], engine=opened.engine, batch_size=2)
    assert [bool(one.error) for one in said] == [True, False, True]
    assert said[0].error.startswith("cannot be read as an image")
    assert said[0].probabilities == ()
    assert sum(said[1].probabilities) == pytest.approx(1)
    assert classify([model], [tmp_path / "broken.png"], engine=opened.engine)[0].error


def test_translations_are_those_of_synthesise_to_the_bit(faces: Path, opened: Run, tmp_path: Path) -> None:
    step = opened.jobs_of("cycle", 0, 0)["synthesise"]
    stored = opened.result(step).output("images").images
    files = find_images([str(faces / "source")])
    assert len(files) == len(stored) == 28
    done = translate(opened.translator("cycle", 0, 0), files, tmp_path / "out", engine=opened.engine)
    assert [one.path for one in done] == list(files)
    assert done[0].written == tmp_path / "out" / "AN" / "0.png"
    for one, image in zip(done, stored, strict=True):
        assert one.written is not None
        np.testing.assert_array_equal(pixels(one.written), image)


def test_back_is_the_other_network_and_reads_as_the_auxiliary_set(faces: Path, opened: Run, tmp_path: Path) -> None:
    there = opened.translator("cycle", 0, 0)
    back = opened.translator("cycle", 0, 0, inverse=True)
    assert (there.fit, back.fit) == ("squash", "crop")
    (done,) = translate(back, find_images([str(faces / "web" / "0.jpg")]), tmp_path, engine=opened.engine)
    with torch.no_grad():
        made = back.network(back.read(faces / "web" / "0.jpg")[None] / 127.5 - 1)
    expected = ((made[0] + 1) * 127.5).round().clamp(0, 255)
    assert done.written is not None
    np.testing.assert_allclose(pixels(done.written), expected, atol=1)


def test_nothing_is_overwritten_and_no_two_files_share_a_name(faces: Path, opened: Run, tmp_path: Path) -> None:
    model = opened.translator("cycle", 0, 0)
    two = [str(faces / "source" / name / "0.png") for name in ("AN", "DI")]
    with pytest.raises(DakitError, match=r"AN/0\.png and .*DI/0\.png would both become .*out/0\.png"):
        translate(model, find_images(two), tmp_path / "out", engine=opened.engine)
    assert not (tmp_path / "out").exists()
    first = find_images(two[:1])
    translate(model, first, tmp_path / "out", engine=opened.engine)
    (tmp_path / "out" / "0.png").write_bytes(b"mine")
    with pytest.raises(DakitError, match=r"1 of 1 files are there already, such as .*out/0\.png; nothing was written"):
        translate(model, first, tmp_path / "out", engine=opened.engine)
    assert (tmp_path / "out" / "0.png").read_bytes() == b"mine"
    translate(model, first, tmp_path / "out", engine=opened.engine, overwrite=True)
    assert pixels(tmp_path / "out" / "0.png").shape == (3, 16, 16)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["0.png"]
    with pytest.raises(DakitError, match="cannot be written"):
        translate(model, first, tmp_path / "out" / "0.png", engine=opened.engine)


def test_files_folders_and_patterns_are_found_once_in_order(tmp_path: Path) -> None:
    for name in ("b/2.png", "b/c/1.JPG", "a.png", "z.dat", "b/.hidden.png", "b/notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    named = [str(tmp_path / name) for name in ("z.dat", "b", "*.png", "b/2.png")]
    found = {str(path.relative_to(tmp_path)): str(below) for path, below in find_images(named).items()}
    assert found == {"z.dat": "z.dat", "b/2.png": "2.png", "b/c/1.JPG": "c/1.JPG", "a.png": "a.png"}
    assert list(found) == ["z.dat", "b/2.png", "b/c/1.JPG", "a.png"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(DakitError) as caught:
        find_images([str(tmp_path / "empty"), str(tmp_path / "aa.png"), str(tmp_path / "*.gif")])
    lines = str(caught.value).splitlines()
    assert lines[0].endswith("empty: no image lies in this folder")
    assert lines[1].endswith('no such file, folder or pattern, did you mean "a.png"?')
    assert "*.gif: there is no such" in lines[2]


def test_what_is_passed_over_is_told(tmp_path: Path) -> None:
    for name in ("in/0.png", "in/a.heic", "in/b/c.heic", "in/notes.txt", "none/x.dcm"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert passed_over([str(tmp_path / "in"), str(tmp_path / "in"), str(tmp_path / "in" / "0.png")]) == (
        "3 files: .heic 2, .txt 1"
    )
    assert passed_over([str(tmp_path / "in" / "0.png")]) == ""
    with pytest.raises(DakitError, match=r"none: no image lies in this folder, but 1 file: \.dcm 1"):
        find_images([str(tmp_path / "none")])


def test_files_are_read_by_the_range_that_the_run_was_told(faces: Path, tmp_path: Path) -> None:
    """12 bits in 16: the run's own predictions come back to the bit, and without its range nothing can be said."""
    for name in ("AN", "DI"):
        for role in ("source", "target"):
            (tmp_path / role / name).mkdir(parents=True)
            for i in range(4):
                grey = np.asarray(Image.open(faces / role / name / f"{i}.png").convert("L")).astype(np.uint16)
                Image.fromarray(grey * 16).save(tmp_path / role / name / f"{i}.png")
    text = (
        (faces / "faces.yaml")
        .read_text()
        .replace(str(faces), str(tmp_path))
        .replace("rows: [s2t, cycle]", "rows: [s2t]")
    )
    text = text.replace("[AN, DI, FE, HA, NE, SA, SU]", "[AN, DI]").replace("batch_size: 16", "batch_size: 4")
    text = text.replace("/web]", "/source]").replace("split: {folds: 2}", "range: [0, 4095], split: {folds: 2}")
    (tmp_path / "deep.yaml").write_text(text.replace("fit: squash", "fit: squash, range: [0, 4095]"))
    run(load_recipe(tmp_path / "deep.yaml"), out=tmp_path / "run")
    opened = open_run(tmp_path / "run")
    assert opened.rows["s2t"].data["target"].range == (0, 4095)
    files = sorted((tmp_path / "target").glob("*/*.png"))
    for seed, fold, evaluation, _ in opened.rounds("s2t"):
        model = opened.classifier("s2t", seed, fold)
        said = classify([model], [files[i] for i in evaluation.indices], engine=opened.engine)
        np.testing.assert_array_equal(np.float32([one.probabilities for one in said]), evaluation.probabilities)
    unknown = classify([replace(model, range=None)], files[:1], engine=opened.engine)
    assert "set `range` of its dataset" in unknown[0].error
