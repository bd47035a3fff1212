from __future__ import annotations

from importlib.metadata import EntryPoint

import pytest

from dakit import hookspecs, plugins
from dakit.errors import DakitError
from dakit.plugins import find_plugins
from dakit.registry import Registry

OFFERS = """
from dakit import hookimpl

def {name}(*, strength: int = 1) -> None:
    return None

@hookimpl
def dakit_transfer_losses():
    return {{"{name}": {name}}}
"""


def write(path, text):
    path.write_text(text)
    return path


class Installed(EntryPoint):
    """An entry point of a distribution that need not be installed."""

    @property
    def dist(self):
        return type("Distribution", (), {"name": f"{self.name}-dist", "version": "1.2"})()


@pytest.fixture
def install(monkeypatch):
    """Pretend that these entry points are all there are."""

    def pretend(**values):
        entries = [Installed(name, value, "dakit") for name, value in values.items()]
        monkeypatch.setattr(plugins, "entry_points", lambda group: entries if group == "dakit" else [])

    return pretend


def test_dakit_comes_in_by_its_own_door():
    found = {plugin.name: plugin for plugin in find_plugins().found}
    assert found["stages"].hooks == ("dakit_stages",)
    assert set(found["builtins"].hooks) == {name for name in vars(hookspecs) if name.startswith("dakit_")} - {
        "dakit_stages"
    }
    assert {found["stages"].distribution, found["builtins"].distribution} == {"dakit"}
    assert {found["stages"].state, found["builtins"].state} == {"active"}


def test_a_plugin_that_fails_at_import_is_named_and_skipped(install, tmp_path, monkeypatch):
    write(tmp_path / "dakit_test_broken.py", "import a_library_that_is_not_there\n")
    write(tmp_path / "dakit_test_good.py", OFFERS.format(name="good"))
    monkeypatch.syspath_prepend(tmp_path)
    install(broken="dakit_test_broken", good="dakit_test_good")
    found = find_plugins()
    assert [(p.distribution, p.version, p.state.split(":")[0]) for p in found.found] == [
        ("broken-dist", "1.2", "failed"),
        ("good-dist", "1.2", "active"),
    ]
    assert found.failures() == [
        "broken-dist/broken: failed: ModuleNotFoundError: No module named 'a_library_that_is_not_there'"
    ]
    registry = Registry(found)
    assert registry.find("transfer_loss", "good").distribution == "good-dist"
    with pytest.raises(DakitError, match=r"no transfer_loss is called \"bad\".*\n.*plugin not loaded: broken-dist"):
        registry.find("transfer_loss", "bad")


def test_an_entry_point_may_name_what_is_not_there(install):
    install(gone="dakit_no_such_module")
    assert find_plugins().failures()[0].startswith("gone-dist/gone: failed: ModuleNotFoundError")


def test_a_misspelt_hook_is_refused_with_the_right_ones(tmp_path):
    file = write(
        tmp_path / "typo.py", "from dakit import hookimpl\n@hookimpl\ndef dakit_translater():\n    return {}\n"
    )
    with pytest.raises(DakitError, match=r"dakit_translater.*the hooks are: .*dakit_translators") as caught:
        find_plugins([file])
    assert "typo" in str(caught.value)


@pytest.mark.parametrize("names", ["builtins", "dakit", " other , builtins "])
def test_plugins_can_be_disabled(monkeypatch, names):
    monkeypatch.setenv("DAKIT_DISABLE_PLUGINS", names)
    found = find_plugins()
    states = {plugin.name: plugin.state for plugin in found.found}
    assert states["builtins"] == "disabled"
    assert (states["stages"] == "disabled") == (names == "dakit")
    assert Registry(found).entries("translator") == []


