from __future__ import annotations


def test_a_page_is_made_again(dakit, faces, tmp_path):
    code, out, _ = dakit("report", faces / "run", "--out", tmp_path / "page.html")
    assert (code, out.strip()) == (0, str(tmp_path / "page.html"))
    assert (tmp_path / "page.html").read_text() == (faces / "run" / "report.html").read_text()


def test_mistakes_are_told(dakit, faces, tmp_path):
    code, _, err = dakit("report", faces / "rum")
    assert code == 2
    assert "there is no such folder" in err
    code, _, err = dakit("report", faces / "run", "--out", tmp_path / "none" / "page.html")
    assert code == 2
    assert "cannot be written" in err
