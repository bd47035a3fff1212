from __future__ import annotations

import inspect
import json
import sys
from importlib.metadata import EntryPoint

import pytest

from dakit import hookspecs, interfaces, plugins
from dakit.errors import DakitError
from dakit.plugins import find_plugins
from dakit.registry import KINDS, Registry

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
        about = {"name": f"{self.name}-dist", "version": "1.2", "read_text": lambda self, file: None}
        return type("Distribution", (), about)()


@pytest.fixture
def install(monkeypatch):
    """Pretend that these entry points are all there are."""

    def pretend(**values):
        entries = [Installed(name, value, "dakit") for name, value in values.items()]
        monkeypatch.delenv("DAKIT_DISABLE_PLUGINS")
        monkeypatch.setattr(plugins, "entry_points", lambda group: entries if group == "dakit" else [])

    return pretend


def test_dakit_comes_in_by_its_own_door():
    found = {plugin.name: plugin for plugin in find_plugins().found}
    assert set(found["stages"].hooks) == {"dakit_stages", "dakit_classifiers"}  # and what a stage makes
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


TYPO = "from dakit import hookimpl\n@hookimpl\ndef dakit_translater():\n    return {}\n"
LATER = """
from dakit import hookimpl

@hookimpl(optionalhook=True)
def dakit_captioners():
    return {}
"""
UNFIT = {
    "misspelt": (TYPO, 'dakit asks no hook dakit_translater, did you mean "dakit_translators"?'),
    "two_faults": (
        TYPO + "@hookimpl\ndef dakit_selektors(): ...\n",
        'dakit_selektors, did you mean "dakit_selectors"?',
    ),
    "newer": ("dakit_interface = 2\n" + LATER, "made for interface version 2, but this dakit has 1: it needs another"),
    "older": ("dakit_interface = 0\n" + LATER, "made for interface version 0, but this dakit has 1: update it"),
    "odd": ("dakit_interface = 'one'\n" + LATER, "made for interface version 'one', but this dakit has 1"),
    "arguments": (
        TYPO.replace("translater()", "translators(size)"),
        "Argument(s) {'size'} are declared in the hookimpl",
    ),
    "nothing": ("from dakit import hookimpl\ndef dakit_selectors():\n    return {}\n", "it answers no hook"),
}


@pytest.mark.parametrize("fault", UNFIT)
def test_an_installed_plugin_that_does_not_fit_is_named_and_left_out(install, tmp_path, monkeypatch, fault):
    text, message = UNFIT[fault]
    write(tmp_path / f"dakit_test_{fault}.py", text)
    write(tmp_path / "dakit_test_fits.py", "dakit_interface = 1\n" + OFFERS.format(name="fits"))
    monkeypatch.syspath_prepend(tmp_path)
    install(bad=f"dakit_test_{fault}", fits="dakit_test_fits")
    registry = Registry(find_plugins())
    (line,) = registry.failures()
    assert line.startswith("bad-dist/bad: failed: ")
    assert message in line
    assert registry.warnings() == [f"plugin not loaded: {line}"]
    assert [entry.name for kind in KINDS for entry in registry.entries(kind)] == ["fits"]
    with pytest.raises(DakitError) as caught:
        registry.find("transfer_loss", "bad")
    assert message in str(caught.value)


@pytest.mark.parametrize("fault", UNFIT)
def test_a_file_that_does_not_fit_is_refused(tmp_path, fault):
    text, message = UNFIT[fault]
    file = write(tmp_path / "mine.py", text)
    with pytest.raises(DakitError) as caught:
        find_plugins([file])
    assert str(caught.value).startswith(f"--plugin {file}: ")
    assert message in str(caught.value)


def test_a_kind_of_a_newer_dakit_is_left_unasked_with_a_note(tmp_path):
    file = write(tmp_path / "later.py", OFFERS.format(name="mine") + LATER)
    registry = Registry(find_plugins([file]))
    assert registry.find("transfer_loss", "mine").distribution == str(file)
    assert registry.warnings() == [
        f"plugin {file}/later answers dakit_captioners, which this dakit does not ask; made for a newer one?"
    ]


