"""The table's metric against the number of labelled target images: the ladder again with fewer of them."""

from __future__ import annotations

import copy
import csv
import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dakit import processes
from dakit.errors import DakitError
from dakit.files import write_json, write_text
from dakit.interfaces import Observer, Spec
from dakit.optional import ChecksInputs, ChecksSizes, offers
from dakit.pipeline import run as pipeline
from dakit.pipeline.jobs import Job, sized
from dakit.pipeline.outcome import Outcome, results_json
from dakit.recipe.plans import Plan, Recipe
from dakit.statistics.measures import MACRO_ACCURACY, METRICS
from dakit.training.surroundings import undisturbed


@dataclass(frozen=True)
class Point:
    """The ladder with one number of labels.

    Attributes:
        labels: per class; None = all that there are.
        per_class: mean number of labelled images of a class on the training side.
        batch_sizes: by stage, where the recipe's own is larger than the labelled images are many.
        recipe: that was run.
        outcome: of that run.
    """

    labels: int | None
    per_class: float
    batch_sizes: Mapping[str, int]
    recipe: Recipe
    outcome: Outcome

    @property
    def name(self) -> str:
        """The number as text, or "all"."""
        return "all" if self.labels is None else str(self.labels)


@undisturbed()
def curve(
    recipe: Recipe,
    labels: Sequence[int | None],
    *,
    draws: int | None = None,
    rows: Iterable[str] | None = None,
    out: str | Path | None = None,
    observers: Iterable[Observer] = (),
) -> list[Point]:
    """Run a recipe's rows with each number of labelled target images per class, and draw the curve.

    Every number is a run of its own in ``<out>/curve/labels-<n>``; stages that read no target labels, and the
    rows of ``dakit run`` where they are the same, are shared through ``<out>/store``. Of one draw the images of
    a smaller number are among those of a larger one. Test images are the same for all numbers.

    A stage whose batch would hold more labelled images than there are gets a smaller batch at that number, the
    same in all rows.

    Args:
        recipe: from :func:`dakit.load_recipe`.
        labels: how many per class; None = all.
        draws: so often the labelled images (and folds) are drawn anew; None = as the recipe says.
        rows: of the table; None = the recipe's own choice.
        out: folder of results, as for :func:`dakit.run`.
        observers: told of progress.

    Returns:
        One point for each number, in rising order; also in ``<out>/curve`` as JSON, CSV, PNG and SVG.

    Raises:
        DakitError: there are fewer labels than asked for, no row learns from target labels, or as for ``run``.
    """
    chosen = list(recipe.rows if rows is None else rows)
    folder, watching = Path(out or recipe.folder), tuple(observers) if processes.first() else ()
    role = _role(recipe, chosen)
    usual = _per_class(recipe, str(recipe.document["method"]), role)
    for row in chosen:
        if (per_class := _per_class(recipe, row, role)) != usual:
            raise DakitError(
                f"{row} is the row with per_class: {per_class}, so it has no curve; name the others (--variant)"
            )
    most, _ = _available(_jobs(_with(recipe, role, None, draws), chosen, folder), role)
    wanted = sorted({n for n in labels if n is not None}) + [None] * (None in labels)
    wrong = [n for n in wanted if n is not None and not 1 <= n <= most]
    if wrong or not wanted:
        listed = ", ".join(map(str, wrong)) or "none"
        raise DakitError(f"labels per class: {listed}: expected numbers from 1 to {most} (the smallest class has so "
                         f"many on the training side of {role}), or all")  # fmt: skip
    todo = []
    for number in wanted:
        reduced = _with(recipe, role, number, draws)
        jobs = _jobs(reduced, chosen, folder)
        smaller = _batch_sizes(reduced, jobs)
        todo.append((number, _available(jobs, role)[1], smaller, _with_batches(reduced, smaller)))
    points: list[Point] = []
    for number, mean, smaller, reduced in todo:
        name = "all" if number is None else str(number)
        for observer in watching:
            observer.message(f"labels per class: {name}")
        outcome = pipeline.run(
            reduced, rows=chosen, out=folder / "curve" / f"labels-{name}", observers=watching, store=folder / "store"
        )
        points.append(Point(number, mean, smaller, reduced, outcome))
        if processes.first():
            _write(recipe, points, folder / "curve")
    return points


def _role(recipe: Recipe, rows: Sequence[str]) -> str:
    """The role whose held-out images the rows are tested on."""
    tested = {plan.tested.role for plan in map(recipe.plan, rows) if plan.tested is not None}
    if len(tested) != 1:
        raise DakitError(f"{recipe.file}: a curve needs rows that are tested on one role; here: {sorted(tested)}")
    return tested.pop()


def _per_class(recipe: Recipe, row: str, role: str) -> int | None:
    """How many labels of a class a row learns from, where its split says so."""
    data = recipe.plan(row).data.get(role)
    return data.split.per_class if data is not None and data.split is not None else None


