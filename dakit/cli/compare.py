"""``dakit compare``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN RUN...", help="Folders of runs.")],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The page.")] = Path("compare.html"),
) -> None:
    """Put several runs on one page: their numbers side by side, what was set differently, and what it cost."""
    from dakit.errors import DakitError
    from dakit.report.compare import write_comparison
    from dakit.results.runs import open_run

    try:
        write_comparison([open_run(folder) for folder in runs], out)
    except OSError as error:
        raise DakitError(f"--out {out}: cannot be written: {error.strerror}") from error
    typer.echo(str(out))
