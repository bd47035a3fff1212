"""``dakit doctor``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

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
    shown,
    table,
)
from dakit.errors import DakitError

if TYPE_CHECKING:
    from dakit.advice.estimates import Estimate


def doctor(
    recipe: RecipeArgument,
    variant: Variants = None,
    all_variants: AllVariants = False,
    profile: Profile = None,
    set_: Settings = None,
    out: Out = None,
    plugin: PluginFiles = None,
    measure: Annotated[bool, typer.Option(help="Run a few steps of every stage to estimate time and memory.")] = True,
    as_json: Json = False,
) -> None:
    """Look for faults in a recipe's images and labels, and estimate time and memory.

    Corrupt and odd images, classes, balance, too few labels, groups and (near) duplicates across sides and domains;
    after a run with folds, labels in doubt. Labels of the test side stay closed.
    Exit code: 0 nothing or notes; 1 warnings; 2 errors.
    """
    from dakit.advice.doctor import SEVERITIES, examine, label_noise
    from dakit.advice.estimates import estimate
    from dakit.pipeline.progress import TerminalProgress

    loaded = load(recipe, profile, set_, plugin)
    rows = chosen_rows(loaded, variant, all_variants)
    progress = TerminalProgress()
    findings = [*examine(loaded, [progress]), *label_noise(loaded, out)]
    progress.close()
    worst = max((SEVERITIES.index(finding.severity) for finding in findings), default=0)
    estimates: list[Estimate] = []
    why_not = "" if measure else "not asked for"
    if measure:
        try:
            estimates = estimate(loaded, rows=rows, out=out)
        except DakitError as error:
            why_not = str(error)
    if as_json:
        about = {
            "severity": SEVERITIES[worst] if findings else "none",
            "findings": [
                {**finding._asdict(), "images": [shown(image) for image in finding.images]} for finding in findings
            ],
            "estimates": [vars(cost) for cost in estimates],
            "not_measured": why_not,
        }
        typer.echo(json.dumps(about, indent=1))
        raise typer.Exit(worst)
    if findings:
        table(["severity", "check", "where", "what"], [list(finding[:4]) for finding in findings])
        for finding in findings:
            if finding.images:
                more = [f"... {len(finding.images) - 3} more: --json"] if len(finding.images) > 3 else []
                typer.echo(
                    f"\n{finding.check} ({finding.where}):\n  " + "\n  ".join(map(shown, [*finding.images[:3], *more]))
                )
    else:
        typer.echo(f"{loaded.file}: nothing was found in its data")
    if estimates:
        typer.echo()
        table(["stage", "to make", "each", "memory", ""], [_cells(cost) for cost in estimates])
        total = sum(cost.seconds * cost.results for cost in estimates if cost.seconds is not None)
        stages = f"{loaded.document['method']}'s stages on this machine as it is now"
        typer.echo(f"about {_time(total)} for {', '.join(rows)}, by {stages}; t-SNE grows faster than this")
    elif measure:
        typer.echo(f"time and memory: not measured: {why_not}", err=True)
    raise typer.Exit(worst)


def _cells(cost: Estimate) -> list[object]:
    if cost.seconds is None:
        return [cost.stage, cost.results, "-", "-", cost.problem]
    return [cost.stage, cost.results, _time(cost.seconds), f"{cost.megabytes} MB", ""]


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
