"""``dakit plan``."""

from __future__ import annotations

import json

import typer

from dakit.cli.common import (
    AllVariants,
    Fold,
    Json,
    Out,
    PluginFiles,
    Profile,
    RecipeArgument,
    Settings,
    Until,
    Variants,
    chosen_rows,
    load,
    table,
)


def plan(
    recipe: RecipeArgument,
    variant: Variants = None,
    all_variants: AllVariants = False,
    profile: Profile = None,
    set_: Settings = None,
    until: Until = None,
    fold: Fold = None,
    out: Out = None,
    plugin: PluginFiles = None,
    as_json: Json = False,
) -> None:
    """Show what `run` would do: which stages run, which are cached, and which key changed."""
    from dakit.pipeline import run as pipeline

    loaded = load(recipe, profile, set_, plugin)
    jobs = pipeline.plan(loaded, rows=chosen_rows(loaded, variant, all_variants), out=out, until=until, fold=fold)
    rows = [
        {
            "stage": s.stage.name,
            "for": s.row,
            "seed": s.seed,
            "fold": s.fold,
            "key": s.key[:16],
            "state": state,
        }
        for s, state in jobs
    ]
    if as_json:
        typer.echo(json.dumps(rows, indent=1))
        return
    table(
        [f"{len(rows)} stage results", "first for", "seed", "fold", "key", "state"],
        [list(r.values()) for r in rows],
    )
