"""The jobs of a recipe: every stage of every row, seed and fold, and which of their results are there."""

from __future__ import annotations

import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from dakit.errors import DakitError, did_you_mean
from dakit.optional import CountsOutputs, offers
from dakit.pipeline.roles import Roles, content_key
from dakit.recipe.plans import Plan, Recipe, RunReference, StagePlan
from dakit.results.runs import open_run
from dakit.results.store import Result, Store, digest
from dakit.signatures import stage_outputs


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


class JobResults:
    """The results of jobs in one store; each is opened once."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._results: dict[str, Result] = {}
        self._current: dict[str, bool] = {}

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

    def discard(self, job: Job) -> None:
        """Forget a job's result, to make it anew."""
        self.store.discard(job.stage.name, job.key)
        self.changed(job)

    def changed(self, job: Job) -> None:
        """Look anew at a result, and at all that may be made from it."""
        self._results.pop(job.key, None)
        self._current.clear()

    def forget(self, keys: Iterable[str]) -> None:
        """Let go of what was read of these results: nothing that is still to be made reads them."""
        for key in keys:
            if key in self._results:
                self._results[key].forget()

    def result(self, job: Job) -> Result:
        """The complete result of a job."""
        if job.key not in self._results:
            self._results[job.key] = self.store.open(job.stage.name, job.key, job.inputs)
        return self._results[job.key]

    def output(self, job: Job, name: str) -> Any:
        """One output of a job."""
        return self.result(job).output(name)

    def content(self, job: Job, output: str) -> str:
        """The content digest of one output of a job; of all where it is ""."""
        return self.result(job).content(output)

    def outputs(self, job: Job) -> Any:
        """All that a job made, as its stage returned it."""
        outputs = typing.get_type_hints(job.stage.spec.factory.run)["return"]  # type: ignore[attr-defined]
        return outputs(**{name: self.output(job, name) for name in outputs._fields})


class JobPlanner:
    """Lists the jobs of a recipe.

    Attributes:
        warnings: what must be known of networks that come from other runs.
    """

    def __init__(self, recipe: Recipe, roles: Roles, results: JobResults) -> None:
        self.recipe = recipe
        self.roles = roles
        self.results = results
        self.warnings: list[str] = []
        self._networks: dict[str, tuple[Result, str]] = {}

    def jobs(self, rows: Sequence[str], until: str | None, fold: int | None) -> list[Job]:
        """Every stage of every row, seed and fold in the order of running, with keys."""
        self.roles.open(rows)
        jobs = []
        for row in rows:
            plan = self.recipe.plan(row)
            if until is not None:
                names = [stage.name for stage in plan.stages]
                if until not in names:
                    raise DakitError(f"--until {until}: {row} has no such stage{did_you_mean(until, names)}")
                plan = replace(plan, stages=plan.stages[: names.index(until) + 1])
            folds = max((p.split.rounds(self.roles.set(p)) for p in plan.data.values() if p.split), default=1)
            if fold is not None and not 0 <= fold < folds:
                raise DakitError(f"--fold {fold}: {row} has the folds 0 to {folds - 1}")
            tested = self.recipe.plan(row).tested
            of_repeat = tested.split.folds_of(self.roles.set(tested)) if tested and tested.split else folds
            for seed in self.recipe.seeds:
                for number in range(folds) if fold is None else [fold]:
                    jobs += self._round(plan, seed, number, number // of_repeat)
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
                getters[name], contents[name] = _constant(images), _constant(keys[name])
        for reference in (reference for stage in plan.stages for reference in stage.inputs.values()):
            if isinstance(reference, RunReference):
                result, output = self._network_of_run(reference)
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
                getters[name] = (
                    partial(self.results.output, job, output) if output else partial(self.results.outputs, job)
                )
                contents[name] = partial(self.results.content, job, output)
        return jobs

    def _network_of_run(self, reference: RunReference) -> tuple[Result, str]:
        """The result of another run that holds a network, and which output.

        Raises:
            DakitError: there is none.
        """
        if str(reference) not in self._networks:
            run = open_run(reference.run.path, registry=self.recipe.registry)
            self._networks[str(reference)] = run.trained(
                reference.row, reference.seed, reference.fold, translator=reference.translator
            )
            self.warnings.append(
                f"a network comes from {reference}: whether it learned from this recipe's test images is not known here"
            )
        return self._networks[str(reference)]


def sized(recipe: Recipe, jobs: Iterable[Job]) -> Iterator[tuple[Job, Any, dict[str, int | None]]]:
    """Each job with its stage and how many images each input has; None where that is not known before a run."""
    counts: dict[str, int | None] = {}
    for job in jobs:
        data = recipe.plan(job.row).data
        sizes = {
            name: len(job.inputs[name]()) if reference.producer in data else counts.get(job.made_of["inputs"][name])
            for name, reference in job.stage.inputs.items()
        }
        stage = job.stage.spec.build()
        if offers(stage, CountsOutputs):
            counts |= {f"{job.key}.{output}": count for output, count in stage.makes(sizes).items()}
        yield job, stage, sizes


def _constant(value: Any) -> Callable[[], Any]:
    return lambda: value
