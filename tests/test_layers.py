"""Who may import whom, and what no module may do."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CORE = sorted((ROOT / "dakit").rglob("*.py"))
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


def test_there_is_something_to_look_at():
    assert {"dakit", "dakit.recipe", "dakit.stages.classifier", "dakit.data.sets", "dakit_builtins.patchgan"} <= set(
        IMPORTS
    )
    assert "dakit.registry" in IMPORTS["dakit.recipe"]


def test_the_core_knows_no_built_in():
    core = {name: used for name, used in IMPORTS.items() if within(name, "dakit")}
    assert not {name for name, used in core.items() if any(within(module, "dakit_builtins") for module in used)}


@pytest.mark.parametrize(
    ("modules", "forbidden"),
    [
        (("dakit.errors", "dakit.hookspecs", "dakit.files", "dakit.stopping", "dakit.memory"), ("dakit",)),
        (("dakit.surroundings",), ("dakit",)),
        (("dakit.parameters",), ("dakit.interfaces", "dakit.data", "dakit.training", "dakit.stages", "dakit.recipe")),
        (("dakit.identity",), ("dakit.training", "dakit.stages", "dakit.store", "dakit.registry", "dakit.recipe")),
        (("dakit.processes",), ("dakit.interfaces", "dakit.data", "dakit.training", "dakit.registry", "dakit.cli")),
        (("dakit.plugins",), ("dakit.registry", "dakit.recipe", "dakit.store", "dakit.pipeline", "dakit.cli")),
        (("dakit.registry",), ("dakit.recipe", "dakit.store", "dakit.pipeline", "dakit.cli", "dakit.stages")),
        (
            ("dakit.plans",),
            ("dakit.recipe", "dakit.store", "dakit.pipeline", "dakit.cli", "dakit.stages", "dakit.training"),
        ),
        (("dakit.recipe",), ("dakit.store", "dakit.pipeline", "dakit.cli", "dakit.stages", "dakit.training")),
        (("dakit.store", "dakit.verify"), ("dakit.recipe", "dakit.pipeline", "dakit.cli", "dakit.stages")),
        (("dakit.roles", "dakit.outcome", "dakit.record"), ("dakit.pipeline", "dakit.cli", "dakit.stages")),
        (("dakit.preflight",), ("dakit.pipeline", "dakit.cli", "dakit.stages")),
        (("dakit.runs",), ("dakit.recipe", "dakit.pipeline", "dakit.cli", "dakit.stages")),
        (("dakit.schema",), ("dakit.store", "dakit.pipeline", "dakit.cli", "dakit.stages", "dakit.training")),
        (("dakit.observers",), ("dakit.recipe", "dakit.store", "dakit.pipeline", "dakit.cli", "dakit.stages")),
        (("dakit.inference", "dakit.export"), ("dakit.recipe", "dakit.pipeline", "dakit.cli")),
        (
            ("dakit.starter", "dakit.faces"),
            ("dakit.recipe", "dakit.pipeline", "dakit.cli", "dakit.stages", "dakit.training"),
        ),
        (("dakit.doctor", "dakit.estimates"), ("dakit.cli", "dakit.stages")),
        (
            ("dakit.pipeline", "dakit.curve"),
            ("dakit.doctor", "dakit.estimates", "dakit.cli", "dakit.stages", "dakit.progress"),
        ),
        (
            ("dakit.stages", "dakit.training", "dakit.data", "dakit.metrics", "dakit.comparison", "dakit.report"),
            ("dakit.cli", "dakit.recipe", "dakit.pipeline", "dakit.store", "dakit.registry", "dakit.plugins"),
        ),
        (
            ("dakit.data", "dakit.metrics", "dakit.comparison", "dakit.health", "dakit.weights"),
            ("dakit.stages", "dakit.training", "dakit.report"),
        ),
        (("dakit.training",), ("dakit.stages", "dakit.report", "dakit.metrics")),
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
        "dakit.interfaces", "dakit.errors", "dakit.hookspecs", "dakit.data", "dakit.weights", "dakit.processes",
        "dakit.parameters", "dakit_builtins.layers", "dakit_builtins.winograd",
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
    allowed = {*sys.stdlib_module_names, "collections.abc", "typer", "dakit.errors", "dakit.cli.common"}
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
        "dakit", "dakit.__main__", "dakit.interfaces", "dakit.hookspecs", "dakit.testing", "dakit.files", "dakit.data",
        "dakit.report", "dakit.stages", "dakit.cli", "dakit_builtins", "dakit.data.files",
    }  # fmt: skip
    simple_commands = {"common", "run", "plan", "check", "components", "plugins", "recipes"}  # tests/cli/test_cli.py
    for path in (*CORE, *BUILTINS):
        name = name_of(path)
        if name in elsewhere or name.removeprefix("dakit.cli.") in simple_commands:
            continue
        parts = name.split(".")
        folder = ROOT / "tests" / Path(*(parts[:-1] if parts[0] == "dakit_builtins" else parts[1:-1]))
        assert (folder / f"test_{parts[-1]}.py").is_file(), f"no test file for {name}"
