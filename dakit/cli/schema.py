"""``dakit schema``."""

from __future__ import annotations

import json

import typer

from dakit.cli.common import PluginFiles, warn


def schema(plugin: PluginFiles = None) -> None:
    """Print a JSON Schema of recipes, made from the installed plugins, so that editors complete and check them.

    `dakit schema > schema.json`, and `# yaml-language-server: $schema=schema.json` in a recipe beside it.
    """
    from dakit.plugins import find_plugins
    from dakit.recipe.schema import recipe_schema
    from dakit.registry import Registry

    registry = Registry(find_plugins(plugin or ()))
    typer.echo(json.dumps(recipe_schema(registry), indent=1))
    warn(registry)
