from __future__ import annotations

import shutil


def test_two_runs_on_one_page(dakit, faces, tmp_path):
    shutil.copytree(faces / "run", tmp_path / "other")
    code, out, _ = dakit("compare", faces / "run", tmp_path / "other")
    assert (code, out.strip()) == (0, "compare.html")
    assert "other" in (tmp_path / "compare.html").read_text()


def test_one_run_is_too_few(dakit, faces, tmp_path):
    code, _, err = dakit("compare", faces / "run")
    assert code == 2
    assert "two or more" in err
