"""``fit_head``: frozen features once, and an estimator on them in seconds."""

from __future__ import annotations

import math
import warnings
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor

from dakit.data.folds import inner_folds
from dakit.data.sets import unlabelled_among
from dakit.errors import DakitError
from dakit.interfaces import Classifier, Context, Estimator, ImageSet, LabelledFeatures, Spec, Trained
from dakit.optional import ChecksInputs, HasFacts, offers
from dakit.parameters import checked
from dakit.training.frozen import Features, Head, frozen_network, starting_network, with_head
from dakit.training.seeds import derive_seed, seed_everything
from dakit.training.surroundings import undisturbed
from dakit.training.trainer import Trainer


class FittedHead(NamedTuple):
    """What the stage makes."""

    model: Trained[Classifier]


@checked
class FitHead:
    """Fit an estimator, such as a logistic regression, on the features of a frozen network.

    Each image goes through the network once on this machine, whatever rows, folds, seeds and runs ask for it, as it
    is: nothing is augmented. The network is never trained here, and is the same for every seed.

    Inputs: ``train``; optional ``extra`` (more labelled images of the same classes, such as the source beside the
    target), ``unlabelled`` (images of the target's kind, for estimators that make use of them), ``init`` (a trained
    network whose features are taken, instead of ``classifier``).

    Args:
        estimator: what is fitted.
        classifier: the network, with the weights that its own parameters name; None = that of ``init``.
        calibrate: divide the logits by a temperature, so that their softmax is a probability: the one with the lowest
            cross-entropy on images of ``train`` that are held out, group by group, in five inner folds, in each of
            which the estimator is fitted anew (Guo et al., On calibration of modern neural networks, ICML 2017).
            Predictions stay as they are.
    """

    version: ClassVar[int] = 1

    def __init__(
        self,
        *,
        estimator: Spec[Estimator],
        classifier: Spec[Classifier] | None = None,
        calibrate: bool = False,
    ) -> None:
        self.estimator = estimator
        self.classifier = classifier
        self.calibrate = calibrate

    def check(self, inputs: frozenset[str]) -> list[str]:
        """What does not fit together, before anything runs."""
        problems = []
        if ("init" in inputs) == (self.classifier is not None):
            problems.append("whose features? Set `classifier`, or the input `init`, and not both")
        estimator = self.estimator.build()
        return problems + (estimator.check(inputs) if offers(estimator, ChecksInputs) else [])

    @undisturbed()
    def run(
        self,
        ctx: Context,
        *,
        train: ImageSet,
        extra: ImageSet | None = None,
        unlabelled: ImageSet | None = None,
        init: Trained[Classifier] | None = None,
    ) -> FittedHead:
        """Fit, and return network and head as one classifier.

        Raises:
            DakitError: unlabelled images or images of one class only, other classes in ``extra`` or ``init``.
        """
        for name, images in (("train", train), ("extra", extra)):
            if images is not None and (not images.classes or min(images.labels, default=-1) < 0):
                which = unlabelled_among(images) or "there are none"
                raise DakitError(f"{name}: every image needs a label to fit a classifier; {which}")
        for name, other in (("extra", extra), ("init", init)):
            if other is not None and other.classes != train.classes:
                raise DakitError(f"{name} has the classes {other.classes}, but train has {train.classes}")
        network = self._network(ctx, train.classes, init)
        features = Features(Trainer(ctx), network)
        shown = {"train": train, "extra": extra, "unlabelled": unlabelled}
        seen = {
            name: features.of(images, f"{network.spec.name} looks at the {len(images)} images of {name}")
            for name, images in shown.items()
            if images is not None and (len(images) or name == "train")
        }
        known, present = _labelled({name: (shown[name], seen[name]) for name in ("train", "extra") if name in seen})
        absent = [name for label, name in enumerate(train.classes) if label not in present.tolist()]
        if len(present) < 2:
            raise DakitError(
                f"images of two classes or more are needed to fit on; there are none of {', '.join(absent)}"
            )
        if absent:
            ctx.warn(f"no image of {', '.join(absent)} is there to fit on: no image will be taken for one")
        unknown = seen.get("unlabelled")
        estimator = self._fitted(ctx, known, unknown)
        temperature, calibration = self._temperature(ctx, known, unknown) if self.calibrate else (1.0, {})
        head = Head(estimator, len(train.classes), present, temperature)
        with torch.no_grad():
            right = float((head(known.features).argmax(1) == present[known.labels]).float().mean())
        ctx.facts["head"] = {
            **{name: len(rows) for name, rows in seen.items()},
            "features": known.features.shape[1],
            "accuracy_on_these": right,
            "fitted": dict(estimator.facts) if offers(estimator, HasFacts) else {},
            **calibration,
        }
        return FittedHead(with_head(network, self.estimator, head))

    def _network(self, ctx: Context, classes: tuple[str, ...], init: Trained[Classifier] | None) -> Trained[Classifier]:
        """Whose features are taken."""
        if init is not None:
            return frozen_network(init)
        if self.classifier is None:
            raise DakitError("whose features? Set `classifier`, or the input `init`")
        if self.classifier.params.get("weights", "") == "none":
            ctx.warn(f"{self.classifier.name} has weights: none: these are features of a network that learned nothing")
        return starting_network(self.classifier, classes)

    def _fitted(self, ctx: Context, known: LabelledFeatures, unknown: Tensor | None, part: str = "all") -> Any:
        """An estimator, fitted; what libraries warn of meanwhile is told once."""
        seed_everything(derive_seed(ctx.seed, "fit", part))
        estimator: Any = self.estimator.build()
        with warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter("always")
            estimator.fit(known, unknown)
        for text in dict.fromkeys(
            f"{self.estimator.name}: {' '.join(str(warning.message).split())}" for warning in heard
        ):
            if text not in ctx.warnings:
                ctx.warn(text)
        return estimator.eval()

    def _temperature(
        self, ctx: Context, known: LabelledFeatures, unknown: Tensor | None
    ) -> tuple[float, dict[str, Any]]:
        """What the logits are to be divided by, and what was seen."""
        from scipy.optimize import minimize_scalar

        folds = inner_folds(known)
        if not folds:
            ctx.warn("calibrate: a class has fewer than two groups in train, too few for inner folds: nothing is done")
            return 1.0, {}
        logits, labels = [], []
        for number, (fitted, held) in enumerate(folds):
            inside = LabelledFeatures(
                known.features[fitted], known.labels[fitted], [known.groups[i] for i in fitted], known.extra[fitted]
            )
            estimator = self._fitted(ctx, inside, unknown, f"fold {number}")
            with torch.no_grad():
                logits.append(estimator(known.features[held]).double())
            labels.append(known.labels[held])
        predicted, truth = torch.cat(logits), torch.cat(labels)

        def entropy(log_scale: float) -> float:
            return float(torch.nn.functional.cross_entropy(predicted * math.exp(log_scale), truth))

        # The cross-entropy is convex in the factor 1 / T, so it has one valley in its logarithm.
        factor = minimize_scalar(entropy, bounds=(-math.log(1e3), math.log(1e3)), method="bounded").x
        temperature = math.exp(-float(factor))
        seen = {"images": len(truth), "folds": len(folds), "before": entropy(0.0), "after": entropy(factor)}
        return temperature, {"temperature": temperature, "cross_entropy_of_images_held_out": seen}


def _labelled(sides: dict[str, tuple[ImageSet | None, Tensor]]) -> tuple[LabelledFeatures, Tensor]:
    """All labelled images as one, with labels from 0 on without gaps, and the classes that these stand for."""
    labels = np.concatenate([np.asarray(images.labels, np.int64) for images, _ in sides.values() if images is not None])
    present, within = np.unique(labels, return_inverse=True)
    return LabelledFeatures(
        torch.cat([rows for _, rows in sides.values()]),
        torch.from_numpy(within.astype(np.int64)),
        [group for images, _ in sides.values() if images is not None for group in images.groups],
        torch.cat([torch.full((len(rows),), name == "extra") for name, (_, rows) in sides.items()]),
    ), torch.from_numpy(present)
