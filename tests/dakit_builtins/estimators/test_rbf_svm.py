from __future__ import annotations

import numpy as np
import pytest
from sklearn.svm import SVC

from dakit_builtins.estimators.rbf_svm import RbfSVM
from fitted import clusters, either_side, known, logits, reloaded


@pytest.mark.parametrize("classes", [2, 3, 7])
@pytest.mark.parametrize("gamma", ["scale", 0.02])
def test_it_is_scikit_learn_s(classes, gamma, tmp_path):
    rows, labels = clusters(classes)
    new, _ = clusters(classes, 50, seed=1)
    estimator = RbfSVM(C=10.0, gamma=gamma)
    estimator.fit(known(rows, labels), None)
    theirs = SVC(C=10.0, gamma=gamma, class_weight="balanced", break_ties=True).fit(
        rows.double().numpy(), labels.numpy()
    )
    said = logits(estimator, new)
    assert said == pytest.approx(either_side(theirs.decision_function(new.double().numpy())), abs=1e-5)
    assert np.array_equal(said.argmax(1), theirs.predict(new.double().numpy()))
    assert np.array_equal(logits(reloaded(estimator, RbfSVM(), classes, tmp_path), new), said)


def test_far_from_the_origin_no_digit_is_lost():
    rows, labels = clusters(3)
    near, far = RbfSVM(C=10.0), RbfSVM(C=10.0)
    near.fit(known(rows, labels), None)
    far.fit(known(rows + 64, labels), None)
    assert logits(far, rows + 64) == pytest.approx(logits(near, rows), abs=1e-3)
