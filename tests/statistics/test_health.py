from __future__ import annotations

import math

import numpy as np
import pytest

from dakit.statistics.health import CLASS, CRITIC, ENOUGH, lost_classes, lost_game, lost_to_source
from dakit.statistics.metrics import Evaluation, Round


@pytest.mark.parametrize(
    ("objective", "guess"), [("log", 2 * math.log(2)), ("log_saturating", 2 * math.log(2)), ("least_squares", 0.5)]
)
def test_a_discriminator_that_is_never_wrong_is_told(objective, guess):
    def last(loss):
        return {"D_W": [guess] * 18 + [loss, loss], "D_S": [guess] * 20, "G adversarial W": [0.0] * 20}

    (text,) = lost_game(last(guess * CRITIC * 0.9), objective)
    assert text.startswith(
        f"discriminator collapse: D_W tells every generated image from a real one (loss {guess * CRITIC * 0.9:.2g}"
    )
    assert lost_game(last(guess * CRITIC * 1.1), objective) == []


def test_a_discriminator_that_won_long_ago_or_for_a_moment_is_not():
    assert lost_game({"D_W": [0.0] * 10 + [1.0] * 10}, "log") == []
    assert lost_game({"D_W": [1.0] * 18 + [0.0, 1.0]}, "log") == []
    assert lost_game({"D_W": [0.0]}, "log")  # a history of one window


def test_a_class_that_the_judge_does_not_find_again_is_told_with_the_numbers():
    labels = [0] * 40 + [1] * 40 + [2] * 40 + [3] * 40
    chance = 0.25
    few = int(CLASS * chance * 40) - 1  # 4 of 40
    read_as = [0] * 40 + [1] * few + [0] * (40 - few) + [2] * 20 + [0] * 20 + [3] * 10 + [0] * 30
    (text,) = lost_classes(labels, read_as, ("a", "b", "c", "d"))
    assert (
        "images of 1 of 4 classes (b 4 of 40; below 12.5% is told, 25.0% is chance); it reads 79% of all as a" in text
    )


def test_a_class_just_above_the_threshold_or_with_few_images_is_not():
    assert lost_classes([0] * 40 + [1] * 40, [0] * 40 + [1] * 10 + [0] * 30, ("a", "b")) == []
    few = ENOUGH - 1
    assert lost_classes([0] * 40 + [1] * few, [0] * (40 + few), ("a", "b")) == []
    assert lost_classes([0] * 40 + [1] * ENOUGH, [0] * (40 + ENOUGH), ("a", "b"))
    assert lost_classes([0] * 40 + [-1] * 40, [0] * 80, ("a", "b")) == []  # those without a label are not a class


def rounds(right: int, of: int = 200, seed: int = 0):
    """Two classes; the first ``right`` of ``of`` images of each are classified right."""
    labels = np.repeat([0, 1], of)
    said = np.where(np.tile(np.arange(of), 2) < right, labels, 1 - labels)
    return [Round(seed, 0, Evaluation(("a", "b"), np.arange(2 * of), labels, said, np.eye(2)[said]))]


def test_a_row_that_lost_against_source_only_is_told_with_the_interval():
    numbers = {"s2t": 150, "worse": 110, "alike": 149, "better": 190}
    (text,) = lost_to_source("s2t", {row: rounds(n) + rounds(n, seed=1) for row, n in numbers.items()})
    assert text.startswith("fine-tuning lost: worse is worse than s2t, which saw no target label: -20.00 points (-")
    (text,) = lost_to_source("s2t", {row: rounds(n) for row, n in numbers.items()})
    assert "which saw no target label (one seed: of these networks only): -20.00 points (-" in text


def test_rows_that_cannot_be_compared_are_passed_over():
    assert lost_to_source("s2t", {"s2t": rounds(150), "elsewhere": rounds(10, of=50), "seed": rounds(10, seed=1)}) == []
