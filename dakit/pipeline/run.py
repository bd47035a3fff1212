"""Plan and run: for each row, seed and fold, make every stage's result once and share it by its key."""

from __future__ import annotations

import os
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

from dakit import processes
from dakit.data.files import told_of
from dakit.data.sets import unlabelled_among
from dakit.errors import DakitError, did_you_mean
from dakit.files import write_json
from dakit.interfaces import Context, ImageSet, JobInfo, Observer, Spec
from dakit.pipeline.observers import Observers, build
from dakit.pipeline.outcome import Outcome, source_only, transferring, write_results
from dakit.pipeline.roles import Roles, content_key, data_paths
from dakit.recipe.plans import Plan, Recipe, RunReference, StagePlan
from dakit.recipe.sealing import evaluation_problem
from dakit.results.record import gathered, made_with, mixed, record
from dakit.results.runs import INDEX, earlier_jobs, open_run
from dakit.results.store import Result, Store, digest
from dakit.signatures import stage_outputs
from dakit.statistics.comparison import compare_rows
from dakit.statistics.health import lost_to_source
from dakit.statistics.measures import METRICS
from dakit.statistics.metrics import Round, summarise
from dakit.training.surroundings import undisturbed


@dataclass(frozen=True)
class Job:
    """One stage of one row, seed and fold, with the key of its result.

    Attributes:
        key: a digest of ``made_of``.
        made_of: the stage, its parameters and seed, the data, and the keys of the results that it reads.
        inputs: what it reads, when asked for,
        contents: and the digest of what that holds; of a stage's output known only when that is made.
        above: the jobs whose outputs it reads.
        repeat: of the split.
    """

    row: str
    seed: int
    fold: int
    stage: StagePlan
    key: str
    made_of: Mapping[str, Any]
    inputs: Mapping[str, Callable[[], Any]]
    contents: Mapping[str, Callable[[], str]] = field(default_factory=dict)
    above: tuple[Job, ...] = ()
    repeat: int = 0


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
    folder, fresh = output_folder(recipe, out), set(fresh)
    chosen = list(dict.fromkeys(recipe.plan(row).row for row in (recipe.rows if rows is None else rows)))
    given = [(type(observer).__name__, observer) for observer in observers]
    named = [(spec.name, build(spec, folder)) for spec in recipe.observers]
    told = Observers([*given, *named] if processes.first() else [])
    session = _Session(recipe, folder, told, store)
    jobs = session.jobs(chosen, until, fold)
    for name in fresh:
        if name not in {job.stage.name for job in jobs}:
            raise DakitError(f"--fresh {name}: no such stage{did_you_mean(name, {s.stage.name for s in jobs})}")
    tested = {(job.row, job.seed, job.fold, job.repeat) for job in jobs if job.stage.evaluation}
    session.roles.measurable(METRICS[recipe.metric], tested)
    session.preflight([job for job in jobs if job.stage.name in fresh or not session.current(job)])
    _agree_on(jobs)
    with session.store.writing():
        if processes.first():
            for job in jobs:
                if job.stage.name in fresh:
                    session.discard(job)
            session.prepare(jobs)
        with told.of_run(recipe.name, len({job.key for job in jobs})):
            return _carry_out(session, chosen, jobs)


def _agree_on(jobs: Sequence[Job]) -> None:
    """Refuse to run where another process would do something else."""
    number = float(int(digest([job.key for job in jobs])[:10], 16))
    if processes.mean([number]) != [number]:
        raise DakitError(
            "the processes of this run do not see the same recipe, data and dakit; expected the same command with "
            "the same files, and the same versions, on every machine"
        )


