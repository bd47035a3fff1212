"""The page of several runs: their numbers side by side, and what was set differently."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dakit.errors import DakitError
from dakit.files import write_text
from dakit.report import figures
from dakit.report.page import command, cost, headline, render
from dakit.report.values import chance, metric_of, points_of, value_of
from dakit.results.runs import Run


def write_comparison(runs: Sequence[Run], path: Path) -> None:
    """Write the page.

    Args:
        runs: two or more that have come to an end.
        path: of the HTML file.

    Raises:
        DakitError: fewer than two, the same twice, or one without results.
    """
    if len({run.folder.resolve() for run in runs}) != len(runs) or len(runs) < 2:
        raise DakitError("expected two or more different runs to compare")
    unfinished = [str(run.folder) for run in runs if run.results is None]
    if unfinished:
        raise DakitError(f"{', '.join(unfinished)}: no results yet; the same `dakit run` again goes on with it")
    names = _names([run.folder.resolve() for run in runs])
    results = {name: run.results or {} for name, run in zip(names, runs, strict=True)}
    known = dict.fromkeys(row for of in results.values() for row in of["rows"])
    rows = {  # the runs of a row one below the other
        f"{row} · {number}": of["rows"][row]
        for row in known
        for number, of in enumerate(results.values(), 1)
        if row in of["rows"]
    }
    metrics = {name: metric_of(of) for name, of in results.items()}
    metric = next(iter(metrics.values()))
    if len({metric_of_run.name for metric_of_run in metrics.values()}) > 1:
        listed = "; ".join(f"{name}: {metric_of_run.name}" for name, metric_of_run in metrics.items())
        raise DakitError(
            f"the tables of the runs are about different metrics ({listed}); run one again with --set metric=NAME "
            "(nothing is trained again)"
        )
    points = points_of(rows)
    classes = list(dict.fromkeys(c for r in rows.values() for c in r["classes"]))
    run_facts = [
        {
            "name": name,
            "run": run,
            "command": command(run),
            "headline": headline(results[name]["rows"], run.method, metric),
            "cost": cost(run),
        }
        for name, run in zip(names, runs, strict=True)
    ]
    alike = len({tuple(r["classes"]) for r in rows.values()}) == 1
    html = render(
        "compare.html",
        title=f"{len(runs)} runs",
        runs=run_facts,
        results=results,
        classes=classes,
        alike=alike,
        metric=metric,
        value_of=value_of,
        forest=figures.forest(points, chance(metric, len(classes)), "", {}, metric.title) if points else None,
        recalls={c: {name: r["per_class"].get(c) for name, r in rows.items()} for c in classes if metric.columns},
        settings=_settings(dict(zip(names, runs, strict=True))),
    )
    write_text(path, html)


def _names(folders: Sequence[Path]) -> list[str]:
    """The shortest ends of paths that tell them apart."""
    for parts in range(1, max(len(folder.parts) for folder in folders) + 1):
        names = ["/".join(folder.parts[-parts:]) for folder in folders]
        if len(set(names)) == len(names):
            break
    return names


def _settings(runs: Mapping[str, Run]) -> dict[str, list[str]]:
    """What is not the same in all recipes: dotted key -> a value for each run, "" where there is none."""
    also = ("versions", "plugins", "device", "tf32", "git", "profile")
    flat = [dict(_flat({**run.about["recipe"], **{key: run.about.get(key) for key in also}})) for run in runs.values()]
    keys = list(dict.fromkeys(key for of in flat for key in of))
    return {
        key: values
        for key in keys
        if not key.startswith(("profiles.", "published.")) and len(set(values := [of.get(key, "") for of in flat])) > 1
    }


def _flat(value: Any, at: str = "") -> list[tuple[str, str]]:
    if isinstance(value, dict):
        return [leaf for key, inner in value.items() for leaf in _flat(inner, f"{at}.{key}" if at else str(key))]
    return [(at, value if isinstance(value, str) else json.dumps(value))]