def test_a_name_to_disable_that_nothing_has_is_told(monkeypatch):
    monkeypatch.setenv("DAKIT_DISABLE_PLUGINS", "bultins, stages")
    assert find_plugins().warnings() == [
        'DAKIT_DISABLE_PLUGINS: no plugin is called "bultins", did you mean "builtins"?'
    ]
    monkeypatch.setenv("DAKIT_DISABLE_PLUGINS", "")
    assert find_plugins().warnings() == []


def test_plugins_of_version_1_still_fit():
    """What was stable once stays: another dakit may add to this, or raise the version."""
    assert hookspecs.INTERFACE_VERSION == interfaces.INTERFACE_VERSION == 1
    given = {"dataset": 2, "translator": 0, "discriminator": 0, "classifier": 1, "transfer_loss": 0, "selector": 0,
             "stage": 0, "observer": 1}  # fmt: skip
    hooks = {"dataset": "datasets", "transfer_loss": "transfer_losses"}
    for kind, number in given.items():
        assert (KINDS[kind].hook, KINDS[kind].given) == (f"dakit_{hooks.get(kind, kind + 's')}", number)
    values = {"Sample": "image label group", "Prediction": "logits features maps",
              "Selection": "indices distances notes", "JobInfo": "name do row seed fold number total"}  # fmt: skip
    for name, fields in values.items():
        assert getattr(interfaces, name)._fields[: len(fields.split())] == tuple(fields.split())
    assert {"Positive", "NonNegative", "Fraction", "File", "Folder", "Spec", "Trained", "Engine", "Context", "ImageSet",
            "TestSet", "Translator", "Discriminator", "Classifier", "TransferLoss", "Selector", "Stage", "Observer",
            } <= set(vars(interfaces))  # fmt: skip
    events = {
        "run_started": "recipe total", "stage_started": "stage", "work_started": "title steps", "step": "done losses",
        "epoch": "done", "message": "text", "stage_finished": "stage seconds", "stage_failed": "stage error",
        "run_ended": "error",
    }  # fmt: skip
    for event, facts in events.items():
        assert list(inspect.signature(getattr(interfaces.Observer, event)).parameters) == ["self", *facts.split()]
    context = inspect.signature(interfaces.Context).parameters
    assert {"folder", "seed", "engine", "observers", "notes", "facts"} <= set(context)


@pytest.mark.parametrize("names", ["builtins", "dakit", " other , builtins "])
def test_plugins_can_be_disabled(monkeypatch, names):
    monkeypatch.setenv("DAKIT_DISABLE_PLUGINS", names)
    found = find_plugins()
    states = {plugin.name: plugin.state for plugin in found.found}
    assert states["builtins"] == "disabled"
    assert (states["stages"] == "disabled") == (names == "dakit")
    assert "dakit" not in {entry.distribution for entry in Registry(found).entries("translator")}


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
            about = {"name": f"dist-of-{self.value[-1]}", "version": "1", "read_text": lambda self, file: None}
            return type("Distribution", (), about)()

    entries = [Named("same", f"dakit_test_{letter}", "dakit") for letter in "cd"]
    monkeypatch.setattr(plugins, "entry_points", lambda group: entries)
    registry = Registry(find_plugins())
    assert registry.find("transfer_loss", "c").distribution == "dist-of-c"
    assert registry.find("transfer_loss", "d").distribution == "dist-of-d"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("import a_library_that_is_not_there", "ModuleNotFoundError: No module named 'a_library_that_is_not_there'"),
        ("return None", "TypeError"),
        ("return ['mine']", "ValueError"),
        ("return {'mine': 3}", "TypeError: expected {name: class or function} without / in a name, not 'mine'"),
        ("return {'a/b': print}", "TypeError: expected {name: class or function} without / in a name, not 'a/b'"),
        ("return {3: print}", "not 3"),
    ],
)
def test_a_hook_that_fails_is_named_and_only_its_components_are_missing(tmp_path, body, message):
    text = f"from dakit import hookimpl\n@hookimpl\ndef dakit_selectors():\n    {body}\n"
    file = write(tmp_path / "lazy.py", text + OFFERS.format(name="fine"))
    registry = Registry(find_plugins([file]))
    assert registry.find("transfer_loss", "fine").distribution == str(file)
    assert registry.warnings() == []  # it was not asked yet
    assert registry.find("selector", "random").distribution == "dakit"
    (warning,) = registry.warnings()
    assert warning.startswith(f"plugin asked in vain: {file}/lazy: dakit_selectors fails: ")
    assert message in warning
    with pytest.raises(
        DakitError, match=r"no selector is called \"mine\".*\n.*plugin not loaded: .*dakit_selectors fails"
    ):
        registry.find("selector", "mine")


