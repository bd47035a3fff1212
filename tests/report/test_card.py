from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest
import yaml

from dakit.report.card import Agreement, model_card
from dakit.results.runs import open_run


@pytest.fixture(scope="module")
def opened(faces):
    return open_run(faces / "run")


@pytest.fixture(scope="module")
def card(opened):
    model = opened.classifier("cycle", 0, 1)
    return model_card(opened, "cycle", 0, 1, model, "model.onnx", Agreement(14, 3.5e-7, True))


def test_numbers_are_those_of_results_json(card, opened):
    rows = json.loads((opened.folder / "results.json").read_text())["rows"]
    for row in ("s2t", "cycle"):
        (line,) = [line for line in card.splitlines() if line.startswith(f"| {row} |") and "x" in line]
        cells = [cell.strip().strip("*") for cell in line.strip("|").split("|")]
        assert cells[1:8] == [f"{value:.2f}" for value in rows[row]["per_class"].values()]
        low, high = rows[row]["interval"]
        assert cells[8:] == [f"{rows[row]['macro']:.2f}", f"{low:.2f}-{high:.2f}", "1 x 2"]
    own = opened.rounds("cycle")[1].evaluation
    assert f"This very classifier: Ave. {100 * own.macro:.2f} on 14 test images." in card
    assert "Chance is 14.3." in card


def test_what_it_is_and_what_it_saw(card, opened):
    weights = sum(p.numel() for p in opened.classifier("cycle", 0, 1).network.parameters())
    assert card.startswith("# faces: cycle\n")
    assert "into 7 classes: AN, DI, FE, HA, NE, SA, SU." in card
    assert f"seed 0,\nfold 1: the network that stage `adapt` trained, {weights:,} weights." in card
    assert "On 14 of the run's test images no probability differs from\nthe original's by more than 3.5e-07" in card
    assert "| auxiliary | web_faces | 6 | 0 |" in card
    assert "| target | image_folder | 28 | 28 |" in card
    assert "| adapt | target.train | 14 |" in card
    assert "| evaluate | target.test | 14 |" in card
    recipe = yaml.safe_load(card.split("```yaml\n")[1].split("```")[0])
    assert recipe == {k: v for k, v in opened.about["recipe"].items() if k not in ("profiles", "published")}
    assert opened.about["versions"]["torch"] in card


def test_how_it_was_chosen(card, opened):
    assert "`cycle` is the row that the recipe names as its method." in card
    assert "Of its 2 classifiers" in card
    model = opened.classifier("s2t", 0, 0)
    other = model_card(opened, "s2t", 0, 0, model, "model.pt2", Agreement(3, 0.0, False))
    assert "`s2t` is not the row that the recipe names as its method (`cycle`). If it was picked" in other
    assert "On 3 of the images named at export" in other


def test_a_picture_is_not_on_the_way(card, opened):
    drawn = replace(opened.jobs_of("cycle", 0, 1)["pretrain"], stage="domains", outputs=())
    more = replace(opened, jobs=(*opened.jobs[:-1], drawn, opened.jobs[-1]))
    assert "domains" in more.jobs_of("cycle", 0, 1)
    assert (
        model_card(more, "cycle", 0, 1, more.classifier("cycle", 0, 1), "model.onnx", Agreement(14, 3.5e-7, True))
        == card
    )
    assert "| pretrain | source.all | 28 |" in card


def test_the_verdict_is_that_of_results_json(card, opened, tmp_path):
    assert "Against" not in card  # the recipe has no baseline
    copy = open_run(shutil.copytree(opened.folder, tmp_path / "run"))
    results = json.loads((copy.folder / "results.json").read_text())

    def told(macro, comparison):
        results["rows"]["cycle"] |= {"value": macro, "comparison": comparison}
        (copy.folder / "results.json").write_text(json.dumps(results))
        model = copy.classifier("cycle", 0, 1)
        return model_card(copy, "cycle", 0, 1, model, "model.onnx", Agreement(14, 3.5e-7, True))

    macro = results["rows"]["cycle"]["macro"]
    verdict = {
        "baseline": "s2t",
        "difference": -1.5,
        "interval": [-4.0, 1.25],
        "p": 0.3,
        "verdict": "not distinguishable",
    }
    expected = "* Against `s2t`: not distinguishable (-1.50 points, -4.00 to +1.25, p = 0.3)."
    assert expected in told(macro, verdict)
    alone = told(macro, verdict | {"verdict": "one seed: of these networks only"})
    assert "* Against `s2t`: one seed: of these networks only (-1.50 points, -4.00 to +1.25)." in alone
    assert "Against" not in told(macro + 1, verdict)  # the results of another run
    assert "* Not compared with `s2t`: other images" in told(macro, {"baseline": "s2t", "reason": "other images"})


