from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn
from torch.nn import functional as F

import tiny
from dakit.data.folds import inner_folds
from dakit.data.sets import Sealed, Subset, TensorImages
from dakit.errors import DakitError
from dakit.interfaces import Context, Engine, LabelledFeatures, Spec, Trained
from dakit.registry import Registry
from dakit.stages.evaluate import Evaluate
from dakit.stages.head import FitHead
from dakit.testing import check_stage
from dakit.testing.stages import small
from dakit.training.frozen import ABSENT, starting_network


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAKIT_CACHE", str(tmp_path / "cache"))
    starting_network.cache_clear()


def coloured(count: int, seed: int = 0, labels: Any = None, shift: int = 0) -> TensorImages:
    """Images whose mean colour tells their class, with some noise."""
    truth = np.arange(count) % 3 if labels is None else np.asarray(labels)
    generator = np.random.default_rng(seed)
    means = np.full((count, 3), 90 + shift) + 70 * np.eye(3, dtype=int)[truth] + generator.normal(0, 25, (count, 3))
    pixels = np.clip(means[:, :, None, None] + generator.normal(0, 20, (count, 3, 4, 6)), 0, 255).astype(np.uint8)
    return TensorImages(torch.from_numpy(pixels), truth.tolist(), classes=tiny.CLASSES)


def context(folder: Path) -> Context:
    folder.mkdir(parents=True, exist_ok=True)
    return Context(folder, seed=3, engine=Engine(device="cpu"))


NETWORK = tiny.spec(tiny.Classifier, width=8)


def seen(images: Any) -> np.ndarray:
    """The network's features by plain torch."""
    network = starting_network(NETWORK, tiny.CLASSES).build()
    x = torch.stack([images[i].image for i in range(len(images))]).float() / 127.5 - 1
    with torch.no_grad():
        return np.asarray(network(x).features)


def answers(model: Trained[Any], images: Any) -> np.ndarray:
    x = torch.stack([images[i].image for i in range(len(images))]).float() / 127.5 - 1
    with torch.no_grad():
        return np.asarray(model.build()(x).logits)


@pytest.fixture(scope="module")
def logistic() -> Spec[Any]:
    from dakit.plugins import find_plugins

    return Registry(find_plugins()).spec("estimator", "logistic", {"C": 0.5})


def test_contract(logistic: Spec[Any]) -> None:
    check_stage(FitHead)
    check_stage(FitHead, classifier=small("classifier"), estimator=logistic, calibrate=True)


def test_it_is_scikit_learn_on_the_network_s_features(tmp_path: Path, logistic: Spec[Any]) -> None:
    source, target, test = coloured(60, shift=20), coloured(30, seed=1), coloured(45, seed=2)
    stage = FitHead(estimator=logistic, classifier=NETWORK)
    for extra in (None, source):
        model = stage.run(context(tmp_path), train=target, extra=extra).model
        sets = [target] if extra is None else [target, extra]
        rows, labels = np.concatenate([seen(s) for s in sets]), np.concatenate([s.labels for s in sets])
        theirs = LogisticRegression(C=0.5, class_weight="balanced", max_iter=1000).fit(rows, labels)
        assert answers(model, test) == pytest.approx(theirs.decision_function(seen(test)), abs=1e-4)
        assert np.array_equal(answers(model, test).argmax(1), theirs.predict(seen(test)))


def test_evaluate_gives_what_the_network_and_its_head_give(tmp_path: Path, logistic: Spec[Any]) -> None:
    """Through features that were kept, in fewer passes; and without a network being built for it."""
    whole = coloured(90)
    train, test = Subset(whole, range(0, 90, 2)), Subset(whole, range(1, 90, 2))
    spec, built = tiny.recorded(tiny.Classifier, width=8)
    model = FitHead(estimator=logistic, classifier=spec).run(context(tmp_path), train=train).model
    before = len(built)
    said = Evaluate(batch_size=7).run(context(tmp_path), model=model, test=Sealed(test)).evaluation
    assert len(built) == before
    expected = torch.from_numpy(answers(model, test)).softmax(1).numpy()
    assert said.probabilities == pytest.approx(expected, abs=1e-6)
    assert said.labels.tolist() == list(test.labels)
    assert said.indices.tolist() == list(range(1, 90, 2))


def test_the_temperature_is_that_with_the_lowest_cross_entropy_out_of_fold(tmp_path: Path, logistic: Spec[Any]) -> None:
    """By hand over the same folds; predictions stay, and only train's images are held out."""
    source, target, test = coloured(60, shift=20), coloured(40, seed=1), coloured(45, seed=2)
    ctx = context(tmp_path)
    inputs = {"train": target, "extra": source}
    plain = FitHead(estimator=logistic, classifier=NETWORK).run(context(tmp_path), **inputs).model
    model = FitHead(estimator=logistic, classifier=NETWORK, calibrate=True).run(ctx, **inputs).model
    rows, labels = np.concatenate([seen(target), seen(source)]), np.array([*target.labels, *source.labels])
    known = LabelledFeatures(
        torch.from_numpy(rows), torch.from_numpy(labels), [*target.groups, *source.groups], torch.arange(100) >= 40
    )
    logits, truth = [], []
    for fitted, held in inner_folds(known):
        theirs = LogisticRegression(C=0.5, class_weight="balanced", max_iter=1000).fit(rows[fitted], labels[fitted])
        logits.append(theirs.decision_function(rows[held]))
        truth.append(labels[held])
    said, right = torch.from_numpy(np.concatenate(logits)), torch.from_numpy(np.concatenate(truth))
    assert len(right) == 40
    found = minimize_scalar(lambda log: float(F.cross_entropy(said / math.exp(log), right)), bounds=(-5, 5)).x
    assert ctx.facts["head"]["temperature"] == pytest.approx(math.exp(found), rel=1e-2)
    assert answers(model, test) == pytest.approx(answers(plain, test) / ctx.facts["head"]["temperature"], abs=1e-4)
    told = ctx.facts["head"]["cross_entropy_of_images_held_out"]
    assert told["after"] <= told["before"]
    assert (told["images"], told["folds"]) == (40, 5)


