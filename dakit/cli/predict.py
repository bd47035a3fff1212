"""``dakit predict``."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
from dakit.errors import DakitError

if TYPE_CHECKING:
    from dakit.use.inference import Predicted


def predict(
    run: RunArgument,
    images: Images,
    row: Row = None,
    seed: Seed = None,
    fold: OfFold = None,
    ensemble: Annotated[
        bool, typer.Option("--ensemble", help="Mean probability over all rounds of the row that fit --seed and --fold.")
    ] = False,
    csv: Annotated[Path | None, typer.Option("--csv", metavar="FILE", help="Write every probability to FILE.")] = None,
    overwrite: Overwrite = False,
    batch: Batch = 64,
    device: Device = "auto",
    plugin: PluginFiles = None,
    as_json: Json = False,
) -> None:
    """Classify images with a run's classifier, read as `evaluate` reads its own.

    Exit code: 0; 1 where some image could not be read (it stands in the result, with the reason); 2 a mistake.
    """
    from dakit.pipeline.progress import TerminalProgress
    from dakit.results.runs import open_run
    from dakit.use.inference import classify, find_images, passed_over

    if csv is not None and csv.exists() and not overwrite:
        raise DakitError(f"--csv {csv}: is there already; nothing was written (--overwrite replaces it)")
    if csv is not None and not csv.parent.is_dir():
        raise DakitError(f"--csv {csv}: there is no folder {csv.parent}")
    opened = open_run(run, plugins=plugin or ())
    engine = chosen_engine(opened, device)
    rounds = chosen_rounds(opened, row, seed, fold)
    used = rounds if ensemble else rounds[:1]
    files = list(find_images(images))
    models = [opened.classifier(*place) for place in used]
    with closing(TerminalProgress()) as progress:
        predictions = classify(models, files, engine=engine, batch_size=batch, observers=[progress])
    classes = models[0].classes
    failed = [prediction for prediction in predictions if prediction.error]
    if as_json:
        about = {"row": used[0][0], "rounds": [{"seed": s, "fold": f} for _, s, f in used], "classes": classes}
        typer.echo(
            json.dumps({**about, "images": [_plain(prediction, classes) for prediction in predictions]}, indent=1)
        )
    elif csv is None:
        table(
            ["image", "prediction", "probability", "next"], [_cells(prediction, classes) for prediction in predictions]
        )
    if csv is not None:
        _write_csv(csv, predictions, classes)
    who = f"{used[0][0]}, {', '.join(f'seed {s} fold {f}' for _, s, f in used)}"
    others = f" (of {len(rounds)}: --seed, --fold, --ensemble)" if len(rounds) > len(used) else ""
    where = f", in {csv}" if csv else ""
    typer.echo(
        f"{len(predictions) - len(failed)} of {len(predictions)} images classified by {who}{others}{where}", err=True
    )
    if others := passed_over(images):
        typer.echo(f"passed over, as they are no images by their suffix: {others}", err=True)
    if len(used) > 1:
        typer.echo("the run's numbers are those of single classifiers; none was measured for their mean", err=True)
    if failed:
        raise typer.Exit(1)


def _best(prediction: Predicted, classes: tuple[str, ...]) -> list[tuple[str, float]]:
    return sorted(zip(classes, prediction.probabilities, strict=True), key=lambda pair: -pair[1])


def _plain(prediction: Predicted, classes: tuple[str, ...]) -> dict[str, object]:
    if prediction.error:
        return {"path": shown(prediction.path), "error": prediction.error}
    name, probability = _best(prediction, classes)[0]
    each = dict(zip(classes, prediction.probabilities, strict=True))
    return {"path": shown(prediction.path), "prediction": name, "probability": probability, "probabilities": each}


def _cells(prediction: Predicted, classes: tuple[str, ...]) -> list[str]:
    if prediction.error:
        return [shown(prediction.path), "-", "-", prediction.error]
    (name, first), *others = _best(prediction, classes)
    return [shown(prediction.path), name, f"{first:.3f}", ", ".join(f"{other} {p:.3f}" for other, p in others[:2])]


def _write_csv(path: Path, predictions: list[Predicted], classes: tuple[str, ...]) -> None:
    """A row per image: path, prediction, probability, every class's probability, error."""
    import csv

    from dakit.files import written

    try:
        with written(path) as part, open(part, "w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["path", "prediction", "probability", *(f"p({name})" for name in classes), "error"])
            for prediction in predictions:
                best = _best(prediction, classes)[0] if not prediction.error else ("", "")
                numbers = prediction.probabilities or [""] * len(classes)
                writer.writerow([shown(prediction.path), *best, *numbers, prediction.error])
    except OSError as error:
        raise DakitError(f"--csv {path}: cannot be written: {error.strerror}") from error
