from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from dakit.data.folds import best
from dakit_builtins.estimators.logistic import Logistic
from fitted import clusters, either_side, known, logits, reloaded


@pytest.mark.parametrize("classes", [2, 3, 7])
@pytest.mark.parametrize("balanced", [False, True])
def test_it_is_scikit_learn_s(classes, balanced, tmp_path):
    rows, labels = clusters(classes)
    labels[:5] = 0  # not all classes are equally frequent
    new, _ = clusters(classes, 50, seed=1)
    estimator = Logistic(C=0.1, balanced=balanced)
    estimator.fit(known(rows, labels), None)
    theirs = LogisticRegression(C=0.1, class_weight="balanced" if balanced else None, max_iter=1000)
    theirs.fit(rows.numpy(), labels.numpy())
    said = logits(estimator, new)
    assert said == pytest.approx(either_side(theirs.decision_function(new.numpy())), abs=1e-5)
    assert np.array_equal(said.argmax(1), theirs.predict(new.numpy()))
    probabilities = np.exp(said) / np.exp(said).sum(1, keepdims=True)
    assert probabilities == pytest.approx(theirs.predict_proba(new.numpy()), abs=1e-5)
    assert np.array_equal(logits(reloaded(estimator, Logistic(), classes, tmp_path), new), said)


def test_c_is_that_of_the_inner_folds_and_the_fit_is_scikit_learn_s_with_it():
    rows, labels = clusters(3, 20)
    estimator = Logistic()
    estimator.fit(known(rows, labels), None)
    cold, facts = best(known(rows, labels), rows.numpy(), estimator.C, lambda C: LogisticRegression(
        C=C, class_weight="balanced", max_iter=1000))  # fmt: skip
    assert estimator.facts["C"]["chosen"] == cold
    assert [score for _, score in estimator.facts["C"]["tried"]] == pytest.approx(
        [score for _, score in facts["tried"]], abs=2
    )
    theirs = LogisticRegression(C=cold, class_weight="balanced", max_iter=1000).fit(rows.numpy(), labels.numpy())
    assert logits(estimator, rows) == pytest.approx(theirs.decision_function(rows.numpy()), abs=1e-5)
