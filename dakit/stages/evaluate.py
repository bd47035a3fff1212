"""``evaluate``: the only stage that opens test labels."""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import numpy as np
import torch

from dakit.data.batches import in_order
from dakit.errors import DakitError
from dakit.interfaces import Classifier, Context, ImageSet, Positive, Prediction, TestSet, Trained
from dakit.parameters import checked
from dakit.report.thumbnails import pick
from dakit.statistics.metrics import Evaluation
from dakit.training.frozen import Features, frozen_network, head_of, is_frozen
from dakit.training.surroundings import undisturbed
from dakit.training.trainer import Trainer

MISTAKES = 12
"""So many wrongly classified images are kept to be looked at, the most confident ones."""


class Evaluated(NamedTuple):
    """What the stage makes."""

    evaluation: Evaluation


@checked
class Evaluate:
    """Classify the held-out images once and keep every prediction. No test-time augmentation, no voting.

    Inputs: ``model``, ``test``.

    Args:
        batch_size: images per forward pass.
    """

    version: ClassVar[int] = 3

    def __init__(self, *, batch_size: Positive = 64) -> None:
        self.batch_size = batch_size

    @undisturbed()
    def run(self, ctx: Context, *, model: Trained[Classifier], test: TestSet) -> Evaluated:
        """Return predictions and probabilities beside the labels; ``mistakes.npz`` keeps the surest wrong ones.

        Raises:
            DakitError: the model knows other classes than the test set has, or says NaN.
        """
        images = test.open()
        if images.classes != model.classes:
            raise DakitError(f"the model knows {model.classes}, but the test set has {images.classes}")
        trainer = Trainer(ctx)
        look = self._look_at_features if is_frozen(model) else self._look_at_images
        table = look(trainer, model, images, f"evaluating on {len(images)} images")
        if not np.isfinite(table).all():
            broken = int((~np.isfinite(table)).any(1).sum())
            raise DakitError(f"the model's outputs are not finite for {broken} of {len(table)} test images")
        evaluation = Evaluation(
            classes=images.classes,
            indices=np.asarray(getattr(images, "indices", range(len(images))), dtype=np.int64),
            labels=np.asarray(images.labels, dtype=np.int64),
            predictions=table.argmax(1),
            probabilities=table.astype(np.float32),
            groups=np.asarray(images.groups),
        )
        wrong = np.flatnonzero(evaluation.predictions != evaluation.labels)
        surest = wrong[np.argsort(-table[wrong].max(1), kind="stable")][:MISTAKES]
        if len(surest):
            np.savez_compressed(ctx.folder / "mistakes.npz", places=surest, pictures=pick(images, surest.tolist()))
        return Evaluated(evaluation)

    def _look_at_images(self, trainer: Trainer, model: Trained[Classifier], images: ImageSet, title: str) -> np.ndarray:
        """Probabilities ``(N, K)``, float32."""
        network = trainer.place(model.build(), train=False)
        for observer in trainer.ctx.observers:
            observer.work_started(title, len(images))
        probabilities = []
        done = 0
        for batch in in_order(images, self.batch_size):
            with torch.no_grad(), trainer.autocast():
                prediction: Prediction = network(trainer.images(batch.images))
            probabilities.append(prediction.logits.float().softmax(1).cpu().numpy())
            done += len(batch.images)
            for observer in trainer.ctx.observers:
                observer.step(done, {})
        return np.concatenate(probabilities)

    def _look_at_features(
        self, trainer: Trainer, model: Trained[Classifier], images: ImageSet, title: str
    ) -> np.ndarray:
        """The same where a frozen network has perhaps seen the images already, for another row, fold or seed."""
        features, head = Features(trainer, frozen_network(model)).of(images, title), head_of(model)
        with torch.no_grad():
            parts = [head(rows).softmax(1).numpy() for rows in torch.split(features, self.batch_size)]
        return np.concatenate(parts)
