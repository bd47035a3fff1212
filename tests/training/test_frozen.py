from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import tiny
from dakit.data.sets import Joined, Relabelled, Subset, TensorImages, Unlabelled, Withheld
from dakit.errors import DakitError
from dakit.interfaces import Context, Engine, Prediction, Spec, Trained
from dakit.testing.stages import SmallEstimator
from dakit.training import frozen
from dakit.training.checkpoint import load_state
from dakit.training.frozen import (
    ABSENT,
    CHUNK,
    Features,
    FrozenFeatures,
    Head,
    frozen_network,
    head_of,
    is_frozen,
    starting_network,
    to_train,
    with_head,
)  # fmt: skip
from dakit.training.trainer import Trainer


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAKIT_CACHE", str(tmp_path / "cache"))


class Counting(TensorImages):
    """Counts which images are read."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.read: list[int] = []

    def __getitem__(self, index: int, /) -> Any:
        self.read.append(int(index))
        return super().__getitem__(index)


def many(count: int = 150, seed: int = 0) -> Counting:
    made = tiny.images([i % 3 for i in range(count)], seed)
    return Counting(made.images, made.labels, classes=made.classes)


def features(folder: Path, network: Trained[Any], engine: Engine | None = None) -> Features:
    return Features(Trainer(Context(folder, engine=engine or Engine(device="cpu"))), network)


def network(seed: int = 0, **params: Any) -> Trained[Any]:
    return tiny.fresh(tiny.spec(tiny.Classifier, **params), seed, tiny.CLASSES)


def plain(of: Trained[Any], images: Any) -> Tensor:
    x = torch.stack([images[i].image for i in range(len(images))]).float() / 127.5 - 1
    with torch.no_grad():
        return of.build()(x).features


def test_they_are_the_network_s_own_whatever_views_lie_over_the_images(tmp_path: Path) -> None:
    images, other, of = many(), many(70, seed=1), network(norm=True)
    train = Subset(Withheld(images, range(0, 150, 2)), range(148, -1, -4))
    both = Joined([Relabelled(train, [0] * len(train)), Subset(other, [3, 69, 3])])
    views = [images, train, both, Subset(both, [39, 2, 40, 0]), Unlabelled(Subset(images, [149]))]
    for view in views:
        found = features(tmp_path, of).of(view, "looking")
        assert found.shape == (len(view), 4)
        assert torch.allclose(found, plain(of, view), atol=1e-6)
    assert len(features(tmp_path, of).of(Subset(images, []), "nothing")) == 0


def test_each_chunk_is_looked_at_once_and_only_those_that_are_asked_for(tmp_path: Path) -> None:
    images, of = many(), network()
    first = features(tmp_path, of).of(Subset(images, [130, 129]), "the last chunk")
    assert set(images.read) <= {0, *range(2 * CHUNK, 150)}
    images.read.clear()
    again = features(tmp_path, of).of(Subset(many(), [129, 130]), "another object of the same content")
    assert torch.equal(again, first.flip(0))
    assert images.read == []
    features(tmp_path, of).of(images, "all")
    assert set(images.read) == set(range(2 * CHUNK))
    images.read.clear()
    features(tmp_path, of).of(Subset(images, range(100)), "all is there")
    assert images.read == []


def test_bits_do_not_depend_on_who_asked_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for place, views in {"a": [range(150)], "b": [[149], [70, 3], range(150)]}.items():
        monkeypatch.setenv("DAKIT_CACHE", str(tmp_path / place))
        found.append([features(tmp_path, network()).of(Subset(many(), list(view)), "x") for view in views][-1])
    assert torch.equal(*found)


def files() -> set[Path]:
    import os

    return set(Path(os.environ["DAKIT_CACHE"], "features").rglob("*.safetensors"))


def test_another_network_image_precision_or_version_is_another_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    features(tmp_path, network()).of(many(10), "x")
    assert len(files()) == 1
    state = dict(network().state)
    head = Trained(network().spec, {**state, "head.weight": state["head.weight"] + 1}, tiny.CLASSES)
    features(tmp_path, head).of(many(10), "another head alone")
    assert len(files()) == 1
    others = [
        (network(seed=1), many(10), Engine(device="cpu")),
        (network(), many(10, seed=1), Engine(device="cpu")),
        (network(), many(10), Engine(device="cpu", precision="bf16")),
    ]
    for n, (of, images, engine) in enumerate(others):
        features(tmp_path, of, engine).of(images, "x")
        assert len(files()) == n + 2
    monkeypatch.setattr(frozen, "_versions", lambda: {"torch": "another"})
    features(tmp_path, network()).of(many(10), "x")
    assert len(files()) == len(others) + 2


def test_weights_that_are_changed_in_place_are_other_weights(tmp_path: Path) -> None:
    of = network()
    first = features(tmp_path, of).of(many(10), "x")
    assert torch.equal(features(tmp_path, of).of(many(10), "x"), first)
    of.state["body.weight"].mul_(2)
    assert torch.allclose(features(tmp_path, of).of(many(10), "x"), plain(of, many(10)), atol=1e-6)
    assert len(files()) == 2


def test_a_file_that_was_altered_or_cut_off_is_made_anew(tmp_path: Path) -> None:
    right = features(tmp_path, network()).of(many(10), "x")
    (path,) = files()
    whole = path.read_bytes()
    for damaged in (whole[:-4] + b"\x00\x00\x80\x3f", whole[: len(whole) // 2], b""):
        path.write_bytes(damaged)
        assert torch.equal(features(tmp_path, network()).of(many(10), "x"), right)
        assert torch.equal(load_state(path)["features"], right)
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_a_kill_in_any_chunk_leaves_what_was_done(tmp_path: Path) -> None:
    images = many()
    ctx = Context(tmp_path, engine=Engine(device="cpu"), observers=(tiny.Unplug(2),))  # type: ignore[arg-type]
    with pytest.raises(tiny.Interruption):
        Features(Trainer(ctx), network()).of(images, "x")
    assert len(files()) == 2
    images.read.clear()
    found = features(tmp_path, network()).of(images, "x")
    assert set(images.read) <= {0, *range(2 * CHUNK, 150)}
    assert torch.allclose(found, plain(network(), images), atol=1e-6)


def test_where_nothing_can_be_kept_they_are_computed_each_time(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file in the way")
    images = many(10)
    for _ in range(2):
        images.read.clear()
        assert torch.allclose(features(tmp_path, network()).of(images, "x"), plain(network(), many(10)), atol=1e-6)
        assert images.read


def test_features_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    state = {name: value * torch.nan if name == "body.bias" else value for name, value in network().state.items()}
    with pytest.raises(DakitError, match="images 0 to 9 of a set are not all finite in fp32"):
        features(tmp_path, Trained(network().spec, state, tiny.CLASSES)).of(many(10), "x")
    assert not files()


# ------------------------------------------------------------------------------------ the classifier
def fitted(present: tuple[int, ...] = (0, 1, 2), temperature: float = 1.0) -> tuple[Trained[Any], Head]:
    estimator = SmallEstimator()
    estimator.means = torch.arange(4.0 * len(present)).view(len(present), 4)
    head = Head(estimator, 3, torch.tensor(present), temperature)
    return with_head(network(), Spec("estimator", "last", {}, SmallEstimator), head), head


def test_network_and_head_are_one_classifier() -> None:
    model, head = fitted()
    built = model.build()
    assert isinstance(built, FrozenFeatures)
    assert is_frozen(model)
    assert not is_frozen(network())
    x = torch.rand(5, 3, 4, 6) * 2 - 1
    said: Prediction = built(x)
    inner = network().build()(x)
    assert torch.equal(said.features, inner.features)
    assert torch.equal(said.maps[0], inner.maps[0])
    assert torch.equal(said.logits, head(inner.features))
    assert torch.equal(said.logits, built.head(said.features))
    assert tiny.same(frozen_network(model).state, network().state)
    assert frozen_network(network()).spec == network().spec
    assert torch.equal(head_of(model)(said.features), said.logits)


def test_a_linear_head_becomes_the_network_s_own_to_go_on_from() -> None:
    curved, linear = Curved(), Linear()
    curved.weight, curved.bias = torch.rand(3, 4), torch.rand(3)
    model = with_head(network(), Spec("estimator", "curved", {}, Curved), Head(curved, 3, torch.arange(3)))
    with pytest.raises(DakitError, match="init: what curved has fitted is not linear"):
        to_train(model)
    linear.weight, linear.bias = torch.rand(3, 4), torch.rand(3)
    model = with_head(network(), Spec("estimator", "linear", {}, Linear), Head(linear, 3, torch.arange(3), 2.0))
    start = to_train(model)
    assert start.spec == network().spec
    x = torch.rand(5, 3, 4, 6) * 2 - 1
    assert torch.allclose(start.build()(x).logits, model.build()(x).logits, atol=1e-6)
    plain = network()
    assert to_train(plain) is plain


def test_temperature_and_absent_classes() -> None:
    model, head = fitted(present=(0, 2), temperature=4.0)
    rows = torch.rand(3, 4)
    said = head_of(model)(rows)
    assert torch.equal(said[:, [0, 2]], head.estimator(rows) / 4)
    assert said[:, 1].tolist() == [ABSENT] * 3
    assert said.softmax(1)[:, 1].max() == 0
    assert torch.isfinite(said.half()).all()


def test_logits_are_exact_under_autocast() -> None:
    _, head = fitted()
    rows = torch.rand(3, 4)
    with torch.autocast("cpu", torch.bfloat16):
        said = head(rows.bfloat16())
    assert said.dtype == torch.float32
    assert torch.equal(said, head(rows.bfloat16().float()))


class Linear(nn.Module):
    """Of buffers."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weight", torch.zeros(0, 0))
        self.register_buffer("bias", torch.zeros(0))

    def forward(self, features: Tensor) -> Tensor:
        return torch.nn.functional.linear(features, self.weight, self.bias)


