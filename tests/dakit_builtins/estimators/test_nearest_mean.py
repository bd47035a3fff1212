from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestCentroid

from dakit_builtins.estimators.nearest_mean import NearestMean
from fitted import clusters, known, logits, reloaded


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_it_is_scikit_learn_s(classes, tmp_path):
    rows, labels = clusters(classes)
    rows[:, 3] = torch.rand(len(rows)) / 1e3  # scikit-learn warns of features that never vary
    new, _ = clusters(classes, 50, seed=1)
    estimator = NearestMean()
    estimator.fit(known(rows, labels), None)
    theirs = NearestCentroid().fit(rows.numpy(), labels.numpy())
    said = logits(estimator, new)
    assert np.array_equal(said.argmax(1), theirs.predict(new.numpy()))
    squared = ((new.numpy()[:, None] - theirs.centroids_) ** 2).sum(2)
    between = said - said[:, :1]  # but for what is the same for every class; of two classes they are halved
    assert between == pytest.approx((squared[:, :1] - squared) / 2, abs=1e-4)
    assert np.array_equal(logits(reloaded(estimator, NearestMean(), classes, tmp_path), new), said)
