"""``dakit check-plugin``."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dakit.cli.common import Json, PluginFiles, table
from dakit.errors import DakitError, did_you_mean

if TYPE_CHECKING:
    from dakit.registry import Entry, Registry

_TAKING = ("stage", "estimator")
"""The kinds whose components take others, for which the kit has small ones."""


def check_plugin(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="NAME...", help="A component, KIND/NAME, or a distribution; else all of --plugin."),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A parameter, of all that have it; or NAME.KEY=VALUE."),
    ] = None,
    plugin: PluginFiles = None,
    as_json: Json = False,
) -> None:
    """Check components against the contract of their kind: shapes, ranges, gradients, seeds, resuming, and more.

    Exit code 1 when a check fails or a component could not be checked.
    """
    from dakit.plugins import find_plugins
    from dakit.registry import Registry
    from dakit.signatures import ParameterProblems

    registry = Registry(find_plugins(plugin or ()))
    entries = _named(registry, names or [str(file) for file in plugin or ()])
    params = _parameters(registry, entries, set_ or ())

    from dakit.testing import Result, check_component
    from dakit.testing.stages import small_components

    rows: list[dict[str, Any]] = []
    unmade = []
    for entry in entries:
        what = f"{entry.kind}/{entry.name}"
        typer.echo(f"checking {what} from {entry.distribution}", err=True)
        try:
            small = small_components(entry.factory, params[entry]) if entry.kind in _TAKING else {}
            results = check_component(entry.kind, entry.factory, params[entry] | small)
        except ParameterProblems as error:
            unmade.append(f"{what}: {error} (set with --set KEY=VALUE)")
            results = [Result("not_checked", unmade[-1])]
        except DakitError as error:
            results = [Result("signature_is_a_schema", str(error))]
        rows += [
            {"component": what, "from": entry.distribution, "check": check, "passed": not problem, "problem": problem}
            for check, problem in results
        ]
    if len(unmade) == len(entries):
        raise DakitError("\n".join(unmade))
    failed = sum(not row["passed"] for row in rows)
    if as_json:
        typer.echo(json.dumps(rows, indent=1))
    else:
        cells = [[row["component"], row["check"], row["problem"] or "passed"] for row in rows]
        table(["component", "check", "result"], cells)
        typer.echo(f"components: {len(entries)}, checks: {len(rows)}: {f'{failed} failed' if failed else 'all passed'}")
    if failed:
        raise SystemExit(1)


def _named(registry: Registry, names: list[str]) -> list[Entry]:
    """Every component that the names stand for."""
    from dakit.registry import KINDS

    if not names:
        raise DakitError("what to check? A component, KIND/NAME, a distribution, or --plugin FILE")
    known: dict[str, list[Entry]] = {}
    for entry in (entry for kind in KINDS for entry in registry.entries(kind)):
        for name in (
            entry.name,
            f"{entry.kind}/{entry.name}",
            f"{entry.distribution}/{entry.name}",
            entry.distribution,
        ):
            known.setdefault(name, []).append(entry)
    for name in names:
        if name not in known:
            failed = "".join(f"\n  (plugin not loaded: {line})" for line in registry.plugins.failures())
            raise DakitError(f'no component or distribution is called "{name}"{did_you_mean(name, known)}{failed}')
    return list(dict.fromkeys(entry for name in names for entry in known[name]))


def _parameters(registry: Registry, entries: list[Entry], settings: Iterable[str]) -> dict[Entry, dict[str, Any]]:
    """For each component the settings that are for it; every setting is for at least one.

    A component that a stage takes is written as in a recipe, ``{use: NAME, ...}``.
    """
    import inspect
    import typing

    from dakit.recipe.yaml_lines import read_yaml
    from dakit.registry import component_kind

    takes = {entry: set(inspect.signature(entry.factory).parameters) for entry in entries}
    params: dict[Entry, dict[str, Any]] = {entry: {} for entry in entries}
    for text in settings:
        key, equals, value = text.partition("=")
        if not equals:
            raise DakitError(f"--set {text}: expected KEY=VALUE")
        name, _, parameter = key.rpartition(".")
        targets = [entry for entry in entries if name in ("", entry.name) and parameter in takes[entry]]
        if not targets:
            known = set().union(*takes.values())
            raise DakitError(f"--set {text}: no component to check has this parameter{did_you_mean(parameter, known)}")
        for entry in targets:
            given = read_yaml(value, f"--set {key}")[0]
            if entry.kind in _TAKING and isinstance(given, dict) and "use" in given:
                target = entry.factory.__init__ if inspect.isclass(entry.factory) else entry.factory
                kind = component_kind(typing.get_type_hints(target, include_extras=True)[parameter])
                if kind is not None:
                    given = registry.spec(kind, str(given["use"]), {k: v for k, v in given.items() if k != "use"})
            params[entry][parameter] = given
    return params
