from __future__ import annotations

import math

import pytest
import torch

from dakit.interfaces import Prediction

pytest.importorskip("dakit_mmd", reason="pip install --no-deps --no-build-isolation ./tests/third_party/dakit-mmd")
from dakit_mmd.loss import MMD

from dakit.testing import check_transfer_loss


def said(features):
    features = torch.as_tensor(features)
    return Prediction(torch.zeros(len(features), 2), features, ())


def by_hand(x, y, beta, kernels, scale):
    """The same with two loops and no tensor."""
    both = [*x, *y]
    apart = [[sum((a - b) ** 2 for a, b in zip(p, q, strict=True)) for q in both] for p in both]
    pairs = [apart[i][j] for i in range(len(both)) for j in range(len(both)) if i != j]
    middle = scale * sum(pairs) / len(pairs)

    def k(i, j):
        widths = [middle * 2.0**power for power in range(-((kernels - 1) // 2), kernels // 2 + 1)]
        return sum(math.exp(-apart[i][j] / width) for width in widths) / len(widths)

    m, n = range(len(x)), range(len(x), len(both))
    within = sum(k(i, j) for i in m for j in m) / len(m) ** 2 + sum(k(i, j) for i in n for j in n) / len(n) ** 2
    return beta * (within - 2 * sum(k(i, j) for i in m for j in n) / (len(m) * len(n)))


@pytest.mark.parametrize(("m", "n"), [(1, 1), (4, 4), (3, 7)])
@pytest.mark.parametrize("params", [{}, {"beta": 3.0, "kernels": 1}, {"kernels": 4, "scale": 0.5}])
def test_the_value_is_that_of_two_loops(m, n, params):
    x, y = torch.randn(m, 3, dtype=torch.float64), torch.randn(n, 3, dtype=torch.float64) + 1
    expected = by_hand(x.tolist(), y.tolist(), **{"beta": 1.0, "kernels": 5, "scale": 1.0, **params})
    assert float(MMD(**params)(said(x), said(y))) == pytest.approx(expected, rel=1e-12)


def test_two_points_worked_by_hand():
    # One distance of 2, so the mean squared distance is 4, and k = exp(-4 / 4).
    loss = MMD(kernels=1)(said([[0.0]]), said([[2.0]]))
    assert float(loss) == pytest.approx(2 - 2 * math.exp(-1))


def test_it_is_the_same_however_features_are_scaled_or_ordered():
    x, y = torch.randn(6, 3), torch.randn(5, 3) + 2
    assert float(MMD()(said(7 * x), said(7 * y))) == pytest.approx(float(MMD()(said(x), said(y))), rel=1e-5)
    assert float(MMD()(said(x.flip(0)), said(y))) == pytest.approx(float(MMD()(said(x), said(y))), rel=1e-5)


def test_one_distribution_is_nearer_than_two():
    x, same, other = torch.randn(200, 2), torch.randn(200, 2), torch.randn(200, 2) + 1
    assert float(MMD()(said(x), said(same))) < 0.02 < 0.1 < float(MMD()(said(x), said(other)))


def test_features_that_are_all_one_point():
    x = torch.ones(3, 2, requires_grad=True)
    loss = MMD()(said(torch.ones(3, 2)), said(x))
    loss.backward()
    assert loss.item() == 0
    assert not x.grad.any()


@pytest.mark.parametrize("params", [{}, {"beta": 0.5, "kernels": 2, "scale": 2.0}])
def test_contract(params):
    check_transfer_loss(MMD, **params)
