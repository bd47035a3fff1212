"""What is public is described, and what is described is there."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path
from typing import get_type_hints

import pytest

from dakit import hookspecs
from dakit.interfaces import Stage
from dakit.registry import KINDS

ROOT = Path(__file__).parent.parent
HOOKS = {name: hook for name, hook in vars(hookspecs).items() if name.startswith("dakit_")}


def module_names() -> list[str]:
    found = []
    for base, package in ((ROOT, "dakit"), (ROOT / "plugins", "dakit_builtins")):
        for path in sorted((base / package).rglob("*.py")):
            found.append(".".join(path.relative_to(base).with_suffix("").parts).removesuffix(".__init__"))
    return found


def test_every_kind_has_its_hook_and_every_hook_its_kind():
    assert {kind.hook for kind in KINDS.values()} == set(HOOKS) - {"dakit_preparations"}  # commands, not components
    assert len({kind.interface for kind in KINDS.values()}) == len(KINDS)


@pytest.mark.parametrize("name", [kind.hook for kind in KINDS.values()])
def test_every_hook_is_described_and_answered(name, registry):
    (kind,) = [kind for kind, about in KINDS.items() if about.hook == name]
    described = HOOKS[name].__doc__ or ""
    assert "``factory(" in described
    assert KINDS[kind].interface.__name__ in described
    assert registry.entries(kind)


@pytest.mark.parametrize("kind", [kind for kind, about in KINDS.items() if about.given])
def test_what_a_hook_says_dakit_passes_is_what_factories_take(kind, registry):
    said = (HOOKS[KINDS[kind].hook].__doc__ or "").split("factory(")[1].split("*")[0]
    names = [part.strip() for part in said.split(",") if part.strip()]
    assert len(names) == KINDS[kind].given
    for entry in registry.entries(kind):
        parameters = list(inspect.signature(entry.factory).parameters.values())
        assert [p.name for p in parameters[: len(names)]] == names, entry.name
        assert all(p.kind is p.KEYWORD_ONLY for p in parameters[len(names) :]), entry.name


def test_every_stage_is_one(registry):
    for entry in registry.entries("stage"):
        assert isinstance(entry.factory.version, int)
        assert set(get_type_hints(Stage)) <= set(dir(entry.factory))
        results = inspect.signature(entry.factory.run).return_annotation
        assert results is not inspect.Signature.empty


@pytest.mark.parametrize("name", module_names())
def test_every_public_thing_has_a_docstring(name):
    module = importlib.import_module(name)
    assert (module.__doc__ or "").strip(), f"{name} has no docstring"
    missing = []
    for attribute, value in vars(module).items():
        if attribute.startswith("_") or getattr(value, "__module__", None) != name:
            continue
        if not (inspect.isclass(value) or inspect.isfunction(value)):
            continue
        own = value.__dict__.get("__doc__") if inspect.isclass(value) else value.__doc__
        if not (own or "").strip() or (own or "").startswith(f"{attribute}("):  # what NamedTuple and dataclass make up
            missing.append(attribute)
        if inspect.isclass(value) and name != "dakit.interfaces":
            missing += [
                f"{attribute}.{method}"
                for method, function in vars(value).items()
                if inspect.isfunction(function) and not method.startswith("_") and method != "forward"
                and not (function.__doc__ or "").strip()
            ]  # fmt: skip
    assert not missing, f"{name}: no docstring for {', '.join(missing)}"


def test_parameters_that_are_described_exist(registry):
    """An ``Args:`` section names what the signature names."""
    for kind in KINDS:
        for entry in registry.entries(kind):
            text = inspect.getdoc(entry.factory) or ""
            if "\nArgs:\n" not in text:
                continue
            section = text.split("\nArgs:\n")[1].split("\n\n")[0]
            parameters = set(inspect.signature(entry.factory).parameters)
            for line in section.splitlines():
                if line.startswith("    ") and not line.startswith("     ") and ":" in line:
                    names = {name.strip() for name in line.split(":")[0].split(",")}
                    assert names <= parameters, f"{entry.kind} {entry.name}: {names - parameters}"
