"""What commands share: their arguments, and how they print. Nothing heavy is imported at the top."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dakit.errors import DakitError

if TYPE_CHECKING:
    from rich.console import Console

    from dakit.recipe import Recipe

RecipeArgument = Annotated[str, typer.Argument(metavar="RECIPE", help="A YAML file, or a shipped recipe's name.")]
Profile = Annotated[str | None, typer.Option("--profile", metavar="P", help="A set of overrides, such as demo.")]
Settings = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override one value.")]
PluginFiles = Annotated[list[Path] | None, typer.Option("--plugin", metavar="FILE", help="A plugin in a file.")]
Variants = Annotated[list[str] | None, typer.Option("--variant", metavar="V", help="Only this row; repeatable.")]
AllVariants = Annotated[bool, typer.Option("--all-variants", help="Every row of the recipe.")]
Until = Annotated[str | None, typer.Option("--until", metavar="STAGE", help="Stop after this stage.")]
Fold = Annotated[int | None, typer.Option("--fold", metavar="K", help="Only fold K, from 0.")]
Out = Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Folder of results.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines on standard output.")]


def load(recipe: str, profile: str | None, settings: list[str] | None, plugins: list[Path] | None) -> Recipe:
    """Read and check the recipe that the arguments name."""
    from dakit.recipe import load_recipe

    return load_recipe(recipe, profile=profile, overrides=settings or (), plugins=plugins or ())


def chosen_rows(recipe: Recipe, variants: list[str] | None, everything: bool) -> list[str]:
    """Which rows of the table the arguments ask for."""
    if variants and everything:
        raise DakitError("--variant and --all-variants exclude each other")
    return list(recipe.plans) if everything else list(variants or recipe.rows)


def terminal(stderr: bool = False) -> Console:
    """A console that does not fold tables when the output goes to a file or a pipe."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, width=None if stream.isatty() else 200)


def table(headings: list[str], rows: list[list[Any]]) -> None:
    """Print a table on standard output."""
    from rich.table import Table

    made = Table(*headings, box=None, header_style="bold")
    for row in rows:
        made.add_row(*(str(cell).replace("[", r"\[") for cell in row))
    terminal().print(made)
