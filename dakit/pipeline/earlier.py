"""What earlier runs into the same folder made: it stays in the table where all that it is made of is still the same."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dakit.errors import DakitError
from dakit.pipeline.jobs import Job, JobPlanner
from dakit.results.runs import earlier_jobs


class EarlierJobs:
    """The jobs of earlier runs in a folder that are not among those of this run, as the recipe has them now.

    Args:
        planner: of this run.
        folder: of results.
        jobs: of this run.

    Attributes:
        jobs: as the folder's index lists them, under the keys that they have now.
        left: by row, why what an earlier run made of it is not in the table any more.
    """

    def __init__(self, planner: JobPlanner, folder: Path, jobs: Sequence[Job]) -> None:
        self.planner = planner
        self.jobs: list[Job] = []
        self.left: dict[str, str] = {}
        asked = {(job.row, job.seed, job.fold, job.stage.name) for job in jobs}
        for row, listed in earlier_jobs(folder).items():
            if row not in planner.recipe.plans:
                self.left[row] = "this recipe has no such row"
                continue
            if all((row, *place) in asked for place in listed):
                continue
            try:
                of_row = planner.jobs([row], None, None)
            except DakitError as error:
                self.left[row] = str(error)
                continue
            places = {place for place in listed if (row, *place) not in asked}
            self.jobs += [job for job in of_row if (job.seed, job.fold, job.stage.name) in places]

    def current(self) -> list[Job]:
        """Those of the jobs that belong to the same table: whole rounds, of which everything is current."""
        rounds: dict[tuple[str, int, int], list[Job]] = {}
        for job in self.jobs:
            rounds.setdefault((job.row, job.seed, job.fold), []).append(job)
        current: list[Job] = []
        for (row, _, _), jobs in rounds.items():
            if all(self.planner.results.current(job) for job in jobs):
                current += jobs
            else:
                self.left[row] = "its recipe, data or code is another now, or a result of it was made anew"
        return current

    def warnings(self) -> list[str]:
        """Which rows left the table, and why."""
        return [
            f"{row}: what an earlier run made of it is not in this table any more: {why}"
            for row, why in self.left.items()
        ]
