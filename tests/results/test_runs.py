from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import dakit
import toys as toy_module
from dakit.errors import DakitError
from dakit.pipeline.outcome import Outcome
from dakit.pipeline.run import run
from dakit.plugins import find_plugins
from dakit.recipe.load import load_recipe
from dakit.registry import Registry
from dakit.results.runs import Run, open_run
from dakit.statistics.metrics import summarise


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, toys: Path) -> Outcome:
    """The toy recipe, run for two of its rows."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "toy.yaml").write_text(toy_module.RECIPE)
    recipe = load_recipe(folder / "toy.yaml", registry=Registry(find_plugins([toys])))
    return run(recipe, rows=["s2t", "cycleat"], out=folder / "toy")


@pytest.fixture
def folder(made: Outcome, tmp_path: Path) -> Path:
    """A copy of the run's folder, elsewhere and alone, to be damaged."""
    return Path(shutil.copytree(made.folder, tmp_path / "toy"))


def test_what_a_run_was(made: Outcome, toys: Path) -> None:
    assert dakit.open_run is open_run
    opened = open_run(made.folder, plugins=[toys])
    assert list(opened.rows) == ["s2t", "cycleat"]
    assert opened.method == "cycleat"
    assert opened.about["versions"]["dakit"] == dakit.__version__
    assert opened.results is not None
    assert list(opened.results["rows"]) == ["s2t", "cycleat"]
    assert opened.rounds_of("cycleat") == [(0, 0), (0, 1)]
    row = opened.row("cycleat")
    assert (row.final, row.size, row.classes) == ("evaluate", 4, None)
    # 5 + 2 + 4 people with an image of each of the two classes.
    assert {role: data.images for role, data in row.data.items()} == {"source": 10, "auxiliary": 4, "target": 8}
    assert {role: data.labelled for role, data in row.data.items()} == {"source": 10, "auxiliary": 0, "target": 8}
    assert row.data["target"].params == {"people": 4, "shift": 20, "names": None}
    assert list(opened.row("s2t").data) == ["source", "target"]


def test_steps_say_what_they_read_and_made(made: Outcome, toys: Path) -> None:
    opened = open_run(made.folder, plugins=[toys])
    steps = opened.jobs_of("cycleat", 0, 1)
    assert list(steps) == ["pretrain", "stage_1", "stage_2", "synthesise", "select", "adapt", "evaluate"]
    assert all(step.done for step in steps.values())
    assert steps["stage_1"].images == {"source": 8, "target": 4}  # 4 of 5 people, and the web's
    assert steps["adapt"].images == {"train": 4}
    assert steps["adapt"].inputs["teacher"] == "stage_2.classifier"
    assert steps["stage_2"].outputs == ("translator", "classifier")
    assert opened.result(steps["adapt"]).marker["notes"] == ["trained on 4 and 8 images"]
    assert steps["pretrain"].folder == opened.jobs_of("s2t", 0, 0)["pretrain"].folder  # shared


def test_predictions_are_those_of_the_table(made: Outcome, toys: Path) -> None:
    opened = open_run(made.folder, plugins=[toys])
    for row, rounds in made.rounds.items():
        again = opened.rounds(row)
        assert [(one.seed, one.fold) for one in again] == [(0, 0), (0, 1)]
        for one, other in zip(again, rounds, strict=True):
            np.testing.assert_array_equal(one.evaluation.probabilities, other.evaluation.probabilities)
        assert summarise(again).macro == made.summaries[row].macro


def test_a_classifier_says_what_was_evaluated(made: Outcome, toys: Path) -> None:
    opened = open_run(made.folder, plugins=[toys])
    model = opened.classifier("cycleat", 0, 1)
    assert (model.classes, model.size, model.fit, model.origin.stage) == (("dark", "bright"), 4, "crop", "adapt")
    assert not model.network.training
    evaluation = opened.rounds("cycleat")[1].evaluation
    target = toy_module.toy_images(4, None, people=4, shift=20)
    images = torch.stack([target[int(i)].image for i in evaluation.indices]) / 127.5 - 1
    with torch.no_grad():
        said = model.network(images).logits.softmax(1)
    torch.testing.assert_close(said, torch.from_numpy(evaluation.probabilities))
    assert opened.classifier("s2t", 0, 1).origin.stage == "pretrain"


