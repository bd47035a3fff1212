from __future__ import annotations

import inspect
import math
import sys
from pathlib import Path
from typing import Any, get_args, get_type_hints

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import tiny
from dakit import interfaces
from dakit.data.sets import Sealed, Subset, TensorImages
from dakit.errors import DakitError
from dakit.interfaces import Prediction, Trained
from dakit.report.thumbnails import pick
from dakit.stages import dakit_stages
from dakit.stages.evaluate import Evaluate
from dakit.statistics.metrics import Evaluation

LABELS = [0, 0, 0, 0, 1, 1, 2]
READ_AS = [0, 0, 0, 2, 1, 0, 2]


class Reader(nn.Module):
    """Says the class that stands in the first pixel, with a logit of 2 against 0."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = classes

    def forward(self, images: Tensor) -> Prediction:
        said = ((images[:, 0, 0, 0] + 1) * 127.5).round().long()
        logits = 2.0 * nn.functional.one_hot(said, self.classes)
        return Prediction(logits, logits, ())


READER = Trained(tiny.spec(Reader), {}, tiny.CLASSES)


def held_out(classes: tuple[str, ...] = tiny.CLASSES) -> TensorImages:
    images = tiny.images(LABELS, classes=classes)
    images.images[:, 0, 0, 0] = torch.tensor(READ_AS, dtype=torch.uint8)
    return images


def evaluate(folder: Path, images: Any, model: Any = READER, batch_size: int = 3) -> Evaluation:
    ctx = tiny.context(folder)
    return Evaluate(batch_size=batch_size).run(ctx, model=model, test=Sealed(images)).evaluation


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_predictions_beside_labels(tmp_path: Path, batch_size: int) -> None:
    found = evaluate(tmp_path, held_out(), batch_size=batch_size)
    assert found.classes == tiny.CLASSES
    assert found.labels.tolist() == LABELS
    assert found.predictions.tolist() == READ_AS
    assert found.indices.tolist() == list(range(7))
    sure, other = math.exp(2) / (math.exp(2) + 2), 1 / (math.exp(2) + 2)
    expected = [[sure if k == said else other for k in range(3)] for said in READ_AS]
    np.testing.assert_allclose(found.probabilities, expected, rtol=1e-6)
    assert found.recall.tolist() == [3 / 4, 1 / 2, 1]
    assert found.macro == pytest.approx((3 / 4 + 1 / 2 + 1) / 3)
    assert found.accuracy == pytest.approx(5 / 7)


def test_indices_are_positions_in_the_whole_data_set(tmp_path: Path) -> None:
    found = evaluate(tmp_path, Subset(held_out(), [6, 1, 4]))
    assert found.indices.tolist() == [6, 1, 4]
    assert found.groups is not None
    assert found.groups.tolist() == ["#6", "#1", "#4"]
    assert found.labels.tolist() == [2, 0, 1]
    assert found.predictions.tolist() == [2, 0, 1]


def test_the_network_is_in_evaluation_mode(tmp_path: Path) -> None:
    """Neither dropout nor the statistics of a batch have a say."""
    model = tiny.fresh(tiny.spec(tiny.Classifier, norm=True, dropout=0.5), 4, tiny.CLASSES)
    model.state["norm.running_mean"].copy_(torch.tensor([0.1, -0.2, 0.3, 0.0]))
    images = held_out()
    with torch.no_grad():
        expected = model.build().double()(images.images.double() / 127.5 - 1).logits.softmax(1)
    np.testing.assert_allclose(evaluate(tmp_path, images, model).probabilities, expected, rtol=1e-5)


def test_a_model_of_other_classes_is_refused(tmp_path: Path) -> None:
    for classes in (("c", "b", "a"), ("a", "b", "c", "d")):
        with pytest.raises(DakitError, match=r"the model knows \('a', 'b', 'c'\), but the test set has \("):
            evaluate(tmp_path, held_out(classes))


def test_the_labels_are_opened_once(tmp_path: Path) -> None:
    asked = []
    sealed = Sealed(held_out(), lambda: asked.append(1))
    assert len(sealed) == 7
    sealed.fingerprint()
    assert asked == []
    Evaluate().run(tiny.context(tmp_path), model=READER, test=sealed)
    assert asked == [1]


def test_no_other_stage_takes_a_test_set() -> None:
    """And none but this one says ``open``."""
    takes, opens = set(), set()
    for name, stage in dakit_stages().items():
        hints = get_type_hints(stage.run).values()
        if any(interfaces.TestSet in (hint, *get_args(hint)) for hint in hints):
            takes.add(name)
        if ".open()" in inspect.getsource(sys.modules[stage.__module__]):
            opens.add(name)
    assert takes == opens == {"evaluate"}


class Broken(Reader):
    """Cannot say what the images are that show class 2."""

    def forward(self, images: Tensor) -> Prediction:
        logits = super().forward(images).logits
        return Prediction(logits / (logits[:, 2:] != 2), logits, ())


def test_outputs_that_are_not_finite_are_no_prediction(tmp_path: Path) -> None:
    with pytest.raises(DakitError, match="outputs are not finite for 2 of 7 test images"):
        evaluate(tmp_path, held_out(), Trained(tiny.spec(Broken), {}, tiny.CLASSES))


def test_the_surest_mistakes_are_kept_to_be_looked_at(tmp_path: Path) -> None:
    evaluate(tmp_path, held_out())
    with np.load(tmp_path / "mistakes.npz") as file:
        assert file["places"].tolist() == [3, 5]  # as sure of both: in their order
        assert (file["pictures"] == pick(held_out(), [3, 5])).all()
