"""``dakit new`` as a command, and what it made under ``dakit check-plugin``."""

from __future__ import annotations

import sys

import pytest


@pytest.fixture
def made(dakit, tmp_path, monkeypatch):
    """A transfer loss, importable."""
    code, out, err = dakit("new", "transfer_loss", "made-here", "--out", tmp_path / "made")
    assert (code, err) == (0, "")
    monkeypatch.syspath_prepend(tmp_path / "made" / "src")
    return tmp_path / "made", out


def test_it_names_its_files_and_what_to_do_next(made):
    folder, out = made
    *files, first, then = out.splitlines()
    assert {folder / line for line in files} == {path for path in folder.rglob("*") if path.is_file()}
    assert first == f"next: cd {folder} && pip install -e . && pytest"
    assert then == "then: dakit check-plugin made-here, and dakit run recipes/made_here.yaml"


def test_what_was_made_passes_check_plugin_until_it_is_broken(dakit, made):
    folder, _ = made
    hooks = folder / "src" / "made_here" / "hooks.py"
    code, out, _ = dakit("check-plugin", "transfer_loss/made_here", "--plugin", hooks)
    assert code == 0
    assert "all passed" in out
    component = folder / "src" / "made_here" / "made_here.py"
    component.write_text(component.read_text().replace("_similarity(student.features)", "0"))
    del sys.modules["made_here.made_here"]
    code, out, _ = dakit("check-plugin", "made_here", "--plugin", hooks)
    assert code == 1
    assert "gradients_reach_the_student_alone" in out
    assert "all passed" not in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["selecter", "mine"], 'there is no kind "selecter", did you mean "selector"?'),
        (["selector", "my.one"], '"my.one" cannot be a name: expected at most 32 letters, digits'),
        (["selector", "mine", "--out", "."], ".: is there already; nothing was written"),
        (["selector", "mine", "--out", "gone/mine"], "gone/mine: there is no folder gone"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(dakit, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    code, out, err = dakit("new", *arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert not list(tmp_path.iterdir())