# ------------------------------------------------------------------------------------ code counts
def code_of(*files):
    return Registry(find_plugins(files)).spec("transfer_loss", "mine", {}).code


def test_the_content_of_a_file_is_in_the_identity_of_what_it_offers(tmp_path):
    file = write(tmp_path / "mine.py", OFFERS.format(name="mine"))
    code = code_of(file)
    assert len(code) == 64
    assert code_of(write(tmp_path / "moved.py", OFFERS.format(name="mine"))) == code  # not its name
    spec = Registry(find_plugins([file])).spec("transfer_loss", "mine", {})
    assert spec.identity()["code"] == code
    write(file, OFFERS.format(name="mine") + "# edited\n")
    assert code_of(file) != code
    assert "code" not in Registry(find_plugins()).spec("translator", "resnet_generator", {}).identity()


def test_an_edit_of_the_same_length_in_the_same_second_is_seen(tmp_path):
    values = []
    for value in (1, 2, 3):
        file = write(tmp_path / "mine.py", OFFERS.format(name="mine") + f"VALUE = {value}\n")
        found = find_plugins([file])
        values.append(found.manager.get_plugin("mine").VALUE)
    assert values == [1, 2, 3]
    assert not (tmp_path / "__pycache__").exists()


def test_what_a_file_imports_from_beside_it_counts_too(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("dakit.plugins._imported", {})
    write(tmp_path / "helper_of_mine.py", "from further_of_mine import FACTOR\n")
    write(tmp_path / "further_of_mine.py", "FACTOR = 1\n")
    file = write(tmp_path / "mine.py", "import helper_of_mine\n" + OFFERS.format(name="mine"))
    code = code_of(file)
    assert code_of(file) == code
    write(tmp_path / "further_of_mine.py", "FACTOR = 2\n")
    with pytest.raises(DakitError, match=r"helper_of_mine|further_of_mine\.py: was edited after it was imported"):
        code_of(file)
    for name in ("helper_of_mine", "further_of_mine"):
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr("dakit.plugins._imported", {})
    assert code_of(file) != code  # as in a new process


def test_the_code_of_a_distribution_that_is_installed_to_be_edited_counts(tmp_path, monkeypatch):
    package = tmp_path / "edited_package"
    package.mkdir()
    write(package / "__init__.py", OFFERS.format(name="mine"))
    monkeypatch.syspath_prepend(tmp_path)

    def code(editable, *, name="some-dist"):
        about = json.dumps({"url": "file:///x", "dir_info": {"editable": editable}})
        dist = type("Distribution", (), {"name": name, "version": "1", "read_text": lambda self, file: about})()
        entry = type("Entry", (Installed,), {"dist": dist})("edited", "edited_package", "dakit")
        monkeypatch.setattr(plugins, "entry_points", lambda group: [entry])
        monkeypatch.setattr(plugins, "_imported", {})
        (found,) = find_plugins().found
        assert found.state == "active"
        return found.code

    first = code(True)
    assert len(first) == 64
    assert code(True) == first
    assert code(False) == ""
    assert code(True, name="dakit") == ""  # its components have versions
    write(package / "part.py", "x = 1\n")
    assert code(True) != first
