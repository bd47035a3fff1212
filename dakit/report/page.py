"""The page of a run: everything that its folder holds, in one file that needs nothing else."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dakit.files import write_text
from dakit.report import figures
from dakit.report.thumbnails import Pictures, load_strips
from dakit.report.values import chance, metric_of, points_of, value_of
from dakit.results.runs import RecordedJob, Run
from dakit.statistics.measures import MACRO_ACCURACY, Metric

SAMPLES = "samples.npz"
"""Images of each domain, which a run keeps in its folder for its page."""


MATRIX = 60
"""With more classes than these the page holds no confusion matrices."""


class Image(NamedTuple):
    """One picture with what stands beneath it."""

    uri: str
    text: str = ""
    mark: str = ""  # "good", "bad" or nothing


class Line(NamedTuple):
    """A row of pictures; ``role`` gives it a domain's colour."""

    title: str
    images: Sequence[Image]
    role: str = ""


class _Places:
    """Where in a run the pictures of a page come from: the method's first round before all others."""

    def __init__(self, run: Run) -> None:
        self.run = run
        first = {row: run.rounds_of(row)[0] for row in [run.method, *run.rows] if run.rounds_of(row)}
        self.jobs = [job for row, at in first.items() for job in run.jobs_of(row, *at).values()]
        self.distinct = distinct(self.jobs)

    def having(self, name: str) -> Iterator[tuple[RecordedJob, Path]]:
        """The results that hold a file, each once."""
        for job in self.distinct:
            if (job.folder / name).is_file():
                yield job, job.folder / name

    def first(self, name: str) -> tuple[RecordedJob, Path] | None:
        """The first of them."""
        return next(self.having(name), None)


def distinct(jobs: Sequence[RecordedJob]) -> list[RecordedJob]:
    """The first of the finished jobs that share a result."""
    by_folder: dict[Path, RecordedJob] = {}
    for job in jobs:
        if job.done:
            by_folder.setdefault(job.folder, job)
    return list(by_folder.values())


def write_page(run: Run, path: Path) -> None:
    """Write a run's page; what the run lacks is left out.

    Args:
        run: finished or not, see :func:`~dakit.results.runs.open_run`.
        path: of the HTML file.
    """
    places = _Places(run)
    results = run.results
    rows = None if results is None else results["rows"]
    html = render(
        "run.html",
        title=(results or {}).get("title") or run.about["recipe"].get("title") or run.about["recipe"]["recipe"],
        run=run,
        about=run.about,
        command=command(run),
        method=run.method,
        headline=headline(rows, run.method, metric_of(results or {})) if rows else [],
        data=_data(run),
        ladder=_ladder(results or {}, run.method) if rows else None,
        classes=_classes(results or {}, run.method) if rows else None,
        losses=_losses(places),
        samples=_samples(places),
        agreement=_agreement(places),
        selection=_selection(places),
        domains=_domains(places),
        attention=_attention(places),
        mistakes=_mistakes(places),
        cost=cost(run),
        warnings=list(dict.fromkeys([*(results or {}).get("warnings", ()), *_remarks(run, "warnings")])),
        notes=_remarks(run, "notes"),
    )
    write_text(path, html)


