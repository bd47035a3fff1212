from __future__ import annotations

import pytest
import torch
from torch import nn

from dakit import DakitError, TensorImages
from dakit.interfaces import Context, Engine, Prediction, Spec, Trained

pytest.importorskip("dakit_mmd", reason="pip install --no-deps --no-build-isolation ./tests/third_party/dakit-mmd")
from dakit_mmd.loss import MMD
from dakit_mmd.stage import TrainAligned

from dakit.testing import check_stage

CLASSES = ("dark", "light")


class Means(nn.Module):
    """Features are a linear map of the mean colour."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.body = nn.Linear(3, 3, bias=False)
        nn.init.eye_(self.body.weight)
        self.head = nn.Linear(3, classes)

    def forward(self, images):
        features = self.body(images.mean((2, 3)))
        return Prediction(self.head(features), features, ())


NETWORK = Spec("classifier", "means", {}, Means)


def domain(shift, labels=True, count=32):
    """Red tells the class, blue the domain."""
    generator = torch.Generator().manual_seed(shift)
    images = torch.randint(0, 60, (count, 3, 4, 4), generator=generator)
    classes = [i % 2 for i in range(count)]
    images[:, 0] += 150 * torch.tensor(classes)[:, None, None]
    images[:, 2] += shift
    return TensorImages(images.to(torch.uint8), classes if labels else None, classes=CLASSES if labels else ())


def train(folder, beta, target=None, **inputs):
    folder.mkdir()
    torch.manual_seed(1)  # as a run does before every stage
    align = Spec("transfer_loss", "mmd", {"beta": beta}, MMD)
    stage = TrainAligned(classifier=NETWORK, align=align, steps=60, batch_size=16, lr=0.02)
    ctx = Context(folder, seed=1, engine=Engine(device="cpu"))
    target = domain(150, labels=False) if target is None else target
    return stage.run(ctx, source=domain(0), target=target, **inputs).model


def gap(model):
    """MMD of the features of both domains."""
    said = []
    for shift in (0, 150):
        images = domain(shift)
        x = torch.stack([images[i].image for i in range(len(images))]) / 127.5 - 1
        said.append(model.build()(x))
    return MMD()(*said).item(), float((said[0].logits.argmax(1) == torch.tensor(images.labels)).float().mean())


def test_aligned_features_are_nearer_and_the_classes_are_kept(tmp_path):
    alone, accuracy_alone = gap(train(tmp_path / "alone", 0.0))
    aligned, accuracy = gap(train(tmp_path / "aligned", 5.0))
    assert aligned < alone / 2
    assert accuracy_alone == accuracy == 1


def test_no_label_of_the_target_is_looked_at(tmp_path):
    with_labels = train(tmp_path / "with", 1.0, domain(150))
    without = train(tmp_path / "without", 1.0, domain(150, labels=False))
    assert all(torch.equal(with_labels.state[name], without.state[name]) for name in without.state)


def test_it_starts_where_it_is_told(tmp_path):
    start = Trained(NETWORK, Means(2).state_dict(), CLASSES)
    one, other = train(tmp_path / "one", 1.0, init=start), train(tmp_path / "other", 1.0)
    assert not torch.equal(one.state["head.weight"], other.state["head.weight"])
    with pytest.raises(DakitError, match="another network"):
        train(tmp_path / "wrong", 1.0, init=Trained(NETWORK, start.state, ("a", "b")))


def test_a_source_without_labels_and_sets_that_are_too_small(tmp_path):
    stage = TrainAligned(classifier=NETWORK, align=Spec("transfer_loss", "mmd", {}, MMD), steps=1, batch_size=16)
    with pytest.raises(DakitError, match="every image needs a label"):
        stage.run(Context(tmp_path), source=domain(0, labels=False), target=domain(1))
    assert stage.check_sizes({"source": None, "target": 8}) == [
        "batch_size: 16 takes 16 images of target a step, but there are 8; at most 8 fits"
    ]


def test_contract():
    check_stage(TrainAligned, steps=6, batch_size=8, align=Spec("transfer_loss", "mmd", {}, MMD))
