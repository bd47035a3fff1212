"""Plan and run: for each row, seed and fold, make every stage's result once and share it by its key."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from dakit import processes
from dakit.errors import DakitError, did_you_mean
from dakit.interfaces import ImageSet, JobInfo
from dakit.objects import refuse_changed
from dakit.pipeline.earlier import EarlierJobs
from dakit.pipeline.index import write_index
from dakit.pipeline.jobs import Job, JobPlanner, JobResults, sized
from dakit.pipeline.log import Log
from dakit.pipeline.make import job_made_with, make
from dakit.pipeline.observers import Observers, build
from dakit.pipeline.outcome import Outcome, source_only, transferring, write_results
from dakit.pipeline.roles import Roles
from dakit.recipe.plans import Recipe
from dakit.results.record import gathered, mixed
from dakit.results.store import Store, digest
from dakit.statistics.comparison import compare_rows
from dakit.statistics.health import lost_to_source
from dakit.statistics.measures import METRICS
from dakit.statistics.metrics import Round, summarise
from dakit.training.surroundings import undisturbed


@undisturbed()
def run(
    recipe: Recipe,
    *,
    rows: Iterable[str] | None = None,
    out: str | Path | None = None,
    until: str | None = None,
    fold: int | None = None,
    fresh: Iterable[str] = (),
    observers: Iterable[Any] = (),
    store: Path | None = None,
) -> Outcome:
    """Run a recipe and write its table and pictures.

    The table is that of the recipe as it is now. Rows, seeds and folds of earlier runs into the same folder stay in it
    where all that they are made of is still the same; others leave it, and a warning says so.

    Args:
        recipe: from :func:`dakit.load_recipe`.
        rows: which rows of the table; None = the recipe's own choice.
        out: folder of results; None = ``runs/<recipe>`` or ``runs/<recipe>-<profile>``.
        until: stop after this stage.
        fold: only this one.
        fresh: stages whose results are made anew, and with them whatever reads what then is another.
        observers: told of progress, besides those that the recipe names
            (:class:`~dakit.interfaces.Observer`; one that raises is in the warnings).
        store: where the results of stages are, for several runs to share; None = ``store`` in ``out``.

    Raises:
        DakitError: missing data, a fault in a stage, a folder that cannot be written or that another run writes.
    """
    refuse_changed(recipe.registry)
    folder, fresh = Path(out or recipe.folder), set(fresh)
    rows = list(dict.fromkeys(recipe.plan(row).row for row in (recipe.rows if rows is None else rows)))
    given = [(type(observer).__name__, observer) for observer in observers]
    named = [(spec.name, build(spec, folder)) for spec in recipe.observers]
    log = Log()
    audience = Observers([*given, *named, ("log", log)] if processes.first() else [])
    planner = _planner(recipe, store or folder / "store")
    results = planner.results
    jobs = planner.jobs(rows, until, fold)
    stages = {job.stage.name for job in jobs}
    for name in sorted(fresh - stages):
        raise DakitError(f"--fresh {name}: no such stage{did_you_mean(name, stages)}")
    tested = {(job.row, job.seed, job.fold, job.repeat) for job in jobs if job.stage.evaluation}
    planner.roles.measurable(METRICS[recipe.metric], tested)
    _preflight(planner, [job for job in jobs if job.stage.name in fresh or not results.current(job)])
    _agree_on(jobs)
    with results.store.writing():
        if processes.first():
            for job in jobs:
                if job.stage.name in fresh:
                    results.discard(job)
            earlier = EarlierJobs(planner, folder, jobs)
            _announce(planner, folder, jobs, earlier.jobs)
        with audience.of_run(recipe.name, len({job.key for job in jobs})):
            number_made = _make_missing(planner, jobs, audience)
            counts = number_made, len({job.key for job in jobs}) - number_made
            if not processes.first():
                return _outcome(planner, folder, rows, jobs, counts, [])
            current = earlier.current()
            present = {job.row for job in current}.union(rows)
            rows = [row for row in recipe.plans if row in present] if current else rows
            jobs = [*jobs, *current]
            outcome = _outcome(planner, folder, rows, jobs, counts, earlier.warnings())
            outcome = replace(outcome, warnings=(*outcome.warnings, *audience.failures))
            outcome = replace(outcome, warnings=(*outcome.warnings, *_write(planner, outcome, rows, jobs)))
            log.warn_of(outcome.warnings)
            return outcome


def _planner(recipe: Recipe, store: Path, room: int | None = None) -> JobPlanner:
    """The data and the results of one call; every set is opened once."""
    results = JobResults(Store(store, recipe.registry))
    return JobPlanner(recipe, Roles(recipe, results.store.root, room), results)


def _preflight(planner: JobPlanner, jobs: Iterable[Job]) -> None:
    """See :func:`dakit.pipeline.preflight.preflight`; and whether the engine's device is there."""
    from dakit.pipeline.preflight import preflight
    from dakit.training.device import accelerator

    asked = ((job.row, job.stage, stage, sizes) for job, stage, sizes in sized(planner.recipe, jobs))
    preflight(planner.recipe, asked, planner.roles)
    accelerator(planner.recipe.engine)


