from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier

from dakit_builtins.estimators.knn import KNN
from fitted import clusters, known, logits, reloaded


@pytest.mark.parametrize("classes", [2, 3, 7])
@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("k", [1, 5])
def test_it_is_scikit_learn_s(classes, metric, k, tmp_path):
    rows, labels = clusters(classes)
    new, _ = clusters(classes, 50, seed=1)
    estimator = KNN(neighbours=k, metric=metric)
    estimator.fit(known(rows, labels), None)
    theirs = KNeighborsClassifier(k, metric=metric).fit(rows.numpy(), labels.numpy())
    said = logits(estimator, new)
    shares = theirs.predict_proba(new.numpy())
    assert said == pytest.approx(np.log((k * shares + 1 / classes) / (k + 1)), abs=1e-5)
    assert np.exp(said).sum(1) == pytest.approx(np.ones(len(new)), abs=1e-6)
    assert np.array_equal(said.argmax(1), theirs.predict(new.numpy()))
    assert np.array_equal(logits(reloaded(estimator, KNN(metric=metric), classes, tmp_path), new), said)


def test_the_number_of_neighbours_is_chosen_by_folds_and_never_more_than_there_are():
    estimator = KNN(neighbours=(1, 3, 500))
    estimator.fit(known(*clusters(3, 10)), None)
    assert [k for k, _ in estimator.facts["neighbours"]["tried"]] == [1, 3, 500]
    few = KNN(neighbours=5)
    few.fit(known(torch.eye(3), torch.arange(3)), None)
    assert len(few.votes) == 3
    assert np.ptp(logits(few, torch.eye(3))) == pytest.approx(0, abs=1e-6)
