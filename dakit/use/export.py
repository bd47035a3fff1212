"""A run's classifier as one file that needs no dakit, checked against the run's own, with a model card beside it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from dakit.errors import DakitError, did_you_mean
from dakit.files import write_text
from dakit.optional import HasFormats, Readable, offers
from dakit.report.card import Agreement, model_card
from dakit.results.runs import Model, Run
from dakit.training.surroundings import undisturbed

TOLERANCE = 1e-4
"""No probability of an exported classifier may be further from the original's."""
_CHECKED = 256


class Deployed(nn.Module):
    """What is exported: a classifier from pixels to probabilities.

    Images are uint8 RGB ``(B, 3, size, size)``, for any B >= 1; scaling to [-1, 1] is inside. The result is
    float32 ``(B, K)``; a row sums to 1.

    Args:
        network: a classifier in evaluation mode.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """``(B, 3, size, size)`` to ``(B, K)``."""
        probabilities: Tensor = self.network(images.float().div(127.5).sub(1)).logits.float().softmax(1)
        return probabilities


class _Format(NamedTuple):
    """A kind of file: its name, how it is written, and how what was written is called."""

    file: str
    write: Callable[[nn.Module, Tensor, Path, str], None]
    load: Callable[[Path], Callable[[Tensor], Tensor]]


@undisturbed()
def export(
    run: Run, row: str, seed: int, fold: int, *, kind: str, out: Path, check: Sequence[Path] = ()
) -> tuple[Path, Agreement]:
    """Write a row's classifier and ``MODEL_CARD.md`` into a new folder.

    The file is loaded again and compared with the original, in fp32 on the CPU, on up to 256 of the run's test
    images (their labels are not read), one at a time and together.

    Args:
        run: from :func:`~dakit.results.runs.open_run`.
        row: of its table.
        seed: of the round,
        fold: and its fold.
        kind: "onnx", "torch" (a program of torch.export), or a format of the network's own, see
            :class:`~dakit.optional.HasFormats`, such as "timm".
        out: the folder; must not be there yet.
        check: images to compare on instead of the run's own.

    Returns:
        The file and how far it is from the original.

    Raises:
        DakitError: no such kind, ``out`` is there, the classifier cannot be had or exported, the images for
            the comparison are not those of the run, or the two do not agree. Nothing is left behind then.
    """
    model = run.classifier(row, seed, fold)
    others = model.network.formats() if offers(model.network, HasFormats) else {}
    if kind not in {**FORMATS, **others}:
        raise DakitError(f'there is no format "{kind}"{did_you_mean(kind, [*FORMATS, *others])}')
    if out.exists():
        raise DakitError(f"--out {out}: is there already; nothing was written")
    images, stored = _given(model, check) if check else _tested(run, row, seed, fold)
    about = json.dumps(
        {
            "classes": model.classes,
            "input": f"images: uint8 RGB (batch, 3, {model.size}, {model.size})",
            "output": f"probabilities: float32 (batch, {len(model.classes)})",
        }
    )
    part = out.with_name(f".{out.name}.part")
    try:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        deployed = Deployed(model.network.requires_grad_(False)).eval()
        try:
            if kind in others:
                exported = others[kind](part, model.classes, model.size)
                file, load = exported.file, exported.probabilities
            else:
                form, exported = FORMATS[kind], None
                form.write(deployed, images[:1].repeat(2, 1, 1, 1), part / form.file, about)
                file, load = form.file, form.load(part / form.file)
        except (DakitError, OSError):
            raise
        except Exception as error:  # whatever a stranger's network makes the exporter raise
            why = str(error).strip().partition("\n")[0]
            raise DakitError(f"{model.origin}: cannot be exported as {kind}: {type(error).__name__}: {why}") from error
        agreement = compare(deployed, load, images, stored)
        write_text(part / "MODEL_CARD.md", model_card(run, row, seed, fold, model, file, agreement, exported))
        part.rename(out)
    except OSError as error:
        raise DakitError(f"--out {out}: cannot be written: {error.strerror}") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return out / file, agreement


def compare(
    ours: Callable[[Tensor], Tensor], theirs: Callable[[Tensor], Tensor], images: Tensor, stored: Tensor | None
) -> Agreement:
    """How far two classifiers are apart on uint8 images ``(N, 3, H, W)``, in batches of 1 and of up to 64.

    Args:
        ours: the original: images to probabilities,
        theirs: and what was exported.
        images: at least one.
        stored: what the run itself said of them, ``(N, K)``; None where it said nothing.

    Raises:
        DakitError: a probability differs by more than ``TOLERANCE``, or ours is not what the run stored.
    """
    with torch.no_grad():
        expected = torch.cat([ours(batch) for batch in torch.split(images, 64)])
        together = torch.cat([theirs(batch) for batch in torch.split(images, 64)])
        alone = theirs(images[:1])
    if stored is not None and float((expected - stored).abs().max()) > 0.1:
        raise DakitError(
            "the test images, or this classifier, are not those that the run evaluated: its stored probabilities "
            f"differ by up to {float((expected - stored).abs().max()):.2f}; bring the data back, evaluate again "
            "(--fresh evaluate), or name images to compare on (--check)"
        )
    difference = max(float((together - expected).abs().max()), float((alone - expected[:1]).abs().max()))
    if not difference <= TOLERANCE:
        raise DakitError(
            f"the exported model does not agree with the original: on {len(images)} images a probability differs "
            f"by {difference:.2g} (at most {TOLERANCE:g} is allowed); nothing was written"
        )
    return Agreement(len(images), difference, stored is not None)


def _given(model: Model, paths: Sequence[Path]) -> tuple[Tensor, None]:
    return torch.stack([model.read(path) for path in paths[:_CHECKED]]), None


def _tested(run: Run, row: str, seed: int, fold: int) -> tuple[Tensor, Tensor]:
    """Images that the row's evaluation read, spread over all of them, and the probabilities that it stored."""
    about = run.row(row)
    final = run.jobs_of(row, seed, fold)[about.final]
    assert final.evaluates is not None  # else the row had no classifier
    evaluation = run.result(final).output(final.evaluates.evaluation)
    data = about.data[final.inputs[final.evaluates.test].partition(".")[0]]
    try:
        images = run.registry.spec("dataset", data.use, data.params).build(about.size, about.classes)
    except DakitError as error:
        raise DakitError(
            f"the run's test images, to compare on, cannot be read: {error}\nOthers can be named: --check IMAGE"
        ) from error
    if len(images) != data.images and offers(images, Readable):
        images, _ = images.readable()  # the run left out files (on_bad_image: skip), and counted without them
    if len(images) != data.images:
        raise DakitError(f"{data.use} holds {len(images)} images, but {data.images} when it was evaluated; see --check")
    chosen = np.unique(np.linspace(0, len(evaluation.indices) - 1, _CHECKED).round().astype(int))
    stack = torch.stack([images[int(i)].image for i in evaluation.indices[chosen]])
    return stack, torch.from_numpy(evaluation.probabilities[chosen])


