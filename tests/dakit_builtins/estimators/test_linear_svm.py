from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.svm import LinearSVC

from dakit_builtins.estimators.linear_svm import LinearSVM
from fitted import clusters, either_side, known, logits, reloaded


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_it_is_scikit_learn_s(classes, tmp_path):
    rows, labels = clusters(classes)
    new, _ = clusters(classes, 50, seed=1)
    estimator = LinearSVM(C=0.01)
    torch.manual_seed(5)
    estimator.fit(known(rows, labels), None)
    torch.manual_seed(5)
    seed = int(torch.randint(2**31, ()))
    theirs = LinearSVC(C=0.01, class_weight="balanced", max_iter=10_000, random_state=seed)
    theirs.fit(rows.numpy(), labels.numpy())
    said = logits(estimator, new)
    assert said == pytest.approx(either_side(theirs.decision_function(new.numpy())), abs=1e-5)
    assert np.array_equal(said.argmax(1), theirs.predict(new.numpy()))
    assert np.array_equal(logits(reloaded(estimator, LinearSVM(), classes, tmp_path), new), said)


def test_c_is_chosen_among_those_that_are_given():
    estimator = LinearSVM(C=(0.001, 0.1))
    estimator.fit(known(*clusters(3, 20)), None)
    assert [C for C, _ in estimator.facts["C"]["tried"]] == [0.001, 0.1]
    assert estimator.facts["C"]["chosen"] in (0.001, 0.1)
