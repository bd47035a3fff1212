from __future__ import annotations

import json

import pytest


def test_export(dakit, faces, tmp_path):
    code, out, err = dakit("export", faces / "run", "--format", "torch", "--out", "out", "--fold", 1)
    assert (code, err) == (0, "")
    assert out.splitlines()[0] == "out/model.pt2: cycle, seed 0 fold 1"
    assert "agrees with the run's on 14 images: largest difference " in out
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["MODEL_CARD.md", "model.pt2"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    code, out, _ = dakit("export", faces / "run", "--format", "torch", "--out", "s2t", "--row", "s2t", "--json")
    about = json.loads(out)
    assert about.pop("largest_difference") < 1e-6
    assert about == {"file": "s2t/model.pt2", "row": "s2t", "seed": 0, "fold": 0, "images": 14}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--format", "torch"], "Missing option '--out'"),
        (["--format", "tensorrt", "--out", "out"], 'there is no format "tensorrt"; there are: onnx, torch'),
        (["--format", "onnx", "--out", "taken"], "--out taken: is there already; nothing was written"),
        (["--format", "onnx", "--out", "out", "--row", "cycel"], 'no row "cycel" was run, did you mean "cycle"'),
        (["--format", "onnx", "--out", "out", "--check", "gone.png"], "gone.png: there is no such file"),
    ],
)
def test_mistakes(dakit, faces, arguments, message, tmp_path):
    (tmp_path / "taken").mkdir()
    code, out, err = dakit("export", faces / "run", *arguments)
    assert (code, out) == (2, "")
    assert message in " ".join(err.replace("│", "").split())
    assert [path.name for path in tmp_path.rglob("*")] == ["taken"]
