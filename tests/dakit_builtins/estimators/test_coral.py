from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
import torch

from dakit.errors import DakitError
from dakit.testing.stages import small
from dakit_builtins.estimators.coral import Coral
from fitted import clusters, known, logits


class Seen:
    """Stands for the estimator within; keeps what it is given."""

    def fit(self, known, unlabelled):
        self.known, self.unlabelled = known, unlabelled


def aligned(**given):
    estimator = Coral(then=small("estimator"), regularisation=0.5)
    estimator._modules.clear()
    estimator.then = Seen()
    estimator.fit(given["known"], given["unlabelled"])
    return estimator.then


def by_hand(source, target):
    """Equations with SciPy's matrix functions."""
    source, target = source.double().numpy(), target.double().numpy()
    cs, ct = np.cov(source.T), np.cov(target.T)
    ridge = 0.5 * (np.trace(cs) + np.trace(ct)) / 2 / len(cs) * np.eye(len(cs))
    turned = (source - source.mean(0)) @ np.linalg.inv(scipy.linalg.sqrtm(cs + ridge)) @ scipy.linalg.sqrtm(ct + ridge)
    return turned + target.mean(0)


def test_the_source_is_train_where_nothing_is_extra():
    rows, labels = clusters(3)
    target = clusters(3, 20, seed=4)[0] * 2 + 1
    seen = aligned(known=known(rows, labels), unlabelled=target)
    assert seen.known.features.numpy() == pytest.approx(by_hand(rows, target), abs=1e-5)
    assert torch.equal(seen.unlabelled, target)


def test_the_source_is_extra_and_train_belongs_to_the_target():
    rows, labels = clusters(3, 20)
    extra = torch.arange(len(rows)) % 2 == 0
    target = clusters(3, 20, seed=4)[0] * 2
    seen = aligned(known=known(rows, labels, extra), unlabelled=target).known
    both = torch.cat([rows[~extra], target])
    assert seen.features[extra].numpy() == pytest.approx(by_hand(rows[extra], both), abs=1e-5)
    assert torch.equal(seen.features[~extra], rows[~extra])
    assert torch.equal(seen.labels, labels)


def test_without_regularisation_the_covariances_agree():
    rows, labels = clusters(3, 40)
    keep = [i for i in range(20) if i != 3]  # what never varies has no inverse
    target = clusters(3, 40, seed=4)[0][:, keep] * 3
    estimator = Coral(then=small("estimator"), regularisation=0.0)
    estimator._modules.clear()
    estimator.then = Seen()
    estimator.fit(known(rows[:, keep], labels), target)
    assert np.cov(estimator.then.known.features.numpy().T) == pytest.approx(np.cov(target.numpy().T), abs=1e-3)


def test_a_new_image_goes_to_the_estimator_as_it_is():
    rows, labels = clusters(3)
    estimator = Coral(then=small("estimator"))
    estimator.fit(known(rows, labels), rows + 1)
    assert np.array_equal(logits(estimator, rows), logits(estimator.then, rows))


def test_two_domains_are_needed():
    estimator = Coral(then=small("estimator"))
    (problem,) = estimator.check(frozenset({"train"}))
    assert "the input `extra` or `unlabelled`" in problem
    assert estimator.check(frozenset({"train", "extra"})) == []
    with pytest.raises(DakitError, match="coral needs two images of each domain, not 36 and 1"):
        estimator.fit(known(*clusters(3)), torch.zeros(1, 20))
