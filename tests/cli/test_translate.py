from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from dakit.results.runs import open_run


def test_a_folder_becomes_the_images_of_synthesise(dakit, faces, tmp_path):
    code, out, err = dakit("translate", faces / "run", faces / "source", "--out", "out", "--device", "cpu")
    assert (code, out) == (0, "")
    assert "28 of 28 images translated by translate (for cycle, seed 0, fold 0), of 2 rounds, into out" in err
    run = open_run(faces / "run")
    stored = run.result(run.jobs_of("cycle", 0, 0)["synthesise"]).output("images").images
    written = sorted((tmp_path / "out").glob("*/*.png"))
    assert [str(path.relative_to(tmp_path / "out")) for path in written[:2]] == ["AN/0.png", "AN/1.png"]
    for path, image in zip(written, stored, strict=True):
        with Image.open(path) as opened:
            np.testing.assert_array_equal(np.asarray(opened).transpose(2, 0, 1), image)


def test_back_differs_and_a_broken_file_is_told(dakit, faces, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no image")
    image = faces / "web" / "0.jpg"
    for extra in ([], ["--back"]):
        code, out, _ = dakit("translate", faces / "run", image, "broken.png", "--out", f"out{len(extra)}", *extra)
        assert code == 1
        assert "broken.png" in out
        assert "cannot be read as an image" in out
    first, second = ((tmp_path / f"out{i}" / "0.png").read_bytes() for i in (0, 1))
    assert first != second
    code, out, _ = dakit("translate", faces / "run", image, "broken.png", "--out", "out2", "--json")
    assert code == 1
    good, bad = json.loads(out)
    assert good == {"path": str(image), "written": "out2/0.png"}
    assert bad["path"] == "broken.png"
    assert bad["error"].startswith("cannot be read as an image")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Missing option '--out'"),
        (["--out", "out", "--row", "s2t"], "s2t trains no translator; rows that do: cycle"),
        (["--out", "out", "--stage", "translat"], 'no stage "translat" with a translator, did you mean "translate"'),
        (["--out", "taken"], "1 of 6 files are there already, such as taken/0.png; nothing was written"),
    ],
)
def test_mistakes(dakit, faces, arguments, message, tmp_path):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "0.png").write_text("mine")
    code, out, err = dakit("translate", faces / "run", faces / "web", *arguments)
    assert (code, out) == (2, "")
    assert message in " ".join(err.replace("│", "").split())
    assert [str(path.relative_to(tmp_path)) for path in sorted(tmp_path.rglob("*"))] == ["taken", "taken/0.png"]
    assert (tmp_path / "taken" / "0.png").read_text() == "mine"
