"""Who may import whom, and what no module may do."""

from __future__ import annotations

import ast
import re
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CORE = sorted((ROOT / "dakit").rglob("*.py"))
UNTRACKED = ("_recipes", "_benchmarks")  # in an installed wheel
BUILTINS = sorted((ROOT / "plugins" / "dakit_builtins").rglob("*.py"))


def name_of(path: Path) -> str:
    """``dakit/data/sets.py`` -> ``dakit.data.sets``."""
    base = ROOT if path.is_relative_to(ROOT / "dakit") else ROOT / "plugins"
    return ".".join(path.relative_to(base).with_suffix("").parts).removesuffix(".__init__")


def imports(path: Path, *, top_level_only: bool = False) -> set[str]:
    """The full names of the modules that a file imports, wherever in it."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = set()
    modules = {name_of(p) for p in (*CORE, *BUILTINS)}
    for node in tree.body if top_level_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            below = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= below & modules or {node.module}
    return found


def within(module: str, *packages: str) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


IMPORTS = {name_of(path): imports(path) for path in (*CORE, *BUILTINS)}


ROOMS = (
    "data", "statistics", "recipe", "training", "results", "report", "stages", "testing", "pipeline", "use", "advice",
    "cli",
)  # fmt: skip
"""From the ground up: a room imports from the ground floor and from rooms before it."""


def room(module: str) -> str:
    """The folder below ``dakit/`` that a module lies in; "" is the ground floor."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in ROOMS else ""


def test_there_is_something_to_look_at():
    expected = {"dakit", "dakit.recipe.load", "dakit.stages.classifier", "dakit_builtins.discriminators.patchgan"}
    assert expected <= set(IMPORTS)
    assert "dakit.registry" in IMPORTS["dakit.recipe.load"]


def test_the_core_knows_no_built_in():
    core = {name: used for name, used in IMPORTS.items() if within(name, "dakit")}
    assert not {name for name, used in core.items() if any(within(module, "dakit_builtins") for module in used)}


def test_imports_between_rooms_run_one_way():
    above = ("", *ROOMS)
    for name, used in IMPORTS.items():
        if within(name, "dakit") and name not in ("dakit", "dakit.__main__"):  # the doors
            wrong = {m for m in used if within(m, "dakit") and above.index(room(m)) > above.index(room(name))}
            assert not wrong, f"{name} imports {wrong}"


def test_no_module_imports_in_a_circle():
    inside = {name: {m for m in used if m in IMPORTS and m != "dakit"} for name, used in IMPORTS.items()}
    assert len(list(TopologicalSorter(inside).static_order())) == len(IMPORTS)


def test_a_dozen_rooms_stand_on_the_contract():
    contract = {
        "__init__.py", "__main__.py", "py.typed", "interfaces.py", "optional.py", "hookspecs.py", "plugins.py",
        "registry.py", "signatures.py", "parameters.py", "errors.py", "files.py", "processes.py", "codes.py",
        "objects.py",
    }  # fmt: skip
    there = {path.name for path in (ROOT / "dakit").iterdir() if path.name not in ("__pycache__", *UNTRACKED)}
    assert there - contract == set(ROOMS)


@pytest.mark.parametrize("name", ROOMS)
def test_a_room_says_what_it_is_for_and_what_it_never_does(name):
    docstring = ast.get_docstring(ast.parse((ROOT / "dakit" / name / "__init__.py").read_text(encoding="utf-8")))
    assert docstring
    assert re.search(r"\b(never|no|nothing)\b", docstring, re.IGNORECASE), docstring


@pytest.mark.parametrize("path", [*CORE, *BUILTINS], ids=name_of)
def test_a_long_file_says_why_it_is_one_thing(path):
    text = path.read_text(encoding="utf-8")
    if len(text.splitlines()) > 400:
        assert "one thing" in " ".join(str(ast.get_docstring(ast.parse(text))).split()), f"{path}: says no word of it"


PROSE = {"said", "told", "made", "kept", "one", "own", "found"}
PUBLIC = {"dakit.pipeline.outcome": {"made"}, "dakit.plugins": {"found"}, "dakit.processes": {"told"}}
"""What bears such a name and is documented, so it keeps it."""


