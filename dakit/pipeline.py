"""Plan and run: for each row, seed and fold, make every stage's result once and share it by its key."""

from __future__ import annotations

import os
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

from dakit import processes
from dakit.comparison import compare_rows
from dakit.errors import DakitError, did_you_mean
from dakit.files import write_json
from dakit.health import lost_to_source
from dakit.interfaces import Context, ImageSet, Observer, Spec, StageRun
from dakit.metrics import Round, summarise
from dakit.observers import Observers, build
from dakit.outcome import Outcome, source_only, transferring, write_results
from dakit.plans import Plan, Recipe, StagePlan
from dakit.record import record
from dakit.registry import stage_outputs
from dakit.roles import Roles, data_paths, fingerprint_once
from dakit.runs import INDEX
from dakit.store import Result, Store, digest


@dataclass(frozen=True)
class Step:
    """One stage of one row, seed and fold, with the key of its result."""

    row: str
    seed: int
    fold: int
    stage: StagePlan
    key: str
    made_of: Mapping[str, Any]
    inputs: Mapping[str, Callable[[], Any]]
    repeat: int = 0


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

    Args:
        recipe: from :func:`dakit.load_recipe`.
        rows: which rows of the table; None = the recipe's own choice.
        out: folder of results; None = ``runs/<recipe>`` or ``runs/<recipe>-<profile>``.
        until: stop after this stage.
        fold: only this one.
        fresh: stages whose results are made anew.
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
    session.preflight([step for step in steps if step.stage.name in fresh or not session.has(step)])
    _agree_on(steps)
    forget = {(step.stage.name, step.key) for step in steps if step.stage.name in fresh}
    with session.store.writing():
        if processes.first():
            for name, key in forget:
                session.store.discard(name, key)
            session.prepare(chosen, steps)
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
    recipe = session.recipe
    done: dict[str, None] = {}
    made = 0
    total = len({step.key for step in steps})
    notes: list[str] = []
    warnings = session.roles.warnings
    rounds: dict[str, list[Round]] = {row: [] for row in chosen}
    for step in steps:
        first = step.key not in done  # a result that rows and folds share is made, and its notes are told, once
        number = len(done) + 1
        run = StageRun(step.stage.name, step.stage.spec.name, step.row, step.seed, step.fold, number, total)
        if first and processes.agree(processes.first() and not session.has(step))[0]:
            session.make(step, run)
            made += 1
        done[step.key] = None
        result = session.result(step)
        if first:
            notes += [f"{run}: {note}" for note in result.marker["notes"]]
            # dakit 0.1.0 kept no warnings
            warnings += [f"{run}: {text}" for text in result.marker.get("warnings", ())]
        if step.stage.spec.name == "evaluate" and step.stage.name == recipe.plan(step.row).stages[-1].name:
            rounds[step.row].append(Round(step.seed, step.fold, result.output("evaluation"), step.repeat))
    evaluated = {row: parts for row, parts in rounds.items() if parts}
    summaries = {row: summarise(parts) for row, parts in evaluated.items()}
    compared = compare_rows(evaluated, recipe.baseline, transferring(recipe)) if recipe.baseline else {}
    for base, others in source_only(recipe, evaluated).items():
        warnings += lost_to_source(base, {row: rounds[row] for row in others})
    outcome = Outcome(
        summaries=summaries,
        rounds=rounds,
        made=made,
        reused=len(done) - made,
        folder=session.folder,
        notes=tuple(notes),
        warnings=(*warnings, *session.told.failures),
        comparisons=compared,
        opened=session.roles.openings(),
        needed=len({step.key for step in steps if step.stage.spec.name == "evaluate"}),
    )
    if not processes.first():
        return outcome
    if summaries:
        write_results(recipe, outcome, session.pictures(steps))
    problem = session.write_page(chosen)
    return replace(outcome, warnings=(*outcome.warnings, problem)) if problem else outcome


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
        if session.store.has(name, key):
            state = "cached"
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
    stages = [(plan, stage) for plan in recipe.plans.values() if plan.data for stage in plan.stages]
    problems = dict.fromkeys(_try_networks(roles, stages))
    if problems:
        raise DakitError("\n".join(problems))
    return "data: found, and the class lists agree; every network takes an image"


