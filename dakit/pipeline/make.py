"""Making one job's result: its stage is built and run in a folder of its own, which the store then completes."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

from dakit import processes
from dakit.errors import DakitError
from dakit.interfaces import Context, JobInfo, Observer, Spec
from dakit.optional import RunsTogether, offers
from dakit.pipeline.jobs import Job, JobResults
from dakit.pipeline.observers import Observers
from dakit.recipe.plans import Recipe
from dakit.results.record import made_with
from dakit.results.store import digest


def make(job: Job, info: JobInfo, recipe: Recipe, results: JobResults, observers: Observers) -> None:
    """Run one stage and complete its result.

    Args:
        job: of which all inputs are there.
        info: what observers and messages say of it.
        recipe: that it belongs to.
        results: that it reads from and writes to.
        observers: told of it.

    Raises:
        DakitError: the stage refuses its inputs, or fails by a fault that it names.
    """
    from dakit.training.seeds import derive_seed, seed_everything

    store, place = results.store, (job.stage.name, job.key)
    seed = derive_seed(job.seed, job.stage.name)
    contents = results.contents(job)
    stage = job.stage.spec.build()
    together = offers(stage, RunsTogether) and stage.together

    def run(folder: Path) -> tuple[Any, dict[str, Any]]:
        processes.wait()  # until the first has the common folder ready
        ctx = Context(
            folder, seed, recipe.engine, (cast(Observer, observers),),
            common_folder=store.part(*place), identity=digest([job.key, contents]),
        )  # fmt: skip
        seed_everything(seed)
        outputs = stage.run(ctx, **{name: get() for name, get in job.inputs.items()})
        about = {"notes": ctx.notes, "warnings": ctx.warnings, "facts": ctx.facts}
        return outputs, {**about, "made_with": job_made_with(recipe, job)}

    (runs,) = processes.agree(processes.first() and not store.marked(*place, contents))
    try:
        with observers.of_stage(info):
            if processes.first():
                with nullcontext() if together else processes.alone():
                    store.make(*place, job.made_of, job.inputs, run, contents)
            elif runs and together:
                with TemporaryDirectory() as folder:
                    run(Path(folder))
            processes.wait()
    except DakitError as error:
        raise DakitError(f"{info}: {error}") from error
    results.changed(job)


def job_made_with(recipe: Recipe, job: Job) -> dict[str, Any]:
    """What a job's result is made with when it is made now, see :func:`dakit.results.record.made_with`."""
    registry, data = recipe.registry, recipe.plan(job.row).data
    roles = {reference.producer for reference in job.stage.inputs.values()} & data.keys()
    specs = [job.stage.spec, *(data[role].spec for role in roles)]
    for spec in specs:
        specs += [value for value in spec.params.values() if isinstance(value, Spec)]
    used = {registry.find(spec.kind, spec.name).distribution for spec in specs} - {"dakit"}
    plugins = [p for p in registry.plugins.found if p.distribution in used and p.state == "active"]
    return made_with(recipe.engine, plugins)
