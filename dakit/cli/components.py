"""``dakit list`` and ``dakit show``."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from dakit.cli.common import Json, PluginFiles, table, warn


def list_(
    kind: Annotated[str | None, typer.Argument(metavar="[KIND]", help="Such as translator or stage.")] = None,
    plugin: PluginFiles = None,
    as_json: Json = False,
) -> None:
    """List what recipes may name, of one kind or all."""
    from dakit.plugins import find_plugins
    from dakit.registry import KINDS, Registry

    registry = Registry(find_plugins(plugin or ()))
    entries = [entry for name in ([kind] if kind else KINDS) for entry in registry.entries(name)]
    warn(registry)
    rows = [[e.kind, e.name, e.distribution, _first_line(e.factory)] for e in entries]
    if as_json:
        typer.echo(json.dumps([dict(zip(("kind", "name", "from", "what"), row, strict=True)) for row in rows]))
        return
    table(["kind", "name", "from", "what"], rows)


def show(
    kind: Annotated[str, typer.Argument(help="Such as translator or dataset.")],
    name: Annotated[str, typer.Argument(help="As `dakit list KIND` prints it.")],
    plugin: PluginFiles = None,
) -> None:
    """Show one component: where it comes from, what it does, its parameters and defaults."""
    import inspect

    from typing_extensions import is_typeddict

    from dakit.plugins import find_plugins
    from dakit.registry import KINDS, Registry
    from dakit.signatures import describe_parameters, stage_inputs, stage_outputs, within

    entry = Registry(find_plugins(plugin or ())).find(kind, name)
    version = getattr(entry.factory, "version", 1)
    typer.echo(f"{entry.kind} {entry.name}, version {version}, from {entry.distribution} ({entry.factory.__module__})")
    typer.echo("\n" + (inspect.getdoc(entry.factory) or "It has no docstring.") + "\n")
    table(
        ["parameter", "type", "default"],
        [list(r) for r in describe_parameters(entry.factory, KINDS[kind].given)],
    )
    for parameter, mapping in within(entry.factory).items():
        typer.echo(f"\n{parameter}: a mapping, {mapping.__name__}\n\n{inspect.getdoc(mapping) or ''}\n")
        if not is_typeddict(mapping):
            table([f"within {parameter}", "type", "default"], [list(r) for r in describe_parameters(mapping, 0)])
    if kind == "stage":
        for title, ports in (
            ("input", stage_inputs(entry.factory)),
            ("output", stage_outputs(entry.factory)),
        ):
            table([title, "type"], [[n, _type_name(t)] for n, t in ports.items()])


def _first_line(factory: Any) -> str:
    return ((factory.__doc__ or "").strip().splitlines() or [""])[0]


def _type_name(annotation: Any) -> str:
    return str(getattr(annotation, "__name__", None) or annotation).replace("dakit.interfaces.", "")