def test_a_classifier_predicts_images_at_hand(made: Outcome, toys: Path, tmp_path: Path) -> None:
    opened = open_run(made.folder, plugins=[toys])
    model = opened.classifier("cycleat", 0, 1)
    evaluation = opened.rounds("cycleat")[1].evaluation
    target = toy_module.toy_images(4, None, people=4, shift=20)
    images = torch.stack([target[int(i)].image for i in evaluation.indices])
    found = model.predict(images, batch_size=3)
    assert (found.dtype, found.shape) == (np.float32, evaluation.probabilities.shape)
    np.testing.assert_allclose(found, evaluation.probabilities, atol=1e-6)
    pictures = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in images]
    np.testing.assert_array_equal(model.predict(pictures), model.predict(images))
    pictures[0].save(tmp_path / "0.png")
    assert model.predict(tmp_path / "0.png").shape == (2,)
    np.testing.assert_allclose(model.predict(str(tmp_path / "0.png")), evaluation.probabilities[0], atol=1e-6)
    assert model.predict([]).shape == (0, 2)
    with pytest.raises(DakitError, match=r"stage_2 .*: is a translator, which predicts no class"):
        opened.translator("cycleat", 0, 0).predict(images)


def test_the_method_s_first_classifier_is_the_default(made: Outcome, toys: Path) -> None:
    opened = open_run(made.folder, plugins=[toys])
    for given, origin in (((), ("cycleat", 0)), (("cycleat", None, 1), ("cycleat", 1)), (("s2t",), ("s2t", 0))):
        job = opened.classifier(*given).origin
        assert (opened.classifier(*given).origin.seed, job.fold) == (0, origin[1])
        assert job == opened.classifier(origin[0], 0, origin[1]).origin
    with pytest.raises(DakitError, match="cycleat was not run with seed 0 fold 7; there are: seed 0 fold 0, seed 0"):
        opened.classifier(fold=7)


def test_a_translator_makes_the_images_of_synthesise(made: Outcome, toys: Path) -> None:
    opened = open_run(made.folder, plugins=[toys])
    model = opened.translator("cycleat", 0, 0)
    assert (model.classes, model.origin.stage) == ((), "stage_2")
    step = opened.jobs_of("cycleat", 0, 0)["synthesise"]
    images = opened.result(step).output("images").images
    assert len(images) == step.images["images"] == 8
    colour = model.network.state_dict()["colour"][:, 0, 0]
    # A pixel of a dark image is 10; only the first tells who it is.
    expected = ((10 / 127.5 - 1 + colour).clamp(-1, 1) + 1) * 127.5
    np.testing.assert_array_equal(images[0, :, 1, 1], expected.round().numpy())
    assert opened.translator("cycleat", 0, 0, stage="stage_1").origin.stage == "stage_1"


