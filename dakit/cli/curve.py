"""``dakit curve``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from dakit.cli.common import (
    AllVariants,
    Json,
    Out,
    PluginFiles,
    Profile,
    RecipeArgument,
    Settings,
    Variants,
    chosen_rows,
    load,
    table,
    terminal,
)
from dakit.errors import DakitError


def curve(
    recipe: RecipeArgument,
    labels: Annotated[str, typer.Option("--labels", metavar="N,N,...", help="Labels per class, such as 1,3,10,all.")],
    draws: Annotated[int | None, typer.Option("--draws", metavar="N", min=1, help="Draw the labels so often.")] = None,
    variant: Variants = None,
    all_variants: AllVariants = False,
    profile: Profile = None,
    set_: Settings = None,
    out: Out = None,
    plugin: PluginFiles = None,
    as_json: Json = False,
) -> None:
    """Run a recipe with fewer target labels, and draw accuracy against their number."""
    numbers = _numbers(labels)
    from dakit import processes
    from dakit.pipeline.curve import curve as run_curve
    from dakit.pipeline.curve import curve_json
    from dakit.pipeline.progress import TerminalProgress

    loaded = load(recipe, profile, set_, plugin)
    console = terminal(stderr=as_json)
    rows = chosen_rows(loaded, variant, all_variants)
    points = run_curve(loaded, numbers, draws=draws, rows=rows, out=out, observers=[TerminalProgress()])
    processes.leave()
    if not processes.first():
        return
    folder = Path(out or loaded.folder) / "curve"
    if as_json:
        typer.echo(json.dumps(curve_json(loaded, points, folder), indent=1))
        return
    shown = []
    for row in points[0].outcome.summaries:
        summaries = [point.outcome.summaries[row] for point in points]
        shown.append([row, *(f"{100 * s.value:.2f}\n{100 * s.low:.1f}-{100 * s.high:.1f}" for s in summaries)])
    table(["labels per class", *(point.name for point in points)], shown)
    for point in points:
        for stage, size in point.batch_sizes.items():
            console.print(f"labels {point.name}: {stage} was trained with batches of {size}, as there are so few")
    for row in points[0].outcome.comparisons:
        compared = [(point.name, point.outcome.comparisons[row]) for point in points]
        verdicts = "; ".join(
            f"{name}: {comparison if isinstance(comparison, str) else comparison.verdict}"
            for name, comparison in compared
        )
        console.print(f"{row} against {loaded.baseline}: {verdicts}", markup=False, highlight=False)
    count = sum(point.outcome.made for point in points)
    console.print(
        f"made {count} stage results; curve.png, .svg, .csv, .json and a table for each number: {folder}",
        markup=False,
        highlight=False,
    )


def _numbers(text: str) -> list[int | None]:
    parts = [part.strip() for part in text.split(",")]
    wrong = [part for part in parts if part != "all" and not (part.isascii() and part.isdigit() and int(part))]
    if wrong:
        listed = ", ".join(f'"{part}"' for part in wrong)
        raise DakitError(f"--labels {text}: {listed}: expected whole numbers from 1 on, or all, such as 1,3,10,all")
    return [None if part == "all" else int(part) for part in parts]
