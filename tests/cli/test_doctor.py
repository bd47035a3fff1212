from __future__ import annotations

import json
import shutil

import pytest


@pytest.fixture
def ill(faces, tmp_path):
    """The faces' recipe on a copy of its images, to be made ill."""
    for name in ("source", "web", "target"):
        shutil.copytree(faces / name, tmp_path / name)
    (tmp_path / "faces.yaml").write_text((faces / "faces.yaml").read_text().replace(str(faces), str(tmp_path)))
    return tmp_path


def test_findings_estimates_and_the_exit_code_of_warnings(ill, dakit):
    code, out, err = dakit("doctor", "faces.yaml")
    assert code == 1, err  # two labels of a class in each fold
    assert "few labels" in out
    assert "pretrain" in out
    assert "for s2t, cycle" in out


def test_json_and_the_exit_code_of_errors(ill, dakit):
    (ill / "web" / "torn.jpg").write_bytes(b"nothing")
    code, out, _ = dakit("doctor", "faces.yaml", "--json")
    assert code == 2
    told = json.loads(out)
    assert told["severity"] == "error"
    assert told["findings"][0]["check"] == "unreadable"
    assert told["findings"][0]["images"] == [str(ill / "web" / "torn.jpg")]
    assert told["estimates"] == []
    assert "torn.jpg" in told["not_measured"]


def test_nothing_found(toy, dakit):
    code, out, _ = dakit("doctor", *toy, "--no-measure")
    assert code in (0, 1)
    assert "to make" not in out


def test_a_mistake_in_the_recipe(dakit, tmp_path):
    (tmp_path / "bad.yaml").write_text("recipe: bad\n")
    code, _, err = dakit("doctor", "bad.yaml")
    assert code == 2
    assert "is missing" in err
