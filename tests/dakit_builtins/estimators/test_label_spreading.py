from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.semi_supervised import LabelSpreading as Theirs
from torch.nn import functional as F

from dakit_builtins.estimators.label_spreading import LabelSpreading
from fitted import clusters, known, logits, reloaded


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_it_is_scikit_learn_s(classes, tmp_path):
    rows, labels = clusters(classes, 3)
    unlabelled, _ = clusters(classes, 40, seed=5)
    new, _ = clusters(classes, 50, seed=1)
    estimator = LabelSpreading(neighbours=6, alpha=0.3)
    estimator.fit(known(rows, labels), unlabelled)
    every = F.normalize(torch.cat([rows, unlabelled]).double(), dim=1).numpy()
    theirs = Theirs(kernel="knn", n_neighbors=6, alpha=0.3, max_iter=100)
    theirs.fit(every, np.r_[labels.numpy(), np.full(len(unlabelled), -1)])
    shares = theirs.predict_proba(F.normalize(new.double(), dim=1).numpy())
    said = logits(estimator, new)
    assert np.exp(said) == pytest.approx(shares, abs=1e-5)
    assert np.exp(said).sum(1) == pytest.approx(np.ones(len(new)), abs=1e-5)
    assert np.array_equal(said.argmax(1), shares.argmax(1))
    assert np.array_equal(logits(reloaded(estimator, LabelSpreading(neighbours=6), classes, tmp_path), new), said)


def test_it_says_that_it_needs_unlabelled_images():
    assert LabelSpreading().check(frozenset({"train"})) == ["label_spreading needs the input `unlabelled`"]
    assert LabelSpreading().check(frozenset({"train", "unlabelled"})) == []
