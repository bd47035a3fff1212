"""``train_classifier``: f_S (Eq. 3), f_T (Eq. 10) and every baseline that trains a classifier.

It is one thing: the parameters of that training, which of them contradict each other, and the training itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, cast

import annotated_types
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dakit.data.augment import Augment, Augmentation, mixed
from dakit.data.batches import Batch, Batches, in_order, too_few
from dakit.data.sets import Joined, Subset, published_validation, unlabelled_among
from dakit.data.splits import Split
from dakit.errors import DakitError
from dakit.interfaces import (
    Classifier,
    Context,
    Fraction,
    ImageSet,
    NonNegative,
    Positive,
    Prediction,
    Spec,
    Trained,
    TransferLoss,
)
from dakit.optional import HasHead, offers
from dakit.parameters import checked
from dakit.report.thumbnails import attention, examples, save_strips, thumbnails
from dakit.training.cross_entropy import CrossEntropy, balanced_weights, class_shares
from dakit.training.ema import WeightAverage
from dakit.training.frozen import to_train
from dakit.training.identity import identified
from dakit.training.normalisation import adapt, batch_norms, norm_weights
from dakit.training.optimiser import Optimiser, superseded
from dakit.training.schedule import Schedule
from dakit.training.seeds import derive_seed
from dakit.training.surroundings import undisturbed
from dakit.training.teacher import Teacher
from dakit.training.trainer import Trainer, trained

SHOWN = 7
"""On so many images the attention of teacher and student is kept to be looked at."""


class TrainedClassifier(NamedTuple):
    """What the stage makes."""

    model: Trained[Classifier]


@checked
class TrainClassifier:
    """Train a classifier on labelled images, with cross-entropy and, given a teacher, a transfer loss.

    With f the network, (x, y) drawn from ``train`` (and ``extra``), and t the frozen ``teacher``, minimise

        E[-log softmax(f(x))_y] + transfer(t(x), f(x)).

    Without a teacher this is Eq. 3 of CycleAT (Zhang et al., ACM MM 2018); with f_W as teacher and
    attention transfer as loss it is Eq. 10, whose beta belongs to the transfer loss. Adam, unless ``optimiser`` says
    otherwise. No image outside ``train`` and ``extra`` has a say in which weights are taken.

    Inputs: ``train``; optional ``extra`` (more labelled images of the same classes), ``teacher``,
    ``init`` (weights to start from; the same network, or one with a linear head of ``fit_head``, now its own),
    ``target`` (images for ``normalisation: adapt``; their labels, if there are any, are not looked at).

    Args:
        classifier: the network.
        steps: optimiser steps.
        batch_size: images per step.
        lr: learning rate of Adam.
        beta1: first-moment decay of Adam ("momentum 0.5" in the paper).
        weight_decay: L2 penalty of all weights, decoupled (AdamW) when above 0.
        decay_from: from this fraction of the steps on, the learning rate falls linearly to zero; 1 = never.
        optimiser: in place of ``beta1`` and ``weight_decay``, a mapping such as {weight_decay: 0.05, body_lr: 0.1,
            clip: 1, average: 0.999}, see :class:`~dakit.training.optimiser.Optimiser`.
        schedule: in place of ``decay_from``, a mapping such as {warmup: 0.05, decay: cosine}, see
            :class:`~dakit.training.schedule.Schedule`.
        transfer: the loss between teacher and student; needs ``teacher``.
        augment: what may be changed in a training image, see :class:`~dakit.data.augment.Augment`.
        extra_share: this fraction of every batch comes from ``extra``; None joins both sets into one.
        balanced: draw every class equally often.
        update: "all" weights, or only the "head" (a linear probe: features, and the statistics of
            normalisation layers, stay as they are).
        choose: which weights are taken: the "last", or the best of about eleven, from the first to the last, on a
            part of ``train`` that is kept for "validation" and not learned from: those with the highest macro
            accuracy and, among these, the lowest cross-entropy. Where ``train`` holds a published part for validation
            (val, valid, dev, ...), with all classes, it is that.
        validation: else this fraction of ``train`` is that part: whole groups, every class alike, drawn with the seed.
        label_smoothing: so much of every label is shared equally among all classes.
        class_weights: "balanced" = every class counts alike in the cross-entropy, whatever its number of images: an
            image counts 1 / (K share of its class).
        logit_adjustment: this times the logarithm of each class's share of the images is added to its logit while
            training (Menon et al., ICLR 2021; theirs is 1), which is the loss for macro accuracy; 0 = not.
        mixup: every image is mixed with another of its batch, and their labels alike, by a share drawn for each image
            from Beta(mixup, mixup) (Zhang et al., ICLR 2018); 0 = not.
        freeze: which weights stay as they are: "norms" = scales and offsets of normalisation layers; "body" = all but
            the head's. Unlike ``update: head`` this leaves the network in training mode: dropout is at work, and
            statistics are a matter of ``normalisation``.
        normalisation: by which statistics batch normalisation works: "train" = each batch's in training, and their
            running average afterwards; "frozen" = those that the network starts with, also in training; "adapt" = as
            "train", and when the weights are chosen the statistics are estimated anew on the images of ``target``
            (AdaBN, see :func:`dakit.training.normalisation.adapt`).
    """

    version: ClassVar[int] = 3
    together: ClassVar[bool] = True

    def __init__(
        self,
        *,
        classifier: Spec[Classifier],
        steps: Positive,
        batch_size: Positive = 32,
        lr: Annotated[float, annotated_types.Gt(0)] = 2e-4,
        beta1: Annotated[float, annotated_types.Ge(0), annotated_types.Lt(1)] = 0.5,
        weight_decay: NonNegative = 0.0,
        decay_from: Fraction = 1.0,
        transfer: Spec[TransferLoss] | None = None,
        augment: Augment | None = None,
        extra_share: Annotated[float, annotated_types.Gt(0), annotated_types.Lt(1)] | None = None,
        balanced: bool = False,
        update: Literal["all", "head"] = "all",
        choose: Literal["last", "validation"] = "last",
        validation: Annotated[float, annotated_types.Gt(0), annotated_types.Lt(1)] = 0.2,
        optimiser: Optimiser | None = None,
        schedule: Schedule | None = None,
        label_smoothing: Annotated[float, annotated_types.Ge(0), annotated_types.Lt(1)] = 0.0,
        class_weights: Literal["none", "balanced"] = "none",
        logit_adjustment: NonNegative = 0.0,
        mixup: NonNegative = 0.0,
        freeze: Literal["none", "norms", "body"] = "none",
        normalisation: Literal["train", "frozen", "adapt"] = "train",
    ) -> None:
        self.classifier = classifier
        self.steps = steps
        self.batch_size = batch_size
        self.lr = lr
        self.beta1 = beta1
        self.weight_decay = weight_decay
        self.decay_from = decay_from
        self.transfer = transfer
        self.augment = augment
        self.extra_share = extra_share
        self.balanced = balanced
        self.update = update
        self.choose = choose
        self.validation = validation
        self.optimiser = optimiser
        self.schedule = schedule
        self.label_smoothing = label_smoothing
        self.class_weights = class_weights
        self.logit_adjustment = logit_adjustment
        self.mixup = mixup
        self.freeze = freeze
        self.normalisation = normalisation

    def check(self, inputs: frozenset[str]) -> list[str]:
        """What does not fit together, before anything runs."""
        problems = []
        if ("teacher" in inputs) != (self.transfer is not None):
            problems.append("`teacher` and `transfer` go together: set both or neither")
        if self.extra_share is not None and "extra" not in inputs:
            problems.append("`extra_share` needs the input `extra`")
        if self.extra_share is not None and not 0 < round(self.extra_share * self.batch_size) < self.batch_size:
            problems.append(f"extra_share {self.extra_share} of a batch of {self.batch_size} leaves one side empty")
        problems += superseded(self.optimiser, beta1=(self.beta1, 0.5), weight_decay=(self.weight_decay, 0.0))
        problems += superseded(self.schedule, decay_from=(self.decay_from, 1.0))
        if ("target" in inputs) != (self.normalisation == "adapt"):
            problems.append("the input `target` and `normalisation: adapt` go together: set both or neither")
        if self.update == "head" and self.freeze != "none":
            problems.append(f"`update: head` freezes more than `freeze: {self.freeze}` does: leave one of them out")
        if self.update == "head" and self.normalisation == "adapt":
            problems.append(
                "`update: head` leaves statistics as they are: for `normalisation: adapt` write freeze: body"
            )
        alone = "update: head" if self.update == "head" else "freeze: body" if self.freeze == "body" else ""
        if alone and self._slower_body:
            problems.append(
                f"`body_lr` needs a body that learns, and with `{alone}` it does not: leave one of them out"
            )
        if self.mixup and self.transfer is not None:
            problems.append("`mixup` and a teacher do not go together: leave out `mixup`, or `teacher` and `transfer`")
        evened = {
            "balanced: true": self.balanced,
            "class_weights: balanced": self.class_weights != "none",
            "logit_adjustment": bool(self.logit_adjustment),
        }
        if sum(evened.values()) > 1:
            names = " and ".join(f"`{name}`" for name, wanted in evened.items() if wanted)
            problems.append(f"{names} each make up for classes of unequal size, together for more than that: leave one")
        return problems

    @property
    def _slower_body(self) -> bool:
        """Whether the body has a learning rate of its own."""
        return self.optimiser is not None and self.optimiser.body_lr != 1

    def check_network(self, network: nn.Module) -> list[str]:
        """What of the parameters does not fit a classifier, in text."""
        needing = {
            'update: "head"': self.update == "head",
            "freeze: body": self.freeze == "body",
            "optimiser.body_lr": self._slower_body,
        }
        head = offers(network, HasHead) and isinstance(network.head, nn.Module)
        name = self.classifier.name
        problems = [
            f"{what} needs a classifier with a `head`; {name} has none"
            for what, on in needing.items()
            if on and not head
        ]
        if self.normalisation != "train" and not batch_norms(network):
            problems.append(
                f"normalisation: {self.normalisation} needs batch normalisation; {name} has none; expected train"
            )
        if self.freeze == "norms" and not norm_weights(network):
            problems.append(f"freeze: norms needs normalisation layers with weights; {name} has none; expected none")
        return problems

    def set_mode(self, network: nn.Module) -> None:
        """Set a network to training mode, or to what of it ``update`` and ``normalisation`` leave."""
        network.train(self.update != "head")
        if self.normalisation == "frozen":
            for layer in batch_norms(network):
                layer.eval()

    def check_sizes(self, sizes: Mapping[str, int | None]) -> list[str]:
        """Whether there are enough images for a batch; None is a number that is not known yet."""
        train = sizes["train"]
        if train is not None and self.choose == "validation":
            train -= round(self.validation * train)
        return self._too_few({**sizes, "train": train})

    def _too_few(self, sizes: Mapping[str, int | None]) -> list[str]:
        train, extra = sizes["train"], sizes.get("extra")
        if self.extra_share is not None:
            share = round(self.extra_share * self.batch_size)
            return too_few(self.batch_size, {"train": (self.batch_size - share, train), "extra": (share, extra)})
        if "extra" not in sizes:
            return too_few(self.batch_size, {"train": (self.batch_size, train)})
        both = None if train is None or extra is None else train + extra
        return too_few(self.batch_size, {"train and extra": (self.batch_size, both)})

    @undisturbed()
    @identified
    def run(
        self,
        ctx: Context,
        *,
        train: ImageSet,
        extra: ImageSet | None = None,
        teacher: Trained[Classifier] | None = None,
        init: Trained[Classifier] | None = None,
        target: ImageSet | None = None,
    ) -> TrainedClassifier:
        """Train and return the weights that ``choose`` says.

        Raises:
            DakitError: unlabelled or too few images, other classes, or another network than ``init``.
        """
        for name, images in (("train", train), ("extra", extra)):
            if images is not None and (not images.classes or min(images.labels, default=-1) < 0):
                which = unlabelled_among(images) or "there are none"
                raise DakitError(f"{name}: every image needs a label to train a classifier; {which}")
        if extra is not None and extra.classes != train.classes:
            raise DakitError(f"extra has the classes {extra.classes}, but train has {train.classes}")
        validation = None
        if self.choose == "validation":
            train, validation = self._keep(ctx, train)
        sizes = {"train": len(train)} | ({} if extra is None else {"extra": len(extra)})
        for text in self._too_few(sizes):
            raise DakitError(text)
        network: nn.Module = self.classifier.build(len(train.classes))
        for text in self.check_network(network):
            raise DakitError(text)
        if target is not None and not len(target):
            raise DakitError("target: there are no images to estimate statistics on")
        if init is not None:
            init = to_train(init)
            if init.spec.untrained != self.classifier.untrained or init.classes != train.classes:
                raise DakitError(
                    f"init is {init.spec.name} {dict(init.spec.params)} for {init.classes}, but the classifier is "
                    f"{self.classifier.name} {dict(self.classifier.params)} for {train.classes}"
                )
            network.load_state_dict(dict(init.state))
        trainer = Trainer(ctx)
        learned = self.learned(network)
        student = trainer.place(network, train=True)
        self.set_mode(network)
        loss = None if self.transfer is None else self.transfer.build()
        if isinstance(loss, nn.Module):
            loss = loss.to(trainer.device)
            learned = [*learned, *loss.parameters()]
        compare = trainer.data_parallel(loss) if isinstance(loss, nn.Module) else loss
        augment = Augmentation(self.augment).to(trainer.device)
        cross_entropy = self._cross_entropy(train, extra, trainer.device)
        draw = self._draw(ctx, train, extra)
        guide = None
        if teacher is not None and loss is not None:
            guide = Teacher(
                trainer, trainer.place(teacher.build(), train=False), loss,
                train if extra is None else Joined([train, extra]), augment,
                draws=self.steps * ctx.engine.accumulate * self.batch_size, batch_size=self.batch_size,
            )  # fmt: skip

        def step(n: int) -> Mapping[str, Tensor]:
            drawn = draw(n)
            x, y = augment(trainer.images(drawn.images)), drawn.labels.to(trainer.device)
            wanted = y
            if self.mixup:
                x, wanted = mixed(x, F.one_hot(y, len(train.classes)).float(), self.mixup)
                y = wanted.argmax(1)  # of what most of an image is
            with trainer.autocast():
                prediction: Prediction = student(x)
                losses = {"cross-entropy": cross_entropy(prediction.logits, wanted)}
                if guide is not None and compare is not None:
                    losses["transfer"] = compare(guide(x, drawn.indices, augment.flipped), prediction)
            trainer.backward(losses)
            right = (prediction.logits.detach().argmax(1) == y).float().mean()
            return {**losses, "accuracy": right}

        networks = {"student": network} | ({"loss": loss} if isinstance(loss, nn.Module) else {})
        clip, average = None, None
        if self.optimiser is None:
            kind = torch.optim.AdamW if self.weight_decay else torch.optim.Adam
            optimiser: torch.optim.Optimizer = kind(
                learned, lr=self.lr, betas=(self.beta1, 0.999), weight_decay=self.weight_decay
            )
        else:
            optimiser, clip = self.optimiser.build(networks.values(), self.lr, self._body(network)), self.optimiser.clip
            if self.optimiser.average is not None:
                average = WeightAverage({"student": network}, self.optimiser.average)
        best = None if validation is None else _Best(trainer, network, validation, self.batch_size, average)
        history = trainer.fit(
            title=f"training {self.classifier.name} on {len(train) + len(extra or ())} images",
            steps=self.steps,
            networks=networks,
            optimisers={"student": optimiser},
            decay_from=self.decay_from,
            step=step,
            epoch=(len(train) + len(extra or ()), self.batch_size),
            others={} if best is None else {"best": best},
            every=None if best is None else (max(1, self.steps // 10), best.look),
            schedule=self.schedule,
            clip=clip,
            average=average,
        )
        if average is not None:
            average.apply()
        if best is not None:
            network.load_state_dict(best.weights)
            ctx.facts["chosen"] = {"images": len(best.images), "steps": best.steps, **best.facts}
        if target is not None:
            adapt(trainer, network, target, self.batch_size)
            ctx.facts["adapted"] = {"images": len(target)}
        if guide is not None:
            guide.forget()
            self._keep_attention(trainer, train, guide.network, student)
        ctx.facts["train"] = {
            "images": len(train),
            "extra": 0 if extra is None else len(extra),
            "last_loss": history["cross-entropy"][-1],
            "last_accuracy": history["accuracy"][-1],
        }
        return TrainedClassifier(trained(network, self.classifier, train.classes))

    def _keep(self, ctx: Context, train: ImageSet) -> tuple[Subset, Subset]:
        """What is learned from, and what is kept to choose on."""
        published = published_validation(train)
        if published:
            learned = sorted({*range(len(train))} - {*published})
            present = [{train.labels[i] for i in side} for side in (learned, published)]
            absent = [name for label, name in enumerate(train.classes) if not all(label in side for side in present)]
            if not absent:
                ctx.facts["chosen_on"] = "the published part for validation"
                ctx.note(f"the weights are chosen on {ctx.facts['chosen_on']}, {len(published)} images")
                return Subset(train, learned), Subset(train, published)
            why = f"it, or the rest, has no image of {', '.join(absent)}"
            ctx.note(f"the published part for validation is not used to choose the weights: {why}")
        try:
            sides = Split(holdout=self.validation).apply(train, 0, derive_seed(ctx.seed, "validation"))
        except DakitError as error:
            raise DakitError(f"choose: validation: {error}; choose: last needs no images of its own") from error
        return Subset(train, sides["train"]), Subset(train, sides["test"])

    def _keep_attention(self, trainer: Trainer, train: ImageSet, teacher: nn.Module, student: nn.Module) -> None:
        """Write ``attention.npz``: a few images, where the teacher looks on them, and where the student does."""
        chosen = examples(train.labels, SHOWN)
        faces = torch.stack([train[i].image for i in chosen])
        student.eval()
        with torch.no_grad(), trainer.autocast():
            predictions = {"teacher": teacher(trainer.images(faces)), "student": student(trainer.images(faces))}
        if all(prediction.maps for prediction in predictions.values()):
            looks = {name: attention(prediction) for name, prediction in predictions.items()}
            title = "\n".join(train.classes[train.labels[i]] for i in chosen)
            save_strips(trainer.ctx.folder / "attention.npz", [(title, thumbnails(faces))], **looks)

    def learned(self, network: nn.Module) -> list[nn.Parameter]:
        """The weights that the optimiser changes; the rest is frozen."""
        if self.update == "head" or self.freeze == "body":
            network.requires_grad_(False)
            network.head.requires_grad_(True)
        elif self.freeze == "norms":
            for weight in norm_weights(network):
                weight.requires_grad_(False)
        else:
            return list(network.parameters())
        return [weight for weight in network.parameters() if weight.requires_grad]

    def _body(self, network: nn.Module) -> set[nn.Parameter]:
        """The weights that learn with a rate of their own."""
        if not self._slower_body:
            return set()
        return set(network.parameters()) - set(cast(nn.Module, network.head).parameters())

    def _cross_entropy(self, train: ImageSet, extra: ImageSet | None, device: torch.device) -> CrossEntropy:
        if self.class_weights == "none" and not self.logit_adjustment:
            return CrossEntropy(self.label_smoothing)
        if extra is None:
            parts = [(train.labels, 1.0)]
        elif self.extra_share is None:
            parts = [([*train.labels, *extra.labels], 1.0)]
        else:
            share = round(self.extra_share * self.batch_size) / self.batch_size
            parts = [(train.labels, 1 - share), (extra.labels, share)]
        shares = class_shares(parts, len(train.classes)).to(device)
        return CrossEntropy(
            self.label_smoothing,
            balanced_weights(shares) if self.class_weights == "balanced" else None,
            self.logit_adjustment * shares.log() if self.logit_adjustment else None,
        )

    def _draw(self, ctx: Context, train: ImageSet, extra: ImageSet | None) -> Callable[[int], Batch]:
        """A function from the number of a batch to the batch; its indices count on from ``train`` to ``extra``."""
        seed = derive_seed(ctx.seed, "order")
        if extra is None or self.extra_share is None:
            images = train if extra is None else Joined([train, extra])
            return Batches(images, self.batch_size, seed, balanced=self.balanced)
        share = round(self.extra_share * self.batch_size)
        ours = Batches(train, self.batch_size - share, seed, balanced=self.balanced)
        theirs = Batches(extra, share, derive_seed(seed, "extra"), balanced=self.balanced)

        def both(n: int) -> Batch:
            a, b = ours(n), theirs(n)
            b = b._replace(indices=b.indices + len(train))
            return Batch(*(torch.cat(parts) for parts in zip(a, b, strict=True)))

        return both


class _Best:
    """The best weights so far on images that are not learned from; a checkpoint holds it."""

    def __init__(
        self,
        trainer: Trainer,
        network: nn.Module,
        images: ImageSet,
        batch_size: int,
        average: WeightAverage | None = None,
    ) -> None:
        self.trainer = trainer
        self.network = network
        self.images = images
        self.batch_size = batch_size
        self.average = average
        self.facts: dict[str, float] = {}
        self.steps = 0
        self.weights: dict[str, Tensor] = {}

    @torch.no_grad()
    def look(self, step: int) -> None:
        """Keep the weights, or their average where there is one, if they are better than all before."""
        with nullcontext() if self.average is None else self.average.applied():
            self._look(step)

    def _look(self, step: int) -> None:
        modes = [(module, module.training) for module in self.network.modules()]  # some layers may be frozen
        self.network.eval()
        logits = []
        for batch in in_order(self.images, self.batch_size):
            with self.trainer.autocast():
                prediction: Prediction = self.network(self.trainer.images(batch.images))
            logits.append(prediction.logits.float().cpu())
        for module, mode in modes:
            module.training = mode
        labels = torch.tensor(list(self.images.labels))
        right = (torch.cat(logits).argmax(1) == labels).float()
        macro = float(torch.stack([right[labels == label].mean() for label in set(self.images.labels)]).mean())
        loss = float(F.cross_entropy(torch.cat(logits), labels))
        if not self.weights or (macro, -loss) > (self.facts["macro"], -self.facts["cross_entropy"]):
            self.facts, self.steps = {"macro": macro, "cross_entropy": loss}, step
            self.weights = {k: v.detach().to("cpu", copy=True) for k, v in self.network.state_dict().items()}

    def state_dict(self) -> dict[str, Any]:
        return {"facts": self.facts, "steps": self.steps, "weights": self.weights}

    def load_state_dict(self, state: Mapping[str, Any], /) -> None:
        self.facts, self.steps, self.weights = dict(state["facts"]), state["steps"], dict(state["weights"])
