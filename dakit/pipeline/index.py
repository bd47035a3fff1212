"""``run.json`` and ``index.json``: which result belongs where, and what the results were made with."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dakit.data.sets import FileImages
from dakit.files import write_json
from dakit.pipeline.jobs import Job
from dakit.pipeline.roles import Roles
from dakit.recipe.plans import Recipe
from dakit.results.record import record
from dakit.results.runs import INDEX
from dakit.results.store import Store
from dakit.signatures import stage_outputs


def write_index(
    recipe: Recipe, folder: Path, roles: Roles, store: Store, jobs: Sequence[Job], records: Sequence[Mapping[str, Any]]
) -> None:
    """Write both files.

    Args:
        recipe: that is run.
        folder: of the run.
        roles: its data.
        store: where the jobs' results are, or will be.
        jobs: of the table.
        records: what their results were made with, see :func:`dakit.results.record.made_with`.
    """
    rows = [row for row in recipe.plans if row in {job.row for job in jobs}]
    write_json(folder / "run.json", record(recipe, rows, records))
    index = {
        "rows": {row: _row(recipe, roles, row) for row in rows},
        "jobs": [_job(recipe, job, os.path.relpath(_place(store, job), folder.resolve())) for job in jobs],
    }
    write_json(folder / INDEX, index)


def _place(store: Store, job: Job) -> Path:
    return store.folder(job.stage.name, job.key)


def _row(recipe: Recipe, roles: Roles, row: str) -> dict[str, Any]:
    """What :class:`~dakit.results.runs.RunRow` tells of a row."""
    plan = recipe.plan(row)
    first = next(iter(plan.data.values()))
    data = {}
    for role, of_role in plan.data.items():
        images, plain = roles.set(of_role), roles.plain(of_role)
        data[role] = {
            "use": of_role.spec.name,
            "params": of_role.spec.plain_params(),
            "split": of_role.split and asdict(of_role.split),
            "images": len(images),
            "labelled": sum(label >= 0 for label in images.labels),
            "fit": plain.fit if isinstance(plain, FileImages) else None,
            "range": plain.range if isinstance(plain, FileImages) else None,
        }
    return {"final": plan.stages[-1].name, "size": first.size, "classes": first.classes, "data": data}


def _job(recipe: Recipe, job: Job, folder: str) -> dict[str, Any]:
    """What :class:`~dakit.results.runs.RecordedJob` tells of a job."""
    references, roles = job.stage.inputs, recipe.plan(job.row).data
    return {
        "row": job.row,
        "seed": job.seed,
        "fold": job.fold,
        "stage": job.stage.name,
        "do": job.stage.spec.name,
        "folder": folder,
        "inputs": {name: str(reference) for name, reference in references.items()},
        "images": {n: len(job.inputs[n]()) for n, reference in references.items() if reference.producer in roles},
        "outputs": list(stage_outputs(job.stage.spec.factory)),
        "repeat": job.repeat,
    }
