"""``dakit recipes``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dakit.cli.common import table
from dakit.errors import DakitError


def recipes(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Print this one.")] = None,
    copy: Annotated[Path | None, typer.Option("--copy", metavar="FILE", help="Copy NAME to FILE.")] = None,
) -> None:
    """List the shipped recipes, print one, or copy one out."""
    from dakit.files import shipped_recipes, write_text

    shipped = shipped_recipes()
    if name is None:
        if copy is not None:
            raise DakitError("--copy needs the NAME of a shipped recipe")
        table(["recipe", "what it is"], [[n, _first_comment(path)] for n, path in shipped.items()])
        return
    if name not in shipped:
        from dakit.errors import did_you_mean

        raise DakitError(f'there is no shipped recipe "{name}"{did_you_mean(name, shipped)}')
    text = shipped[name].read_text(encoding="utf-8")
    if copy is None:
        typer.echo(text, nl=False)
        return
    text = text.replace("$schema=schema.json", f"$schema={shipped[name].with_name('schema.json')}")  # for editors
    target = copy / f"{name}.yaml" if copy.is_dir() else copy
    if target.exists():
        raise DakitError(f"--copy {target}: is there already; nothing was written")
    try:
        write_text(target, text)
    except OSError as error:
        raise DakitError(f"--copy {target}: cannot be written: {error.strerror}") from error
    typer.echo(str(target))


def _first_comment(path: Path) -> str:
    with path.open(encoding="utf-8") as file:
        return next((line.lstrip("# ").rstrip() for line in file if line.startswith("# ")), "")
