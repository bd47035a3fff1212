"""``synthesise``: G_SW(X_S), keeping the labels Y_S."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import ClassVar, NamedTuple

import numpy as np
import torch

from dakit import processes
from dakit.data.batches import in_order
from dakit.data.sets import TensorImages
from dakit.errors import DakitError
from dakit.files import to_disk, write_json, written
from dakit.interfaces import Classifier, Context, ImageSet, Positive, Prediction, Trained, Translator
from dakit.parameters import checked
from dakit.stages.translator import to_uint8
from dakit.statistics.health import lost_classes
from dakit.training.checkpoint import altered, checkpoints
from dakit.training.identity import identified
from dakit.training.stopping import stepping
from dakit.training.surroundings import undisturbed
from dakit.training.trainer import Trainer


class Synthesised(NamedTuple):
    """What the stage makes: the translated images with the labels and groups of the originals."""

    images: ImageSet


@checked
class Synthesise:
    """Translate every image and keep its label (X'_W in Eq. 7 of CycleAT).

    With a ``judge``, a classifier such as f_S, the share of translated images that it still reads as their
    label is told by class: the cheapest sign of whether the translator keeps what matters.

    Inputs: ``images``, ``translator``; optional ``judge``.

    Args:
        batch_size: images per forward pass; does not change the result beyond rounding.
    """

    version: ClassVar[int] = 2
    together: ClassVar[bool] = True

    def __init__(self, *, batch_size: Positive = 32) -> None:
        self.batch_size = batch_size

    def makes(self, sizes: Mapping[str, int | None]) -> dict[str, int | None]:
        """As many images as it is given."""
        return {"images": sizes["images"]}

    @undisturbed()
    @identified
    def run(
        self,
        ctx: Context,
        *,
        images: ImageSet,
        translator: Trained[Translator],
        judge: Trained[Classifier] | None = None,
    ) -> Synthesised:
        """Write the translated images as one memory-mapped array; goes on where it was stopped.

        Of several processes each translates its own part of the set. With another number of processes than when it
        was stopped, or where the folder holds another stage's images, it begins anew, in a new file: who holds the
        other images keeps them.

        Raises:
            DakitError: there is a judge, and it knows other classes than the images have, or none has a label.
        """
        if judge is not None and judge.classes != images.classes:
            raise DakitError(f"the judge knows {judge.classes}, but the images have {images.classes}")
        if judge is not None and max(images.labels, default=-1) < 0:
            raise DakitError("a judge compares with labels, but no image has one")
        trainer = Trainer(ctx)
        G = trainer.place(translator.build(), train=False)
        critic = None if judge is None else trainer.place(judge.build(), train=False)
        path = ctx.common_folder / "images.npy"
        world_size = processes.count()
        logs = [ctx.common_folder / f"checkpoint-{rank}-of-{world_size}.json" for rank in range(world_size)]
        progress = logs[processes.rank()]
        share = processes.part(range(len(images)))
        done, read_as = share.start, []
        content = hashlib.sha256()
        if processes.first():
            for log in ctx.common_folder.glob("checkpoint-*-of-*.json"):
                # of another number of processes, or of another stage; dakit 0.2.0 did not say which
                if log not in logs or json.loads(log.read_text(encoding="utf-8")).get("identity") != ctx.identity:
                    log.unlink()
            if not path.is_file() or not any(log.is_file() for log in logs):
                path.unlink(missing_ok=True)
                with written(path) as part:
                    np.lib.format.open_memmap(part, "w+", dtype=np.uint8, shape=(len(images), *images[0].image.shape))
        processes.wait()
        array = np.load(path, mmap_mode="r")
        if progress.is_file():
            saved = json.loads(progress.read_text(encoding="utf-8"))
            done, read_as = saved["done"], saved["read_as"]
            content.update(array[share.start : done])
            if content.hexdigest() != saved["sha256"]:
                raise altered(path)
        title = f"translating {len(images)} images" + (f", {len(share)} in each process" if world_size > 1 else "")
        for observer in ctx.observers:
            observer.work_started(title, len(share))

        def save() -> None:
            file.flush()
            to_disk(path)
            about = {"done": done, "read_as": read_as, "sha256": content.hexdigest()}
            write_json(progress, {"identity": ctx.identity, **about})

        # Written as a file: a full disk ends a process that writes through a memory map with a bus error.
        with stepping(), open(path, "r+b") as file:
            step_done = checkpoints(ctx.engine, 0, lambda _: save())
            file.seek(array.offset + array[:done].nbytes)
            for number, batch in enumerate(in_order(images, self.batch_size, done, share.stop), 1):
                with torch.no_grad(), trainer.autocast():
                    translations = to_uint8(G(trainer.images(batch.images)))
                    if critic is not None:
                        prediction: Prediction = critic(trainer.images(translations))
                        read_as += prediction.logits.argmax(1).tolist()
                pixels = translations.contiguous().numpy().data
                file.write(pixels)
                content.update(pixels)
                done += len(translations)
                for observer in ctx.observers:
                    observer.step(done, {})
                step_done(number)
            save()
        processes.wait()
        if critic is not None:
            parts = [json.loads(log.read_text(encoding="utf-8"))["read_as"] for log in logs]
            self._tell_agreement(ctx, images, [reading for part in parts for reading in part])
        mapped = np.load(path, mmap_mode="r")
        return Synthesised(TensorImages(mapped, images.labels, images.groups, images.classes))

    def _tell_agreement(self, ctx: Context, images: ImageSet, read_as: list[int]) -> None:
        labels, readings = np.asarray(images.labels), np.asarray(read_as)
        by_class = {
            name: round(float((readings[labels == k] == k).mean()), 4)
            for k, name in enumerate(images.classes)
            if (labels == k).any()
        }
        overall = sum(by_class.values()) / len(by_class)
        ctx.facts["label_agreement"] = {"mean": round(overall, 4), "by_class": by_class}
        parts = ", ".join(f"{name} {share:.0%}" for name, share in by_class.items())
        for text in lost_classes(list(images.labels), read_as, images.classes):
            ctx.warn(text)
        ctx.note(f"label agreement of translated images: {overall:.0%} ({parts})")