class Curved(Linear):
    """No straight line."""

    def forward(self, features: Tensor) -> Tensor:
        return super().forward(features).square()


class Learned(nn.Module):
    """With a parameter whose shape is fitted, and one of another type."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(0), requires_grad=False)
        self.inner = nn.ModuleList([nn.Identity(), SmallEstimator()])
        self.register_buffer("which", torch.zeros(0, dtype=torch.int64))


def test_a_state_gives_buffers_and_parameters_their_shapes() -> None:
    one = Learned()
    one.weight = nn.Parameter(torch.rand(3), requires_grad=False)
    one.inner[1].means = torch.rand(2, 5).double()  # type: ignore[union-attr]
    one.which = torch.tensor([4, 2])
    other = Head(Learned(), 2)
    state = Head(one, 2, torch.arange(2), 0.5).state_dict()
    other.load_state_dict(state)
    assert tiny.same(other.state_dict(), state)
    assert isinstance(other.estimator.weight, nn.Parameter)
    assert not other.estimator.weight.requires_grad
    with pytest.raises(RuntimeError, match="which"):
        other.load_state_dict({name: value for name, value in state.items() if "which" not in name})


def test_a_starting_network_is_the_same_whatever_was_drawn_before() -> None:
    spec = tiny.spec(tiny.Classifier)
    states = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        starting_network.cache_clear()
        states.append(starting_network(spec, tiny.CLASSES).state)
    assert tiny.same(*states)
    assert starting_network(spec, tiny.CLASSES) is starting_network(spec, tiny.CLASSES)


def test_every_image_of_a_view_has_its_place() -> None:
    images = [many(5, seed=i) for i in range(3)]
    joined = Joined([Subset(images[0], [4, 0]), Joined([images[1], Subset(images[2], [2])])])
    rows: dict[int, tuple[int, int]] = {}
    for base, index, at in frozen._bases(Subset(joined, [7, 0, 3, 1])):
        which = next(n for n, one in enumerate(images) if one is base)
        rows |= {int(a): (which, int(i)) for a, i in zip(at, index, strict=True)}
    assert [rows[a] for a in range(4)] == [(2, 2), (0, 4), (1, 1), (0, 0)]
    assert np.all([base in images for base, _, _ in frozen._bases(joined)])
