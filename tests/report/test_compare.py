from __future__ import annotations

import json
import re
import shutil

import pytest

import browser
from dakit.errors import DakitError
from dakit.report.compare import write_comparison
from dakit.results.runs import open_run


@pytest.fixture(scope="module")
def pair(faces, tmp_path_factory):
    """A run, and a copy that was told to have been set differently."""
    other = tmp_path_factory.mktemp("others") / "run"
    shutil.copytree(faces / "run", other)
    about = json.loads((other / "run.json").read_text())
    about["recipe"]["stages"]["adapt"]["steps"] = 99
    about["versions"]["torch"] = "<i>1</i>"
    (other / "run.json").write_text(json.dumps(about))
    return open_run(faces / "run"), open_run(other)


def test_rows_of_both_and_what_was_set_differently(pair, tmp_path):
    write_comparison(pair, tmp_path / "c.html")
    page = (tmp_path / "c.html").read_text()
    # Both folders are called "run", so the folder above tells them apart.
    names = [f"{number} · {run.folder.parent.name}/run" for number, run in enumerate(pair, 1)]
    assert re.findall(r'<tr class="method"><td colspan="3">(.*?)</td>', page) == names
    for name in ("s2t", "cycle"):
        assert page.count(f"<tr><td>{name}</td>") == 2
        assert page.count(f">{name} · 1<") == page.count(f">{name} · 2<") == 1 + 7  # in the drawing, and by class
    settings = page[page.index('id="settings"') : page.index('id="cost"')]
    assert re.findall(r'<td title="(.*?)">', settings) == ["stages.adapt.steps", "versions.torch"]
    assert re.findall(r'<td class="left">(.*?)</td>', settings)[:2] == ["4", "99"]
    assert "&lt;i&gt;1&lt;/i&gt;" in settings


def test_what_cannot_be_compared_is_told(pair, tmp_path):
    with pytest.raises(DakitError, match="two or more different runs"):
        write_comparison([pair[0], pair[0]], tmp_path / "c.html")
    (pair[1].folder / "results.json").rename(tmp_path / "results.json")
    with pytest.raises(DakitError, match="no results yet"):
        write_comparison(pair, tmp_path / "c.html")
    (tmp_path / "results.json").rename(pair[1].folder / "results.json")
    assert not (tmp_path / "c.html").exists()


@pytest.mark.skipif(browser.CHROMIUM is None, reason="needs chromium")
def test_in_a_browser(pair, tmp_path):
    write_comparison(pair, tmp_path / "c.html")
    with browser.browser(tmp_path / "profile") as tab:
        seen = tab.look(tmp_path / "c.html", width=400, scheme="dark")
    assert (seen["console"], seen["overflow"], len(seen["requests"])) == ([], 0, 1)