def test_too_few_groups_to_calibrate_is_told(tmp_path: Path, logistic: Spec[Any]) -> None:
    ctx = context(tmp_path)
    FitHead(estimator=logistic, classifier=NETWORK, calibrate=True).run(ctx, train=coloured(3))
    assert any("fewer than two groups" in text for text in ctx.warnings)
    assert "temperature" not in ctx.facts["head"]


def test_a_class_without_images_is_never_predicted_and_told(tmp_path: Path, logistic: Spec[Any]) -> None:
    ctx = context(tmp_path)
    model = FitHead(estimator=logistic, classifier=NETWORK).run(ctx, train=coloured(30, labels=[0, 2] * 15)).model
    assert ctx.warnings == ["no image of b is there to fit on: no image will be taken for one"]
    said = answers(model, coloured(45, seed=2))
    assert said.shape == (45, 3)
    assert (said[:, 1] == ABSENT).all()
    assert {0, 2} == set(said.argmax(1).tolist())


def test_what_unlabelled_images_are_given_to(tmp_path: Path) -> None:
    made: list[Any] = []

    class Keeping(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.facts = {"a": 1}
            self.register_buffer("weight", torch.zeros(8, 3))
            made.append(self)

        def fit(self, known: LabelledFeatures, unlabelled: Tensor | None) -> None:
            warnings.warn("it did not converge", UserWarning, stacklevel=1)
            warnings.warn("it did not converge", UserWarning, stacklevel=1)
            self.known, self.unlabelled = known, unlabelled

        def forward(self, features: Tensor) -> Tensor:
            return features @ self.weight

    ctx, pile = context(tmp_path), coloured(20, seed=7)
    stage = FitHead(estimator=Spec("estimator", "keeping", {}, Keeping), classifier=NETWORK)
    stage.run(ctx, train=coloured(9), extra=coloured(6, seed=1), unlabelled=pile)
    estimator = made[-1]
    assert estimator.unlabelled.numpy() == pytest.approx(seen(pile), abs=1e-6)
    assert estimator.known.features.dtype == torch.float32
    assert estimator.known.labels.tolist() == [*(i % 3 for i in range(9)), *(i % 3 for i in range(6))]
    assert estimator.known.extra.tolist() == [False] * 9 + [True] * 6
    assert ctx.facts["head"]["fitted"] == {"a": 1}
    assert {name: ctx.facts["head"][name] for name in ("train", "extra", "unlabelled")} == {
        "train": 9, "extra": 6, "unlabelled": 20,
    }  # fmt: skip
    assert ctx.warnings == ["keeping: it did not converge"]


def test_the_features_of_a_trained_network_and_a_head_on_a_head(tmp_path: Path, logistic: Spec[Any]) -> None:
    trained = tiny.fresh(NETWORK, 7, tiny.CLASSES)
    one = FitHead(estimator=logistic).run(context(tmp_path), train=coloured(30), init=trained).model
    two = FitHead(estimator=small("estimator")).run(context(tmp_path), train=coloured(30), init=one).model
    for model in (one, two):
        inner = {n.removeprefix("network."): v for n, v in model.state.items() if n.startswith("network.")}
        assert tiny.same(inner, trained.state)
    assert two.spec.params["network"] == NETWORK


def test_a_network_without_weights_is_told(tmp_path: Path, logistic: Spec[Any]) -> None:
    def none(classes: int, *, weights: str) -> nn.Module:
        return tiny.Classifier(classes)

    ctx = context(tmp_path)
    FitHead(estimator=logistic, classifier=tiny.spec(none, weights="none")).run(ctx, train=coloured(30))
    assert "these are features of a network that learned nothing" in ctx.warnings[0]


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"train": coloured(30, labels=[1] * 30)}, "two classes or more are needed to fit on; there are none of a, c"),
        ({"train": TensorImages(torch.zeros(2, 3, 4, 6, dtype=torch.uint8), classes=tiny.CLASSES)}, "2 of 2 images"),
        ({"train": coloured(9), "extra": tiny.images([0, 1], classes=("a", "b"))}, "extra has the classes"),
        ({"train": coloured(9), "init": tiny.fresh(NETWORK, 0, ("x", "y"))}, "init has the classes"),
    ],
)
def test_what_does_not_fit_is_refused(
    tmp_path: Path, logistic: Spec[Any], inputs: dict[str, Any], message: str
) -> None:
    classifier = None if "init" in inputs else NETWORK
    with pytest.raises(DakitError, match=message):
        FitHead(estimator=logistic, classifier=classifier).run(context(tmp_path), **inputs)


def test_what_a_recipe_is_told(registry: Registry, logistic: Spec[Any]) -> None:
    assert "Set `classifier`, or the input `init`" in FitHead(estimator=logistic).check(frozenset({"train"}))[0]
    both = FitHead(estimator=logistic, classifier=NETWORK).check(frozenset({"train", "init"}))
    assert "and not both" in both[0]
    coral = registry.spec("estimator", "coral", {"then": {"use": "label_spreading"}})
    problems = FitHead(estimator=coral, classifier=NETWORK).check(frozenset({"train"}))
    assert len(problems) == 2
    assert FitHead(estimator=coral, classifier=NETWORK).check(frozenset({"train", "unlabelled"})) == []
