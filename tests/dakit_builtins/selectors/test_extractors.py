import json
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from dakit.data.sets import TensorImages
from dakit.errors import DakitError
from dakit.interfaces import File, Spec
from dakit_builtins.selectors.feature_knn import FeatureKnn
from dakit_builtins.selectors.tsne_knn import TsneKnn
from selecting import (
    SQUEEZENET,
    PixelStem,
    alexnet_by_hand,
    check_neighbours,
    choose,
    images,
    squeezenet_by_hand,
    weights,
)
from served import serving


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


@pytest.mark.parametrize("selector", ["tsne_knn", "feature_knn"])
def test_the_files_that_it_reads_and_fetches(selector, registry, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    place = tmp_path / "hub" / "checkpoints" / "alexnet-owt-7be5be79.pth"

    def needed(**params):
        spec = registry.spec("selector", selector, params)
        return [(one.file, one.place, one.there, one.fetched_by) for one in spec.factory.weights_needed(**spec.params)]

    alexnet = (place.name, place, False, "torchvision")
    own = ("own.pth", tmp_path / "own.pth", False, "")
    weights = str(tmp_path / "own.pth")
    assert needed() == [alexnet]
    assert needed(otherwise="squeezenet", weights=weights) == [alexnet, own]
    assert needed(weights=weights) == [own]
    assert needed(extractor="squeezenet", weights=weights) == [own]
    assert needed(extractor="classifier") == []
    with serving() as served:
        content = b"weights"
        entry = SimpleNamespace(url=f"{served.address}/alexnet.pth", name="V1", meta={})
        monkeypatch.setattr("torchvision.models.get_model_weights", lambda arch: SimpleNamespace(DEFAULT=entry))
        served.files["/alexnet.pth"] = content
        spec = registry.spec("selector", selector, {})
        with pytest.raises(DakitError, match=r"another file than expected came: .* expected 7be5be79"):
            spec.factory.fetch_weights((), **spec.params)
        assert not place.exists()
        monkeypatch.setattr("dakit.training.fetching.HASH_REGEX", re.compile("no digest"))
        spec.factory.fetch_weights((), **spec.params)
        assert place.read_bytes() == content
        assert needed() == [(place.name, place, True, "torchvision")]
