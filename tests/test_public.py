"""What is public is listed, and the examples that people copy import nothing else of dakit."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import dakit

ROOT = Path(__file__).parent.parent
PUBLIC = ("dakit", "dakit.interfaces", "dakit.testing")
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PYTHON = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
TEMPLATES = sorted((ROOT / "dakit" / "advice" / "scaffold" / "templates").rglob("*.jinja"))
OUTSIDE = sorted((ROOT / "tests" / "third_party").rglob("*.py"))


def private(source: str) -> list[str]:
    """What a source imports of dakit besides what is public."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [
                alias.name for alias in node.names if alias.name.startswith("dakit.") and alias.name not in PUBLIC
            ]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "dakit":
            if node.module not in PUBLIC:
                found.append(str(node.module))
            elif node.module == "dakit":
                allowed = {*dakit.__all__, "interfaces", "testing"}
                found += [f"dakit.{alias.name}" for alias in node.names if alias.name not in allowed]
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "dakit":
            if node.attr not in (*dakit.__all__, "interfaces", "testing", "__version__"):
                found.append(f"dakit.{node.attr}")
    return found


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_the_examples_of_a_page_import_what_is_public(path):
    for example in PYTHON.findall(path.read_text(encoding="utf-8")):
        assert private(example) == []


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_plugin_begins_with_what_is_public(path):
    if path.name.endswith(".py.jinja"):
        lines = [line for line in path.read_text(encoding="utf-8").splitlines() if "{" not in line]
        imports = [line for line in lines if re.match(r"\s*(from dakit[\w.]* import|import dakit)", line)]
        assert private("\n".join(map(str.strip, imports))) == []


@pytest.mark.parametrize("path", OUTSIDE, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_plugins_from_outside_need_nothing_else(path):
    if path.name not in ("conftest.py", "test_together.py"):  # dakit's own, which run them
        assert private(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("from dakit.data.sets import Subset", ["dakit.data.sets"]),
        ("import dakit.registry", ["dakit.registry"]),
        ("from dakit import registry", ["dakit.registry"]),
        ("import dakit\ndakit.plugins.find_plugins()", ["dakit.plugins"]),
        ("from dakit import Subset, processes\nfrom dakit.interfaces import Spec\nimport dakit_fda.stage, torch", []),
    ],
)
def test_what_is_not_public_is_seen(source, found):
    assert private(source) == found


def test_the_page_has_every_public_name_once_and_no_other():
    rows = re.findall(
        r"^\| `(\w+)` \| (.+) \|$", (ROOT / "docs" / "public.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    names = [name for name, _ in rows if name != "dakit"]
    assert sorted(names) == sorted(dakit.__all__)
    assert all(10 < len(line) <= 130 for _, line in rows)


@pytest.mark.parametrize("name", dakit.__all__)
def test_every_public_name_is_there(name):
    value = getattr(dakit, name)
    assert value is getattr(dakit, name)
    assert name in dir(dakit)
    if name in dakit._LAZY:
        assert getattr(sys.modules[dakit._LAZY[name]], name) is value


def test_type_checkers_see_the_same_names():
    tree = ast.parse((ROOT / "dakit" / "__init__.py").read_text(encoding="utf-8"))
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    seen = {
        (node.module, alias.name) for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert seen == {(module, name) for name, module in dakit._LAZY.items()} | {("dakit", "processes")}
    assert {name for _, name in seen} | {"hookimpl"} == set(dakit.__all__)


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'dakit' has no attribute 'Trainr'"):
        dakit.Trainr  # noqa: B018


def test_importing_dakit_imports_no_torch():
    source = "import dakit, sys; print(sorted({'torch', 'numpy', 'pydantic', 'PIL'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True).stdout == "[]\n"
