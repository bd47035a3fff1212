"""What a run ends in: rows, their comparisons, and what must be read with them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dakit.files import write_json, write_text, written
from dakit.recipe.plans import Recipe
from dakit.statistics.comparison import Comparison
from dakit.statistics.measures import METRICS
from dakit.statistics.metrics import Round, Summary


@dataclass(frozen=True)
class Outcome:
    """What a run ends in.

    Attributes:
        summaries: one per row, in the recipe's order.
        rounds: every evaluation behind them.
        made: how many results were made now,
        reused: and how many were there already.
        folder: where tables and pictures are.
        notes: what stages wanted the user to know, with row, seed and fold.
        warnings: why results may be worth little, see :mod:`dakit.statistics.health`, with row, seed and fold.
        comparisons: every other row against the recipe's baseline; a text says why there is none.
        opened: how often the test labels were opened with this folder, in all runs so far,
        needed: and how often this table needs them.
        made_with: what its results were made with, see :func:`dakit.results.record.gathered`.
        recipe: that was run.
    """

    summaries: Mapping[str, Summary]
    rounds: Mapping[str, Sequence[Round]]
    made: int
    reused: int
    folder: Path
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    comparisons: Mapping[str, Comparison | str] = field(default_factory=dict)
    opened: int = 0
    needed: int = 0
    made_with: Mapping[str, Any] = field(default_factory=dict)
    recipe: Recipe | None = field(default=None, repr=False, compare=False)

    def remarks(self, recipe: Recipe) -> list[str]:
        """What must be read with the table, a line each: intervals, verdicts, and how often the test was looked at."""
        from dakit.report.tables import remarks

        often = "; the more often, the less unseen they are" if self.opened > self.needed else ""
        weights = {"last": "those of the last step", "validation": "the best on images kept from the training side",
                   "fitted": "fitted at once, in no steps"}  # fmt: skip
        weights["both"] = f"of several networks, some {weights['last']}, some {weights['validation']}"
        rows = {way: [row for row in self.summaries if recipe.plan(row).weights == way] for way in weights}
        return [
            *(f"Weights of {', '.join(rows[way])}: {text}." for way, text in weights.items() if rows[way]),
            *remarks(self.summaries, self.comparisons, recipe.baseline),
            f"Test labels were opened {self.opened} times in this folder, all runs together; "
            f"this table needs {self.needed}{often}.",
        ]

    def to_frame(self) -> Any:
        """The table as a pandas DataFrame, a line per row of the table, see :func:`dakit.report.notebook.lines`.

        Raises:
            DakitError: pandas is not installed.
        """
        from dakit.report.notebook import lines, pandas

        return pandas().DataFrame.from_dict(lines(self._rows()), orient="index")

    def _repr_html_(self) -> str:
        """What a notebook shows: the table as on the run's page, and what must be read with it."""
        from dakit.report.notebook import outcome_html
        from dakit.report.tables import metric_of

        remarks = self.remarks(self.recipe) if self.recipe and self.summaries else []
        title = self.recipe.title if self.recipe else ""
        return outcome_html(title, self._rows(), metric_of(self.summaries), remarks, self.warnings, str(self.folder))

    def _rows(self) -> dict[str, Any]:
        from dakit.report.tables import to_json

        published, baseline = (self.recipe.published, self.recipe.baseline) if self.recipe else (None, None)
        return to_json(self.summaries, published, self.comparisons, baseline)


def transferring(recipe: Recipe) -> list[str]:
    """The rows that do all that the baseline does, and whose stages are given more to learn from."""
    plain = (
        {stage.name: stage.inputs.keys() for stage in recipe.plan(recipe.baseline).stages} if recipe.baseline else {}
    )
    rows = []
    for row, plan in recipe.plans.items():
        given = {stage.name: stage.inputs.keys() for stage in plan.stages}
        if all(inputs <= given.get(name, set()) for name, inputs in plain.items()):
            if any(inputs < given[name] for name, inputs in plain.items()):
                rows.append(row)
    return rows