def _carry_out(session: _Session, chosen: Sequence[str], jobs: Sequence[Job]) -> Outcome:
    """Make what is not there, in order, then the table of that and of what earlier runs left."""
    recipe = session.recipe
    total = len({job.key for job in jobs})
    numbers: dict[str, int] = {}
    read_last = {above.key: n for n, job in enumerate(jobs) for above in job.above}
    made = 0
    for n, job in enumerate(jobs):
        if job.key in numbers:  # shared by rows and folds
            continue
        numbers[job.key] = len(numbers) + 1
        if processes.agree(processes.first() and not session.current(job))[0]:
            session.make(job, _told(job, numbers[job.key], total))
            made += 1
        session.forget(key for key, last in read_last.items() if last <= n)
    kept = session.still_current()
    rows = [row for row in recipe.plans if row in {job.row for job in kept}.union(chosen)] if kept else list(chosen)
    notes: list[str] = []
    warnings = session.warnings()
    rounds: dict[str, list[Round]] = {row: [] for row in rows}
    records: dict[str, Mapping[str, Any]] = {}
    for job in (*jobs, *kept):
        result = session.result(job)
        if job.key not in records:
            name = _told(job, 0, 0)
            notes += [f"{name}: {note}" for note in result.marker["notes"]]
            warnings += [f"{name}: {text}" for text in result.marker["warnings"]]
            records[job.key] = result.marker["made_with"]
        if (final := job.stage.evaluation) and job.stage.name == recipe.plan(job.row).stages[-1].name:
            rounds[job.row].append(Round(job.seed, job.fold, result.output(final.evaluation), job.repeat))
    warnings += [f"the results of this table were not all made alike: {text}" for text in mixed(records.values())]
    evaluated = {row: parts for row, parts in rounds.items() if parts}
    metric = METRICS[recipe.metric]
    summaries = {row: summarise(parts, metric=metric) for row, parts in evaluated.items()}
    compared = compare_rows(evaluated, recipe.baseline, transferring(recipe), metric) if recipe.baseline else {}
    for base, others in source_only(recipe, evaluated).items():
        warnings += lost_to_source(base, {row: rounds[row] for row in others}, metric)
    outcome = Outcome(
        summaries=summaries,
        rounds=rounds,
        made=made,
        reused=total - made,
        folder=session.folder,
        notes=tuple(notes),
        warnings=(*warnings, *session.told.failures),
        comparisons=compared,
        opened=session.roles.openings(rows),
        needed=len({job.key for job in (*jobs, *kept) if job.stage.evaluation}),
        made_with=gathered(records.values()),
    )
    if not processes.first():
        return outcome
    session.write_index([*jobs, *kept], list(records.values()))
    problems = write_results(recipe, outcome, session.pictures([*jobs, *kept])) if summaries else []
    if problem := session.write_page(rows):
        problems.append(problem)
    return replace(outcome, warnings=(*outcome.warnings, *problems))


def _told(job: Job, number: int, total: int) -> JobInfo:
    return JobInfo(job.stage.name, job.stage.spec.name, job.row, job.seed, job.fold, number, total)


@undisturbed()
def plan(
    recipe: Recipe,
    *,
    rows: Iterable[str] | None = None,
    out: str | Path | None = None,
    until: str | None = None,
    fold: int | None = None,
) -> list[tuple[Job, str]]:
    """What :func:`run` would do: every distinct stage run with "cached", "goes on", or why it must run."""
    session = _Session(recipe, output_folder(recipe, out), room=0)
    seen: dict[str, tuple[Job, str]] = {}
    for job in session.jobs([recipe.plan(r).row for r in (recipe.rows if rows is None else rows)], until, fold):
        if job.key in seen:
            continue
        name, key = job.stage.name, job.key
        if session.current(job):
            state = "cached"
        elif session.store.has(name, key):
            remade = [name for name, above in job.stage.inputs.items() if session.unsettled(job, above.producer)]
            state = (
                f"cached, if {' and '.join(remade)} come out as before" if remade
                else "will run: what it was made from is another now"
            )  # fmt: skip
        elif (session.store.part(name, key) / "checkpoint.safetensors").is_file():
            state = "goes on from its checkpoint"
        else:
            changes = session.store.nearest(name, job.made_of)
            state = f"will run: {'; '.join(changes)}" if changes else "will run: never made before"
        seen[key] = (job, state)
    return list(seen.values())


def sized(recipe: Recipe, jobs: Iterable[Job]) -> Iterator[tuple[Job, Any, dict[str, int | None]]]:
    """Each job with its stage and how many images each input has; None where that is not known before a run."""
    made: dict[str, int | None] = {}
    for job in jobs:
        data = recipe.plan(job.row).data
        sizes = {
            name: len(job.inputs[name]()) if reference.producer in data else made.get(job.made_of["inputs"][name])
            for name, reference in job.stage.inputs.items()
        }
        stage = job.stage.spec.build()
        if hasattr(stage, "makes"):
            made |= {f"{job.key}.{output}": count for output, count in stage.makes(sizes).items()}
        yield job, stage, sizes


