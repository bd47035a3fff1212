"""What a frozen teacher says of training images: once per image and kept, where its input never changes."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dakit import processes
from dakit.data.augment import Augmentation
from dakit.data.batches import in_order
from dakit.data.sets import fingerprint
from dakit.files import write_json
from dakit.interfaces import ImageSet, Prediction, TransferLoss
from dakit.optional import Condenses, offers
from dakit.training import identity
from dakit.training.trainer import Trainer

ROOM = 4 * 2**30  # bytes on disk that a stage's teacher may fill
_MARKER = "teacher.json"


class Teacher:
    """A frozen classifier that is asked about the images of a set again and again, each time augmented anew.

    Its forward pass is the whole cost of attention transfer. Where the augmentation is a flip or nothing, every
    image has one or two forms; the loss says in ``condense`` what it needs of a prediction, and that is computed
    once per form before training, in an order that does not depend on the run, kept in half precision in
    ``teacher-*.npy`` and removed by :meth:`forget`. What is found there is used where ``teacher.json``, which is
    written last and removed first, says that it is whole and of the same stage; else it is made anew. Otherwise, or
    where the steps are too few to gain by it or the disk space too large, the teacher looks at every batch. Either
    way it runs without autograd.

    Args:
        trainer: of the stage.
        network: frozen, in evaluation mode, on the device.
        loss: that its predictions go into.
        images: every image that may be asked about.
        augment: what is done to them.
        draws: how many images will be asked about in all.
        batch_size: images per forward pass of the one look at everything.
    """

    def __init__(
        self,
        trainer: Trainer,
        network: nn.Module,
        loss: TransferLoss,
        images: ImageSet,
        augment: Augmentation,
        *,
        draws: int,
        batch_size: int,
    ) -> None:
        self.trainer = trainer
        self.network = network
        self.loss = loss
        self.batch_size = batch_size
        self._answers: list[np.ndarray] = []
        self._rectified = False
        forms = augment.forms
        if forms is not None and draws >= forms * len(images) and offers(loss, Condenses):
            condensed = self._condensed(trainer.images(images[0].image[None]))
            shapes = [(forms, len(images), *part.shape[1:]) for part in condensed]
            if sum(2 * math.prod(shape) for shape in shapes) <= ROOM:
                self._look(images, shapes)

    @property
    def keeps(self) -> bool:
        """Whether every image has been looked at, so that the network is not needed any more."""
        return bool(self._answers)

    def __call__(self, x: Tensor, indices: Tensor, flipped: Tensor | None) -> Prediction:
        """What the teacher says of ``x`` ``(B, 3, H, W)``.

        Args:
            x: in [-1, 1], augmented.
            indices: int64 ``(B,)``, which images they are.
            flipped: bool ``(B,)``, which of them the augmentation flipped; None = none.
        """
        if not self._answers:
            with torch.no_grad():
                prediction: Prediction = self.network(x)
            return prediction
        forms = np.zeros(len(x), np.int64) if flipped is None else flipped.cpu().numpy().astype(np.int64)
        logits, features, *maps = (
            torch.from_numpy(answers[forms, indices.numpy()]).to(self.trainer.device).float()
            for answers in self._answers
        )
        return Prediction(logits, features, tuple(maps), self._rectified)

    def forget(self) -> None:
        """Remove what was kept on disk."""
        self._answers = []
        _remove(self.trainer.ctx.folder)

    @torch.no_grad()
    def _condensed(self, x: Tensor) -> list[Tensor]:
        """The parts of a condensed prediction: logits, features, maps."""
        with self.trainer.autocast():
            prediction: Prediction = self.loss.condense(self.network(x))  # type: ignore[attr-defined]
        self._rectified = prediction.rectified
        return [prediction.logits, prediction.features, *prediction.maps]

    def _look(self, images: ImageSet, shapes: list[tuple[int, ...]]) -> None:
        folder = self.trainer.ctx.common_folder
        paths = [folder / f"teacher-{i}.npy" for i in range(len(shapes))]
        of = self.trainer.ctx.identity or self._identity(images, shapes)
        if processes.first() and _record(folder) != {"identity": of, "sha256": _sums(paths)}:
            _remove(folder)
            arrays = [_created(path, shape) for path, shape in zip(paths, shapes, strict=True)]
            title = f"the teacher looks once at {len(images)} images"
            for observer in self.trainer.ctx.observers:
                observer.work_started(title, math.ceil(len(images) / self.batch_size))
            done = 0
            for number, batch in enumerate(in_order(images, self.batch_size)):
                x = self.trainer.images(batch.images)
                for form in range(shapes[0][0]):  # as it is, and flipped
                    parts = self._condensed(x.flip(3) if form else x)
                    for array, part in zip(arrays, parts, strict=True):
                        array[form, done : done + len(x)] = part.half().cpu().numpy()
                done += len(x)
                for observer in self.trainer.ctx.observers:
                    observer.step(number + 1, {})
            for array in arrays:
                if isinstance(array, np.memmap):
                    array.flush()
            write_json(folder / _MARKER, {"identity": of, "sha256": _sums(paths)})
        processes.wait()
        self._answers = [_opened(path, shape) for path, shape in zip(paths, shapes, strict=True)]

    def _identity(self, images: ImageSet, shapes: list[tuple[int, ...]]) -> str:
        """What is kept depends on this, where the stage does not say."""
        loss = self.loss.state_dict() if isinstance(self.loss, nn.Module) else {}
        kinds = [f"{type(part).__module__}.{type(part).__qualname__}" for part in (self.network, self.loss)]
        networks = [identity.of_tensors(state) for state in (self.network.state_dict(), loss)]
        settings = {} if isinstance(self.loss, nn.Module) else getattr(self.loss, "__dict__", self.loss)
        engine = identity.of_engine(self.trainer.ctx.engine)
        return identity.digest([kinds, networks, settings, fingerprint(images), shapes, self.batch_size, engine])


def _remove(folder: Path) -> None:
    """Take away what is kept, the marker first, so that half of it never counts."""
    (folder / _MARKER).unlink(missing_ok=True)
    for path in folder.glob("teacher-*.npy"):
        path.unlink()


def _record(folder: Path) -> Any:
    """The content of the marker; None where there is none that can be read."""
    try:
        return json.loads((folder / _MARKER).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None


def _sums(paths: list[Path]) -> list[str]:
    """SHA-256 of every array; "" for one that is not there, as an empty one."""
    digests = []
    for path in paths:
        try:
            with open(path, "rb") as file:
                digests.append(hashlib.file_digest(file, "sha256").hexdigest())
        except FileNotFoundError:
            digests.append("")
    return digests


def _created(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    if 0 in shape:
        return np.zeros(shape, np.float16)
    return np.lib.format.open_memmap(path, "w+", dtype=np.float16, shape=shape)


def _opened(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    array: np.ndarray = np.zeros(shape, np.float16) if 0 in shape else np.load(path, mmap_mode="r")
    return array
