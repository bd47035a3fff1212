import numpy as np
import pytest
import torch

from dakit.data.sets import TensorImages
from dakit.errors import DakitError
from dakit_builtins.selectors.tsne_knn import TsneKnn
from selecting import CPU, PixelStem, choose, clusters, images, without_tsne


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


@pytest.mark.parametrize(("seed", "taken"), [(7, 7), (2**32, 0), (2**32 + 7, 7), (2**63 - 1, 2**32 - 1)])
def test_a_seed_of_more_than_32_bits_is_cut_for_the_libraries(monkeypatch, seed, taken):
    """A stage's seed has 63 bits, and they take 32."""
    given = []

    def tsne(points, perplexity, dimensions, method, seed):
        given.append(seed)
        return points[:, :dimensions].astype(float)

    monkeypatch.setattr("dakit_builtins.selectors.tsne_knn._tsne", tsne)
    selector = TsneKnn(neighbours=1, extractor="classifier", perplexity=3, seed=seed)
    selector.embed(images(12), images(4, seed=1), classifier=PixelStem(), device=CPU)
    assert given == [taken]
