import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import tiny
from dakit.data.sets import TensorImages
from dakit.errors import DakitError
from dakit.interfaces import File, Spec
from dakit_builtins.selectors.neighbour_selectors import FeatureKnn, TsneKnn

CPU = torch.device("cpu")
SQUEEZENET = Path(__file__).parents[3].parent / "shared" / "data" / "weights" / "squeezenet1_0_imagenet.safetensors"


@pytest.fixture(autouse=True)
def machine(tmp_path, monkeypatch):
    """A machine without AlexNet's weights; returns the place where they would lie."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("DAKIT_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "torch" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder / "alexnet-owt-7be5be79.pth"


class PixelStem:
    """A classifier whose stem hands the pixels on."""

    def __init__(self):
        self.seen = []

    def __call__(self, images):
        raise AssertionError("the stem is enough")

    def stem(self, images):
        self.seen.append((images.min().item(), images.max().item()))
        return images


def images(count, size=4, seed=0, labels=None, classes=()):
    pixels = np.random.default_rng(seed).integers(0, 256, (count, 3, size, size), np.uint8)
    return TensorImages(pixels, labels, classes=classes)


def clusters(per_cluster, seed):
    """Four well-separated kinds of images; the label is the kind."""
    labels = np.arange(4 * per_cluster) % 4
    centres = np.random.default_rng(99).choice([40, 215], (4, 48))
    noise = np.random.default_rng(seed).normal(0, 8, (len(labels), 48))
    pixels = (centres[labels] + noise).clip(0, 255).astype(np.uint8).reshape(-1, 3, 4, 4)
    return TensorImages(pixels, labels.tolist(), classes=("AN", "HA", "SA", "SU"))


def weights(shape, file):
    generator = torch.Generator().manual_seed(1)
    state = {
        "features.0.weight": torch.randn(shape, generator=generator),
        "features.0.bias": torch.randn(shape[0], generator=generator),
    }
    if file.suffix == ".safetensors":
        save_file(state, file)
    else:
        torch.save(state, file)
    return {name: tensor.double().numpy() for name, tensor in state.items()}


def convolution(inputs, state, stride, padding):
    """``(n, 3, H, W)`` -> ``(n, C * H' * W')`` in float64, one window at a time."""
    weight, bias = state["features.0.weight"], state["features.0.bias"]
    side = weight.shape[-1]
    padded = np.pad(inputs, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    places = range(0, padded.shape[-1] - side + 1, stride)
    windows = [padded[:, :, y : y + side, x : x + side].reshape(len(inputs), -1) for y in places for x in places]
    return np.concatenate([w @ weight.reshape(len(weight), -1).T + bias for w in windows], 1)


def alexnet_by_hand(pixels, state):
    mean = np.array([0.485, 0.456, 0.406])[:, None, None]
    deviation = np.array([0.229, 0.224, 0.225])[:, None, None]
    return convolution((pixels / 255 - mean) / deviation, state, stride=4, padding=2)


def squeezenet_by_hand(pixels, state):
    blue_green_red = pixels[:, ::-1] - np.array([104.0, 117.0, 123.0])[:, None, None]
    return convolution(blue_green_red, state, stride=2, padding=0)


def check_neighbours(selection, pool, anchors, t):
    """Against the definition, on features in float64."""
    full = np.sqrt(((anchors[:, None] - pool[None]) ** 2).sum(-1))
    order = full.argsort(1, kind="stable")[:, :t]
    assert selection.indices.dtype == torch.int64
    assert selection.distances.dtype == torch.float32
    np.testing.assert_array_equal(selection.indices.numpy(), order)
    np.testing.assert_allclose(selection.distances.numpy(), np.take_along_axis(full, order, 1), rtol=1e-4)


def choose(selector, pool, anchors, classifier=None):
    return selector(pool, anchors, classifier=classifier, device=CPU)


# ----------------------------------------------------------------------------------- extractors
def test_alexnet_conv1_on_normalised_rgb(machine):
    state = weights((64, 3, 11, 11), machine)
    pool, anchors = images(20, 19, seed=1), images(3, 19, seed=2)
    chosen = choose(FeatureKnn(neighbours=4, batch=7), pool, anchors)
    check_neighbours(chosen, alexnet_by_hand(pool.images, state), alexnet_by_hand(anchors.images, state), t=4)
    assert chosen.notes == ("features: the first layer of an ImageNet AlexNet (alexnet-owt-7be5be79.pth)",)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_squeezenet_conv1_on_blue_green_red(tmp_path, suffix):
    file = tmp_path / f"squeeze{suffix}"
    state = weights((96, 3, 7, 7), file)
    pool, anchors = images(20, 12, seed=1), images(3, 12, seed=2)
    selector = FeatureKnn(neighbours=4, extractor="squeezenet", weights=File(file))
    check_neighbours(
        choose(selector, pool, anchors),
        squeezenet_by_hand(pool.images, state),
        squeezenet_by_hand(anchors.images, state),
        t=4,
    )


@pytest.mark.skipif(not SQUEEZENET.is_file(), reason="shared/ is not beside this checkout")
def test_the_published_squeezenet_file():
    from safetensors.numpy import load_file

    state = {name: value.astype(float) for name, value in load_file(SQUEEZENET).items() if "features.0." in name}
    pool, anchors = images(12, 15, seed=1), images(2, 15, seed=2)
    selector = FeatureKnn(neighbours=3, extractor="squeezenet", weights=File(SQUEEZENET))
    check_neighbours(
        choose(selector, pool, anchors),
        squeezenet_by_hand(pool.images, state),
        squeezenet_by_hand(anchors.images, state),
        t=3,
    )


def test_the_classifiers_stem_sees_minus_one_to_one():
    pool, anchors, classifier = images(20), images(3, seed=1), PixelStem()
    selector = FeatureKnn(neighbours=4, extractor="classifier")
    chosen = choose(selector, pool, anchors, classifier)
    check_neighbours(
        chosen,
        pool.images.reshape(20, -1) / 127.5 - 1,
        anchors.images.reshape(3, -1) / 127.5 - 1,
        t=4,
    )
    lows, highs = zip(*classifier.seen, strict=True)
    assert min(lows) == -1
    assert max(highs) == 1
    assert chosen.notes == ("features: the stem of the recipe's own classifier",)


def test_feature_size_makes_sets_of_two_sizes_comparable():
    # grey images stay grey at any size; 48 = 3 x 4 x 4 numbers each
    pool = TensorImages(np.stack([np.full((3, 8, 8), level, np.uint8) for level in (0, 100, 200)]))
    anchors = TensorImages(np.full((1, 3, 6, 6), 110, np.uint8))
    selector = FeatureKnn(neighbours=3, extractor="classifier", feature_size=4)
    chosen = choose(selector, pool, anchors, PixelStem())
    assert chosen.indices.tolist() == [[1, 2, 0]]
    assert chosen.distances[0].tolist() == pytest.approx([d / 127.5 * 48**0.5 for d in (10, 90, 110)], rel=1e-5)
    with pytest.raises(DakitError, match=r"different sizes, \[\(6, 6\), \(8, 8\)\]: set feature_size"):
        choose(FeatureKnn(neighbours=3, extractor="classifier"), pool, anchors, PixelStem())


def test_alexnet_is_preferred_and_what_stands_in_for_it_is_said(machine, tmp_path):
    file = tmp_path / "squeeze.pth"
    weights((96, 3, 7, 7), file)
    pool, anchors = images(9, 19), images(2, 19, seed=1)
    selector = FeatureKnn(neighbours=1, otherwise="squeezenet", weights=File(file))
    missing = ", because AlexNet's weights (alexnet-owt-7be5be79.pth) are not on this machine"
    squeezenet = "features: the first layer of an ImageNet SqueezeNet 1.0 (squeeze.pth)"
    assert choose(selector, pool, anchors).notes == (squeezenet + missing,)
    stem = FeatureKnn(neighbours=1, otherwise="classifier")
    assert choose(stem, pool, anchors, PixelStem()).notes == (
        "features: the stem of the recipe's own classifier" + missing,
    )
    state = weights((64, 3, 11, 11), machine)
    for chosen in (choose(selector, pool, anchors), choose(stem, pool, anchors, PixelStem())):
        check_neighbours(chosen, alexnet_by_hand(pool.images, state), alexnet_by_hand(anchors.images, state), t=1)


@pytest.mark.parametrize("factory", [FeatureKnn, TsneKnn])
def test_identity_follows_the_weights_found_on_this_machine(machine, tmp_path, factory):
    def identity(**params):
        defaults = {"extractor": "alexnet", "otherwise": "none", "weights": None}
        spec = Spec("selector", "knn", defaults | params, factory)
        return json.loads(json.dumps(spec.identity()))["found"]

    own = tmp_path / "own.pth"
    weights((96, 3, 7, 7), own)
    squeezenet = identity(otherwise="squeezenet", weights=File(own))
    assert squeezenet["extractor"] == "squeezenet"
    assert squeezenet == identity(extractor="squeezenet", weights=File(own))
    assert identity(otherwise="classifier") == {"extractor": "classifier", "weights": None}
    assert identity() == {"extractor": "alexnet", "weights": None}
    machine.write_bytes(b"abc")
    sha = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, B.1
    for params in ({}, {"otherwise": "classifier"}, {"otherwise": "squeezenet", "weights": File(own)}):
        assert identity(**params) == {"extractor": "alexnet", "weights": sha}


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"extractor": "squeezenet"}, "needs the file of its weights"),
        ({"otherwise": "squeezenet"}, "needs the file of its weights"),
        ({"extractor": "classifier", "otherwise": "classifier"}, 'stands in for "alexnet" only'),
        ({"extractor": "classifier", "weights": File("a.pth")}, "reads no file, but there is a.pth"),
    ],
)
@pytest.mark.parametrize("make", [FeatureKnn, TsneKnn])
def test_contradictory_parameters_are_refused(make, params, message):
    with pytest.raises(DakitError, match=message):
        make(**params)


def test_missing_weights_are_named_with_the_alternatives(machine, tmp_path):
    with pytest.raises(DakitError) as error:
        choose(FeatureKnn(neighbours=1), images(3, 19), images(1, 19))
    for part in (str(machine), "torchvision's alexnet-owt-7be5be79.pth", '"classifier"', '"squeezenet"'):
        assert part in str(error.value)
    with pytest.raises(DakitError, match=r"there is no .*none\.pth"):
        choose(FeatureKnn(neighbours=1, weights=File(tmp_path / "none.pth")), images(3, 19), images(1, 19))


def test_files_that_are_not_the_weights_are_refused(tmp_path):
    def attempt(file):
        choose(FeatureKnn(neighbours=1, weights=File(file)), images(3, 19), images(1, 19))

    other = tmp_path / "other.safetensors"
    weights((96, 3, 7, 7), other)
    with pytest.raises(DakitError, match=r"first layer is \(96, 3, 7, 7\), but that of AlexNet is \(64, 3, 11"):
        attempt(other)
    torch.save({"conv1.weight": torch.zeros(1)}, tmp_path / "keys.pth")
    with pytest.raises(DakitError, match=r"keys\.pth: no 'features\.0\.weight' in it"):
        attempt(tmp_path / "keys.pth")
    for name in ("text.pth", "text.safetensors"):
        (tmp_path / name).write_text("not weights")
        with pytest.raises(DakitError, match=f"{name}: cannot be read as a state dict"):
            attempt(tmp_path / name)


def test_a_weights_file_cannot_run_code(tmp_path):
    class Touch:
        def __reduce__(self):
            return Path.touch, (tmp_path / "touched",)

    torch.save({"features.0.weight": Touch()}, tmp_path / "code.pth")
    selector = FeatureKnn(neighbours=1, weights=File(tmp_path / "code.pth"))
    with pytest.raises(DakitError, match=r"code\.pth: cannot be read as a state dict"):
        choose(selector, images(3, 19), images(1, 19))
    assert not (tmp_path / "touched").exists()


@pytest.mark.parametrize("make", [FeatureKnn, TsneKnn])
def test_a_classifier_without_a_stem_is_refused(make):
    selector = make(neighbours=1, extractor="classifier")
    with pytest.raises(DakitError, match="needs a trained classifier and none is passed"):
        choose(selector, images(9), images(2))
    with pytest.raises(DakitError, match="with a stem; Linear has none"):
        choose(selector, images(9), images(2), torch.nn.Linear(1, 1))


# ----------------------------------------------------------------------------------- feature_knn
def test_the_chunk_size_changes_nothing():
    pool, anchors = images(50), images(6, seed=1)
    whole, *parts = (
        choose(FeatureKnn(neighbours=5, max_reuse=2, extractor="classifier", batch=b), pool, anchors, PixelStem())
        for b in (50, 1, 8)
    )
    for part in parts:
        assert torch.equal(part.indices, whole.indices)
        torch.testing.assert_close(part.distances, whole.distances, rtol=1e-5, atol=0)


def without_tsne(monkeypatch):
    """The first two dimensions of the PCA stand in for the embedding."""
    monkeypatch.setattr(
        "dakit_builtins.selectors.neighbour_selectors._tsne", lambda points, *_: points[:, :2].astype(float)
    )


def test_the_chunk_size_does_not_change_what_tsne_is_given(monkeypatch):
    without_tsne(monkeypatch)
    pool, anchors = images(50), images(6, seed=1)
    whole, *parts = (
        choose(TsneKnn(neighbours=5, sample=20, seed=0, extractor="classifier", batch=b), pool, anchors, PixelStem())
        for b in (56, 1, 8)
    )
    for part in parts:
        assert torch.equal(part.indices, whole.indices)
        torch.testing.assert_close(part.distances, whole.distances, rtol=1e-4, atol=0)


@pytest.mark.parametrize(
    ("make", "params"), [(FeatureKnn, {}), (FeatureKnn, {"max_reuse": 1}), (TsneKnn, {"sample": 20, "seed": 0})]
)
def test_memory_is_that_of_a_chunk_not_of_the_pool(tmp_path, monkeypatch, make, params):
    """3,072 float32 numbers an image; the bytes of all tensors alive at one time, the pool in a mapped file."""
    without_tsne(monkeypatch)
    np.save(tmp_path / "pool.npy", np.random.default_rng(0).integers(0, 256, (800, 3, 32, 32), np.uint8))
    mapped = np.load(tmp_path / "pool.npy", mmap_mode="r")
    anchors = images(6, 32, seed=1)

    def peak(count, batch):
        selector = make(neighbours=5, extractor="classifier", batch=batch, **params)
        with tiny.benchmark_file("conftest").Peak() as peak:
            choose(selector, TensorImages(mapped[:count]), anchors, PixelStem())
        return peak.most

    row = 4 * 3072
    assert peak(800, 8) < (6 + params.get("sample", 0) + 100) * row  # anchors, sample, a few chunks
    assert peak(800, 8) - peak(200, 8) < 600 * row / 20  # what grows is an index or a point
    assert peak(800, 800) > 800 * row  # and the measure sees what is held


@pytest.mark.parametrize("max_reuse", [None, 1])
def test_the_exact_nearest_are_told_whatever_max_reuse_leaves_of_them(max_reuse):
    pool, anchors = images(50), images(6, seed=1)
    plain = choose(FeatureKnn(neighbours=5, extractor="classifier"), pool, anchors, PixelStem()).indices
    exact = FeatureKnn(neighbours=5, max_reuse=max_reuse, extractor="classifier")
    chosen = choose(exact, pool, anchors, PixelStem())
    assert torch.equal(chosen.exact, plain)
    assert torch.equal(chosen.indices, plain) == (max_reuse is None)
    near = {"neighbours": 5, "max_reuse": max_reuse, "extractor": "classifier", "seed": 0}
    told = choose(TsneKnn(compare_exact=True, **near), pool, anchors, PixelStem())
    untold = choose(TsneKnn(**near), pool, anchors, PixelStem())
    assert torch.equal(told.exact, plain)
    assert untold.exact is None
    assert torch.equal(told.indices, untold.indices)


def test_same_class_chooses_only_the_anchors_class():
    pool = images(30, labels=[i % 3 for i in range(30)], classes="abc")
    anchors = images(4, seed=1, labels=[0, 1, 0, 1], classes="ca")
    selector = FeatureKnn(neighbours=10, same_class=True, extractor="classifier")
    indices = choose(selector, pool, anchors, PixelStem()).indices
    for row, own in zip(indices.tolist(), "caca", strict=True):
        assert sorted(row) == [i for i in range(30) if "abc"[i % 3] == own]


@pytest.mark.parametrize("make", [FeatureKnn, TsneKnn])
@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"neighbours": 9}, "neighbours: 9 for each anchor, but the pool has 8 images"),
        ({"neighbours": 5, "max_reuse": 1}, "10 picks, but 8 pool images"),
        ({"neighbours": 1, "same_class": True}, "needs every anchor to be labelled"),
    ],
)
def test_what_the_pool_cannot_give_is_refused(make, params, message):
    with pytest.raises(DakitError, match=message):
        choose(make(extractor="classifier", **params), images(8), images(2), PixelStem())


# -------------------------------------------------------------------------------------- tsne_knn
@pytest.mark.parametrize("params", [{"method": "sklearn"}, {"method": "opentsne"}, {"dimensions": 3}, {"sample": 40}])
def test_tsne_neighbours_come_from_the_anchors_own_cluster(params):
    pool, anchors = clusters(25, seed=1), clusters(5, seed=2)
    selector = TsneKnn(neighbours=4, extractor="classifier", perplexity=10, pca=10, seed=0, **params)
    first, again = (choose(selector, pool, anchors, PixelStem()) for _ in range(2))
    assert first.indices.shape == (20, 4)
    own = [
        pool.labels[i] == label for row, label in zip(first.indices.tolist(), anchors.labels, strict=True) for i in row
    ]
    # in 3 dimensions even scikit-learn's exact t-SNE leaves a tenth of so few points on the wrong side
    assert sum(own) / len(own) >= (0.8 if "dimensions" in params else 1)
    assert all(len(set(row)) == 4 for row in first.indices.tolist())
    assert (first.distances.diff(dim=1) >= 0).all()
    assert torch.equal(first.indices, again.indices)
    assert torch.equal(first.distances, again.distances)


def test_tsne_max_reuse_one_uses_each_image_once():
    pool, anchors = clusters(8, seed=1), clusters(4, seed=2)  # every image of a cluster is needed
    selector = TsneKnn(neighbours=2, max_reuse=1, same_class=True, extractor="classifier", perplexity=5, pca=10, seed=0)
    indices = choose(selector, pool, anchors, PixelStem()).indices
    assert sorted(indices.flatten().tolist()) == list(range(32))


def test_no_seed_means_torchs_own():
    pool, anchors = clusters(6, seed=1), clusters(2, seed=2)

    def run(**params):
        selector = TsneKnn(neighbours=2, extractor="classifier", perplexity=5, sample=20, **params)
        return choose(selector, pool, anchors, PixelStem()).distances

    torch.manual_seed(7)
    torch.rand(3)
    assert torch.equal(run(), run(seed=7))
    assert not torch.equal(run(seed=7), run(seed=8))


def test_small_sets_clip_what_they_must_and_say_so():
    chosen = choose(TsneKnn(neighbours=2, extractor="classifier", seed=0), images(10), images(3, seed=1), PixelStem())
    assert chosen.notes[1:] == (
        "pca: the images vary in only 12 of 50 dimensions",
        "perplexity: 4.0 instead of 30, a third of 13 images",
    )


def test_too_few_or_too_equal_images_are_refused():
    selector = TsneKnn(neighbours=1, extractor="classifier")
    with pytest.raises(DakitError, match="at least 7 images, but there are 6 in all"):
        choose(selector, images(4), images(2), PixelStem())
    black = TensorImages(np.zeros((9, 3, 4, 4), np.uint8))
    with pytest.raises(DakitError, match="all 18 images sampled for the PCA have the same features"):
        choose(selector, black, black, PixelStem())
    line = TensorImages(np.arange(9, dtype=np.uint8).repeat(48).reshape(9, 3, 4, 4))
    with pytest.raises(DakitError, match=r"pca: 1 dimensions \(50 asked for\) are too few for a t-SNE in 2"):
        choose(selector, line, line, PixelStem())


def test_three_dimensions_are_not_for_opentsne():
    with pytest.raises(DakitError, match="2 dimensions only"):
        TsneKnn(method="opentsne", dimensions=3)


@pytest.mark.parametrize(("count", "chosen"), [(2000, "sklearn"), (2001, "opentsne")])
def test_auto_takes_opentsne_above_two_thousand_images(monkeypatch, count, chosen):
    asked = []

    class Fake:
        def __init__(self, name):
            self.name = name

        def __call__(self, **params):
            asked.append((self.name, params["perplexity"], params["random_state"]))
            return self

        def fit(self, points):
            return points[:, :2]

        fit_transform = fit

    monkeypatch.setattr("openTSNE.TSNE", Fake("opentsne"))
    monkeypatch.setattr("sklearn.manifold.TSNE", Fake("sklearn"))
    pool, anchors = images(count - 1, 2), images(1, 2, seed=1)
    choose(TsneKnn(neighbours=1, extractor="classifier", pca=3, sample=20, seed=5), pool, anchors, PixelStem())
    assert asked == [(chosen, 30.0, 5)]


# --------------------------------------------------------------------------------- found by mutants
@pytest.mark.parametrize(("seed", "taken"), [(7, 7), (2**32, 0), (2**32 + 7, 7), (2**63 - 1, 2**32 - 1)])
def test_a_seed_of_more_than_32_bits_is_cut_for_the_libraries(monkeypatch, seed, taken):
    """A stage's seed has 63 bits, and they take 32."""
    given = []

    def tsne(points, perplexity, dimensions, method, seed):
        given.append(seed)
        return points[:, :dimensions].astype(float)

    monkeypatch.setattr("dakit_builtins.selectors.neighbour_selectors._tsne", tsne)
    selector = TsneKnn(neighbours=1, extractor="classifier", perplexity=3, seed=seed)
    selector.embed(images(12), images(4, seed=1), classifier=PixelStem(), device=CPU)
    assert given == [taken]
