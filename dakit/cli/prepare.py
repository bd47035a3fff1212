"""``dakit prepare``: what is done to images before a recipe. Its commands are plugins'."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import typer
from typer.core import TyperGroup


class _Preparations(TyperGroup):
    """Commands that are looked up when ``dakit prepare`` is called, so that no plugin is imported for another one."""

    def list_commands(self, ctx: Any) -> list[str]:
        return sorted(_offered())

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        preparations = _offered()
        if cmd_name not in preparations:
            return None
        app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
        app.command(cmd_name)(preparations[cmd_name])
        return typer.main.get_command(app)


def _offered() -> dict[str, Callable[..., Any]]:
    from dakit.plugins import find_plugins
    from dakit.registry import Registry

    return Registry(find_plugins()).preparations()


group = typer.Typer(
    cls=_Preparations, help="Prepare images before a recipe.", no_args_is_help=True, rich_markup_mode=None
)