def _agree_on(jobs: Sequence[Job]) -> None:
    """Refuse to run where another process would do something else."""
    number = float(int(digest([job.key for job in jobs])[:10], 16))
    if processes.mean([number]) != [number]:
        raise DakitError(
            "the processes of this run do not see the same recipe, data and dakit; expected the same command with "
            "the same files, and the same versions, on every machine"
        )


def _announce(planner: JobPlanner, folder: Path, jobs: Sequence[Job], earlier: Sequence[Job]) -> None:
    """Write what is about to be run, and where each result will be; what earlier runs made stays listed."""
    folder.mkdir(parents=True, exist_ok=True)
    results = planner.results
    records = [results.result(job).marker["made_with"] for job in jobs if results.current(job)]
    records += [job_made_with(planner.recipe, job) for job in jobs if not results.current(job)]
    write_index(planner.recipe, folder, planner.roles, results.store, [*jobs, *earlier], records)


def _make_missing(planner: JobPlanner, jobs: Sequence[Job], observers: Observers) -> int:
    """Make what is not there, in order, each result once; what nobody reads any more is let go of.

    Returns:
        How many were made.
    """
    results = planner.results
    total = len({job.key for job in jobs})
    numbers: dict[str, int] = {}
    last_reader = {above.key: n for n, job in enumerate(jobs) for above in job.above}
    count = 0
    for n, job in enumerate(jobs):
        if job.key in numbers:  # shared by rows and folds
            continue
        numbers[job.key] = len(numbers) + 1
        if processes.agree(processes.first() and not results.current(job))[0]:
            make(job, _info(job, numbers[job.key], total), planner.recipe, results, observers)
            count += 1
        results.forget(key for key, last in last_reader.items() if last <= n)
    return count


def _info(job: Job, number: int, total: int) -> JobInfo:
    return JobInfo(job.stage.name, job.stage.spec.name, job.row, job.seed, job.fold, number, total)


def _outcome(
    planner: JobPlanner,
    folder: Path,
    rows: Sequence[str],
    jobs: Sequence[Job],
    counts: tuple[int, int],
    left: Sequence[str],
) -> Outcome:
    """The table of what the jobs made.

    Args:
        planner: of the run.
        folder: of the run.
        rows: of the table.
        jobs: all of which are there.
        counts: how many results were made now, and how many that were asked for were there already.
        left: warnings of rows that left the table.
    """
    recipe, results = planner.recipe, planner.results
    notes: list[str] = []
    warnings = [*recipe.registry.doubts, *planner.roles.warnings, *planner.warnings, *left]
    rounds: dict[str, list[Round]] = {row: [] for row in rows}
    records: dict[str, Mapping[str, Any]] = {}
    for job in jobs:
        result = results.result(job)
        if job.key not in records:
            name = _info(job, 0, 0)
            notes += [f"{name}: {note}" for note in result.marker["notes"]]
            warnings += [f"{name}: {text}" for text in result.marker["warnings"]]
            records[job.key] = result.marker["made_with"]
        if (final := job.stage.evaluation) and job.stage.name == recipe.plan(job.row).stages[-1].name:
            rounds[job.row].append(Round(job.seed, job.fold, result.output(final.evaluation), job.repeat))
    warnings += [f"the results of this table were not all made alike: {text}" for text in mixed(records.values())]
    evaluated = {row: parts for row, parts in rounds.items() if parts}
    metric = METRICS[recipe.metric]
    for base, others in source_only(recipe, evaluated).items():
        warnings += lost_to_source(base, {row: rounds[row] for row in others}, metric)
    return Outcome(
        summaries={row: summarise(parts, metric=metric) for row, parts in evaluated.items()},
        rounds=rounds,
        made=counts[0],
        reused=counts[1],
        folder=folder,
        notes=tuple(notes),
        warnings=tuple(warnings),
        comparisons=compare_rows(evaluated, recipe.baseline, transferring(recipe), metric) if recipe.baseline else {},
        opened=planner.roles.openings(rows),
        needed=len({job.key for job in jobs if job.stage.evaluation}),
        made_with=gathered(records.values()),
        recipe=recipe,
    )