def _with(recipe: Recipe, role: str, number: int | None, draws: int | None) -> Recipe:
    """The recipe with so many labels per class."""

    def changed(plan: Plan) -> Plan:
        data = plan.data.get(role)
        if data is None or data.split is None:
            return plan
        published = data.split.predefined or data.split.folds == "predefined"
        repeats = 1 if number is None and published else draws or data.split.repeats
        # Both at once: neither need be possible without the other.
        split = replace(data.split, per_class=number, repeats=repeats)
        return replace(plan, data={**plan.data, role: replace(data, split=split)})

    document = copy.deepcopy(dict(recipe.document))
    document["data"][role]["split"] |= {"per_class": number} | ({"repeats": draws} if draws else {})
    return replace(recipe, plans={row: changed(plan) for row, plan in recipe.plans.items()}, document=document)


def _jobs(recipe: Recipe, rows: Sequence[str], folder: Path) -> list[Job]:
    return [job for job, _ in pipeline.plan(recipe, rows=rows, out=folder)]


def _available(jobs: Sequence[Job], role: str) -> tuple[int, float]:
    """How many labelled images the smallest class has on any training side, and a class in the mean."""
    counts = [
        Counter(job.inputs[name]().labels)
        for job in jobs
        for name, reference in job.stage.inputs.items()
        if str(reference) == f"{role}.train"
    ]
    if not counts:
        rows = ", ".join(dict.fromkeys(job.row for job in jobs))
        raise DakitError(f"there is no curve: of the rows {rows} none learns from {role}.train")
    every = [count for sides in counts for count in sides.values()]
    return min(every), sum(every) / len(every)


def _batch_sizes(recipe: Recipe, jobs: Sequence[Job]) -> dict[str, int]:
    """The largest batch that fits, for each stage where the recipe's own does not."""
    batch_sizes: dict[str, int] = {}
    for job, stage, sizes in sized(recipe, jobs):
        spec = job.stage.spec

        def fits(size: int, spec: Spec[Any] = spec, sizes: Any = sizes, inputs: Any = job.stage.inputs) -> bool:
            candidate = _sized(spec, size).build()
            return not candidate.check_sizes(sizes) and not (
                offers(candidate, ChecksInputs) and candidate.check(frozenset(inputs))
            )

        recipe_size = spec.params.get("batch_size")
        if recipe_size is not None and offers(stage, ChecksSizes) and not fits(recipe_size):
            size = next((size for size in range(recipe_size - 1, 0, -1) if fits(size)), recipe_size)
            batch_sizes[job.stage.name] = min(size, batch_sizes.get(job.stage.name, recipe_size))
    return batch_sizes


def _sized(spec: Spec[Any], size: int) -> Spec[Any]:
    return replace(spec, params={**spec.params, "batch_size": size})


def _with_batches(recipe: Recipe, sizes: Mapping[str, int]) -> Recipe:
    def changed(plan: Plan) -> Plan:
        stages = (
            replace(stage, spec=_sized(stage.spec, min(sizes[stage.name], stage.spec.params["batch_size"])))
            if stage.name in sizes
            else stage
            for stage in plan.stages
        )
        return replace(plan, stages=tuple(stages))

    document = copy.deepcopy(dict(recipe.document))
    for name, size in sizes.items():
        document["stages"][name]["batch_size"] = size
    return replace(recipe, plans={row: changed(plan) for row, plan in recipe.plans.items()}, document=document)


def curve_json(recipe: Recipe, points: Sequence[Point], folder: Path) -> dict[str, Any]:
    """The curve as plain values; each point's ``rows`` are those of a run's ``results.json``."""
    return {
        "recipe": recipe.name,
        "title": recipe.title,
        "profile": recipe.profile,
        "baseline": recipe.baseline,
        "metric": METRICS[recipe.metric].plain(),
        "folder": str(folder),
        "points": [
            {
                "labels": point.name,
                "per_class": point.per_class,
                "batch_sizes": dict(point.batch_sizes),
                **results_json(point.recipe, point.outcome),
            }
            for point in points
        ],
    }


def _write(recipe: Recipe, points: Sequence[Point], folder: Path) -> None:
    from dakit.report.pictures import label_curve

    whole = curve_json(recipe, points, folder)
    write_json(folder / "curve.json", whole)
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    metric = METRICS[recipe.metric]
    name = "macro" if metric is MACRO_ACCURACY else metric.name
    table.writerow(["row", "labels", "per_class", name, "low", "high", "seeds", "draws", "images", "verdict"])
    for point in whole["points"]:
        for row, values in point["rows"].items():
            verdict = (values["comparison"] or {}).get("verdict", "")
            table.writerow([row, point["labels"], point["per_class"], values["value"], *values["interval"],
                            len(values["seeds"]), values["repeats"], values["images"], verdict])  # fmt: skip
    write_text(folder / "curve.csv", text.getvalue())
    places = [(point.name, point.per_class) for point in points]
    lines = {row: [point.outcome.summaries[row] for point in points] for row in points[0].outcome.summaries}
    for name in ("curve.png", "curve.svg"):
        label_curve(places, lines, folder / name, recipe.title)
