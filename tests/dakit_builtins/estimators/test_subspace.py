from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from dakit.errors import DakitError
from dakit.testing.stages import small
from dakit_builtins.estimators.subspace import Subspace
from fitted import clusters, known, logits, reloaded


def test_it_is_the_paper_s_with_scikit_learn_s_pca(tmp_path):
    """The estimator within is that of class means, worked by hand in the aligned space."""
    rows, labels = clusters(3, 20)
    target = clusters(3, 30, seed=4)[0] * 2 + 1
    new = clusters(3, 10, seed=6)[0] * 2 + 1
    estimator = Subspace(then=small("estimator"), dimensions=5)
    estimator.fit(known(rows, labels), target)
    source, other = PCA(5).fit(rows.double().numpy()), PCA(5).fit(target.double().numpy())
    turned = source.transform(rows.double().numpy()) @ source.components_ @ other.components_.T
    means = np.stack([turned[labels.numpy() == k].mean(0) for k in range(3)])
    there = other.transform(new.double().numpy())
    expected = -((there[:, None] - means) ** 2).sum(2)  # distances do not change with the signs of directions
    assert logits(estimator, new) == pytest.approx(expected, rel=1e-4, abs=1e-4)
    fresh = Subspace(then=small("estimator"))
    assert np.array_equal(logits(reloaded(estimator, fresh, 3, tmp_path), new), logits(estimator, new))


def test_labelled_target_images_are_taken_where_they_are():
    rows, labels = clusters(3, 20)
    extra = torch.arange(len(rows)) % 2 == 0
    estimator = Subspace(then=small("estimator"), dimensions=4)
    estimator.fit(known(rows, labels, extra), None)
    own = PCA(4).fit(rows[~extra].double().numpy())
    assert estimator.mean.numpy() == pytest.approx(own.mean_, abs=1e-5)
    assert np.abs(estimator.axes.numpy().T @ own.components_.T) == pytest.approx(np.eye(4), abs=1e-4)
    assert estimator.facts["dimensions"] == 4


def test_two_domains_are_needed_and_dimensions_are_no_more_than_images_give():
    estimator = Subspace(then=small("estimator"))
    assert "the input `extra` or `unlabelled`" in estimator.check(frozenset({"train"}))[0]
    estimator.fit(known(*clusters(3)), clusters(3, 3, seed=4)[0])
    assert estimator.axes.shape == (20, 8)
    with pytest.raises(DakitError, match="subspace needs two images of each domain, not 36 and 1"):
        estimator.fit(known(*clusters(3)), torch.zeros(1, 20))
