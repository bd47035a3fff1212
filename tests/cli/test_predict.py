from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from dakit.results.runs import open_run


@pytest.fixture
def mixed(faces: Path, tmp_path: Path) -> tuple[list[Path], np.ndarray]:
    """The test images of cycle's fold 0 with a broken file among them, and their stored probabilities."""
    evaluation = open_run(faces / "run").rounds("cycle")[0].evaluation
    every = sorted((faces / "target").glob("*/*.png"))
    files = [every[i] for i in evaluation.indices]
    (tmp_path / "broken.png").write_bytes(b"no image")
    return [files[0], tmp_path / "broken.png", *files[1:]], evaluation.probabilities


def test_csv_holds_the_stored_probabilities_and_a_reason(dakit, faces, mixed, tmp_path):
    files, stored = mixed
    code, out, err = dakit("predict", faces / "run", *files, "--csv", "said.csv")
    assert (code, out) == (1, "")
    assert "14 of 15 images classified by cycle, seed 0 fold 0 (of 2: --seed, --fold, --ensemble), in said.csv" in err
    with open(tmp_path / "said.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["path"] for row in rows] == [str(path) for path in files]
    broken = rows.pop(1)
    assert broken["error"].startswith("cannot be read as an image")
    assert broken["prediction"] == broken["p(AN)"] == ""
    classes = ["AN", "DI", "FE", "HA", "NE", "SA", "SU"]
    written = [[float(row[f"p({name})"]) for name in classes] for row in rows]
    np.testing.assert_allclose(written, stored, atol=1e-6)
    assert [row["prediction"] for row in rows] == [classes[k] for k in stored.argmax(1)]
    assert float(rows[0]["probability"]) == max(written[0])


def test_an_ensemble_is_the_mean_of_the_folds(dakit, faces):
    image = faces / "web" / "0.jpg"
    each = []
    for choice in (["--fold", 0], ["--fold", 1], ["--ensemble"]):
        code, out, err = dakit("predict", faces / "run", image, "--json", *choice)
        assert code == 0
        said = json.loads(out)
        assert said["row"] == "cycle"
        each.append(list(said["images"][0]["probabilities"].values()))
    assert said["rounds"] == [{"seed": 0, "fold": 0}, {"seed": 0, "fold": 1}]
    assert "none was measured for their mean" in err
    np.testing.assert_allclose(np.mean(each[:2], axis=0), each[2], atol=1e-7)


def test_a_table_for_people(dakit, faces):
    code, out, err = dakit("predict", faces / "run", faces / "web", "--row", "s2t", "--batch", 4, "--device", "cpu")
    assert code == 0
    assert "6 of 6 images classified by s2t, seed 0 fold 0" in err
    assert len(out.splitlines()) == 7
    assert out.splitlines()[0].split() == ["image", "prediction", "probability", "next"]


def test_a_file_of_results_is_not_overwritten(dakit, faces, tmp_path):
    (tmp_path / "said.csv").write_text("mine")
    code, _, err = dakit("predict", faces / "run", faces / "web", "--csv", "said.csv")
    assert code == 2
    assert "--csv said.csv: is there already; nothing was written" in err
    assert (tmp_path / "said.csv").read_text() == "mine"
    assert dakit("predict", faces / "run", faces / "web", "--csv", "said.csv", "--overwrite")[0] == 0
    assert (tmp_path / "said.csv").read_text().startswith("path,prediction,probability,p(AN)")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["FACES/run"], "Missing argument 'IMAGES...'"),
        (["FACES/runs", "FACES/web"], 'there is no such folder, did you mean "run"'),
        (["FACES/web", "FACES/web"], "not the folder of a run"),
        (["FACES/run", "FACES/webb", "FACES/no/x.png"], 'did you mean "web"'),
        (["FACES/run", "FACES/web", "--row", "s2s"], 'no row "s2s" was run, did you mean "s2t"'),
        (["FACES/run", "FACES/web", "--fold", "2"], "--fold 2: cycle was not run with that; there are: seed 0 fold 0"),
        (["FACES/run", "FACES/web", "--device", "cdua"], "--device cdua: expected one of auto, cpu, cuda, mps"),
        (["FACES/run", "FACES/web", "--batch", "0"], "Invalid value for '--batch'"),
        (["FACES/run", "FACES/web", "--csv", "no/said.csv"], "--csv no/said.csv: there is no folder no"),
    ],
)
def test_mistakes(dakit, faces, arguments, message, tmp_path):
    code, out, err = dakit("predict", *(a.replace("FACES", str(faces)) for a in arguments))
    assert (code, out) == (2, "")
    assert message in " ".join(err.replace("│", "").split())
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []
