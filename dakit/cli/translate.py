"""``dakit translate``."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from dakit.cli.common import (
    Batch,
    Device,
    Images,
    Json,
    OfFold,
    Overwrite,
    PluginFiles,
    Row,
    RunArgument,
    Seed,
    chosen_engine,
    chosen_rounds,
    shown,
    table,
)


def translate(
    run: RunArgument,
    images: Images,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where the translated PNG files go.")],
    row: Row = None,
    seed: Seed = None,
    fold: OfFold = None,
    stage: Annotated[
        str | None, typer.Option("--stage", metavar="STAGE", help="Whose translator; else the row's last.")
    ] = None,
    back: Annotated[bool, typer.Option("--back", help="From the auxiliary look to the source's.")] = False,
    overwrite: Overwrite = False,
    batch: Batch = 32,
    device: Device = "auto",
    plugin: PluginFiles = None,
    as_json: Json = False,
) -> None:
    """Translate images as a run's `synthesise` does: from the source's look to the auxiliary one, or back.

    Folders keep their inner order below --out. Exit code: 0; 1 where some image could not be read; 2 a mistake.
    """
    from dakit.pipeline.progress import TerminalProgress
    from dakit.results.runs import open_run
    from dakit.use.inference import find_images, passed_over
    from dakit.use.inference import translate as translate_files

    opened = open_run(run, plugins=plugin or ())
    engine = chosen_engine(opened, device)
    rounds = chosen_rounds(opened, row, seed, fold)
    files = find_images(images)
    model = opened.translator(*rounds[0], stage=stage, inverse=back)
    with closing(TerminalProgress()) as progress:
        done = translate_files(
            model, files, out, engine=engine, batch_size=batch, overwrite=overwrite, observers=[progress]
        )
    failed = [result for result in done if result.error]
    if as_json:
        rows = [
            {"path": shown(result.path), "error": result.error}
            if result.written is None
            else {"path": shown(result.path), "written": shown(result.written)}
            for result in done
        ]
        typer.echo(json.dumps(rows, indent=1))
    elif failed:
        table(["not read", "why"], [[shown(result.path), result.error] for result in failed])
    others = f", of {len(rounds)} rounds" if len(rounds) > 1 else ""
    typer.echo(
        f"{len(done) - len(failed)} of {len(done)} images translated by {model.origin}{others}, into {out}", err=True
    )
    if skipped := passed_over(images):
        typer.echo(f"passed over, as they are no images by their suffix: {skipped}", err=True)
    if failed:
        raise typer.Exit(1)
