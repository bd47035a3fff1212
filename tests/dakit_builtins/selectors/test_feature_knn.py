import numpy as np
import pytest
import torch

import tiny
from dakit.data.sets import TensorImages
from dakit.errors import DakitError
from dakit_builtins.selectors.feature_knn import FeatureKnn
from dakit_builtins.selectors.tsne_knn import TsneKnn
from selecting import PixelStem, choose, images, without_tsne


def test_the_chunk_size_changes_nothing():
    pool, anchors = images(50), images(6, seed=1)
    whole, *parts = (
        choose(FeatureKnn(neighbours=5, max_reuse=2, extractor="classifier", batch=b), pool, anchors, PixelStem())
        for b in (50, 1, 8)
    )
    for part in parts:
        assert torch.equal(part.indices, whole.indices)
        torch.testing.assert_close(part.distances, whole.distances, rtol=1e-5, atol=0)


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
