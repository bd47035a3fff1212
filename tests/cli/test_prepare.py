from __future__ import annotations

import pytest

from dakit.errors import DakitError
from dakit.plugins import find_plugins
from dakit.registry import Registry


def test_the_help_lists_what_plugins_prepare(dakit):
    code, out, _ = dakit("prepare", "--help")
    assert code == 0
    assert "faces" in out


def test_an_unknown_preparation_is_refused(dakit):
    code, _, err = dakit("prepare", "facs", "in", "out")
    assert code == 2
    assert "No such command 'facs'" in err


def test_a_plugin_adds_a_command_of_its_own(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "from dakit import hookimpl\n\ndef grey(source: str) -> None:\n    pass\n\n"
        "@hookimpl\ndef dakit_preparations():\n    return {'grey': grey, 'faces': grey}\n"
    )
    names = set(Registry(find_plugins([file])).preparations())
    assert "grey" in names
    assert "faces" not in names  # two plugins offer it: each under its distribution's name
    assert {name.rpartition("/")[2] for name in names} == {"grey", "faces"}


def test_a_plugin_whose_hook_fails_is_named(tmp_path):
    file = tmp_path / "broken.py"
    file.write_text("from dakit import hookimpl\n\n@hookimpl\ndef dakit_preparations():\n    return {'a/b': int}\n")
    with pytest.raises(DakitError, match=r"broken.*dakit_preparations fails: TypeError.*without / in a name"):
        Registry(find_plugins([file])).preparations()