def test_a_file_is_a_plugin(tmp_path):
    file = write(tmp_path / "mine.py", OFFERS.format(name="mine"))
    found = find_plugins([file])
    (mine,) = [plugin for plugin in found.found if plugin.name == "mine"]
    assert (mine.distribution, mine.version, mine.hooks) == (str(file), "", ("dakit_transfer_losses",))
    registry = Registry(found)
    assert registry.find("transfer_loss", "mine").distribution == str(file)
    assert registry.find("transfer_loss", f"{file}/mine").name == "mine"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("gone.py", None, "there is no such file"),
        ("text.txt", "x", "not a Python file"),
        ("broken.py", "1 / 0", "ZeroDivisionError at import: division by zero"),
        ("syntax.py", "def", "SyntaxError at import"),
    ],
)
def test_a_file_that_is_no_plugin(tmp_path, name, text, message):
    file = tmp_path / name
    if text is not None:
        write(file, text)
    with pytest.raises(DakitError) as caught:
        find_plugins([file])
    assert f"--plugin {file}: {message}" in str(caught.value)


def test_one_file_may_be_named_twice(tmp_path):
    file = write(tmp_path / "mine.py", OFFERS.format(name="mine"))
    found = find_plugins([file, file])
    assert Registry(found).find("transfer_loss", "mine").distribution == str(file)


def test_two_files_of_one_name(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    one = write(tmp_path / "a" / "mine.py", OFFERS.format(name="one"))
    two = write(tmp_path / "b" / "mine.py", OFFERS.format(name="two"))
    registry = Registry(find_plugins([one, two]))
    assert registry.find("transfer_loss", "one").distribution == str(one)
    assert registry.find("transfer_loss", "two").distribution == str(two)


def test_a_file_may_have_the_name_of_an_installed_plugin(tmp_path):
    file = write(tmp_path / "builtins.py", OFFERS.format(name="mine"))
    registry = Registry(find_plugins([file]))
    assert registry.find("transfer_loss", "mine").distribution == str(file)
    assert registry.find("translator", "resnet_generator").distribution == "dakit"


def test_two_plugins_with_one_name_are_an_error_only_at_use(install, tmp_path, monkeypatch):
    write(tmp_path / "dakit_test_a.py", OFFERS.format(name="same") + "A = 1\n")
    write(tmp_path / "dakit_test_b.py", OFFERS.format(name="same") + "B = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    install(a="dakit_test_a", b="dakit_test_b")
    registry = Registry(find_plugins())
    assert [entry.distribution for entry in registry.entries("transfer_loss")] == ["a-dist", "b-dist"]
    with pytest.raises(DakitError) as caught:
        registry.find("transfer_loss", "same")
    assert str(caught.value) == ('2 plugins offer the transfer_loss "same": say which, "a-dist/same" or "b-dist/same"')
    assert registry.find("transfer_loss", "a-dist/same").factory.__module__ == "dakit_test_a"
    assert registry.find("transfer_loss", "b-dist/same").factory.__module__ == "dakit_test_b"
    assert registry.spec("transfer_loss", "b-dist/same", {}).params == {"strength": 1}
    with pytest.raises(DakitError, match="no transfer_loss"):
        registry.find("transfer_loss", "c-dist/same")


def test_two_distributions_may_call_their_entry_points_alike(monkeypatch, tmp_path):
    write(tmp_path / "dakit_test_c.py", OFFERS.format(name="c"))
    write(tmp_path / "dakit_test_d.py", OFFERS.format(name="d"))
    monkeypatch.syspath_prepend(tmp_path)

    class Named(EntryPoint):
        @property
        def dist(self):
            return type("Distribution", (), {"name": f"dist-of-{self.value[-1]}", "version": "1"})()

    entries = [Named("same", f"dakit_test_{letter}", "dakit") for letter in "cd"]
    monkeypatch.setattr(plugins, "entry_points", lambda group: entries)
    registry = Registry(find_plugins())
    assert registry.find("transfer_loss", "c").distribution == "dist-of-c"
    assert registry.find("transfer_loss", "d").distribution == "dist-of-d"


def test_a_hook_that_fails_is_named(tmp_path):
    file = write(
        tmp_path / "lazy.py",
        "from dakit import hookimpl\n@hookimpl\ndef dakit_selectors():\n    import a_library_that_is_not_there\n",
    )
    registry = Registry(find_plugins([file]))
    assert registry.find("translator", "resnet_generator").distribution == "dakit"
    with pytest.raises(DakitError, match=r"lazy.*dakit_selectors.*a_library_that_is_not_there"):
        registry.find("selector", "random")
