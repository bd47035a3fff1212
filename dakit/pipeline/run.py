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
from dakit.interfaces import Context, ImageSet, Observer, Spec, StageRun
from dakit.pipeline.observers import Observers, build
from dakit.pipeline.outcome import Outcome, source_only, transferring, write_results
from dakit.pipeline.roles import Roles, content_key, data_paths
from dakit.recipe.plans import Plan, Recipe, RunReference, StagePlan
from dakit.registry import stage_outputs
from dakit.results.record import gathered, made_with, mixed, record
from dakit.results.runs import INDEX, earlier_steps, open_run
from dakit.results.store import Result, Store, digest
from dakit.statistics.comparison import compare_rows
from dakit.statistics.health import lost_to_source
from dakit.statistics.metrics import Round, summarise
from dakit.training.surroundings import undisturbed


@dataclass(frozen=True)
class Step:
    """One stage of one row, seed and fold, with the key of its result.

    Attributes:
        key: a digest of ``made_of``.
        made_of: the stage, its parameters and seed, the data, and the keys of the results that it reads.
        inputs: what it reads, when asked for,
        contents: and the digest of what that holds; of a stage's output known only when that is made.
        above: the steps whose outputs it reads.
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
    above: tuple[Step, ...] = ()
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
    steps = session.steps(chosen, until, fold)
    for name in fresh:
        if name not in {step.stage.name for step in steps}:
            raise DakitError(f"--fresh {name}: no such stage{did_you_mean(name, {s.stage.name for s in steps})}")
    session.preflight([step for step in steps if step.stage.name in fresh or not session.current(step)])
    _agree_on(steps)
    with session.store.writing():
        if processes.first():
            for step in steps:
                if step.stage.name in fresh:
                    session.discard(step)
            session.prepare(steps)
        with told.of_run(recipe.name, len({step.key for step in steps})):
            return _carry_out(session, chosen, steps)


def _agree_on(steps: Sequence[Step]) -> None:
    """Refuse to run where another process would do something else."""
    number = float(int(digest([step.key for step in steps])[:10], 16))
    if processes.mean([number]) != [number]:
        raise DakitError(
            "the processes of this run do not see the same recipe, data and dakit; expected the same command with "
            "the same files, and the same versions, on every machine"
        )


def _carry_out(session: _Session, chosen: Sequence[str], steps: Sequence[Step]) -> Outcome:
    """Make what is not there, in order, then the table of that and of what earlier runs left."""
    recipe = session.recipe
    total = len({step.key for step in steps})
    numbers: dict[str, int] = {}
    read_last = {above.key: n for n, step in enumerate(steps) for above in step.above}
    made = 0
    for n, step in enumerate(steps):
        if step.key in numbers:  # shared by rows and folds
            continue
        numbers[step.key] = len(numbers) + 1
        if processes.agree(processes.first() and not session.current(step))[0]:
            session.make(step, _told(step, numbers[step.key], total))
            made += 1
        session.forget(key for key, last in read_last.items() if last <= n)
    kept = session.still_current()
    rows = [row for row in recipe.plans if row in {step.row for step in kept}.union(chosen)] if kept else list(chosen)
    notes: list[str] = []
    warnings = session.warnings()
    rounds: dict[str, list[Round]] = {row: [] for row in rows}
    records: dict[str, Mapping[str, Any]] = {}
    for step in (*steps, *kept):
        result = session.result(step)
        if step.key not in records:
            name = _told(step, 0, 0)
            notes += [f"{name}: {note}" for note in result.marker["notes"]]
            warnings += [f"{name}: {text}" for text in result.marker["warnings"]]
            records[step.key] = result.marker["made_with"]
        if step.stage.spec.name == "evaluate" and step.stage.name == recipe.plan(step.row).stages[-1].name:
            rounds[step.row].append(Round(step.seed, step.fold, result.output("evaluation"), step.repeat))
    warnings += [f"the results of this table were not all made alike: {text}" for text in mixed(records.values())]
    evaluated = {row: parts for row, parts in rounds.items() if parts}
    summaries = {row: summarise(parts) for row, parts in evaluated.items()}
    compared = compare_rows(evaluated, recipe.baseline, transferring(recipe)) if recipe.baseline else {}
    for base, others in source_only(recipe, evaluated).items():
        warnings += lost_to_source(base, {row: rounds[row] for row in others})
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
        needed=len({step.key for step in (*steps, *kept) if step.stage.spec.name == "evaluate"}),
        made_with=gathered(records.values()),
    )
    if not processes.first():
        return outcome
    session.write_index([*steps, *kept], list(records.values()))
    problems = write_results(recipe, outcome, session.pictures([*steps, *kept])) if summaries else []
    if problem := session.write_page(rows):
        problems.append(problem)
    return replace(outcome, warnings=(*outcome.warnings, *problems))


def _told(step: Step, number: int, total: int) -> StageRun:
    return StageRun(step.stage.name, step.stage.spec.name, step.row, step.seed, step.fold, number, total)


@undisturbed()
def plan(
    recipe: Recipe,
    *,
    rows: Iterable[str] | None = None,
    out: str | Path | None = None,
    until: str | None = None,
    fold: int | None = None,
) -> list[tuple[Step, str]]:
    """What :func:`run` would do: every distinct stage run with "cached", "goes on", or why it must run."""
    session = _Session(recipe, output_folder(recipe, out), room=0)
    seen: dict[str, tuple[Step, str]] = {}
    for step in session.steps([recipe.plan(r).row for r in (recipe.rows if rows is None else rows)], until, fold):
        if step.key in seen:
            continue
        name, key = step.stage.name, step.key
        if session.current(step):
            state = "cached"
        elif session.store.has(name, key):
            remade = [name for name, above in step.stage.inputs.items() if session.unsettled(step, above.producer)]
            state = (
                f"cached, if {' and '.join(remade)} come out as before" if remade
                else "will run: what it was made from is another now"
            )  # fmt: skip
        elif (session.store.part(name, key) / "checkpoint.safetensors").is_file():
            state = "goes on from its checkpoint"
        else:
            changes = session.store.nearest(name, step.made_of)
            state = f"will run: {'; '.join(changes)}" if changes else "will run: never made before"
        seen[key] = (step, state)
    return list(seen.values())


def sized(recipe: Recipe, steps: Iterable[Step]) -> Iterator[tuple[Step, Any, dict[str, int | None]]]:
    """Each step with its stage and how many images each input has; None where that is not known before a run."""
    made: dict[str, int | None] = {}
    for step in steps:
        data = recipe.plan(step.row).data
        sizes = {
            name: len(step.inputs[name]()) if reference.producer in data else made.get(step.made_of["inputs"][name])
            for name, reference in step.stage.inputs.items()
        }
        stage = step.stage.spec.build()
        if hasattr(stage, "makes"):
            made |= {f"{step.key}.{output}": count for output, count in stage.makes(sizes).items()}
        yield step, stage, sizes


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
        self.earlier: list[Step] = []
        self._runs: dict[str, tuple[Result, str]] = {}

    def steps(self, rows: Sequence[str], until: str | None, fold: int | None) -> list[Step]:
        """Every stage of every row, seed and fold in the order of running, with keys."""
        self.roles.open(rows)
        steps = []
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
                    steps += self._round(wanted, seed, number, number // of_repeat)
        return steps

    def _round(self, plan: Plan, seed: int, fold: int, repeat: int) -> list[Step]:
        keys: dict[str, str] = {}
        getters: dict[str, Callable[[], Any]] = {}
        contents: dict[str, Callable[[], str]] = {}
        makers: dict[str, Step] = {}
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
        steps = []
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
            step = Step(
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
            steps.append(step)
            makers[stage.name] = step
            for output in ("", *stage_outputs(stage.spec.factory)):
                name = f"{stage.name}.{output}" if output else stage.name
                keys[name] = f"{step.key}.{output}" if output else step.key
                getters[name] = partial(self.output, step, output) if output else partial(self._whole, step)
                contents[name] = partial(self._content, step, output)
        return steps

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

    def current(self, step: Step) -> bool:
        """Whether a step's result is there, and made from what its inputs hold now."""
        if step.key not in self._current:
            self._current[step.key] = (
                self.store.has(step.stage.name, step.key)
                and all(self.current(above) for above in step.above)
                and self.result(step).marker.get("inputs") == self.contents(step)
            )
        return self._current[step.key]

    def unsettled(self, step: Step, producer: str) -> bool:
        """Whether a step reads the output of a stage that must be made first."""
        return any(above.stage.name == producer and not self.current(above) for above in step.above)

    def contents(self, step: Step) -> dict[str, str]:
        """The content digests of a step's inputs, all of which are there."""
        return {name: get() for name, get in step.contents.items()}

    def _content(self, step: Step, output: str) -> str:
        return self.result(step).content(output)

    def discard(self, step: Step) -> None:
        """Forget a step's result, to make it anew."""
        self.store.discard(step.stage.name, step.key)
        self._changed(step)

    def _changed(self, step: Step) -> None:
        self._results.pop(step.key, None)
        self._current.clear()

    def forget(self, keys: Iterable[str]) -> None:
        """Let go of what was read of these results: nothing that is still to be made reads them."""
        for key in keys:
            if key in self._results:
                self._results[key].forget()

    def _earlier(self, steps: Sequence[Step]) -> list[Step]:
        """The steps of earlier runs in this folder that are not among ``steps``, as the recipe has them now."""
        found: list[Step] = []
        before = earlier_steps(self.folder)
        asked = {(step.row, step.seed, step.fold, step.stage.name) for step in steps}
        for row, wanted in before.items():
            if row not in self.recipe.plans:
                self._left_out[row] = "this recipe has no such row"
                continue
            if all((row, *one) in asked for one in wanted):
                continue
            try:
                every = self.steps([row], None, None)
            except DakitError as error:
                self._left_out[row] = str(error)
                continue
            now = [step for step in every if (step.seed, step.fold, step.stage.name) in wanted]
            found += [step for step in now if (row, step.seed, step.fold, step.stage.name) not in asked]
        return found

    def still_current(self) -> list[Step]:
        """The steps of earlier runs that belong to the same table: whole rounds, of which everything is current."""
        rounds: dict[tuple[str, int, int], list[Step]] = {}
        for step in self.earlier:
            rounds.setdefault((step.row, step.seed, step.fold), []).append(step)
        kept: list[Step] = []
        for (row, _, _), parts in rounds.items():
            if all(self.current(step) for step in parts):
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

    def preflight(self, steps: Iterable[Step]) -> None:
        """See :func:`dakit.pipeline.preflight.preflight`; and whether the engine's device is there."""
        from dakit.pipeline.preflight import preflight
        from dakit.training.trainer import accelerator

        planned = ((step.row, step.stage, stage, sizes) for step, stage, sizes in sized(self.recipe, steps))
        preflight(self.recipe, planned, self.roles)
        accelerator(self.recipe.engine)

    def prepare(self, steps: Sequence[Step]) -> None:
        """Say what is about to be run, and where each result will be; what earlier runs made stays listed."""
        self.earlier = self._earlier(steps)
        self.folder.mkdir(parents=True, exist_ok=True)
        records = [self.result(step).marker["made_with"] for step in steps if self.current(step)]
        records += [self.made_with(step) for step in steps if not self.current(step)]
        self.write_index([*steps, *self.earlier], records)

    def write_index(self, steps: Sequence[Step], records: Sequence[Mapping[str, Any]]) -> None:
        """Write ``run.json`` and ``index.json``: which result belongs where, and what they were made with."""
        rows = [row for row in self.recipe.plans if row in {step.row for step in steps}]
        write_json(self.folder / "run.json", record(self.recipe, rows, records))
        index = {"rows": {row: self._row(row) for row in rows}, "steps": [self._entry(step) for step in steps]}
        write_json(self.folder / INDEX, index)

    def made_with(self, step: Step) -> dict[str, Any]:
        """What a step's result is made with when it is made now."""
        registry, data = self.recipe.registry, self.recipe.plan(step.row).data
        roles = {reference.producer for reference in step.stage.inputs.values()} & data.keys()
        specs = [step.stage.spec, *(data[role].spec for role in roles)]
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

    def _entry(self, step: Step) -> dict[str, Any]:
        """What :class:`~dakit.results.runs.RunStep` tells of a step."""
        references = step.stage.inputs
        roles = self.recipe.plan(step.row).data
        return {
            "row": step.row,
            "seed": step.seed,
            "fold": step.fold,
            "stage": step.stage.name,
            "do": step.stage.spec.name,
            "folder": os.path.relpath(self.store.folder(step.stage.name, step.key), self.folder.resolve()),
            "inputs": {name: str(reference) for name, reference in references.items()},
            "images": {n: len(step.inputs[n]()) for n, reference in references.items() if reference.producer in roles},
            "outputs": list(stage_outputs(step.stage.spec.factory)),
            "repeat": step.repeat,
        }

    def make(self, step: Step, run: StageRun) -> None:
        """Run one stage; ``run`` is what observers are told of it."""
        from dakit.training.trainer import derive_seed, seed_everything

        place_of = (step.stage.name, step.key)
        seed = derive_seed(step.seed, step.stage.name)

        def work(folder: Path) -> tuple[Any, dict[str, Any]]:
            processes.wait()  # until the first has the shared folder ready
            told = (cast(Observer, self.told),)
            shared = self.store.part(*place_of)
            ctx = Context(folder, seed, self.recipe.engine, told, shared=shared, identity=digest([step.key, contents]))
            seed_everything(seed)
            given = {name: get() for name, get in step.inputs.items()}
            outputs = step.stage.spec.build().run(ctx, **given)
            about = {"notes": ctx.notes, "warnings": ctx.warnings, "facts": ctx.facts}
            return outputs, {**about, "made_with": self.made_with(step)}

        together = getattr(step.stage.spec.build(), "together", False)
        contents = self.contents(step)
        (works,) = processes.agree(processes.first() and not self.store.marked(*place_of, contents))
        try:
            with self.told.of_stage(run):
                if processes.first():
                    with nullcontext() if together else processes.alone():
                        self.store.make(*place_of, step.made_of, step.inputs, work, contents)
                elif works and together:
                    with TemporaryDirectory() as own:
                        work(Path(own))
                processes.wait()
        except DakitError as error:
            raise DakitError(f"{run}: {error}") from error
        self._changed(step)

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

    def pictures(self, steps: Iterable[Step]) -> Iterator[tuple[str, Path]]:
        """Every picture that a stage kept, and the name under which people find it."""
        for step in steps:
            result = self.result(step)
            for picture in (Path(name) for name in result.marker["files"] if name.endswith(".png")):
                name = f"{step.stage.name}-{picture.stem}-seed{step.seed}-{step.key[:6]}.png"
                yield name, result.file(str(picture))

    def result(self, step: Step) -> Result:
        """The complete result of a step."""
        if step.key not in self._results:
            self._results[step.key] = self.store.open(step.stage.name, step.key, step.inputs)
        return self._results[step.key]

    def output(self, step: Step, name: str) -> Any:
        """One output of a step."""
        return self.result(step).output(name)

    def _whole(self, step: Step) -> Any:
        made = typing.get_type_hints(step.stage.spec.factory.run)["return"]  # type: ignore[attr-defined]
        return made(**{name: self.output(step, name) for name in made._fields})


def _same(value: Any) -> Any:
    return value
