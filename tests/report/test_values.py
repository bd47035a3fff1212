from __future__ import annotations

from dakit.report.values import chance, metric_of, points_of, value_of
from dakit.statistics.measures import MACRO_ACCURACY, METRICS


def test_a_table_of_an_earlier_dakit_is_about_macro_accuracy() -> None:
    assert metric_of({"rows": {}}) is MACRO_ACCURACY
    assert value_of({"macro": 50.0}) == 50.0


def test_a_table_says_what_it_is_about() -> None:
    assert metric_of({"metric": METRICS["ece"].plain()}) is METRICS["ece"]
    assert METRICS["ece"].plain()["better"] == "lower"
    assert value_of({"macro": 50.0, "value": 4.0}) == 4.0


def test_rows_without_a_number_are_no_points() -> None:
    rows = {"a": {"value": 1.0, "macro": 2.0, "interval": [0.5, 2.0]}, "b": {"macro": None, "interval": [None, None]}}
    assert points_of(rows) == [("a", 1.0, 0.5, 2.0)]


def test_what_guessing_gives() -> None:
    expected = {
        "macro_accuracy": 25.0, "accuracy": 25.0, "auroc": 50.0, "ece": None, "macro_f1": None, "vote": 25.0,
    }  # fmt: skip
    assert {name: chance(metric, 4) for name, metric in METRICS.items()} == expected
