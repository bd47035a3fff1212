"""A run's networks on the user's own image files, read and computed as the run itself did."""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from dakit.data.files import image_files, list_images, told_of
from dakit.errors import DakitError, did_you_mean
from dakit.files import written
from dakit.interfaces import Context, Engine, Observer
from dakit.results.runs import Model
from dakit.stages.translator import to_uint8
from dakit.training.surroundings import undisturbed
from dakit.training.trainer import Trainer


class Predicted(NamedTuple):
    """What was said of one file: a probability per class, or none and why it could not be read."""

    path: Path
    probabilities: tuple[float, ...]
    error: str


class Translated(NamedTuple):
    """Where one file's translation was written, or None and why it could not be read."""

    path: Path
    written: Path | None
    error: str


def find_images(named: Iterable[str]) -> dict[Path, Path]:
    """The image files that are named: files, folders (every image below), or patterns such as ``faces/*.png``.

    Returns:
        Each file once, in the order of the names, and its path below the folder that was named (else its name).

    Raises:
        DakitError: a name leads to no image; all such names are told at once.
    """
    images: dict[Path, Path] = {}
    problems = []
    for name in named:
        path = Path(name)
        if path.is_dir():
            files = {file: file.relative_to(path) for file in image_files(path)}
        elif path.is_file():
            files = {path: Path(path.name)}
        else:
            files = {Path(n): Path(Path(n).name) for n in sorted(glob.glob(name, recursive=True)) if os.path.isfile(n)}
        if not files and path.is_dir():
            others = told_of(list_images(path)[1])
            problems.append(f"{name}: no image lies in this folder{others and ', but '}{others}")
        elif not files:
            near = [other.name for other in path.parent.iterdir()] if path.parent.is_dir() else []
            problems.append(f"{name}: there is no such file, folder or pattern{did_you_mean(path.name, near)}")
        for file, below in files.items():
            images.setdefault(file, below)
    if problems:
        raise DakitError("\n".join(problems))
    return images


def passed_over(named: Iterable[str]) -> str:
    """The files in named folders that are no images by their suffix, for people: "3 files: .heic 2, .txt 1", or ""."""
    others: Counter[str] = Counter()
    for path in {Path(name) for name in named}:
        others += list_images(path)[1] if path.is_dir() else Counter()
    return told_of(others)


@undisturbed()
def classify(
    models: Sequence[Model],
    paths: Sequence[Path],
    *,
    engine: Engine,
    batch_size: int = 64,
    observers: Iterable[Observer] = (),
) -> list[Predicted]:
    """The probability of each class, for each file; of several models, their mean.

    With one model, its run's engine and batches as ``evaluate`` made them, the result is the run's own to the bit.

    Args:
        models: of the same classes, image size and way of reading, such as those of a row's folds.
        paths: of the images.
        engine: of the run; its precision counts.
        batch_size: images per forward pass; does not change the result beyond rounding.
        observers: told of progress.

    Raises:
        DakitError: the models do not go together, or the device is not there.
    """
    if len({(model.classes, model.size, model.fit, model.range) for model in models}) != 1:
        raise DakitError("the models do not have the same classes, image size and range, so they have no mean")
    trainer, networks = _placed([model.network for model in models], engine)
    predictions: list[Predicted] = []
    for chunk, images, errors in _read(models[0], paths, batch_size, f"classifying {len(paths)} images", observers):
        rows: Iterator[list[float]] = iter(())
        if len(images):
            with torch.no_grad(), trainer.autocast():
                batch = trainer.images(images)
                each = [network(batch).logits.float().softmax(1).cpu() for network in networks]
            rows = iter((torch.stack(each).mean(0) if len(each) > 1 else each[0]).tolist())
        predictions += [
            Predicted(p, () if error else tuple(next(rows)), error) for p, error in zip(chunk, errors, strict=True)
        ]
    return predictions


@undisturbed()
def translate(
    model: Model,
    images: dict[Path, Path],
    out: Path,
    *,
    engine: Engine,
    batch_size: int = 32,
    overwrite: bool = False,
    observers: Iterable[Observer] = (),
) -> list[Translated]:
    """Translate files as the stage ``synthesise`` does, each into a PNG file below ``out``.

    Args:
        model: from :meth:`~dakit.results.runs.Run.translator`.
        images: from :func:`find_images`: where each file's translation stands below ``out``.
        out: a folder, made where it is not there.
        engine: of the run; its precision counts.
        batch_size: images per forward pass; does not change the result beyond rounding.
        overwrite: replace files that are there.
        observers: told of progress.

    Raises:
        DakitError: two files would have one name, a file is there already, ``out`` cannot be written, or the
            device is not there. Nothing was written then.
    """
    targets = {path: out / below.with_suffix(".png") for path, below in images.items()}
    origin: dict[Path, Path] = {}
    for path, target in targets.items():
        if target in origin:
            raise DakitError(
                f"{origin[target]} and {path} would both become {target}: name one folder above both, or run twice"
            )
        origin[target] = path
    there = [target for target in origin if target.exists()]
    if there and not overwrite:
        raise DakitError(
            f"--out {out}: {len(there)} of {len(targets)} files are there already, such as {there[0]}; nothing was "
            "written (--overwrite replaces them)"
        )
    trainer, (network,) = _placed([model.network], engine)
    done: list[Translated] = []
    for chunk, batch, errors in _read(model, list(images), batch_size, f"translating {len(images)} images", observers):
        translated: Iterator[Any] = iter(())
        if len(batch):
            with torch.no_grad(), trainer.autocast():
                translated = iter(to_uint8(network(trainer.images(batch))).permute(0, 2, 3, 1).numpy())
        for path, error in zip(chunk, errors, strict=True):
            if not error:
                _save(next(translated), targets[path])
            done.append(Translated(path, None if error else targets[path], error))
    return done


def _placed(networks: Sequence[nn.Module], engine: Engine) -> tuple[Trainer, list[nn.Module]]:
    trainer = Trainer(Context(Path(), engine=engine))
    return trainer, [trainer.place(network, train=False) for network in networks]


def _read(
    model: Model, paths: Sequence[Path], size: int, title: str, observers: Iterable[Observer]
) -> Iterator[tuple[Sequence[Path], Tensor, list[str]]]:
    """Batches of files: the paths, uint8 images of those that could be read, and for each path "" or why not."""

    def read(path: Path) -> Tensor | str:
        try:
            return model.read(path)
        except DakitError as error:
            return str(error).removeprefix(f"{path}: ")

    audience = tuple(observers)
    for observer in audience:
        observer.work_started(title, len(paths))
    with ThreadPoolExecutor(max(1, min(8, os.cpu_count() or 1))) as threads:
        for first in range(0, len(paths), size):
            chunk = paths[first : first + size]
            decoded = list(threads.map(read, chunk))
            images = [image.numpy() for image in decoded if isinstance(image, Tensor)]
            batch = torch.from_numpy(np.stack(images)) if images else torch.empty(0)
            yield chunk, batch, [error if isinstance(error, str) else "" for error in decoded]
            for observer in audience:
                observer.step(first + len(chunk), {})


def _save(pixels: Any, path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with written(path) as part:
            Image.fromarray(pixels).save(part, format="PNG")
    except OSError as error:
        raise DakitError(f"{path}: cannot be written: {error.strerror}") from error
