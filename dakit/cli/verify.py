"""``dakit verify``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from dakit.cli.common import Json, table


def verify(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of results, such as runs/cycleat_sfew.")],
    as_json: Json = False,
) -> None:
    """Compare every file of a run with its checksum; exit code 1 when one is not what was written."""
    from dakit.results.verify import verify as walk

    results = list(walk(run / "store"))
    if as_json:
        typer.echo(json.dumps([checked._asdict() for checked in results], indent=1))
    else:
        table(
            [f"{len(results)} stage results", "state", "files", "MB", ""],
            [
                [c.folder, "complete" if c.complete else "under way", c.files, f"{c.size / 1e6:.1f}",
                 f"DAMAGED: {len(c.damage)}" if c.damage else "good"]
                for c in results
            ],
        )  # fmt: skip
        for message in (message for checked in results for message in checked.damage):
            typer.echo(message, err=True)
    if any(checked.damage for checked in results):
        raise typer.Exit(1)