def check_data(recipe: Recipe) -> str:
    """Open the data where its folders are there, check the class lists, and show every network one image.

    Returns:
        What was done.

    Raises:
        DakitError: the data is there and wrong, or a network of a row does not take its images.
    """
    missing = {
        str(path)
        for plan in recipe.plans.values()
        for data in plan.data.values()
        for path in data_paths(data)
        if not path.exists()
    }
    if missing:
        return f"data: not checked, as it is not here ({', '.join(sorted(missing))})"
    from_disk = any(data_paths(data) for plan in recipe.plans.values() for data in plan.data.values())
    if not from_disk:
        return "data: none is needed from disk"
    roles = Roles(recipe, output_folder(recipe, None) / "store", room=0)
    roles.open(list(recipe.plans))
    told = ["data: found, and the class lists agree; every network takes an image"]
    for data in {data.role: data for plan in recipe.plans.values() for data in plan.data.values()}.values():
        parts = roles.parts(data, recipe.seeds[0], 0)
        images = parts["train"] if "train" in parts else parts["all"]
        blank = unlabelled_among(images) if images.classes else ""
        others = told_of(getattr(roles.plain(data), "passed_over", {}))
        told += [f"warning: {data.role}: {blank}"] * bool(blank)
        told += [f"warning: {data.role}: passed over, no images by their suffix or place: {others}"] * bool(others)
    roles.measurable(METRICS[recipe.metric], roles.tests())
    from dakit.pipeline.preflight import preflight

    stages = [(plan.row, stage) for plan in recipe.plans.values() if plan.data for stage in plan.stages]
    preflight(recipe, ((row, stage, stage.spec.build(), None) for row, stage in stages), roles)
    return "\n".join(told)


def output_folder(recipe: Recipe, out: str | Path | None) -> Path:
    """Where results go."""
    if out is not None:
        return Path(out)
    return Path("runs") / (f"{recipe.name}-{recipe.profile}" if recipe.profile else recipe.name)


