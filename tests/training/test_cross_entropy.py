from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight

from dakit.training.cross_entropy import CrossEntropy, balanced_weights, class_shares

LOGITS = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 1, 2, 1, 0, 0])


def test_as_it_is_it_is_torchs_to_the_bit():
    assert torch.equal(CrossEntropy()(LOGITS, LABELS), torch.nn.functional.cross_entropy(LOGITS, LABELS))


def test_smoothing_and_weights_are_torchs():
    weights = torch.tensor([0.2, 1.0, 3.0])
    expected = torch.nn.CrossEntropyLoss(weight=weights, label_smoothing=0.1)(LOGITS, LABELS)
    assert torch.equal(CrossEntropy(0.1, weights)(LOGITS, LABELS), expected)


def test_smoothing_by_hand():
    """(1 - e) on the label, and e / K on every class."""
    expected = 0.0
    for row, y in zip(LOGITS.tolist(), LABELS.tolist(), strict=True):
        logs = [value - math.log(sum(map(math.exp, row))) for value in row]
        expected -= (0.7 * logs[y] + 0.3 * sum(logs) / 3) / 6
    assert float(CrossEntropy(0.3)(LOGITS, LABELS)) == pytest.approx(expected, rel=1e-5)


def test_adjusted_logits_by_hand():
    """Menon et al., Eq. 10: log(1 + sum over the others of (prior_k / prior_y)^tau exp(f_k - f_y))."""
    prior, tau, expected = [0.5, 0.3, 0.2], 1.5, 0.0
    for f, y in zip(LOGITS.tolist(), LABELS.tolist(), strict=True):
        others = (k for k in range(3) if k != y)
        expected += math.log1p(sum((prior[k] / prior[y]) ** tau * math.exp(f[k] - f[y]) for k in others)) / 6
    loss = CrossEntropy(adjustment=tau * torch.tensor(prior).log())
    assert float(loss(LOGITS, LABELS)) == pytest.approx(expected, rel=1e-5)


def test_balanced_weights_are_scikit_learns():
    labels = [0] * 10 + [1] * 3 + [2]
    expected = compute_class_weight("balanced", classes=np.arange(3), y=labels)
    assert balanced_weights(class_shares([(labels, 1.0)], 3)).tolist() == pytest.approx(expected.tolist())


def test_shares_of_two_sets_are_those_of_a_batch():
    """A quarter comes from the second set."""
    shares = class_shares([([0, 0, 0, 1], 0.75), ([2, 2], 0.25)], 3)
    assert shares.tolist() == pytest.approx([0.75 * 0.75, 0.75 * 0.25, 0.25])


def test_a_class_without_images_counts_as_one():
    shares = class_shares([([0, 0, 2, 2], 1.0)], 3)
    assert shares.tolist() == pytest.approx([0.4, 0.2, 0.4])
    assert shares.log().isfinite().all()
