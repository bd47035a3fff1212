"""``dakit prepare faces``."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated

import typer

from dakit.cli.common import Json, Overwrite, one_of, shown, table
from dakit.errors import DakitError


def prepare_faces(
    source: Annotated[
        Path, typer.Argument(metavar="SRC", help="Folder of photographs, with or without class folders.")
    ],
    target: Annotated[Path, typer.Argument(metavar="DST", help="Folder of the crops, in the same folders.")],
    boxes: Annotated[
        Path | None, typer.Option("--boxes", metavar="FILE", help="Boxes by hand: path,left,top,right,bottom.")
    ] = None,
    weights: Annotated[Path | None, typer.Option("--weights", metavar="FILE", help="YuNet's, yunet_final.pth.")] = None,
    download: Annotated[
        bool, typer.Option("--download", help="Let kornia fetch the weights if they are missing.")
    ] = False,
    size: Annotated[int, typer.Option("--size", metavar="N", min=16, help="Side of the crops in pixels.")] = 256,
    margin: Annotated[float, typer.Option("--margin", min=0, max=2, help="Added around a face, as a fraction.")] = 0.15,
    score: Annotated[float, typer.Option("--score", min=0.01, max=0.99, help="Below it, it is no face.")] = 0.6,
    smallest: Annotated[int, typer.Option("--smallest", metavar="N", min=1, help="Least pixels of a face.")] = 32,
    turned: Annotated[
        bool, typer.Option("--turned", help="Turn images in which no face stands upright; else EXIF alone does.")
    ] = False,
    review: Annotated[
        Path | None, typer.Option("--review", metavar="FILE.png", help="Write the doubtful crops on one sheet.")
    ] = None,
    device: Annotated[
        str, typer.Option("--device", metavar="D", help="auto (a GPU where there is one), cpu, cuda.")
    ] = "auto",
    workers: Annotated[int | None, typer.Option("--workers", metavar="N", min=1, help="Images at a time.")] = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Find, align and crop the largest face of every image; DST/faces.csv has a row for each, with the reason.

    An image is taken to be upright by its EXIF. A face is kept if it looks like one again after aligning.
    Killed and called again, it goes on. Exit code: 0; 1 where some image has no crop; 2 a mistake.
    """
    if not source.is_dir():
        raise DakitError(f"{source}: there is no such folder")
    if target.exists() and not target.is_dir():
        raise DakitError(f"{target}: is not a folder")

    from dakit.pipeline.progress import TerminalProgress
    from dakit_builtins.prepare.faces import Cropping, crop_faces, doubtful, read_boxes, summary, weights_file
    from dakit_builtins.prepare.review import review_sheet, sheet_path

    chosen = _device(device)
    sheet = sheet_path(review, source, target) if review else None
    given = read_boxes(boxes) if boxes else None
    if download and weights is None:
        from kornia.contrib import FaceDetector

        FaceDetector()  # fetches what is not there
    detector_file = weights_file(weights)
    progress = TerminalProgress()
    rows = crop_faces(
        source, target, cropping=Cropping(size, margin, score, smallest, turned), weights=detector_file, boxes=given,
        device=chosen, workers=workers or os.cpu_count() or 1, overwrite=overwrite, observers=[progress],
    )  # fmt: skip
    progress.close()
    pictures = review_sheet(rows, source, target, sheet) if sheet else 0
    failed = [row for row in rows if not row.crop]
    doubts = len(doubtful(rows))
    if as_json:
        typer.echo(
            json.dumps(
                {"crops": len(rows) - len(failed), "doubtful": doubts, "images": [row._asdict() for row in rows]},
                indent=1,
            )
        )
    else:
        table(["reason", "images"], [list(pair) for pair in summary(rows).items()])
        typer.echo(
            f"{len(rows) - len(failed)} of {len(rows)} images have a crop; a row for each: {target / 'faces.csv'}"
        )
        if sheet:
            typer.echo(f"{doubts} doubtful faces; a sheet of {pictures}: {sheet}")
        elif doubts:
            typer.echo(f"{doubts} doubtful faces; --review FILE.png shows them")
    if failed:
        some = ", ".join(shown(row.path) for row in failed[:3]) + (", ..." if len(failed) > 3 else "")
        typer.echo(f"without a crop: {some}; --boxes FILE takes boxes made by hand for them", err=True)
        raise typer.Exit(1)


def _device(name: str) -> str:
    import torch

    one_of("--device", name, ("auto", "cpu", "cuda"))
    if name == "cuda" and not torch.cuda.is_available():
        raise DakitError("--device cuda: there is no such device here")
    return "cuda" if name != "cpu" and torch.cuda.is_available() else "cpu"