def bound_names(tree: ast.AST) -> set[str]:
    """The names that a module gives: to variables, parameters, attributes, functions and classes."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            names.add(node.attr)
        elif isinstance(node, ast.arg):
            names.add(node.arg)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            names.add(node.name)
    return names


def test_bound_names_are_those_of_every_kind():
    text = "class Kept:\n def _told(self, one, *own, said=0):\n  self.made = [found for found in x if (kept := found)]"
    assert bound_names(ast.parse(text)) == {"Kept", "_told", "self", "one", "own", "said", "made", "found", "kept"}


@pytest.mark.parametrize("path", [*CORE, *BUILTINS], ids=name_of)
def test_names_are_nouns_of_the_field(path):
    """What a name means must not hang on the sentence around it: a reader searches for it."""
    module = name_of(path)
    names = bound_names(ast.parse(path.read_text(encoding="utf-8"))) - PUBLIC.get(module, set())
    assert not {name for name in names if name.lstrip("_") in PROSE}, f"{module}: say what the thing is"


@pytest.mark.parametrize(
    ("modules", "forbidden"),
    [
        (("dakit.errors", "dakit.hookspecs", "dakit.files"), ("dakit",)),
        (("dakit.training.stopping", "dakit.training.surroundings"), ("dakit",)),
        (("dakit.processes",), ("dakit.interfaces", "dakit.registry")),
        (("dakit.parameters", "dakit.plugins"), ("dakit.interfaces", "dakit.registry")),
        # Whatever computes knows neither how it came to be called nor what becomes of it.
        (("dakit.stages", "dakit.training", "dakit.data", "dakit.statistics"), ("dakit.recipe", "dakit.results")),
        (("dakit.stages", "dakit.training", "dakit.data", "dakit.report"), ("dakit.registry", "dakit.plugins")),
        (("dakit.training",), ("dakit.statistics",)),
        (("dakit.results",), ("dakit.recipe.load",)),
        (("dakit.report", "dakit.use"), ("dakit.recipe.load",)),
        (("dakit.pipeline",), ("dakit.pipeline.progress",)),  # an observer like any other
    ],
)
def test_layers(modules, forbidden):
    for name, used in IMPORTS.items():
        if within(name, *modules):
            wrong = {module for module in used if within(module, *forbidden)}
            assert not wrong, f"{name} imports {wrong}"


def test_the_contract_stands_on_the_hooks_alone():
    assert {module for module in IMPORTS["dakit.interfaces"] if within(module, "dakit")} == {
        "dakit.hookspecs",
        "dakit.files",  # which stands on the standard library
    }


def test_built_ins_use_public_names_and_never_one_another():
    allowed = (
        "dakit.interfaces", "dakit.optional", "dakit.errors", "dakit.hookspecs", "dakit.files", "dakit.data",
        "dakit.training.weights", "dakit.training.fetching",
        "dakit.training.surroundings", "dakit.processes", "dakit.parameters", "dakit.cli.common",
        "dakit.pipeline.progress", "dakit_builtins.layers", "dakit_builtins.winograd", "dakit_builtins.prepare",
        "dakit_builtins.datasets.expressions", "dakit_builtins.selectors.dealing",
        "dakit_builtins.selectors.extractors", "dakit_builtins.selectors.feature_knn",
    )  # fmt: skip
    for name, used in IMPORTS.items():
        if name == "dakit_builtins" or not within(name, "dakit_builtins"):
            continue
        for module in used:
            if within(module, "dakit", "dakit_builtins"):
                assert module == "dakit" or within(module, *allowed), f"{name} imports {module}"
    for path in BUILTINS:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module and within(node.module, "dakit"):
                private = [alias.name for alias in node.names if alias.name.startswith("_")]
                assert not private, f"{name_of(path)} imports {private} of {node.module}"


def test_the_table_of_contents_imports_nothing_at_its_top():
    for path in (ROOT / "plugins" / "dakit_builtins" / "__init__.py", ROOT / "dakit" / "stages" / "__init__.py"):
        assert imports(path, top_level_only=True) == {"__future__", "dakit.hookspecs"}


def test_heavy_libraries_are_imported_where_they_are_needed():
    heavy = ("timm", "kornia", "torchvision", "sklearn", "openTSNE", "matplotlib", "scipy")
    for path in (*CORE, *BUILTINS):
        found = {module for module in imports(path, top_level_only=True) if within(module, *heavy)}
        assert not found or name_of(path) == "dakit.report.pictures", f"{name_of(path)} imports {found} at its top"


def test_the_command_line_imports_nothing_at_its_top():
    allowed = {*sys.stdlib_module_names, "collections.abc", "typer", "typer.core", "dakit.errors", "dakit.cli.common"}
    files = {path for path in CORE if within(name_of(path), "dakit.cli")}
    assert len(files) > 5
    for path in files:
        other = {m for m in imports(path, top_level_only=True) - allowed if not within(m, "dakit.cli")}
        assert not other, f"{name_of(path)} imports {other} at its top"


@pytest.mark.parametrize("path", [*CORE, *BUILTINS], ids=name_of)
def test_nothing_is_printed_evaluated_or_unpickled(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            here = f"line {node.lineno}: {ast.unparse(node)}"
            assert called not in {"print", "eval", "exec", "pickle.load", "pickle.loads", "os.system"}, here
            given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            assert given.get("allow_pickle", "False") == "False", here
            assert called != "torch.load" or given.get("weights_only") == "True", here
            assert "shell" not in given, here


def test_every_module_of_the_project_has_its_tests():
    """Mirrored file for file; what is only wiring is tested through what uses it."""
    elsewhere = {
        "dakit", "dakit.__main__", "dakit.interfaces", "dakit.hookspecs", "dakit.files", "dakit.data.files",
    }  # fmt: skip
    simple_commands = {"common", "run", "plan", "check", "components", "plugins", "recipes"}  # tests/cli/test_cli.py
    for path in (*CORE, *BUILTINS):
        name = name_of(path)
        if path.name == "__init__.py" and name != "dakit.advice.scaffold":
            continue
        if name in elsewhere or name.removeprefix("dakit.cli.") in simple_commands:
            continue
        parts = name.split(".")
        folder = ROOT / "tests" / Path(*(parts[:-1] if parts[0] == "dakit_builtins" else parts[1:-1]))
        assert (folder / f"test_{parts[-1]}.py").is_file(), f"no test file for {name}"