def source_only(recipe: Recipe, rows: Iterable[str]) -> dict[str, list[str]]:
    """For each row that learned from one set and is tested on another (S2T in the paper): all rows tested there."""
    learned: dict[str, set[str]] = {}
    tested: dict[str, str] = {}
    for row in rows:
        plan = recipe.plan(row)
        needed, read = {plan.stages[-1].name}, set()
        for stage in reversed(plan.stages):  # but not those that only draw a picture
            if stage.name in needed:
                read |= set(stage.inputs.values())
                needed |= {reference.producer for reference in stage.inputs.values()}
        parts = [reference for reference in read if reference.producer in plan.data]
        learned[row] = {part.producer for part in parts if part.output != "test"}
        tested[row] = next((part.producer for part in parts if part.output == "test"), "")
    return {
        row: [other for other in tested if tested[other] == tested[row]]
        for row in tested
        if len(learned[row]) == 1 and tested[row] not in learned[row]
    }


def write_results(recipe: Recipe, outcome: Outcome, pictures: Iterable[tuple[str, Path]]) -> list[str]:
    """Write ``results.json``, ``table.md``, the confusion matrices and, under the names given, stages' pictures.

    Returns:
        What went wrong with a confusion matrix; nothing else hangs on it.
    """
    from dakit.report.pictures import confusion_png
    from dakit.report.tables import plain_markdown, to_markdown

    folder = outcome.folder
    images = dict(pictures)
    confusions = {f"confusion-{row}.png": summary for row, summary in outcome.summaries.items()}
    for old in _pictures_of(folder) - images.keys() - confusions.keys():
        (folder / old).unlink(missing_ok=True)  # of rows that have left the table
    write_json(folder / "results.json", {**results_json(recipe, outcome), "pictures": [*confusions, *images]})
    note = "\n".join(f"- {plain_markdown(line)}" for line in outcome.remarks(recipe))
    write_text(folder / "table.md", to_markdown(outcome.summaries, recipe.published, recipe.title, note) + "\n")
    problems = []
    for (name, summary), row in zip(confusions.items(), outcome.summaries, strict=True):
        try:
            confusion_png(summary, folder / name, row)
        except Exception as error:  # such as want of memory; the table and the page must not hang on a picture
            problems.append(f"{name} was not made: {type(error).__name__}: {error}")
    for name, picture in images.items():
        with written(folder / name) as part:
            part.write_bytes(picture.read_bytes())
    return problems


def _pictures_of(folder: Path) -> set[str]:
    """The pictures that an earlier table put here."""
    confusions = {path.name for path in folder.glob("confusion-*.png")}  # before 0.3.0 they were not listed
    try:
        listed = json.loads((folder / "results.json").read_text(encoding="utf-8")).get("pictures", [])
    except (OSError, ValueError):
        return confusions
    return confusions | {name for name in listed if Path(name).name == name and name.endswith(".png")}


def results_json(recipe: Recipe, outcome: Outcome) -> dict[str, Any]:
    """The table and what is behind it as plain values, for machines."""
    from dakit.report.tables import to_json

    rows = to_json(outcome.summaries, recipe.published, outcome.comparisons, recipe.baseline)
    return {
        "recipe": recipe.name,
        "title": recipe.title,
        "profile": recipe.profile,
        "baseline": recipe.baseline,
        "metric": METRICS[recipe.metric].plain(),
        "rows": {row: {**values, "weights": recipe.plan(row).weights} for row, values in rows.items()},
        "test_labels": {"opened": outcome.opened, "needed": outcome.needed},
        "notes": list(outcome.notes),
        "warnings": list(outcome.warnings),
        "made_with": dict(outcome.made_with),
        "made": outcome.made,
        "reused": outcome.reused,
        "folder": str(outcome.folder),
    }
