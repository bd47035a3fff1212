"""``train_translator``: stage I and stage II of CycleAT (Eq. 4-9), or a plain CycleGAN.

It is one thing: the loss of both stages of CycleAT, with the discriminators that are half of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from itertools import zip_longest
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, get_args

import annotated_types
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dakit.data.augment import Augment, Augmentation
from dakit.data.batches import Batches, too_few
from dakit.data.sets import unlabelled_among
from dakit.errors import DakitError, did_you_mean
from dakit.interfaces import (
    Classifier,
    Context,
    Discriminator,
    Fraction,
    ImageSet,
    NonNegative,
    Positive,
    Prediction,
    Spec,
    Trained,
    TransferLoss,
    Translator,
)
from dakit.parameters import checked
from dakit.report.pictures import curves_png, grid_png
from dakit.report.thumbnails import save_strips, thumbnails
from dakit.statistics.health import lost_game
from dakit.training.ema import WeightAverage
from dakit.training.identity import identified
from dakit.training.optimiser import Optimiser, superseded
from dakit.training.schedule import Schedule
from dakit.training.seeds import derive_seed
from dakit.training.surroundings import undisturbed
from dakit.training.teacher import Teacher
from dakit.training.trainer import Trainer, trained

Objective = Literal["log_saturating", "log", "least_squares"]


class TrainedTranslator(NamedTuple):
    """What the stage makes. ``init`` of a later stage takes all of it.

    Attributes:
        translator: G_SW, source to target look.
        inverse: G_WS, back.
        critic_target: D_W, tells the target domain's images from G_SW's.
        critic_source: D_S, tells source images from G_WS's.
        classifier: f_W, trained on translated images; None without one.
    """

    translator: Trained[Translator]
    inverse: Trained[Translator]
    critic_target: Trained[Discriminator]
    critic_source: Trained[Discriminator]
    classifier: Trained[Classifier] | None


@checked
class TrainTranslator:
    """Train two translators against two discriminators on unpaired images, and a classifier with them.

    With G_SW: source -> target, G_WS: target -> source, D_W and D_S on logits d, and f_W, minimise over
    G_SW, G_WS and f_W, against D_W and D_S, the sum (Eq. 8 of CycleAT, Zhang et al., ACM MM 2018)

        adversarial_weight * [L_GAN(G_SW, D_W) + L_GAN(G_WS, D_S)]                              (Eq. 4, 5)
        + cycle_weight * [|G_WS(G_SW(x_s)) - x_s|_1 + |G_SW(G_WS(x_w)) - x_w|_1]                (Eq. 6)
        + identity_weight * [|G_SW(x_w) - x_w|_1 + |G_WS(x_s) - x_s|_1]                         (CycleGAN alone)
        + classification_weight * E[-log softmax(f_W(G_SW(x_s)))_y] + transfer(f_S(.), f_W(G_SW(x_s)))   (Eq. 7)

    The gradient of the last line reaches G_SW; the teacher f_S is frozen. In the paper every weight is 1.

    Inputs: ``source`` (labelled when there is a classifier), ``target``; optional ``init`` (an earlier
    stage of this kind, whole), ``teacher`` (f_S), ``init_classifier`` (weights that f_W starts from, before
    those of ``init``).

    Args:
        generator: built twice, for G_SW and G_WS.
        discriminator: built twice, for D_W and D_S.
        steps: optimiser steps.
        batch_size: images of each domain per step.
        objective: of D and G. "log_saturating" is Eq. 4 and 5 to the letter, G minimises
            E[log(1 - D(G(x)))]; "log": G minimises -E[log D(G(x))] instead, which has the same fixed point
            and a gradient that does not vanish (Goodfellow et al. 2014, section 3); "least_squares": CycleGAN's.
        reduction: of the L1 terms. "sum" over the pixels of an image is the literal norm of Eq. 6, "mean"
            what published CycleGAN code does; they differ by the factor 3 H W.
        adversarial_weight, cycle_weight, identity_weight, classification_weight: of the terms above.
        lr, beta1: of Adam, for all networks.
        decay_from: from this fraction of the steps on, the learning rate falls linearly to zero.
        optimiser: of both players, in place of ``beta1``: a mapping such as {momentum: 0.5, average: 0.999}, see
            :class:`~dakit.training.optimiser.Optimiser`. An average is of G_SW, G_WS and f_W, not of D_W and D_S.
        schedule: in place of ``decay_from``, a mapping such as {warmup: 0.05, decay: cosine}, see
            :class:`~dakit.training.schedule.Schedule`.
        pool: so many generated images are remembered, and half of what D sees comes from there
            (Shrivastava et al. 2017); 0 = D sees the newest only.
        classifier: f_W; None trains translators alone (stage I).
        transfer: the loss between ``teacher`` and f_W.
        teacher_sees: "source": f_S looks at x_s while f_W looks at G_SW(x_s); "generated": both at G_SW(x_s).
        augment: what may be changed in a training image of either domain.
        samples: so many source images are followed through the training in a picture (Figure 5).
        sample_rows: how many moments the picture shows.
    """

    version: ClassVar[int] = 3
    together: ClassVar[bool] = True

    def __init__(
        self,
        *,
        generator: Spec[Translator],
        discriminator: Spec[Discriminator],
        steps: Positive,
        batch_size: Positive = 1,
        objective: Objective = "log_saturating",
        reduction: Literal["mean", "sum"] = "mean",
        adversarial_weight: NonNegative = 1.0,
        cycle_weight: NonNegative = 1.0,
        identity_weight: NonNegative = 0.0,
        classification_weight: NonNegative = 1.0,
        lr: Annotated[float, annotated_types.Gt(0)] = 2e-4,
        beta1: Annotated[float, annotated_types.Ge(0), annotated_types.Lt(1)] = 0.5,
        decay_from: Fraction = 0.5,
        pool: Annotated[int, annotated_types.Ge(0)] = 50,
        classifier: Spec[Classifier] | None = None,
        transfer: Spec[TransferLoss] | None = None,
        teacher_sees: Literal["source", "generated"] = "source",
        augment: Augment | None = None,
        samples: Positive = 7,
        sample_rows: Positive = 6,
        optimiser: Optimiser | None = None,
        schedule: Schedule | None = None,
    ) -> None:
        self.generator = generator
        self.discriminator = discriminator
        self.steps = steps
        self.batch_size = batch_size
        self.objective: Objective = objective
        self.reduction = reduction
        self.adversarial_weight = adversarial_weight
        self.cycle_weight = cycle_weight
        self.identity_weight = identity_weight
        self.classification_weight = classification_weight
        self.lr = lr
        self.beta1 = beta1
        self.decay_from = decay_from
        self.pool = pool
        self.classifier = classifier
        self.transfer = transfer
        self.teacher_sees = teacher_sees
        self.augment = augment
        self.samples = samples
        self.sample_rows = sample_rows
        self.optimiser = optimiser
        self.schedule = schedule

    def check(self, inputs: frozenset[str]) -> list[str]:
        """What does not fit together, before anything runs."""
        problems = []
        if ("teacher" in inputs) != (self.transfer is not None):
            problems.append("`teacher` and `transfer` go together: set both or neither")
        if self.classifier is None and ({"teacher", "init_classifier"} & inputs or self.transfer):
            problems.append("`teacher`, `transfer` and `init_classifier` need a `classifier` (f_W)")
        problems += superseded(self.optimiser, beta1=(self.beta1, 0.5))
        problems += superseded(self.schedule, decay_from=(self.decay_from, 0.5))
        if self.optimiser is not None and self.optimiser.body_lr != 1:
            problems.append(
                "`body_lr` within `optimiser` is for train_classifier: translators have no head; leave it out"
            )
        return problems

    def check_sizes(self, sizes: Mapping[str, int | None]) -> list[str]:
        """Whether there are enough images for a batch; None is a number that is not known yet."""
        return too_few(self.batch_size, {name: (self.batch_size, sizes[name]) for name in ("source", "target")})

    @undisturbed()
    @identified
    def run(
        self,
        ctx: Context,
        *,
        source: ImageSet,
        target: ImageSet,
        init: TrainedTranslator | None = None,
        teacher: Trained[Classifier] | None = None,
        init_classifier: Trained[Classifier] | None = None,
    ) -> TrainedTranslator:
        """Train and return the last weights; writes ``samples.png``, ``pairs.png`` and ``losses.png``.

        Raises:
            DakitError: too few or unlabelled images, or other networks than ``init``'s.
        """
        if self.classifier is not None and (not source.classes or min(source.labels, default=-1) < 0):
            which = unlabelled_among(source) or "there are none"
            raise DakitError(f"source: every image needs a label when there is a classifier; {which}")
        for text in self.check_sizes({"source": len(source), "target": len(target)}):
            raise DakitError(text)
        trainer = Trainer(ctx)
        specs: dict[str, Spec[Any]] = {"G_SW": self.generator, "G_WS": self.generator,
                                       "D_W": self.discriminator, "D_S": self.discriminator}  # fmt: skip
        modules: dict[str, nn.Module] = {name: spec.build() for name, spec in specs.items()}
        if init is not None:
            for (name, network), earlier in zip(modules.items(), init[:4], strict=True):
                _load(network, specs[name], earlier, name)
        if self.classifier is not None:
            specs["f_W"] = self.classifier
            modules["f_W"] = self.classifier.build(len(source.classes))
            start = init_classifier if init is None or init_classifier is not None else init.classifier
            if start is not None:
                if start.classes != source.classes:
                    raise DakitError(f"init: f_W knows {start.classes}, but source has {source.classes}")
                _load(modules["f_W"], self.classifier, start, "f_W")
        nets = {name: trainer.place(network, train=True) for name, network in modules.items()}
        transfer = None if self.transfer is None else self.transfer.build()
        if isinstance(transfer, nn.Module):
            transfer = transfer.to(trainer.device)
        compare = trainer.data_parallel(transfer) if isinstance(transfer, nn.Module) else transfer
        augment = Augmentation(self.augment).to(trainer.device)
        f_S = None if teacher is None else trainer.place(teacher.build(), train=False)
        taught = None
        if f_S is not None and transfer is not None and self.teacher_sees == "source":
            draws = self.steps * ctx.engine.accumulate * self.batch_size
            taught = Teacher(trainer, f_S, transfer, source, augment, draws=draws, batch_size=self.batch_size)
        sources = Batches(source, self.batch_size, derive_seed(ctx.seed, "source"))
        targets = Batches(target, self.batch_size, derive_seed(ctx.seed, "target"))
        pools = {"W": ImagePool(self.pool), "S": ImagePool(self.pool)}

        def step(n: int) -> Mapping[str, Tensor]:
            drawn = sources(n)
            x_s, y_s = augment(trainer.images(drawn.images)), drawn.labels.to(trainer.device)
            flipped = augment.flipped
            x_w = augment(trainer.images(targets(n).images))

            def teach(fake_w: Tensor) -> Prediction:
                """f_S on x_s, or on G_SW(x_s)."""
                assert f_S is not None
                view: Prediction = f_S(fake_w) if taught is None else taught(x_s, drawn.indices, flipped)
                return view

            return self.step(trainer, nets, pools, x_s, y_s, x_w, None if f_S is None else teach, compare)

        average = None
        if self.optimiser is not None and self.optimiser.average is not None:
            results = {name: network for name, network in modules.items() if name not in ("D_W", "D_S")}
            average = WeightAverage(results, self.optimiser.average)
        follow = _Followed(source, self.samples, trainer, modules["G_SW"], average)
        history = trainer.fit(
            title=f"training translators on {len(source)} + {len(target)} images",
            steps=self.steps,
            networks=modules | ({"transfer": transfer} if isinstance(transfer, nn.Module) else {}),
            optimisers=self.optimisers(modules, transfer),
            decay_from=self.decay_from,
            step=step,
            others={"pool W": pools["W"], "pool S": pools["S"], "samples": follow},
            every=(max(1, self.steps // self.sample_rows), follow.look),
            epoch=(len(source), self.batch_size),
            schedule=self.schedule,
            clip=None if self.optimiser is None else self.optimiser.clip,
            average=average,
        )
        if average is not None:
            average.apply()
        if taught is not None:
            taught.forget()
        follow.draw(ctx)
        curves_png(history, ctx.folder / "losses.png")
        for text in lost_game(history, self.objective) if self.adversarial_weight else ():
            ctx.warn(text)
        return TrainedTranslator(
            trained(modules["G_SW"], self.generator),
            trained(modules["G_WS"], self.generator),
            trained(modules["D_W"], self.discriminator),
            trained(modules["D_S"], self.discriminator),
            None if self.classifier is None else trained(modules["f_W"], self.classifier, source.classes),
        )

    def optimisers(
        self, nets: Mapping[str, nn.Module], transfer: TransferLoss | None = None
    ) -> dict[str, torch.optim.Optimizer]:
        """For what minimises Eq. 8 (with the weights of ``transfer``, where it has any), and for the critics."""
        learned = [nets[name] for name in ("G_SW", "G_WS", "f_W") if name in nets]
        learned += [transfer] if isinstance(transfer, nn.Module) else []
        players = {"generators": learned, "critics": [nets["D_W"], nets["D_S"]]}
        if self.optimiser is not None:
            return {player: self.optimiser.build(networks, self.lr) for player, networks in players.items()}
        return {
            player: torch.optim.Adam(
                [p for network in networks for p in network.parameters()],
                lr=self.lr,
                betas=(self.beta1, 0.999),
                fused=True,
            )
            for player, networks in players.items()
        }

    def step(
        self,
        trainer: Trainer,
        nets: Mapping[str, nn.Module],
        pools: Mapping[str, ImagePool],
        x_s: Tensor,
        y_s: Tensor,
        x_w: Tensor,
        teach: Callable[[Tensor], Prediction] | None = None,
        transfer: TransferLoss | None = None,
    ) -> dict[str, Tensor]:
        """All losses of one batch, after adding their gradients to the networks'.

        Args:
            trainer: of the stage.
            nets: G_SW, G_WS, D_W, D_S and perhaps f_W, in training mode.
            pools: "W" and "S".
            x_s: source images ``(B, 3, H, W)`` in [-1, 1],
            y_s: and their labels.
            x_w: target images, as many.
            teach: what f_S says of this batch, told G_SW(x_s); goes with ``transfer``.
            transfer: from f_S to f_W.
        """
        G_SW, G_WS, D_W, D_S = (nets[name] for name in ("G_SW", "G_WS", "D_W", "D_S"))
        for critic in (D_W, D_S):
            critic.requires_grad_(False)
        # One direction after the other: the gradients add up to those of the sum, with half the memory. Where several
        # processes train, the generators' are averaged once, after the second.
        later = trainer.accelerator.no_sync
        with later(G_SW), later(G_WS), trainer.autocast():
            fake_w, losses = self._direction(x_s, x_w, G_SW, G_WS, D_W, "W")
            if "f_W" in nets:
                prediction: Prediction = nets["f_W"](fake_w)
                losses["f_W cross-entropy"] = self.classification_weight * F.cross_entropy(
                    prediction.logits.float(), y_s
                )
                if teach is not None and transfer is not None:
                    with torch.no_grad():
                        taught = teach(fake_w)
                    losses["f_W transfer"] = transfer(taught, prediction)
        trainer.backward(losses)
        with trainer.autocast():
            fake_s, back = self._direction(x_w, x_s, G_WS, G_SW, D_S, "S")
        trainer.backward(back)
        critics = {}
        for critic, real, fake, side in ((D_W, x_w, fake_w, "W"), (D_S, x_s, fake_s, "S")):
            critic.requires_grad_(True)
            with trainer.autocast():
                seen = pools[side].exchange(fake.detach())
                critics[f"D_{side}"] = critic_loss(critic(real), critic(seen), self.objective)
        trainer.backward(critics)
        return {**losses, **back, **critics}

    def _direction(
        self, x: Tensor, other: Tensor, there: nn.Module, back: nn.Module, critic: nn.Module, side: str
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """One direction of Eq. 4-6: x -> there(x) -> back(there(x)); ``side`` names the domain arrived at."""
        fake: Tensor = there(x)
        losses = {
            f"G adversarial {side}": self.adversarial_weight * generator_loss(critic(fake), self.objective),
            f"cycle via {side}": self.cycle_weight * self._l1(back(fake), x),
        }
        if self.identity_weight:
            losses[f"identity {side}"] = self.identity_weight * self._l1(there(other), other)
        return fake, losses

    def _l1(self, a: Tensor, b: Tensor) -> Tensor:
        distance = (a.float() - b).abs().mean()
        return distance * a[0].numel() if self.reduction == "sum" else distance


def generator_loss(fake: Tensor, objective: Objective) -> Tensor:
    """What G minimises, from D's logits d on generated images; D(x) = sigmoid(d), or d for least squares.

    log_saturating: E[log(1 - D)]; log: -E[log D]; least_squares: E[(d - 1)^2].

    Raises:
        DakitError: there is no such objective.
    """
    _known(objective)
    fake = fake.float()
    if objective == "least_squares":
        return (fake - 1).square().mean()
    return -F.softplus(fake).mean() if objective == "log_saturating" else F.softplus(-fake).mean()


def critic_loss(real: Tensor, fake: Tensor, objective: Objective) -> Tensor:
    """What D minimises: the negative of Eq. 4, -E[log D(real)] - E[log(1 - D(fake))], or E[(d-1)^2] + E[d^2].

    Raises:
        DakitError: there is no such objective.
    """
    _known(objective)
    real, fake = real.float(), fake.float()
    if objective == "least_squares":
        return (real - 1).square().mean() + fake.square().mean()
    return F.softplus(-real).mean() + F.softplus(fake).mean()


def _known(objective: str) -> None:
    if objective not in get_args(Objective):
        raise DakitError(f'there is no objective "{objective}"{did_you_mean(objective, get_args(Objective))}')


class ImagePool:
    """A history of generated images for a discriminator (Shrivastava et al., CVPR 2017, section 2.3).

    Until it is full it keeps what it is given and returns it. From then on each image is, with probability
    one half, exchanged for a random older one.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.images: list[Tensor] = []

    def exchange(self, images: Tensor) -> Tensor:
        """``(B, C, H, W)`` in, the same shape out; draws from torch's global generator."""
        if not self.size:
            return images
        out = []
        for image in images:
            if len(self.images) < self.size:
                self.images.append(image.clone())
                out.append(image)
            elif torch.rand(()) < 0.5:
                place = int(torch.randint(self.size, ()))
                out.append(self.images[place].to(image.device))  # a checkpoint is read on the CPU
                self.images[place] = image.clone()
            else:
                out.append(image)
        return torch.stack(out)

    def state_dict(self) -> dict[str, Any]:
        """The images, for a checkpoint."""
        return {"images": list(self.images)}

    def load_state_dict(self, state: Mapping[str, Any], /) -> None:
        """Take the images from a checkpoint."""
        self.images = list(state["images"])