def test_a_file_is_read_as_the_data_was(tmp_path: Path, toys: Path) -> None:
    for label in ("dark", "bright"):
        (tmp_path / "faces" / label).mkdir(parents=True)
        for i in range(4):
            pixels = np.random.default_rng(i).integers(255, size=(9, 12, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "faces" / label / f"{i}.png")
    (tmp_path / "toy.yaml").write_text(
        toy_module.RECIPE.replace(
            "{use: toy_images, shift: 20, split: {folds: predefined}}",
            f"{{use: image_folder, root: {tmp_path / 'faces'}, fit: squash, split: {{folds: 2}}}}\n"
            "  classes: [dark, bright]",
        )
    )
    recipe = load_recipe(tmp_path / "toy.yaml", registry=Registry(find_plugins([toys])))
    run(recipe, rows=["s2t"], out=tmp_path / "out")
    model = open_run(tmp_path / "out", plugins=[toys]).classifier("s2t", 0, 0)
    assert model.fit == "squash"
    path = tmp_path / "faces" / "dark" / "0.png"
    with Image.open(path) as image:
        squashed = image.resize((4, 4), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(model.read(path).permute(1, 2, 0).numpy(), np.asarray(squashed))


# ---------------------------------------------------------------------------------------- mistakes
def test_what_is_not_a_run_is_said_with_the_nearest(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DakitError, match='there is no such folder, did you mean "toy"'):
        open_run(tmp_path / "toi")
    with pytest.raises(DakitError, match=r"not the folder of a run: it has no run\.json; in it are the runs toy"):
        open_run(tmp_path)
    (folder / "index.json").unlink()
    with pytest.raises(DakitError, match=r"no index\.json; run the recipe again"):
        open_run(folder)
    (folder / "index.json").write_text('{"rows": {}}')
    with pytest.raises(DakitError, match="not what this dakit writes"):
        open_run(folder)
    (folder / "index.json").write_text("{")
    with pytest.raises(DakitError, match=r"index\.json: cannot be read"):
        open_run(folder)


def test_unknown_rows_rounds_and_stages(made: Outcome, toys: Path) -> None:
    opened = open_run(made.folder, plugins=[toys])
    with pytest.raises(DakitError, match='no row "s2s" was run, did you mean "s2t"'):
        opened.row("s2s")
    with pytest.raises(DakitError, match="the recipe has it: dakit run --variant att_gen"):
        opened.classifier("att_gen", 0, 0)
    with pytest.raises(DakitError, match="not run with seed 1 fold 0; there are: seed 0 fold 0, seed 0 fold 1"):
        opened.classifier("cycleat", 1, 0)
    with pytest.raises(DakitError, match="s2t trains no translator; rows that do: cycleat"):
        opened.translator("s2t", 0, 0)
    with pytest.raises(DakitError, match="trains no inverse; rows that do: none"):
        opened.translator("cycleat", 0, 0, inverse=True)
    with pytest.raises(DakitError, match='no stage "stage_3" with a translator, did you mean'):
        opened.translator("cycleat", 0, 0, stage="stage_3")
    with pytest.raises(DakitError, match=r"source\.train is data"):
        opened._input({}, "source.train")


def damaged(folder: Path, toys: Path) -> tuple[Run, Path]:
    opened = open_run(folder, plugins=[toys])
    return opened, opened.jobs_of("cycleat", 0, 0)["adapt"].folder


def test_an_unfinished_stage_is_named(folder: Path, toys: Path) -> None:
    opened, adapt = damaged(folder, toys)
    (adapt / "done.json").unlink()
    with pytest.raises(DakitError, match=r"adapt \(for cycleat, seed 0, fold 0\) is not finished"):
        opened.classifier("cycleat", 0, 0)
    assert opened.classifier("cycleat", 0, 1).origin.stage == "adapt"
    assert opened.translator("cycleat", 0, 0).origin.stage == "stage_2"


def test_damage_is_named(folder: Path, toys: Path) -> None:
    opened, adapt = damaged(folder, toys)
    weights = adapt / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(DakitError, match=r"model\.safetensors: is not what was written .* --fresh adapt"):
        opened.classifier("cycleat", 0, 0)
    (adapt / "done.json").write_text("{")
    with pytest.raises(DakitError, match=r"done\.json: is not what was written"):
        opened.classifier("cycleat", 0, 0)


def test_a_plugin_that_is_not_here_is_named(folder: Path, toys: Path, tmp_path: Path) -> None:
    opened = open_run(folder)
    assert opened.rounds("cycleat")  # numbers need no plugin
    with pytest.raises(DakitError, match=r'no classifier is called "toy_classifier"[\s\S]*--plugin .*toys\.py'):
        opened.classifier("cycleat", 0, 0)
    changed = toys.read_text().replace("nn.Linear(3, classes)", "nn.Linear(3, classes, bias=False)")
    (tmp_path / "toys2.py").write_text(changed)
    with pytest.raises(DakitError, match="the weights do not fit the classifier toy_classifier"):
        open_run(folder, plugins=[tmp_path / "toys2.py"]).classifier("cycleat", 0, 0)


def test_a_run_that_stopped_before_its_evaluation(made: Outcome, tmp_path: Path, toys: Path) -> None:
    recipe = load_recipe(made.folder.parent / "toy.yaml", registry=Registry(find_plugins([toys])))
    run(recipe, rows=["cycleat"], out=tmp_path / "out", until="synthesise")
    opened = open_run(tmp_path / "out", plugins=[toys])
    assert opened.results is None
    assert opened.rounds("cycleat") == []
    assert opened.translator("cycleat", 0, 0).origin.stage == "stage_2"
    with pytest.raises(DakitError, match="not run to its evaluation"):
        opened.classifier("cycleat", 0, 0)


def test_the_folder_can_be_moved(folder: Path, toys: Path) -> None:
    opened = open_run(folder, plugins=[toys])
    assert all(step.folder.is_relative_to(folder) for step in opened.jobs)
    assert "/" not in json.loads((folder / "index.json").read_text())["jobs"][0]["folder"].removeprefix("store/")
    assert opened.rounds("s2t")
