"""What commands share: their arguments, and how they print. Nothing heavy is imported at the top."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dakit.errors import DakitError

if TYPE_CHECKING:
    from rich.console import Console

    from dakit.interfaces import Engine
    from dakit.recipe.plans import Recipe
    from dakit.registry import Registry
    from dakit.results.runs import Run

RecipeArgument = Annotated[str, typer.Argument(metavar="RECIPE", help="A YAML file, or a shipped recipe's name.")]
Profile = Annotated[str | None, typer.Option("--profile", metavar="P", help="A set of overrides, such as demo.")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="[ROW:]KEY=VALUE", help="Set a value; a variant keeps what it names."),
]
PluginFiles = Annotated[list[Path] | None, typer.Option("--plugin", metavar="FILE", help="A plugin in a file.")]
Variants = Annotated[list[str] | None, typer.Option("--variant", metavar="V", help="Only this row; repeatable.")]
AllVariants = Annotated[bool, typer.Option("--all-variants", help="Every row of the recipe.")]
Observe = Annotated[
    list[str] | None, typer.Option("--observe", metavar="NAME", help="Tell this observer of the run; repeatable.")
]
Until = Annotated[str | None, typer.Option("--until", metavar="STAGE", help="Stop after this stage.")]
Fold = Annotated[int | None, typer.Option("--fold", metavar="K", help="Only fold K, from 0.")]
Out = Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Folder of results.")]
RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run, such as runs/cycleat_sfew-demo.")]
Images = Annotated[list[str], typer.Argument(metavar="IMAGES...", help="Files, folders or 'patterns*.png'.")]
Row = Annotated[
    str | None,
    typer.Option("--row", metavar="V", help="Row of the table; else the recipe's method (or the last that was run)."),
]
Seed = Annotated[int | None, typer.Option("--seed", metavar="N", help="Of the round; else the first.")]
OfFold = Annotated[int | None, typer.Option("--fold", metavar="K", help="Of the round; else the first.")]
Batch = Annotated[int, typer.Option("--batch", metavar="N", min=1, help="Images per forward pass.")]
Device = Annotated[str, typer.Option("--device", metavar="D", help="auto (a GPU where there is one), cpu, cuda, mps.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines on standard output.")]

DEVICES = ("auto", "cpu", "cuda", "mps")


def load(
    recipe: str,
    profile: str | None,
    settings: list[str] | None,
    plugins: list[Path] | None,
    observe: list[str] | None = None,
) -> Recipe:
    """Read and check the recipe that the arguments name."""
    from dakit.recipe.load import load_recipe

    loaded = load_recipe(
        recipe, profile=profile, overrides=settings or (), observe=observe or (), plugins=plugins or ()
    )
    warn(loaded.registry)
    for text in loaded.notes:
        typer.echo(f"dakit: note: {text}", err=True)
    return loaded


def warn(registry: Registry) -> None:
    """Tell of plugins that are left out; what was asked for does not need them."""
    for text in registry.warnings():
        typer.echo(f"dakit: warning: {text}", err=True)


def chosen_rows(recipe: Recipe, variants: list[str] | None, everything: bool) -> list[str]:
    """Which rows of the table the arguments ask for."""
    if variants and everything:
        raise DakitError("--variant and --all-variants exclude each other")
    return list(recipe.plans) if everything else list(variants or recipe.rows)


def chosen_rounds(run: Run, row: str | None, seed: int | None, fold: int | None) -> list[tuple[str, int, int]]:
    """The rounds (row, seed, fold) of a run that the arguments leave to choose from; there is at least one."""
    row = row or run.method
    every = run.rounds_of(row)
    chosen = [(row, s, f) for s, f in every if seed in (None, s) and fold in (None, f)]
    if not chosen:
        asked = " ".join(f"--{name} {n}" for name, n in (("seed", seed), ("fold", fold)) if n is not None)
        there = ", ".join(f"seed {s} fold {f}" for s, f in every)
        raise DakitError(f"{asked}: {row} was not run with that; there are: {there}")
    return chosen


def one_of(option: str, given: str, known: Sequence[str]) -> None:
    """Refuse what an option does not know."""
    if given not in known:
        raise DakitError(f"{option} {given}: expected one of {', '.join(known)}")


def chosen_engine(run: Run, device: str) -> Engine:
    """The run's engine on another device; fp16, which a CPU does not have, becomes fp32 there."""
    from dataclasses import replace

    import torch

    one_of("--device", device, DEVICES)
    engine = replace(run.engine, device=device)  # type: ignore[arg-type]
    if engine.precision == "fp16" and (device == "cpu" or not torch.cuda.is_available()):
        typer.echo("computed in fp32: the run's fp16 needs a GPU", err=True)
        return replace(engine, precision="fp32")
    return engine


def shown(path: Path | str) -> str:
    """A path as text that can be written as UTF-8, whatever bytes its name has."""
    return str(path).encode("utf-8", "backslashreplace").decode("utf-8")


def terminal(stderr: bool = False) -> Console:
    """A console that does not fold tables when the output goes to a file or a pipe."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, width=None if stream.isatty() else 200)


def table(headings: list[str], rows: list[list[Any]]) -> None:
    """Print a table on standard output."""
    from rich.table import Table
    from rich.text import Text

    grid = Table(box=None, header_style="bold")
    for heading in headings:
        grid.add_column(Text(heading))
    for row in rows:
        grid.add_row(*(Text(str(cell)) for cell in row))
    terminal().print(grid)
