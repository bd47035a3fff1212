"""docs/reference.md has every public name as the source has it; ``python tests/test_reference.py`` writes it anew."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

PAGE = Path(__file__).parent.parent / "docs" / "reference.md"
WHOLE = ("dakit", "dakit.hookspecs", "dakit.interfaces", "dakit.testing", "dakit.errors", "dakit.data.files")
SOME = {
    "dakit.data.sets": ("TensorImages", "FileImages", "Subset", "Unlabelled", "Joined"),
    "dakit.data.batches": ("Batch", "Batches", "in_order", "too_few"),
    "dakit.data.augment": ("Augment", "Augmentation"),
    "dakit.training.trainer": ("Trainer", "trained"),
    "dakit.training.seeds": ("derive_seed",),
}
SHOWN = ("__init__", "__call__", "__len__", "__getitem__")


def statements(tree: ast.Module | ast.ClassDef) -> Iterator[tuple[str, ast.stmt]]:
    """What is defined, by name."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            yield node.name, node
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id, node
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            yield node.targets[0].id, node


def public_names(module: str) -> list[str]:
    if module in SOME:
        return list(SOME[module])
    loaded = importlib.import_module(module)
    if hasattr(loaded, "__all__"):
        return list(loaded.__all__)
    tree = ast.parse(inspect.getsource(loaded))
    names = [name for name, _ in statements(tree) if not name.startswith("_")]
    return [name for name in names if not isinstance(getattr(loaded, name), TypeVar)]


def stub(module: str, name: str) -> str:
    """Signature, fields and docstrings of a name, as they are written where it is defined."""
    value = getattr(importlib.import_module(module), name)
    for home in (module, getattr(value, "__module__", ""), "dakit.hookspecs"):
        lines = inspect.getsource(importlib.import_module(home)).splitlines() if home in sys.modules else []
        tree = ast.parse("\n".join(lines))
        if name in dict(statements(tree)):
            break
    return textwrap.dedent("\n".join(_shown(dict(statements(tree))[name], lines, tree)))


def _shown(node: ast.stmt, lines: list[str], parent: ast.Module | ast.ClassDef) -> list[str]:
    if not isinstance(node, ast.ClassDef | ast.FunctionDef):
        after = parent.body[parent.body.index(node) + 1 :][:1]
        described = after and isinstance(after[0], ast.Expr) and isinstance(after[0].value, ast.Constant)
        return lines[node.lineno - 1 : after[0].end_lineno if described else node.end_lineno]
    start = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
    if node.body[0].lineno <= node.lineno:  # all in one line
        return lines[start - 1 : node.end_lineno]
    first = node.body[0]
    described = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and first.value.value is not ...
    shown = lines[start - 1 : first.end_lineno if described else first.lineno - 1]
    if isinstance(node, ast.FunctionDef):
        return shown if described else [*shown[:-1], shown[-1] + " ..."]
    for name, member in statements(node):
        if not name.startswith("_") or name in SHOWN:
            gap = [""] if isinstance(member, ast.FunctionDef) else []
            shown += gap + _shown(member, lines, node)
    return shown


def rewritten(page: str) -> str:
    """The page with every chapter's names as they are now; the text at the head of a chapter stays."""
    head, *chapters = re.split(r"^(?=## )", page, flags=re.MULTILINE)
    for i, chapter in enumerate(chapters):
        module = chapter.splitlines()[0].strip("# `")
        prose = re.split(r"^### ", chapter, maxsplit=1, flags=re.MULTILINE)[0].rstrip()
        entries = [f"### `{name}`\n\n```pyi\n{stub(module, name)}\n```\n" for name in public_names(module)]
        chapters[i] = "\n".join([prose + "\n", *entries, ""])
    return (head + "".join(chapters)).rstrip() + "\n"


def test_the_reference_has_a_chapter_for_every_public_module():
    assert re.findall(r"^## `(.*)`$", PAGE.read_text(encoding="utf-8"), re.MULTILINE) == [*WHOLE, *SOME]


def test_every_public_name_is_there_with_its_exact_signature_and_no_other():
    page = PAGE.read_text(encoding="utf-8")
    assert page == rewritten(page), "python tests/test_reference.py writes it anew"


def test_what_a_stub_shows():
    assert stub("dakit", "hookimpl") == 'hookimpl = pluggy.HookimplMarker("dakit")'
    assert stub("dakit.interfaces", "Sample").splitlines()[0] == "class Sample(NamedTuple):"
    assert stub("dakit.interfaces", "Sample").endswith("\n    image: Tensor\n    label: int\n    group: str")
    assert stub("dakit.interfaces", "INTERFACE_VERSION").startswith("INTERFACE_VERSION = ")
    assert "def build(self, *given: Any) -> Any:" in stub("dakit.interfaces", "Spec")
    assert "def dakit_datasets() -> Factories:" in stub("dakit.hookspecs", "dakit_datasets")
    assert "_permutation" not in stub("dakit.data.batches", "Batches")


if __name__ == "__main__":
    PAGE.write_text(rewritten(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    sys.stdout.write(f"written: {PAGE}\n")