class _Session:
    """The data and the store of one call; every set is opened once."""

    def __init__(
        self,
        recipe: Recipe,
        folder: Path,
        told: Observers | None = None,
        store: Path | None = None,
        room: int | None = None,
    ) -> None:
        self.recipe = recipe
        self.folder = folder
        self.told = told or Observers([])
        self.store = Store(store or folder / "store", recipe.registry)
        self.roles = Roles(recipe, self.store.root, room)
        self._results: dict[str, Result] = {}
        self._current: dict[str, bool] = {}
        self._left_out: dict[str, str] = {}
        self._foreign: list[str] = []
        self.earlier: list[Job] = []
        self._runs: dict[str, tuple[Result, str]] = {}

    def jobs(self, rows: Sequence[str], until: str | None, fold: int | None) -> list[Job]:
        """Every stage of every row, seed and fold in the order of running, with keys."""
        self.roles.open(rows)
        jobs = []
        for row in rows:
            wanted = self.recipe.plan(row)
            if until is not None:
                names = [stage.name for stage in wanted.stages]
                if until not in names:
                    raise DakitError(f"--until {until}: {row} has no such stage{did_you_mean(until, names)}")
                wanted = replace(wanted, stages=wanted.stages[: names.index(until) + 1])
            folds = max((p.split.rounds(self.roles.set(p)) for p in wanted.data.values() if p.split), default=1)
            if fold is not None and not 0 <= fold < folds:
                raise DakitError(f"--fold {fold}: {row} has the folds 0 to {folds - 1}")
            tested = self.recipe.plan(row).tested
            of_repeat = tested.split.folds_of(self.roles.set(tested)) if tested and tested.split else folds
            for seed in self.recipe.seeds:
                for number in range(folds) if fold is None else [fold]:
                    jobs += self._round(wanted, seed, number, number // of_repeat)
        return jobs

    def _round(self, plan: Plan, seed: int, fold: int, repeat: int) -> list[Job]:
        keys: dict[str, str] = {}
        getters: dict[str, Callable[[], Any]] = {}
        contents: dict[str, Callable[[], str]] = {}
        makers: dict[str, Job] = {}
        for data in plan.data.values():
            for part, images in self.roles.parts(data, seed, fold).items():
                name = f"{data.role}.{part}"
                keys[name] = content_key(data, images)
                getters[name], contents[name] = partial(_same, images), partial(_same, keys[name])
        for reference in (reference for stage in plan.stages for reference in stage.inputs.values()):
            if isinstance(reference, RunReference):
                result, output = self._elsewhere(reference)
                keys[str(reference)] = result.content(output)
                getters[str(reference)] = partial(result.output, output)
                contents[str(reference)] = partial(result.content, output)
        engine = self.recipe.engine
        jobs = []
        for stage in plan.stages:
            names = {name: str(reference) for name, reference in stage.inputs.items()}
            made_of = {
                "stage": stage.name,
                "do": stage.spec.name,
                "version": stage.spec.version,
                "params": stage.spec.identity()["params"],
                **({"code": stage.spec.code} if stage.spec.code else {}),
                "seed": seed,
                "engine": {"precision": engine.precision, "accumulate": engine.accumulate},
                "inputs": {name: keys[reference] for name, reference in names.items()},
            }
            producers = dict.fromkeys(reference.producer for reference in stage.inputs.values())
            job = Job(
                row=plan.row,
                seed=seed,
                fold=fold,
                stage=stage,
                key=digest(made_of),
                made_of=made_of,
                inputs={name: getters[reference] for name, reference in names.items()},
                contents={name: contents[reference] for name, reference in names.items()},
                above=tuple(makers[producer] for producer in producers if producer in makers),
                repeat=repeat,
            )
            jobs.append(job)
            makers[stage.name] = job
            for output in ("", *stage_outputs(stage.spec.factory)):
                name = f"{stage.name}.{output}" if output else stage.name
                keys[name] = f"{job.key}.{output}" if output else job.key
                getters[name] = partial(self.output, job, output) if output else partial(self._whole, job)
                contents[name] = partial(self._content, job, output)
        return jobs

    def _elsewhere(self, reference: RunReference) -> tuple[Result, str]:
        """The result of another run that holds a network, and which output.

        Raises:
            DakitError: there is none.
        """
        if str(reference) not in self._runs:
            run = open_run(reference.run.path, registry=self.recipe.registry)
            found = run.trained(reference.row, reference.seed, reference.fold, translator=reference.translator)
            self._runs[str(reference)] = found
            self._foreign.append(
                f"a network comes from {reference}: whether it learned from this recipe's test images is not known here"
            )
        return self._runs[str(reference)]

    def current(self, job: Job) -> bool:
        """Whether a job's result is there, and made from what its inputs hold now."""
        if job.key not in self._current:
            self._current[job.key] = (
                self.store.has(job.stage.name, job.key)
                and all(self.current(above) for above in job.above)
                and self.result(job).marker.get("inputs") == self.contents(job)
            )
        return self._current[job.key]

    def unsettled(self, job: Job, producer: str) -> bool:
        """Whether a job reads the output of a stage that must be made first."""
        return any(above.stage.name == producer and not self.current(above) for above in job.above)

    def contents(self, job: Job) -> dict[str, str]:
        """The content digests of a job's inputs, all of which are there."""
        return {name: get() for name, get in job.contents.items()}

    def _content(self, job: Job, output: str) -> str:
        return self.result(job).content(output)

    def discard(self, job: Job) -> None:
        """Forget a job's result, to make it anew."""
        self.store.discard(job.stage.name, job.key)
        self._changed(job)

    def _changed(self, job: Job) -> None:
        self._results.pop(job.key, None)
        self._current.clear()

    def forget(self, keys: Iterable[str]) -> None:
        """Let go of what was read of these results: nothing that is still to be made reads them."""
        for key in keys:
            if key in self._results:
                self._results[key].forget()

    def _earlier(self, jobs: Sequence[Job]) -> list[Job]:
        """The jobs of earlier runs in this folder that are not among ``jobs``, as the recipe has them now."""
        found: list[Job] = []
        before = earlier_jobs(self.folder)
        asked = {(job.row, job.seed, job.fold, job.stage.name) for job in jobs}
        for row, wanted in before.items():
            if row not in self.recipe.plans:
                self._left_out[row] = "this recipe has no such row"
                continue
            if all((row, *one) in asked for one in wanted):
                continue
            try:
                every = self.jobs([row], None, None)
            except DakitError as error:
                self._left_out[row] = str(error)
                continue
            now = [job for job in every if (job.seed, job.fold, job.stage.name) in wanted]
            found += [job for job in now if (row, job.seed, job.fold, job.stage.name) not in asked]
        return found

    def still_current(self) -> list[Job]:
        """The jobs of earlier runs that belong to the same table: whole rounds, of which everything is current."""
        rounds: dict[tuple[str, int, int], list[Job]] = {}
        for job in self.earlier:
            rounds.setdefault((job.row, job.seed, job.fold), []).append(job)
        kept: list[Job] = []
        for (row, _, _), parts in rounds.items():
            if all(self.current(job) for job in parts):
                kept += parts
            else:
                self._left_out[row] = "its recipe, data or code is another now, or a result of it was made anew"
        return kept

    def warnings(self) -> list[str]:
        """What the user must know of the data, and of rows that left the table."""
        left = [
            f"{row}: what an earlier run made of it is not in this table any more: {why}"
            for row, why in self._left_out.items()
        ]
        return [*self.roles.warnings, *self._foreign, *left]

    def preflight(self, jobs: Iterable[Job]) -> None:
        """See :func:`dakit.pipeline.preflight.preflight`; and whether the engine's device is there."""
        from dakit.pipeline.preflight import preflight
        from dakit.training.trainer import accelerator

        planned = ((job.row, job.stage, stage, sizes) for job, stage, sizes in sized(self.recipe, jobs))
        preflight(self.recipe, planned, self.roles)
        accelerator(self.recipe.engine)

    def prepare(self, jobs: Sequence[Job]) -> None:
        """Say what is about to be run, and where each result will be; what earlier runs made stays listed."""
        self.earlier = self._earlier(jobs)
        self.folder.mkdir(parents=True, exist_ok=True)
        records = [self.result(job).marker["made_with"] for job in jobs if self.current(job)]
        records += [self.made_with(job) for job in jobs if not self.current(job)]
        self.write_index([*jobs, *self.earlier], records)

    def write_index(self, jobs: Sequence[Job], records: Sequence[Mapping[str, Any]]) -> None:
        """Write ``run.json`` and ``index.json``: which result belongs where, and what they were made with."""
        rows = [row for row in self.recipe.plans if row in {job.row for job in jobs}]
        write_json(self.folder / "run.json", record(self.recipe, rows, records))
        index = {"rows": {row: self._row(row) for row in rows}, "jobs": [self._entry(job) for job in jobs]}
        write_json(self.folder / INDEX, index)

    def made_with(self, job: Job) -> dict[str, Any]:
        """What a job's result is made with when it is made now."""
        registry, data = self.recipe.registry, self.recipe.plan(job.row).data
        roles = {reference.producer for reference in job.stage.inputs.values()} & data.keys()
        specs = [job.stage.spec, *(data[role].spec for role in roles)]
        for spec in specs:
            specs += [value for value in spec.params.values() if isinstance(value, Spec)]
        used = {registry.find(spec.kind, spec.name).distribution for spec in specs} - {"dakit"}
        return made_with(
            self.recipe.engine, [p for p in registry.plugins.found if p.distribution in used and p.state == "active"]
        )

    def _row(self, row: str) -> dict[str, Any]:
        """What :class:`~dakit.results.runs.RunRow` tells of a row."""
        plan = self.recipe.plan(row)
        first = next(iter(plan.data.values()))
        data = {}
        for role, of in plan.data.items():
            images, plain = self.roles.set(of), self.roles.plain(of)
            data[role] = {
                "use": of.spec.name,
                "params": of.spec.plain_params(),
                "split": of.split and asdict(of.split),
                "images": len(images),
                "labelled": sum(label >= 0 for label in images.labels),
                "fit": getattr(plain, "fit", None),
                "range": getattr(plain, "range", None),
            }
        return {"final": plan.stages[-1].name, "size": first.size, "classes": first.classes, "data": data}

    def _entry(self, job: Job) -> dict[str, Any]:
        """What :class:`~dakit.results.runs.RecordedJob` tells of a job."""
        references = job.stage.inputs
        roles = self.recipe.plan(job.row).data
        return {
            "row": job.row,
            "seed": job.seed,
            "fold": job.fold,
            "stage": job.stage.name,
            "do": job.stage.spec.name,
            "folder": os.path.relpath(self.store.folder(job.stage.name, job.key), self.folder.resolve()),
            "inputs": {name: str(reference) for name, reference in references.items()},
            "images": {n: len(job.inputs[n]()) for n, reference in references.items() if reference.producer in roles},
            "outputs": list(stage_outputs(job.stage.spec.factory)),
            "repeat": job.repeat,
            "evaluates": job.stage.evaluation and job.stage.evaluation._asdict(),
        }

    def make(self, job: Job, run: JobInfo) -> None:
        """Run one stage; ``run`` is what observers are told of it."""
        from dakit.training.trainer import derive_seed, seed_everything

        place_of = (job.stage.name, job.key)
        seed = derive_seed(job.seed, job.stage.name)

        def work(folder: Path) -> tuple[Any, dict[str, Any]]:
            processes.wait()  # until the first has the shared folder ready
            told = (cast(Observer, self.told),)
            ctx = Context(
                folder, seed, self.recipe.engine, told,
                common_folder=self.store.part(*place_of), identity=digest([job.key, contents]),
            )  # fmt: skip
            seed_everything(seed)
            given = {name: get() for name, get in job.inputs.items()}
            outputs = job.stage.spec.build().run(ctx, **given)
            if final := job.stage.evaluation:
                if problem := evaluation_problem(getattr(outputs, final.evaluation, None), given[final.test]):
                    raise DakitError(problem)
            about = {"notes": ctx.notes, "warnings": ctx.warnings, "facts": ctx.facts}
            return outputs, {**about, "made_with": self.made_with(job)}

        together = getattr(job.stage.spec.build(), "together", False)
        contents = self.contents(job)
        (works,) = processes.agree(processes.first() and not self.store.marked(*place_of, contents))
        try:
            with self.told.of_stage(run):
                if processes.first():
                    with nullcontext() if together else processes.alone():
                        self.store.make(*place_of, job.made_of, job.inputs, work, contents)
                elif works and together:
                    with TemporaryDirectory() as own:
                        work(Path(own))
                processes.wait()
        except DakitError as error:
            raise DakitError(f"{run}: {error}") from error
        self._changed(job)

    def write_page(self, rows: Sequence[str]) -> str | None:
        """Write ``report.html``; whatever goes wrong with it is told, and nothing else is touched."""
        from dakit.report.page import SAMPLES, write_page
        from dakit.report.thumbnails import save_samples
        from dakit.results.runs import open_run

        try:
            shown: dict[str, ImageSet] = {}
            for row in rows:
                for role, data in self.recipe.plan(row).data.items():
                    parts = self.roles.parts(data, self.recipe.seeds[0], 0)
                    shown.setdefault(role, parts["train"] if "train" in parts else parts["all"])
            save_samples(self.folder / SAMPLES, shown)
            write_page(open_run(self.folder), self.folder / "report.html")
        except Exception as error:  # results must not hang on their page
            return f"report.html was not made: {type(error).__name__}: {error}"
        return None

    def pictures(self, jobs: Iterable[Job]) -> Iterator[tuple[str, Path]]:
        """Every picture that a stage kept, and the name under which people find it."""
        for job in jobs:
            result = self.result(job)
            for picture in (Path(name) for name in result.marker["files"] if name.endswith(".png")):
                name = f"{job.stage.name}-{picture.stem}-seed{job.seed}-{job.key[:6]}.png"
                yield name, result.file(str(picture))

    def result(self, job: Job) -> Result:
        """The complete result of a job."""
        if job.key not in self._results:
            self._results[job.key] = self.store.open(job.stage.name, job.key, job.inputs)
        return self._results[job.key]

    def output(self, job: Job, name: str) -> Any:
        """One output of a job."""
        return self.result(job).output(name)

    def _whole(self, job: Job) -> Any:
        made = typing.get_type_hints(job.stage.spec.factory.run)["return"]  # type: ignore[attr-defined]
        return made(**{name: self.output(job, name) for name in made._fields})


def _same(value: Any) -> Any:
    return value
