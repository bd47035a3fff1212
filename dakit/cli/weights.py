"""``dakit weights``."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from dakit.cli.common import (
    AllVariants,
    Json,
    PluginFiles,
    Profile,
    RecipeArgument,
    Settings,
    Variants,
    chosen_rows,
    load,
    table,
)


def weights(
    recipe: RecipeArgument,
    variant: Variants = None,
    all_variants: AllVariants = False,
    profile: Profile = None,
    set_: Settings = None,
    fetch: Annotated[
        bool, typer.Option("--fetch", help="Download those that are not here, by their library's own means.")
    ] = False,
    plugin: PluginFiles = None,
    as_json: Json = False,
) -> None:
    """List the files of pretrained weights that a recipe needs; without --fetch nothing touches the network."""
    from contextlib import closing

    from dakit.pipeline.progress import TerminalProgress
    from dakit.pipeline.weights import fetch as fetch_files
    from dakit.pipeline.weights import needed

    loaded = load(recipe, profile, set_, plugin)
    rows = chosen_rows(loaded, variant, all_variants)
    needs = needed(loaded, rows)
    if fetch:
        with closing(TerminalProgress()) as progress:
            fetched = fetch_files(needs, [progress])
        typer.echo(f"fetched {len(fetched)} of {len(needs)} files", err=True)
        needs = needed(loaded, rows)
    if as_json:
        about = [{**need.file._asdict(), "place": str(need.file.place), "rows": need.rows} for need in needs]
        typer.echo(json.dumps(about, indent=1))
        return
    if not needs:
        typer.echo("no component of these rows starts from a file of weights")
        return
    table(
        ["file", "network", "size", "licence", "here", "place", "rows"],
        [
            [
                need.file.file,
                need.file.network,
                "-" if need.file.size is None else f"{need.file.size / 1e6:.1f} MB",
                need.file.licence or "not stated",
                "yes" if need.file.there else "no",
                need.file.place,
                ", ".join(need.rows),
            ]
            for need in needs
        ],
    )
    missing = [need for need in needs if not need.file.there]
    can = [need for need in missing if need.file.fetched_by]
    if can:
        by = ", ".join(dict.fromkeys(need.file.fetched_by for need in can))
        typer.echo(f"{len(can)} of {len(needs)} are not here; --fetch downloads them ({by})")
    if len(can) < len(missing):
        typer.echo(f"{len(missing) - len(can)} must be brought: a recipe names them by path")
