"""``benchmarks/calibration.py``: what docs/measured.md promises of verdicts and intervals, in short and in full."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import tiny
from dakit.statistics.metrics import Estimate

calibration = tiny.benchmark_file("calibration")


def promised(cell: Any) -> None:
    """At most 6 % false, at least 93 % held, within twice the binomial error of so many tables."""
    wrong, missed = (2 * math.sqrt(rate * (1 - rate) / cell.tables) for rate in (0.06, 0.07))
    assert cell.row >= 0.93 - missed, cell
    assert cell.difference >= 0.93 - missed, cell
    if cell.seeds > 1:
        assert cell.false <= 0.06 + wrong, cell
        assert cell.any_false <= 0.06 + wrong, cell


def test_digits_in_short() -> None:
    """2,007 images and 2 points of luck, where drawing seeds with replacement said 26, 13 and 10 % at 2, 3 and 5."""
    made = {cell.seeds: cell for cell in calibration.cells(calibration.Setting(2007, 0.9, "images"), 50, luck=[0.02])}
    assert list(made) == [1, 2, 3, 5, 10]
    for cell in made.values():
        promised(cell)
    assert made[1].false > 0.3  # why one seed has no verdict
    alone, of_ten = np.transpose([made[seeds].seen for seeds in (3, 5, 10)])
    assert (alone < of_ten).all()
    # (t_9 + 0.88) sqrt(2 (luck^2 + images' p (1 - p) / n, of which 0.3 to 0.5 is each network's own) / 10) or so
    assert 0.02 < alone[2] < alone[1] < alone[0] < 0.15


@pytest.mark.parametrize("way", ["independent", "folds", "groups"])
def test_few_images_in_short(way: str) -> None:
    for cell in calibration.cells(calibration.Setting(90, 0.6, way), 40, luck=[0.04]):
        promised(cell)


def test_nearly_all_right_in_short() -> None:
    for cell in calibration.cells(calibration.Setting(90, 0.98, "images"), 40, luck=[0.0]):
        promised(cell)


@pytest.mark.slow
@pytest.mark.parametrize("setting", calibration.settings(), ids=lambda one: "-".join(map(str, one)))
def test_all_of_it(setting: Any) -> None:
    for cell in calibration.cells(setting, calibration.TABLES[setting.images] // 4, seed=1):
        promised(cell)


def test_networks_are_as_good_as_they_are_meant_to_be() -> None:
    rng = np.random.default_rng(0)
    setting = calibration.Setting(2007, 0.9, "groups")
    drawn = [list(calibration.table(rng, setting, [0.0, 0.04])) for _ in range(10)]
    for place, luck in enumerate((0.0, 0.04)):
        read = np.array([[tally.macros() for tally in table[place][1]] for table in drawn])
        can = np.array([table[place][2] for table in drawn])
        assert read.mean() == pytest.approx(0.9, abs=0.01)
        assert can.std() == pytest.approx(luck, rel=0.1)
        assert (read - can).mean() == pytest.approx(0, abs=0.005)
    # Difficulty is the images': the networks of a method err together, and those of two methods less so.
    (_, tallies, _), _ = drawn[0]
    own = np.corrcoef(tallies[0].right[:, 0], tallies[0].right[:, 1])[0, 1]
    other = np.corrcoef(tallies[0].right[:, 0], tallies[1].right[:, 1])[0, 1]
    assert own > other + 0.05 > 0.15
    first, second, third = (tallies[0].right.mean(axis=1)[start:2007:3] for start in range(3))
    assert min(np.corrcoef(first, second)[0, 1], np.corrcoef(first, third)[0, 1]) > 0.15  # one person


def test_the_integral_is_the_distribution_that_is_drawn() -> None:
    for estimate in (Estimate(0.02, 1e-4, 20, 0, 1), Estimate(0.02, 1e-4, 20, 2e-4, 3), Estimate(0.2, 0, 9, 1e-3, 2)):
        _, p_value = estimate.test(0.95, 400_000, 0)
        assert calibration.tail(np.array(estimate.value), np.array(estimate)) == pytest.approx(p_value, rel=0.03)


def test_the_difference_seen_is_that_of_the_normal_test() -> None:
    # Known variance 1e-4 and no error: 1.96 (0.005 / 2: 2.81) standard errors and the 0.84 of 80 %.
    rng = np.random.default_rng(0)
    made = np.array([[Estimate(0.01 * rng.standard_normal(), 1e-4, 1e6, 0, 1) for _ in range(100)] for _ in range(100)])
    assert calibration.seen(made, 0.05) == pytest.approx(0.01 * (1.96 + 0.84), rel=0.03)
    assert calibration.seen(made, 0.005) == pytest.approx(0.01 * (2.81 + 0.84), rel=0.03)


def test_the_tables_have_the_mean_and_the_worst_of_the_ways() -> None:
    def cell(way: str, seeds: int, rate: float, seen: tuple[float, float] | None) -> Any:
        setting = calibration.Setting(2007, 0.9, way)
        return calibration.Cell(setting, 0.02, seeds, 9, rate, rate / 2, 1 - rate, 1 - rate / 4, seen)

    made = [cell("images", n, 0.02, (0.03, 0.7) if n > 2 else None) for n in calibration.SEEDS]
    made += [cell("folds", n, 0.04, None) for n in calibration.SEEDS]
    lines = calibration.markdown(made).splitlines()
    assert [line for line in lines if line.startswith("| 2,007")] == [
        "| 2,007 | 90 | 2 |" + " 3.0 (4.0) |" * 5,
        "| 2,007 | 90 | 2 |" + " 1.5 (2.0) |" * 5,
        "| 2,007 | 90 | 2 |" + " 97.0 (96.0); 99.2 (99.0) |" * 5,
        "| 2,007 | 90 | 2 |" + " 3.0, none |" * 3,
    ]


def test_another_metric_in_short() -> None:
    """Networks of which the truth is known: F1 is near it, and intervals and verdicts are not far off."""
    for cell in calibration.metric_cells("macro_f1", 90, "images", 0.1, 12, counts=(3,)):
        assert abs(cell.value - cell.truth) < 0.03
        assert cell.row >= 0.85
        assert cell.false <= 0.1
