from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from dakit.errors import DakitError
from dakit_builtins.estimators.lda import LDA
from fitted import clusters, either_side, known, logits, reloaded


@pytest.mark.parametrize("classes", [2, 3, 7])
@pytest.mark.parametrize(("shrinkage", "balanced"), [("auto", True), (0.5, False)])
def test_it_is_scikit_learn_s(classes, shrinkage, balanced, tmp_path):
    rows, labels = clusters(classes)
    labels[:5] = 0
    new, _ = clusters(classes, 50, seed=1)
    estimator = LDA(shrinkage=shrinkage, balanced=balanced)
    estimator.fit(known(rows, labels), None)
    priors = np.full(classes, 1 / classes) if balanced else None
    theirs = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage, priors=priors)
    theirs.fit(rows.double().numpy(), labels.numpy())
    said = logits(estimator, new)
    margins = either_side(theirs.decision_function(new.double().numpy()))
    assert said == pytest.approx(margins, abs=1e-5 * max(1, np.abs(margins).max() / 10))
    assert np.array_equal(said.argmax(1), theirs.predict(new.double().numpy()))
    assert np.array_equal(logits(reloaded(estimator, LDA(), classes, tmp_path), new), said)


def test_one_image_a_class_is_too_few():
    with pytest.raises(DakitError, match="lda needs more labelled images than classes, not 3 of 3"):
        LDA().fit(known(torch.eye(3), torch.arange(3)), None)
