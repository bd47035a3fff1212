"""What a checked recipe is: for each row of the table the data and stages that it needs, and where inputs come from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from dakit.data.splits import Split
from dakit.errors import DakitError, did_you_mean
from dakit.interfaces import Engine, Folder, ImageSet, Observer, Spec
from dakit.registry import Registry
from dakit.signatures import EvaluationStage, evaluation_stage


@dataclass(frozen=True)
class Reference:
    """What a stage's input names: ``source.train`` or ``stage_2.translator``; output "" is the whole stage."""

    producer: str
    output: str

    def __str__(self) -> str:
        return f"{self.producer}.{self.output}" if self.output else self.producer


@dataclass(frozen=True)
class RunReference:
    """What a stage's input names when it takes a network from another run: ``{run: DIR, row: NAME}``.

    Attributes:
        run: the folder of that run.
        row: of its table; the network is the one that this row's evaluation tests, or, where a translator is needed,
            the last that it trains.
        seed: of its round,
        fold: and its fold.
        translator: whether a translator is needed.
    """

    run: Folder
    row: str
    seed: int
    fold: int
    translator: bool
    producer: str = ""
    output: str = ""

    def __str__(self) -> str:
        return f"{self.row} of {self.run} (seed {self.seed}, fold {self.fold})"


@dataclass(frozen=True)
class DataPlan:
    """One role of the data: which dataset, how it is split, whether its labels are hidden and bad files left out."""

    role: str
    spec: Spec[ImageSet]
    split: Split | None
    unlabelled: bool
    size: int
    classes: tuple[str, ...] | None
    on_bad_image: Literal["error", "skip"] = "error"


@dataclass(frozen=True)
class StagePlan:
    """One stage with its checked parameters and where its inputs come from."""

    name: str
    spec: Spec[Any]
    inputs: Mapping[str, Reference | RunReference]

    @property
    def evaluation(self) -> EvaluationStage | None:
        """What it calls test images, classifiers and result where it is an evaluation; None where it is none."""
        return evaluation_stage(self.spec.factory)


@dataclass(frozen=True)
class Plan:
    """All that one row of the table needs, pruned: stages in file order and the data they read."""

    row: str
    data: Mapping[str, DataPlan]
    stages: tuple[StagePlan, ...]

    @property
    def weights(self) -> str:
        """Which weights the last stage evaluates: those of the "last" step, by "validation", or "both" of several."""
        final = self.stages[-1]
        models = final.evaluation.models if final.evaluation else ()
        makers = {final.inputs[name].producer for name in models if name in final.inputs}
        choices = {str(stage.spec.params.get("choose", "last")) for stage in self.stages if stage.name in makers}
        return "both" if len(choices) > 1 else next(iter(choices), "last")

    @property
    def tested(self) -> DataPlan | None:
        """The role whose held-out images the last stage evaluates; None where that is no evaluation."""
        final = self.stages[-1]
        test = final.inputs.get(final.evaluation.test) if final.evaluation else None
        return self.data.get(test.producer) if test else None


@dataclass(frozen=True)
class Recipe:
    """A checked recipe.

    Attributes:
        name: of the recipe, which names its folder of results.
        title: the heading of its table.
        file: where it was read.
        profile: that was laid over it, or "".
        rows: what is run when nobody says otherwise.
        baseline: the row that every other is compared with; None = there is no comparison.
        seeds: each is a whole repetition.
        engine: how to compute.
        observers: what is told of a run; no result depends on them.
        plans: one per row, in the order of the table.
        published: numbers from the paper, row -> class -> percent; empty where the paper's metric is another.
        profiles: the names of all profiles.
        document: the resolved recipe as plain data.
        registry: that its names were looked up in.
        notes: for which rows an override does not hold, and why.
        metric: what the table is about, see :data:`dakit.statistics.measures.METRICS`; no result depends on it.
    """

    name: str
    title: str
    file: str
    profile: str
    rows: tuple[str, ...]
    baseline: str | None
    seeds: tuple[int, ...]
    engine: Engine
    observers: tuple[Spec[Observer], ...]
    plans: Mapping[str, Plan]
    published: Mapping[str, Mapping[str, float]]
    profiles: tuple[str, ...]
    document: Mapping[str, Any] = field(repr=False)
    registry: Registry = field(repr=False, compare=False)
    notes: tuple[str, ...] = ()
    metric: str = "macro_accuracy"

    @property
    def folder(self) -> Path:
        """Where its results go when nobody says otherwise: ``runs/<name>``, or ``runs/<name>-<profile>``."""
        return Path("runs") / (f"{self.name}-{self.profile}" if self.profile else self.name)

    def plan(self, row: str) -> Plan:
        """The plan of one row.

        Raises:
            DakitError: there is no such row.
        """
        if row not in self.plans:
            raise DakitError(f'{self.file}: there is no variant "{row}"{did_you_mean(row, self.plans)}')
        return self.plans[row]
