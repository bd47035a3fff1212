"""``dakit new``."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer


def new(
    kind: Annotated[str, typer.Argument(metavar="KIND", help="Such as transfer_loss, dataset or stage.")],
    name: Annotated[str, typer.Argument(metavar="NAME", help='Letters, digits, "-" and "_", such as my-loss.')],
    out: Annotated[Path | None, typer.Option("--out", metavar="DIR", help="The folder to make; else NAME.")] = None,
) -> None:
    """Start a plugin: a distribution with a working component, its tests and a recipe, to be made your own."""
    from dakit.advice.scaffold import write
    from dakit.plugins import find_plugins
    from dakit.registry import Registry

    folder = out or Path(name)
    files = write(kind, name, folder, Registry(find_plugins()))
    for file in files:
        typer.echo(str(file))
    package = files[-1].stem
    typer.echo(f"next: cd {shlex.quote(str(folder))} && pip install -e . && pytest")
    typer.echo(f"then: dakit check-plugin {name}, and dakit run recipes/{package}.yaml")
