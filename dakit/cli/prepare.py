"""``dakit prepare``: what is done to images before a recipe. Its commands are plugins'."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup


class _Preparations(TyperGroup):
    """Commands that are looked up when ``dakit prepare`` is called, so that no plugin is imported for another one."""

    def list_commands(self, ctx: Any) -> list[str]:
        from dakit.plugins import find_plugins
        from dakit.registry import Registry

        return sorted(Registry(find_plugins()).preparations())

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        from dakit.plugins import find_plugins
        from dakit.registry import Registry

        preparations = Registry(find_plugins()).preparations()
        if cmd_name not in preparations:
            return None
        app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
        app.command(cmd_name)(preparations[cmd_name])
        return typer.main.get_command(app)


group = typer.Typer(
    cls=_Preparations, help="Prepare images before a recipe.", no_args_is_help=True, rich_markup_mode=None
)
