"""The contract of estimators."""

from __future__ import annotations

import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from dakit.errors import DakitError
from dakit.interfaces import LabelledFeatures, Spec
from dakit.optional import ChecksInputs, offers
from dakit.testing.contract import FIRST, Check, finite, wanted
from dakit.training.frozen import Head
from dakit.training.seeds import seed_everything

CLASSES = (2, 3, 7)
WIDTH = 12


def rows(classes: int, per_class: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Features as after a ReLU, one of them always 0, and their labels: classes that stand well apart."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(classes * per_class) % classes
    means = 4 * torch.eye(max(classes, WIDTH - 1))[:classes, : WIDTH - 1]
    noise = 0.5 * torch.randn(len(labels), WIDTH - 1, generator=generator)
    features = (means[labels] + noise + 1).relu()
    return torch.cat([features, torch.zeros(len(labels), 1)], 1), labels


def known(classes: int, per_class: int = 8, *, extra: bool = False) -> LabelledFeatures:
    """Images of persons of two each; with ``extra`` a third of them stand beside the others."""
    features, labels = rows(classes, per_class)
    beside = torch.arange(len(labels)) % 3 == 0 if extra else torch.zeros(len(labels), dtype=torch.bool)
    return LabelledFeatures(features, labels, [f"person {i // (2 * classes)}" for i in range(len(labels))], beside)


def problems(estimator: Any, inputs: set[str]) -> list[str]:
    """What its ``check`` says."""
    return estimator.check(frozenset(inputs)) if offers(estimator, ChecksInputs) else []


def fitted(spec: Spec[Any], classes: int, *, per_class: int = 8, extra: bool | None = None) -> Any:
    """A fresh one, fitted with the fewest inputs that its ``check`` accepts, or with all; in evaluation mode."""
    seed_everything(3)
    estimator = spec.build()
    choices = [{"train"}, {"train", "unlabelled"}, {"train", "extra"}, {"train", "extra", "unlabelled"}]
    if extra is not None:
        choices = [chosen for chosen in choices if ("extra" in chosen) is extra]
    inputs = next((chosen for chosen in choices if not problems(estimator, chosen)), choices[-1])
    unlabelled = rows(classes, 10, seed=1)[0] if "unlabelled" in inputs else None
    seed_everything(3)
    estimator.fit(known(classes, per_class, extra="extra" in inputs), unlabelled)
    return estimator.eval() if isinstance(estimator, nn.Module) else estimator


def logits(estimator: Any, features: Tensor) -> Tensor:
    """Without gradients."""
    with torch.no_grad():
        out: Tensor = estimator(features)
    return out


def is_a_module(spec: Spec[Any]) -> None:
    """It is moved, saved and loaded as a torch.nn.Module."""
    wanted(isinstance(spec.build(), nn.Module), f"it is a {type(spec.build()).__name__}")


def can_be_fitted_with_some_inputs(spec: Spec[Any]) -> None:
    """`check` says, in text, what is wrong with the inputs `train`, `extra` and `unlabelled`; with all, nothing is."""
    faults = problems(spec.build(), {"train", "extra", "unlabelled"})
    wanted(not faults, f"with train, extra and unlabelled it says {faults}")


def gives_logits(spec: Spec[Any]) -> None:
    """Float logits (B, K) for features (B, D), finite, of as many classes as there are labels."""
    for classes in CLASSES:
        estimator = fitted(spec, classes)
        for batch in (1, 2, 5):
            out = logits(estimator, rows(classes, batch, seed=2)[0][:batch])
            wanted(isinstance(out, Tensor), f"it returns a {type(out).__name__}")
            wanted(out.shape == (batch, classes), f"{batch} images of {classes} classes gave {tuple(out.shape)}")
            wanted(out.is_floating_point() and finite(out), "a logit is no finite number")


def learns_what_is_plain(spec: Spec[Any]) -> None:
    """Of classes that stand far apart it reads nine of ten new images, with and without images of `extra`."""
    for classes in CLASSES:
        for extra in (False, True):
            features, labels = rows(classes, 20, seed=2)
            right = float((logits(fitted(spec, classes, extra=extra), features).argmax(1) == labels).float().mean())
            wanted(right >= 0.9, f"of {classes} classes it reads {100 * right:.0f} %")


def takes_few_images(spec: Spec[Any]) -> None:
    """One or two labelled images a class are what there may be: it fits, or says in a DakitError what it needs."""
    for per_class in (1, 2):
        with suppress(DakitError):
            wanted(finite(logits(fitted(spec, 3, per_class=per_class), rows(3, 2)[0])), "a logit is no finite number")


def takes_features_that_are_far_away(spec: Spec[Any]) -> None:
    """A new image may be like none that was fitted on, or all black: its logits are numbers."""
    estimator = fitted(spec, 3)
    for far in (torch.zeros(2, WIDTH), torch.full((2, WIDTH), 1e3)):
        wanted(finite(logits(estimator, far)), "a logit is NaN or infinite")


def evaluation_sees_one_image_at_a_time(spec: Spec[Any]) -> None:
    """An image's logits do not depend on its neighbours in the batch, nor on chance."""
    estimator, features = fitted(spec, 3), rows(3, 4, seed=2)[0]
    together, again = logits(estimator, features), logits(estimator, features)
    wanted(torch.equal(together, again), "two passes differ")
    alone = torch.cat([logits(estimator, row[None]) for row in features])
    near = torch.allclose(together, alone, rtol=1e-4, atol=1e-4 + 1e-5 * float(together.abs().max()))
    wanted(near, "an image alone gives other logits than in a batch")


def same_seed_gives_the_same_logits(spec: Spec[Any]) -> None:
    """Results can be repeated: chance comes from NumPy's and torch's global generators and nothing else."""
    features = rows(3, 4, seed=2)[0]
    wanted(torch.equal(*(logits(fitted(spec, 3), features) for _ in range(2))), "two fits of one seed differ")


def leaves_its_input_alone(spec: Spec[Any]) -> None:
    """The same features serve every fold and row: they are not changed in place."""
    estimator, given, unlabelled = spec.build(), known(3, extra=True), rows(3, 10, seed=1)[0]
    before = [given.features.clone(), given.labels.clone(), given.extra.clone(), unlabelled.clone()]
    estimator.fit(given, unlabelled)
    features = rows(3, 2)[0]
    seen = features.clone()
    logits(estimator, features)
    after = [given.features, given.labels, given.extra, unlabelled]
    wanted(all(map(torch.equal, before, after)) and torch.equal(features, seen), "it changed what it was given")


def saved_and_loaded_it_is_the_same(spec: Spec[Any]) -> None:
    """All that was fitted is in named buffers or parameters; a fresh one takes their shapes from the file."""
    features = rows(3, 4, seed=2)[0]
    head = Head(fitted(spec, 3), 3, torch.arange(3))
    state = {name: value.contiguous() for name, value in head.state_dict().items()}
    wanted(all(finite(value.double()) for value in state.values()), "a buffer holds NaN or infinity")
    with tempfile.TemporaryDirectory() as folder:
        save_file(state, Path(folder, "state.safetensors"))
        again = Head(spec.build(), 3)
        again.load_state_dict(load_file(Path(folder, "state.safetensors")))
    # What scikit-learn gives may lie otherwise in memory, and then its sums are rounded otherwise.
    pair = logits(head.eval(), features), logits(again.eval(), features)
    wanted(torch.allclose(*pair, rtol=1e-5, atol=1e-5), "its logits are others")


CHECKS: tuple[Check, ...] = (
    *FIRST, is_a_module, can_be_fitted_with_some_inputs, gives_logits, learns_what_is_plain, takes_few_images,
    takes_features_that_are_far_away, evaluation_sees_one_image_at_a_time, same_seed_gives_the_same_logits,
    leaves_its_input_alone, saved_and_loaded_it_is_the_same,
)  # fmt: skip
