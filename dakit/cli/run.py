"""``dakit run``."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from dakit.cli.common import (
    AllVariants,
    Fold,
    Json,
    Observe,
    Out,
    PluginFiles,
    Profile,
    RecipeArgument,
    Settings,
    Until,
    Variants,
    chosen_rows,
    load,
    terminal,
)
from dakit.errors import DakitError


def run(
    recipe: RecipeArgument,
    variant: Variants = None,
    all_variants: AllVariants = False,
    profile: Profile = None,
    set_: Settings = None,
    until: Until = None,
    fold: Fold = None,
    fresh: Annotated[
        list[str] | None, typer.Option("--fresh", metavar="STAGE", help="Make this stage anew; repeatable.")
    ] = None,
    fetch: Annotated[
        bool, typer.Option("--fetch", help="First download the pretrained weights that are not here.")
    ] = False,
    observe: Observe = None,
    out: Out = None,
    plugin: PluginFiles = None,
    as_json: Json = False,
) -> None:
    """Run a recipe: every stage that is not there yet, then the table."""
    from dakit import processes
    from dakit.pipeline import run as pipeline
    from dakit.pipeline.outcome import results_json
    from dakit.pipeline.progress import TerminalProgress

    loaded = load(recipe, profile, set_, plugin, observe)
    named = {spec.factory for spec in loaded.observers}
    console = terminal(stderr=as_json)
    rows = chosen_rows(loaded, variant, all_variants)
    if fetch:
        from contextlib import closing

        from dakit.pipeline.weights import fetch as fetch_files
        from dakit.pipeline.weights import needed

        if processes.count() > 1:
            raise DakitError(f"--fetch: of one process alone; before the others: dakit weights {recipe} --fetch")
        with closing(TerminalProgress()) as progress:
            fetch_files(needed(loaded, rows), [progress])
    outcome = pipeline.run(
        loaded,
        rows=rows,
        out=out,
        until=until,
        fold=fold,
        fresh=fresh or (),
        observers=[TerminalProgress()] if TerminalProgress not in named else [],
    )
    processes.leave()
    if not processes.first():
        return
    if as_json:
        typer.echo(json.dumps(results_json(loaded, outcome), indent=1))
        return
    if outcome.made == 0:
        console.print(f"nothing to do: all {outcome.reused} stage results were already made")
    else:
        console.print(f"made {outcome.made} stage results, reused {outcome.reused}")
    for text in outcome.warnings:
        console.print(f"warning: {text}", style="yellow", markup=False, highlight=False)
    if outcome.summaries:
        from dakit.report.tables import ladder

        console.print(ladder(outcome.summaries, loaded.published, loaded.title, width=console.width))
        for line in outcome.remarks(loaded):
            console.print(line, markup=False, highlight=False)
        missing = [row for row in loaded.plans if row not in outcome.summaries]
        if missing:
            console.print(f"rows not run: {', '.join(missing)} (--all-variants, or --variant NAME)")
        console.print(f"table, JSON, pictures and report.html: {outcome.folder}", markup=False, highlight=False)
