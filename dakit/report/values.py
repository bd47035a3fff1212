"""What ``results.json`` says of a table's metric; before dakit 0.4 it said nothing, and that was macro accuracy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dakit.report import figures
from dakit.statistics.measures import MACRO_ACCURACY, METRICS, Metric


def metric_of(results: Mapping[str, Any]) -> Metric:
    """What a run's table is about; before dakit 0.4 that was macro accuracy."""
    return METRICS[results["metric"]["name"]] if "metric" in results else MACRO_ACCURACY


def value_of(about: Mapping[str, Any]) -> float | None:
    """The metric of one row in percent; before dakit 0.4 there was macro accuracy alone."""
    value: float | None = about.get("value", about["macro"])
    return value


def points_of(rows: Mapping[str, Any]) -> list[figures.Point]:
    """Value and interval of every row that has them."""
    candidates = ((row, value_of(about), *about["interval"]) for row, about in rows.items())
    return [point for point in candidates if None not in point]


def chance(metric: Metric, classes: int) -> float | None:
    """What guessing gives, in percent."""
    return 100 * metric.guess(classes) if metric.guess else None