class _Followed:
    """A few source images, translated now and then, for Figure 5 of the paper."""

    def __init__(
        self,
        source: ImageSet,
        count: int,
        trainer: Trainer,
        translator: nn.Module,
        average: WeightAverage | None = None,
    ) -> None:
        labels = source.labels
        first: dict[int, list[int]] = {}
        for i, label in enumerate(labels):
            if len(images := first.setdefault(label, [])) < count:
                images.append(i)
        turns = zip_longest(*(first[label] for label in sorted(first)))  # one of each class, then the next of each
        chosen = sorted([i for turn in turns for i in turn if i is not None][:count], key=lambda i: labels[i])
        self.originals = torch.stack([source[i].image for i in chosen])
        self.trainer = trainer
        self.translator = translator
        self.average = average
        self.steps: list[int] = []
        self.rows: list[Tensor] = []

    @torch.no_grad()
    def look(self, step: int) -> None:
        """Translate them as the translator is now, or as the average of its weights does."""
        mode = self.translator.training
        with nullcontext() if self.average is None else self.average.applied():
            images = to_uint8(self.translator.eval()(self.trainer.images(self.originals)))
        self.translator.train(mode)
        self.steps.append(step)
        self.rows.append(images)

    def draw(self, ctx: Context) -> None:
        """Figure 5 (a), generated images over the iterations, and (b), source beside generated."""
        names = [f"step {step}" for step in self.steps]
        grid_png([self.originals, *self.rows], ["source", *names], ctx.folder / "samples.png")
        grid_png([self.originals, self.rows[-1]], ["source", "generated"], ctx.folder / "pairs.png")
        strips = zip(["source", *names], map(thumbnails, [self.originals, *self.rows]), strict=True)
        save_strips(ctx.folder / "samples.npz", strips)

    def state_dict(self) -> dict[str, Any]:
        return {"steps": list(self.steps), "rows": list(self.rows)}

    def load_state_dict(self, state: Mapping[str, Any], /) -> None:
        self.steps, self.rows = list(state["steps"]), list(state["rows"])


def to_uint8(images: Tensor) -> Tensor:
    """[-1, 1] to uint8 on the CPU, rounded: the inverse of x / 127.5 - 1."""
    return images.float().add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8).cpu()


def _load(network: nn.Module, spec: Spec[Any], earlier: Trained[Any], name: str) -> None:
    if earlier.spec.untrained != spec.untrained:
        raise DakitError(
            f"init: {name} is {earlier.spec.name} {dict(earlier.spec.params)}, "
            f"but this stage's is {spec.name} {dict(spec.params)}"
        )
    network.load_state_dict(dict(earlier.state))