# ---------------------------------------------------------------------------------------- formats
def _write_onnx(model: nn.Module, example: Tensor, path: Path, about: str) -> None:
    try:
        import onnx
        import onnxscript  # noqa: F401, which torch needs
    except ImportError as error:
        raise DakitError(f"ONNX needs a library that is not here ({error.name}): pip install 'dakit[onnx]'") from error
    torch.onnx.export(
        model,
        (example,),
        path,
        input_names=["images"],
        output_names=["probabilities"],
        dynamo=True,
        dynamic_shapes={"images": {0: "batch"}},
        external_data=False,
        verbose=False,
    )
    proto = onnx.load(path)
    onnx.helper.set_model_props(proto, {"dakit": about})
    onnx.save(proto, path)


def _load_onnx(path: Path) -> Callable[[Tensor], Tensor]:
    try:
        import onnxruntime
    except ImportError as error:
        raise DakitError("the check of an ONNX file needs onnxruntime: pip install 'dakit[onnx]'") from error
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run(None, {"images": images.numpy()})[0])


def _write_torch(model: nn.Module, example: Tensor, path: Path, about: str) -> None:
    program = torch.export.export(model, (example,), dynamic_shapes={"images": {0: torch.export.Dim("batch")}})
    torch.export.save(program, path, extra_files={"dakit.json": about})


def _load_torch(path: Path) -> Callable[[Tensor], Tensor]:
    module: Any = torch.export.load(path).module()
    return lambda images: torch.as_tensor(module(images))


FORMATS = {
    "onnx": _Format("model.onnx", _write_onnx, _load_onnx),
    "torch": _Format("model.pt2", _write_torch, _load_torch),
}
"""By the name that the command line takes."""