def _try_networks(roles: Roles, stages: Iterable[tuple[Plan, StagePlan]]) -> Iterator[str]:
    """Build every network and show it one image; what is wrong, in text."""
    import torch

    tried: set[tuple[Spec[Any], int, int]] = set()
    for plan, stage in stages:
        size = next(iter(plan.data.values())).size
        count = max((len(roles.set(data).classes) for data in plan.data.values()), default=0)
        for name, spec in stage.spec.params.items():
            if not isinstance(spec, Spec) or spec.kind not in ("translator", "discriminator", "classifier"):
                continue
            if (spec, count, size) in tried:
                continue
            tried.add((spec, count, size))
            try:
                network = spec.build(count) if spec.kind == "classifier" else spec.build()
                with torch.no_grad():
                    network.eval()(torch.zeros(1, 3, size, size))
            except DakitError as error:
                yield f"stages.{stage.name}.{name}: {error}"
            except Exception as error:  # a network's own, such as a kernel larger than the image
                text = f"{spec.name} fails on an image of {size} x {size} pixels: {type(error).__name__}: {error}"
                yield f"stages.{stage.name}.{name}: {text}"


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
        for data in plan.data.values():
            for part, images in self.roles.parts(data, seed, fold).items():
                name = f"{data.role}.{part}"
                keys[name] = fingerprint_once(images)
                getters[name] = partial(_same, images)
        engine = self.recipe.engine
        steps = []
        for stage in plan.stages:
            made_of = {
                "stage": stage.name,
                "do": stage.spec.name,
                "version": stage.spec.version,
                "params": stage.spec.identity()["params"],
                "seed": seed,
                "engine": {"precision": engine.precision, "accumulate": engine.accumulate},
                "inputs": {name: keys[str(reference)] for name, reference in stage.inputs.items()},
            }
            inputs = {name: getters[str(reference)] for name, reference in stage.inputs.items()}
            step = Step(plan.row, seed, fold, stage, digest(made_of), made_of, inputs, repeat)
            steps.append(step)
            keys[stage.name] = step.key
            getters[stage.name] = partial(self._whole, step)
            for output in stage_outputs(stage.spec.factory):
                keys[f"{stage.name}.{output}"] = f"{step.key}.{output}"
                getters[f"{stage.name}.{output}"] = partial(self.output, step, output)
        return steps

    def has(self, step: Step) -> bool:
        """Whether a step's result is there."""
        return self.store.has(step.stage.name, step.key)

    def preflight(self, steps: Iterable[Step]) -> None:
        """Ask the stages that are to run what does not fit the data, and show every network one image.

        So what would fail after hours, such as weights of another network, fails before anything is written.

        Raises:
            DakitError: every problem, or the device is not there.
        """
        from dakit.training import accelerator

        problems: dict[str, None] = {}
        stages: dict[tuple[str, str], tuple[Plan, StagePlan]] = {}
        for step, stage, sizes in sized(self.recipe, steps):
            stages[step.row, step.stage.name] = self.recipe.plan(step.row), step.stage
            for text in getattr(stage, "check_sizes", lambda sizes: [])(sizes):
                problems[f"stages.{step.stage.name}: {text}"] = None
        problems |= dict.fromkeys(_try_networks(self.roles, stages.values()))
        if problems:
            raise DakitError("\n".join(problems))
        accelerator(self.recipe.engine)

    def prepare(self, rows: Sequence[str], steps: Sequence[Step]) -> None:
        """Say what is about to be run, and where each result will be."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self.folder / "run.json", record(self.recipe, rows))
        index = {"rows": {row: self._row(row) for row in rows}, "steps": [self._entry(step) for step in steps]}
        write_json(self.folder / INDEX, index)

    def _row(self, row: str) -> dict[str, Any]:
        """What :class:`~dakit.runs.RunRow` tells of a row."""
        plan = self.recipe.plan(row)
        first = next(iter(plan.data.values()))
        data = {}
        for role, of in plan.data.items():
            images = plain = self.roles.set(of)
            while hasattr(plain, "base"):
                plain = plain.base
            data[role] = {
                "use": of.spec.name,
                "params": of.spec.plain_params(),
                "split": of.split and asdict(of.split),
                "images": len(images),
                "labelled": sum(label >= 0 for label in images.labels),
                "fit": getattr(plain, "fit", None),
            }
        return {"final": plan.stages[-1].name, "size": first.size, "classes": first.classes, "data": data}

    def _entry(self, step: Step) -> dict[str, Any]:
        """What :class:`~dakit.runs.RunStep` tells of a step."""
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
        from dakit.training import derive_seed, seed_everything

        place_of = (step.stage.name, step.key)
        seed = derive_seed(step.seed, step.stage.name)

        def work(folder: Path) -> tuple[Any, dict[str, Any]]:
            processes.wait()  # until the first has the shared folder ready
            told = (cast(Observer, self.told),)
            ctx = Context(folder, seed, self.recipe.engine, told, shared=self.store.part(*place_of))
            seed_everything(seed)
            given = {name: get() for name, get in step.inputs.items()}
            outputs = step.stage.spec.build().run(ctx, **given)
            return outputs, {"notes": ctx.notes, "warnings": ctx.warnings, "facts": ctx.facts}

        together = getattr(step.stage.spec.build(), "together", False)
        (works,) = processes.agree(processes.first() and not self.store.marked(*place_of))
        try:
            with self.told.of_stage(run):
                if processes.first():
                    with nullcontext() if together else processes.alone():
                        self.store.make(*place_of, step.made_of, step.inputs, work)
                elif works and together:
                    with TemporaryDirectory() as own:
                        work(Path(own))
                processes.wait()
        except DakitError as error:
            raise DakitError(f"{run}: {error}") from error

    def write_page(self, rows: Sequence[str]) -> str | None:
        """Write ``report.html``; whatever goes wrong with it is told, and nothing else is touched."""
        from dakit.report.page import SAMPLES, write_page
        from dakit.report.thumbnails import save_samples
        from dakit.runs import open_run

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
