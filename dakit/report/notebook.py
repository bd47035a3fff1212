"""What a run ended in, for a notebook: a table that is shown there, and lines for a data frame."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import ModuleType
from typing import Any

from dakit.errors import DakitError
from dakit.report.page import render
from dakit.statistics.measures import Metric

Rows = Mapping[str, Mapping[str, Any]]
"""The rows of ``results.json``, see :func:`dakit.report.tables.to_json`."""


def lines(rows: Rows) -> dict[str, dict[str, Any]]:
    """One flat line for each row of the table; rates in percent, None where there is none.

    ``value`` is the metric with its 95 % interval ``low`` to ``high``, ``class <name>`` the same of each class,
    ``difference`` and its interval in percentage points against ``baseline``, ``p`` and ``verdict``.
    """
    table = {}
    for row, about in rows.items():
        compared = about.get("comparison") or {}
        low, high = compared.get("interval", (None, None))
        table[row] = {
            "value": about["value"],
            "low": about["interval"][0],
            "high": about["interval"][1],
            **{f"class {name}": value for name, value in about["per_class"].items()},
            "seeds": len(about["seeds"]),
            "folds": len(about["folds"]),
            "images": about["images"],
            "baseline": compared.get("baseline"),
            "difference": compared.get("difference"),
            "difference_low": low,
            "difference_high": high,
            "p": compared.get("p"),
            "verdict": compared.get("verdict"),
        }
    return table


def pandas() -> ModuleType:
    """The library of data frames.

    Raises:
        DakitError: it is not installed.
    """
    try:
        import pandas as library
    except ImportError as error:
        raise DakitError("to_frame: pandas is not installed: pip install 'dakit[notebook]'") from error
    module: ModuleType = library
    return module


def outcome_html(
    title: str, rows: Rows, metric: Metric, remarks: Iterable[str], warnings: Iterable[str], folder: str
) -> str:
    """The table as HTML that stands alone; every name and text in it is text, whatever signs it has."""
    values = [about["value"] for about in rows.values() if about["value"] is not None]
    baselines = (about["comparison"]["baseline"] for about in rows.values() if about.get("comparison"))
    return render(
        "outcome.html",
        title=title,
        rows=rows,
        classes=list(dict.fromkeys(name for about in rows.values() for name in about["classes"])),
        heading=metric.heading,
        best=max(values, key=lambda value: metric.sign * value, default=None),
        compared=any(about.get("comparison") for about in rows.values()),
        baseline=next(baselines, None),
        remarks=list(remarks),
        warnings=list(warnings),
        folder=folder,
    )