def test_doubts_of_the_run_are_told(card, opened, tmp_path):
    assert "The run warned" not in card
    assert "were not read from files" not in card
    copy = open_run(shutil.copytree(opened.folder, tmp_path / "run"))
    marker = copy.jobs_of("cycle", 0, 1)["adapt"].folder / "done.json"
    about = json.loads(marker.read_text()) | {"warnings": ["few labels"]}
    marker.write_text(json.dumps({name: value for name, value in about.items() if name != "checksum"}))
    model = copy.classifier("cycle", 0, 1)
    data = copy.rows["cycle"].data
    data["target"] = replace(data["target"], fit=None)
    told = model_card(copy, "cycle", 0, 1, model, "model.onnx", Agreement(14, 0.0, True))
    assert "\n* The run warned: adapt: few labels\n* The test images (target) were not read from files, " in told


@pytest.mark.parametrize(
    ("fit", "code"), [("crop", "ImageOps.fit(image, (16, 16)"), ("squash", "image.resize((16, 16)")]
)
def test_how_a_file_is_read(fit, code, opened):
    model = replace(opened.classifier("cycle", 0, 0), fit=fit)
    for file in ("model.onnx", "model.pt2"):
        card = model_card(opened, "cycle", 0, 0, model, file, Agreement(1, 0.0, True))
        assert code in card
        compile(card.split("```python\n")[1].split("```")[0], "card", "exec")


def test_which_weights_they_are(card, opened, tmp_path):
    assert "Its weights are those of the last training step." in card
    copy = open_run(shutil.copytree(opened.folder, tmp_path / "run"))
    marker = copy.jobs_of("cycle", 0, 1)["adapt"].folder / "done.json"
    about = json.loads(marker.read_text())
    about["facts"]["chosen"] = {"images": 9, "steps": 1200, "macro": 0.625, "cross_entropy": 1.5}
    marker.write_text(json.dumps({name: value for name, value in about.items() if name != "checksum"}))
    model = copy.classifier("cycle", 0, 1)
    told = model_card(copy, "cycle", 0, 1, model, "model.onnx", Agreement(14, 0.0, True))
    assert "Its weights are those after step 1,200: of several moments of the training the best on\n9 images" in told
    assert "62.50 there" in told
    assert "last training step" not in told
    other = replace(model, origin=replace(model.origin, do="train_aligned"))
    strange = model_card(copy, "cycle", 0, 1, other, "model.onnx", Agreement(14, 0.0, True))
    assert "Its weights" not in strange, "what a stranger's stage does is not known"
    assert "the network that stage `adapt` (`train_aligned`) made" in strange


def test_whose_means_the_numbers_are(card, opened):
    assert "This row's are means over 2 classifiers, of which this is one. Chance" in card
    steps = tuple(step for step in opened.jobs if (step.row, step.fold) != ("cycle", 0))
    one = replace(opened, jobs=steps)
    model = one.classifier("cycle", 0, 1)
    told = model_card(one, "cycle", 0, 1, model, "model.onnx", Agreement(14, 0.0, True))
    assert "This row's are of this classifier alone. Chance" in told


def test_how_often_the_test_labels_were_opened(card, opened):
    opened_times = json.loads((opened.folder / "test_labels.json").read_text())["opened"]
    assert f"Test labels were opened {opened_times} times in this folder" in card


def test_what_was_left_out_of_the_data_is_told(opened, tmp_path):
    copy = open_run(shutil.copytree(opened.folder, tmp_path / "run"))
    results = json.loads((copy.folder / "results.json").read_text())
    results["warnings"] = [
        "target (image_folder): 1 of 29 images cannot be read and are left out:\n  a.png: it is empty"
    ]
    (copy.folder / "results.json").write_text(json.dumps(results))
    told = model_card(copy, "cycle", 0, 1, copy.classifier("cycle", 0, 1), "model.onnx", Agreement(14, 0.0, True))
    assert "* The run warned: target (image_folder): 1 of 29 images cannot be read and are left out.\n" in told


def test_names_are_text_and_a_fence_is_longer_than_what_it_holds(opened):
    model = replace(opened.classifier("cycle", 0, 1), classes=("US$", "<b>", "a|b", "*", "e", "f", "g"))
    about = {**opened.about, "recipe": {**opened.about["recipe"], "title": "```\nHello"}}
    told = model_card(replace(opened, about=about), "cycle", 0, 1, model, "model.onnx", Agreement(14, 0.0, True))
    assert r"into 7 classes: US\$, \<b\>, a\|b, \*, e, f, g." in told
    assert told.startswith("# \\`\\`\\` Hello: cycle\n")
    assert told.count("\n````") == 2
