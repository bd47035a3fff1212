"""``dakit export``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from dakit.cli.common import Json, OfFold, PluginFiles, Row, RunArgument, Seed, chosen_rounds


def export(
    run: RunArgument,
    kind: Annotated[str, typer.Option("--format", metavar="F", help="onnx, torch (a torch.export program), or timm.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="A new folder for the model and its card.")],
    row: Row = None,
    seed: Seed = None,
    fold: OfFold = None,
    check: Annotated[
        list[str] | None, typer.Option("--check", metavar="IMAGES", help="Compare on these, not on the test images.")
    ] = None,
    plugin: PluginFiles = None,
    as_json: Json = False,
) -> None:
    """Export a run's classifier, from uint8 pixels to probabilities, checked, with a model card beside it."""
    from dakit.results.runs import open_run
    from dakit.use.export import export as export_classifier
    from dakit.use.inference import find_images

    opened = open_run(run, plugins=plugin or ())
    rounds = chosen_rounds(opened, row, seed, fold)
    images = list(find_images(check or ()))
    file, agreement = export_classifier(opened, *rounds[0], kind=kind, out=out, check=images)
    if as_json:
        row, seed, fold = rounds[0]
        about = {"file": str(file), "row": row, "seed": seed, "fold": fold, "images": agreement.images}
        typer.echo(json.dumps({**about, "largest_difference": agreement.difference}, indent=1))
        return
    others = f" (of {len(rounds)}: --seed, --fold)" if len(rounds) > 1 else ""
    typer.echo(f"{file}: {rounds[0][0]}, seed {rounds[0][1]} fold {rounds[0][2]}{others}")
    typer.echo(f"agrees with the run's on {agreement.images} images: largest difference {agreement.difference:.1e}")
    typer.echo(f"{out / 'MODEL_CARD.md'}: what it is, and how to call it")
