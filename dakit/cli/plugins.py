"""``dakit plugins``."""

from __future__ import annotations

import json

import typer

from dakit.cli.common import Json, PluginFiles, table


def plugins(plugin: PluginFiles = None, as_json: Json = False) -> None:
    """List the plugins found on this machine: distribution, version, what they offer, state."""
    from dakit.plugins import find_plugins

    listing = find_plugins(plugin or ())
    rows = [
        [p.distribution, p.name, p.version, " ".join(h.removeprefix("dakit_") for h in p.hooks), p.state]
        for p in listing.found
    ]
    for text in listing.warnings():
        typer.echo(f"dakit: warning: {text}", err=True)
    headings = ["distribution", "plugin", "version", "offers", "state"]
    if as_json:
        typer.echo(json.dumps([dict(zip(headings, row, strict=True)) for row in rows], indent=1))
        return
    table(headings, rows)