def _write(planner: JobPlanner, outcome: Outcome, rows: Sequence[str], jobs: Sequence[Job]) -> list[str]:
    """Write the index, the table with its pictures, and the page.

    Returns:
        What could not be made of pictures and page; results must not hang on them.
    """
    recipe, results = planner.recipe, planner.results
    records = {job.key: results.result(job).marker["made_with"] for job in jobs}
    write_index(recipe, outcome.folder, planner.roles, results.store, jobs, list(records.values()))
    problems = write_results(recipe, outcome, _pictures(results, jobs)) if outcome.summaries else []
    page = _write_page(planner, outcome.folder, rows)
    return [*problems, page] if page else problems


def _pictures(results: JobResults, jobs: Iterable[Job]) -> Iterator[tuple[str, Path]]:
    """Every picture that a stage kept, and the name under which people find it."""
    for job in jobs:
        result = results.result(job)
        for picture in (Path(name) for name in result.marker["files"] if name.endswith(".png")):
            name = f"{job.stage.name}-{picture.stem}-seed{job.seed}-{job.key[:6]}.png"
            yield name, result.file(str(picture))


def _write_page(planner: JobPlanner, folder: Path, rows: Sequence[str]) -> str | None:
    """Write ``report.html``; whatever goes wrong with it is told, and nothing else is touched."""
    from dakit.report.page import SAMPLES, write_page
    from dakit.report.thumbnails import save_samples
    from dakit.results.runs import open_run

    recipe, roles = planner.recipe, planner.roles
    try:
        samples: dict[str, ImageSet] = {}
        for row in rows:
            for role, data in recipe.plan(row).data.items():
                parts = roles.parts(data, recipe.seeds[0], 0)
                samples.setdefault(role, parts["train"] if "train" in parts else parts["all"])
        save_samples(folder / SAMPLES, samples)
        write_page(open_run(folder), folder / "report.html")
    except Exception as error:  # results must not hang on their page
        return f"report.html was not made: {type(error).__name__}: {error}"
    return None


@undisturbed()
def plan(
    recipe: Recipe,
    *,
    rows: Iterable[str] | None = None,
    out: str | Path | None = None,
    until: str | None = None,
    fold: int | None = None,
) -> list[tuple[Job, str]]:
    """What :func:`run` would do: every distinct job with "cached", "goes on", or why it must run."""
    planner = _planner(recipe, Path(out or recipe.folder) / "store", room=0)
    jobs = planner.jobs([recipe.plan(row).row for row in (recipe.rows if rows is None else rows)], until, fold)
    distinct: dict[str, Job] = {}
    for job in jobs:
        distinct.setdefault(job.key, job)
    return [(job, _state(planner.results, job)) for job in distinct.values()]


def _state(results: JobResults, job: Job) -> str:
    """Whether a job's result is there, and why not."""
    name, key, store = job.stage.name, job.key, results.store
    if results.current(job):
        return "cached"
    if store.has(name, key):
        unsettled = [name for name, above in job.stage.inputs.items() if results.unsettled(job, above.producer)]
        if unsettled:
            return f"cached, if {' and '.join(unsettled)} come out as before"
        return "will run: what it was made from is another now"
    if (store.part(name, key) / "checkpoint.safetensors").is_file():
        return "goes on from its checkpoint"
    changes = store.nearest(name, job.made_of)
    return f"will run: {'; '.join(changes)}" if changes else "will run: never made before"