def render(template: str, **given: Any) -> str:
    """Fill in a template of this package; every text is escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    house = Environment(
        loader=PackageLoader("dakit.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return house.get_template(template).render(**given)


def command(run: Run) -> str:
    """The command that made a run, for a shell."""
    program, *arguments = run.about["command"]
    return shlex.join([Path(program).name, *arguments])


def headline(rows: Mapping[str, Any], method: str, metric: Metric = MACRO_ACCURACY) -> list[str]:
    """What came out, in words."""
    ran = {row: value for row, about in rows.items() if (value := value_of(about)) is not None}
    if not ran:
        return []
    best = max(ran, key=lambda row: metric.sign * ran[row])
    shown = method if method in ran else best
    about = rows[shown]
    count = len(about["classes"])
    guess = f"; guessing gives {100 * metric.guess(count):.1f} %" if metric.guess else ""
    sentences = [
        f"{shown} reads {_number(about)} of {about['images']:,} test images right, as the mean over "
        f"{count} classes{guess}."
        if metric is MACRO_ACCURACY
        else f"{shown}: {metric.title} {_number(about)} on {about['images']:,} test images ({metric.about}){guess}."
    ]
    if best != shown:
        sentences.append(f"The best of {len(ran)} rows is {best}, with {_number(rows[best])}.")
    elif len(ran) > 1:
        sentences.append(f"It is the best of {len(ran)} rows.")
    compared = about.get("comparison") or {}
    if "verdict" in compared:
        low, high = compared["interval"]
        sentences.append(
            f"Against {compared['baseline']}: {compared['verdict']} "
            f"({compared['difference']:+.2f} points, 95 % {low:+.2f} to {high:+.2f})."
        )
    return sentences


def _number(about: Mapping[str, Any]) -> str:
    low, high = about["interval"]
    return f"{value_of(about):.1f} % (95 %: {low:.1f} to {high:.1f})"


def _remarks(run: Run, kind: str) -> list[str]:
    """What the stages noted, each result once."""
    # dakit 0.1.0 kept no warnings
    return [f"{job}: {text}" for job in distinct(run.jobs) for text in run.result(job).marker.get(kind, ())]


def _data(run: Run) -> list[dict[str, Any]]:
    """The data card, a domain each."""
    strips: dict[str, tuple[Line, dict[str, int]]] = {}
    if (path := run.folder / SAMPLES).is_file():
        with np.load(path, allow_pickle=False) as file:
            counts, classes = file["counts"], file["classes"].tolist()
        for (title, pictures), of in zip(load_strips(path), counts.tolist(), strict=True):
            name, *labels = title.split("\n")
            strips[name] = (Line(name, _images(pictures, labels), name), dict(zip(classes, of, strict=True)))
    first = {role: data for row in [run.method, *run.rows] for role, data in run.row(row).data.items()}
    cards = []
    for role, data in first.items():
        sizes = {
            reference.partition(".")[2]: job.images[name]
            for job in run.jobs
            for name, reference in job.inputs.items()
            if reference.partition(".")[0] == role
        }
        line, class_counts = strips.get(role, (None, {}))
        per_class = {name: count for name, count in class_counts.items() if count}
        split = {
            key: value
            for key, value in (data.split or {}).items()
            if value not in (None, False) and (key, value) != ("repeats", 1)
        }
        cards.append({"role": role, "data": data, "sizes": sizes, "split": split, "line": line, "per_class": per_class})
    return cards


def _ladder(results: Mapping[str, Any], method: str) -> dict[str, Any]:
    """The table, its drawing, and what must be read with it."""
    rows, metric = results["rows"], metric_of(results)
    classes = list(dict.fromkeys(name for about in rows.values() for name in about["classes"]))
    values = {row: value_of(about) for row, about in rows.items()}
    there = [value for value in values.values() if value is not None]
    best = max(there, key=lambda value: metric.sign * value, default=None)
    head = metric.heading
    published = {row: about["published"][head] for row, about in rows.items() if head in (about["published"] or {})}
    points = points_of(rows)
    chart = figures.forest(points, chance(metric, len(classes)), method, published, metric.title) if points else None
    compared = [about["comparison"] for about in rows.values() if about.get("comparison")]
    remarks = list(
        dict.fromkeys(
            f"Verdicts are against {comparison['baseline']}: {comparison['method']}."
            for comparison in compared
            if "method" in comparison
        )
    )
    if opened := results.get("test_labels"):
        often = "; the more often, the less unseen they are" if opened["opened"] > opened["needed"] else ""
        remarks.append(
            f"Test labels were opened {opened['opened']} times in this folder, all runs together; "
            f"this table needs {opened['needed']}{often}."
        )
    return {
        "metric": metric,
        "measured": values,
        "classes": classes,
        "rows": rows,
        "intervals": list(dict.fromkeys(about["resampled"] for about in rows.values() if "resampled" in about)),
        "best": best,
        "chart": chart,
        "compared": compared,
        "published": published,
        "baseline": results.get("baseline"),
        "weights": any(about.get("weights") for about in rows.values()),
        "told": remarks,
    }


def _classes(results: Mapping[str, Any], method: str) -> dict[str, Any]:
    """The metric by class, and what is taken for what."""
    rows = results["rows"]
    classes = list(dict.fromkeys(name for about in rows.values() for name in about["classes"]))
    recalls = {name: {row: about["per_class"].get(name) for row, about in rows.items()} for name in classes}
    order = sorted(rows, key=lambda row: row != method)
    matrices = {row: rows[row] for row in order} if len(classes) <= MATRIX else {}  # a cell takes 100 bytes
    columns = metric_of(results).columns
    return {"recalls": recalls if columns else {}, "columns": columns, "matrices": matrices, "count": len(classes)}


def _losses(places: _Places) -> list[dict[str, Any]]:
    """Every stage that was trained, a drawing for each value: the method's in colour, other rows' behind it."""
    stages: dict[str, list[tuple[RecordedJob, dict[str, list[float]]]]] = {}
    for job, path in places.having("history.json"):
        history = json.loads(path.read_text(encoding="utf-8"))
        if history:
            stages.setdefault(job.stage, []).append((job, history))
    charts = []
    for trained in stages.values():
        names = dict.fromkeys(name for _, history in trained for name in history if name != "step")
        curves = [figures.curve([(h["step"], h[name]) for _, h in trained if name in h], name) for name in names]
        charts.append({"job": trained[0][0], "count": len(trained), "curves": curves})
    return charts


def _samples(places: _Places) -> list[dict[str, Any]]:
    """What translators make of the same images, over the training."""
    strips = []
    for job, path in places.having("samples.npz"):
        lines = [Line(title, _images(pictures)) for title, pictures in load_strips(path)]
        if len(lines) > 1:
            strips.append(
                {"job": job, "lines": lines, "pairs": list(zip(lines[0].images, lines[-1].images, strict=True))}
            )
    return strips


def _agreement(places: _Places) -> list[dict[str, Any]]:
    """How many translated images are still read as their label."""
    agreements = []
    for job in places.distinct:
        facts = places.run.result(job).marker["facts"].get("label_agreement")
        if facts:
            shares = {name: 100 * share for name, share in facts["by_class"].items()}
            agreements.append({"job": job, "mean": 100 * facts["mean"], "shares": shares})
    return agreements


def _selection(places: _Places) -> dict[str, Any] | None:
    """Target images, and what was chosen for each."""
    entry = places.first("selection.npz")
    if entry is None:
        return None
    job, path = entry
    strips = load_strips(path)
    if not strips:
        return None
    with np.load(path, allow_pickle=False) as file:
        shown, distances = file["shown"], file["distances"]
        indices = file["indices"]
    (labels, faces), *chosen = strips
    anchors = _images(faces, labels.split("\n"))
    lines = []
    for anchor, place, (names, pictures) in zip(anchors, shown, chosen, strict=True):
        far = distances[place][indices[place] >= 0]
        texts = [
            f"{name} {distance:.3g}".strip() if np.isfinite(distance) else name
            for name, distance in zip(names.split("\n"), far[: len(pictures)], strict=True)
        ]
        marks = ["good" if name == anchor.text else "bad" for name in names.split("\n")] if anchor.text else []
        lines.append({"anchor": anchor, "images": _images(pictures, texts, marks)})
    facts = places.run.result(job).marker["facts"].get("selection", {})
    return {"job": job, "lines": lines, "facts": facts}


def _domains(places: _Places) -> dict[str, Any] | None:
    """The first-layer map, by domain and by class, as the run has it."""
    maps = list(places.having("domains.npz"))
    charts, drawn = [], set()
    for _, path in maps:
        with np.load(path, allow_pickle=False) as file:
            for points in (file[name] for name in ("points", "points_3d") if name in file):
                for kind in ("domains", "classes"):  # of two maps in as many dimensions the first
                    title = f"{points.shape[1]}-D, by {'domain' if kind == 'domains' else 'class'}"
                    if title not in drawn and kind in file and any(names := file[kind].tolist()):
                        drawn.add(title)
                        charts.append(figures.scatter(points, names, title))
    return {"job": maps[0][0], "charts": charts} if charts else None


def _attention(places: _Places) -> dict[str, Any] | None:
    """Where the networks look, on the same images: teachers first, then their students."""
    faces: Pictures | None = None
    labels: list[str] = []
    teachers: dict[str, Line] = {}
    students: dict[str, Line] = {}
    first = None
    for job, path in places.having("attention.npz"):
        ((title, pictures),) = load_strips(path)
        if faces is None:
            faces, labels, first = pictures, title.split("\n"), job
        elif pictures.shape != faces.shape or (pictures != faces).any():
            continue  # another round's
        with np.load(path, allow_pickle=False) as file:
            looks = {name: list(map(figures.looked_at, pictures, file[name])) for name in ("teacher", "student")}
        teacher = job.inputs["teacher"]
        teachers.setdefault(teacher, Line(teacher, _images(looks["teacher"])))
        students[f"{job.stage}.model ({job.row})"] = Line(f"{job.stage}.model, {job.row}", _images(looks["student"]))
    if faces is None:
        return None
    order = list(places.run.about["recipe"]["stages"])  # the first network to be trained is the first to be shown
    of_teachers = sorted(teachers, key=lambda reference: order.index(reference.partition(".")[0]))
    lines = [Line("image", _images(faces, labels)), *map(teachers.__getitem__, of_teachers), *students.values()]
    return {"job": first, "lines": lines}


def _mistakes(places: _Places) -> dict[str, Any] | None:
    """The wrong answers that the method is surest of."""
    entry = places.first("mistakes.npz")
    if entry is None or entry[0].evaluates is None:
        return None
    job, path = entry
    evaluation = places.run.result(job).output(entry[0].evaluates.evaluation)
    with np.load(path, allow_pickle=False) as file:
        chosen, pictures = file["places"], file["pictures"]
    texts = [
        f"{evaluation.classes[evaluation.predictions[i]]} {100 * evaluation.probabilities[i].max():.0f} %, "
        f"is {evaluation.classes[evaluation.labels[i]]}"
        for i in chosen
    ]
    wrong = int((evaluation.predictions != evaluation.labels).sum())
    return {"job": job, "images": _images(pictures, texts), "wrong": wrong, "tested": len(evaluation.labels)}


def cost(run: Run) -> list[dict[str, Any]]:
    """Time and peak memory of each stage, over all its distinct results."""
    stages: dict[str, dict[str, Any]] = {}
    for job in distinct(run.jobs):
        marker = run.result(job).marker
        of = stages.setdefault(job.stage, {"stage": job.stage, "count": 0, "seconds": 0.0, "peak": 0, "device": 0})
        of["count"] += 1
        of["seconds"] += marker["seconds"]
        of["peak"] = max(of["peak"], marker.get("peak_bytes", 0))
        of["device"] = max(of["device"], marker.get("device_peak_bytes", 0))
    return list(stages.values())


def _images(pictures: Sequence[Any] | Pictures, texts: Sequence[str] = (), marks: Sequence[str] = ()) -> list[Image]:
    texts, marks = texts or [""] * len(pictures), marks or [""] * len(pictures)
    return [Image(figures.picture(p), t, m) for p, t, m in zip(pictures, texts, marks, strict=True)]
