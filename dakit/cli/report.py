"""``dakit report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dakit.cli.common import PluginFiles, RunArgument

Page = Annotated[Path | None, typer.Option("--out", metavar="FILE", help="The page; else report.html in the run.")]


def report(run: RunArgument, out: Page = None, plugin: PluginFiles = None) -> None:
    """Make the page of a run again: report.html, one file that opens without a network."""
    from dakit.errors import DakitError
    from dakit.report.page import write_page
    from dakit.results.runs import open_run

    path = out or run / "report.html"
    opened = open_run(run, plugins=plugin or ())
    try:
        write_page(opened, path)
    except OSError as error:
        raise DakitError(f"{path}: cannot be written: {error.strerror}") from error
    typer.echo(str(path))
