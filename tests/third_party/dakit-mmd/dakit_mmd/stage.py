"""``train_aligned``: learn from a labelled source while its features are drawn to those of a target."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, NamedTuple

import annotated_types
import torch
from torch import Tensor
from torch.nn import functional as F

from dakit.data.augment import Augment, Augmentation
from dakit.data.batches import Batches, too_few
from dakit.errors import DakitError
from dakit.interfaces import Classifier, Context, Fraction, ImageSet, Positive, Prediction, Spec, Trained, TransferLoss
from dakit.training.seeds import derive_seed
from dakit.training.trainer import Trainer, trained


class Aligned(NamedTuple):
    """What the stage makes."""

    model: Trained[Classifier]


class TrainAligned:
    """Train a classifier on labelled source images, with cross-entropy and the distance of two predictions.

    With f the network, (x, y) drawn from ``source`` and z from ``target``, minimise

        E[-log softmax(f(x))_y] + align(f(x), f(z)).

    Both batches go through the network as one, so that batch normalisation sees one distribution (Long et al.,
    ICML 2015, with ``mmd``). No label of ``target`` is looked at. Adam. One process does it: the distance is that of
    whole batches.

    Inputs: ``source``, ``target``; optional ``init`` (weights to start from; the same network).

    Args:
        classifier: the network.
        align: the loss between the predictions of source and target, such as ``mmd``.
        steps: optimiser steps.
        batch_size: images per step, of the source and as many of the target.
        lr: learning rate of Adam.
        decay_from: from this fraction of the steps on, the learning rate falls linearly to zero; 1 = never.
        augment: what may be changed in an image.
    """

    version: ClassVar[int] = 1

    def __init__(
        self,
        *,
        classifier: Spec[Classifier],
        align: Spec[TransferLoss],
        steps: Positive,
        batch_size: Positive = 32,
        lr: Annotated[float, annotated_types.Gt(0)] = 2e-4,
        decay_from: Fraction = 1.0,
        augment: Augment | None = None,
    ) -> None:
        self.classifier = classifier
        self.align = align
        self.steps = steps
        self.batch_size = batch_size
        self.lr = lr
        self.decay_from = decay_from
        self.augment = augment

    def check_sizes(self, sizes: Mapping[str, int | None]) -> list[str]:
        """Whether both sets have enough images for a batch; None is a number that is not known yet."""
        return too_few(self.batch_size, {name: (self.batch_size, sizes[name]) for name in ("source", "target")})

    def run(
        self, ctx: Context, *, source: ImageSet, target: ImageSet, init: Trained[Classifier] | None = None
    ) -> Aligned:
        """Train and return the last weights.

        Raises:
            DakitError: an image of the source has no label, or ``init`` is another network.
        """
        if not source.classes or min(source.labels, default=-1) < 0:
            raise DakitError("source: every image needs a label to train a classifier")
        trainer = Trainer(ctx)
        network = self.classifier.build(len(source.classes))
        if init is not None:
            if (init.spec, init.classes) != (self.classifier, source.classes):
                raise DakitError(f"init is {init.spec.name} for {init.classes}: another network than the classifier")
            network.load_state_dict(dict(init.state))
        network = trainer.place(network, train=True)
        align = self.align.build()
        augment = Augmentation(self.augment).to(trainer.device)
        draw_source = Batches(source, self.batch_size, derive_seed(ctx.seed, "source"))
        draw_target = Batches(target, self.batch_size, derive_seed(ctx.seed, "target"))

        def step(n: int) -> Mapping[str, Tensor]:
            ours, theirs = draw_source(n), draw_target(n)
            x = augment(trainer.images(torch.cat([ours.images, theirs.images])))
            y = ours.labels.to(trainer.device)
            with trainer.autocast():
                said: Prediction = network(x)
                of_source, of_target = _part(said, slice(len(y))), _part(said, slice(len(y), None))
                losses = {
                    "cross-entropy": F.cross_entropy(of_source.logits.float(), y),
                    "align": align(of_source, of_target),
                }
            trainer.backward(losses)
            return losses

        history = trainer.fit(
            title=f"training {self.classifier.name} on {len(source)} images, aligned with {len(target)}",
            steps=self.steps,
            networks={"network": network},
            optimisers={"network": torch.optim.Adam(network.parameters(), lr=self.lr)},
            decay_from=self.decay_from,
            step=step,
        )
        ctx.facts["aligned"] = {name: history[name][-1] for name in ("cross-entropy", "align")}
        return Aligned(trained(network, self.classifier, source.classes))


def _part(said: Prediction, which: slice) -> Prediction:
    return Prediction(said.logits[which], said.features[which], tuple(m[which] for m in said.maps), said.rectified)
