"""What an input of a stage may name: a side of a role's split, what a stage above makes, a network of another run."""

from __future__ import annotations

import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dakit.errors import did_you_mean
from dakit.interfaces import Classifier, Folder, ImageSet, TestSet, Trained, Translator
from dakit.recipe.document import Document, Key
from dakit.recipe.plans import Reference, RunReference, StagePlan
from dakit.signatures import ParameterProblems, shown, stage_outputs, union_members, validated


@dataclass(frozen=True)
class Above:
    """What stands above a stage.

    Attributes:
        sides: of the split of each role; ``all`` where it has none.
        stages: by name; one with a problem has no parameters.
    """

    sides: Mapping[str, tuple[str, ...]]
    stages: Mapping[str, StagePlan]


def network_of_run(*, run: Folder, row: str, seed: int = 0, fold: int = 0) -> None:
    """The parameters of ``{run: DIR, row: NAME}``, see :class:`~dakit.recipe.plans.RunReference`."""


def reference(document: Document, value: Any, wanted: Any, key: Key, above: Above) -> Reference | RunReference | None:
    """What an input names; None where it may not, which is told.

    Args:
        document: to tell problems of.
        value: as it stands in the recipe.
        wanted: the input's annotation.
        key: of the input.
        above: what stands above that stage.
    """
    if isinstance(value, dict):
        return run_reference(document, value, wanted, key)
    if not isinstance(value, str):
        document.problem(key, f"must name what stands above, such as source.train, not {value!r}")
        return None
    producer, _, output = value.partition(".")
    if producer in above.sides:
        sides = above.sides[producer]
        if output not in sides:
            because = " (all of it would include the test images)" if output == "all" else ""
            document.problem(key, f'{producer} has no "{output}"{because}{did_you_mean(output, sides)}')
            return None
        if output == "test" and TestSet not in union_members(wanted):
            document.problem(
                key, f"{value} holds the test images: only an evaluation stage, such as `evaluate`, may read them"
            )
            return None
        produced: tuple[Any, ...] = (TestSet,) if output == "test" else (ImageSet,)
    elif producer in above.stages:
        maker = above.stages[producer].spec
        if above.stages[producer].evaluation is not None:
            document.problem(key, f"{value} holds what became of the test images: no stage may read it")
            return None
        outputs = stage_outputs(maker.factory)
        if output and output not in outputs:
            document.problem(key, f'stage {producer} makes no "{output}"{did_you_mean(output, outputs)}')
            return None
        if not output:
            run = maker.factory.run  # type: ignore[attr-defined]
            produced = (typing.get_type_hints(run)["return"],)
        else:
            produced = union_members(outputs[output])
            if type(None) in produced and maker.params.get(output, "") is None:
                document.problem(key, f"{value} is nothing, as stage {producer} has no `{output}`")
                return None
    elif producer in document.data["stages"]:
        order = list(document.data["stages"])
        if order.index(producer) >= order.index(key[1]):  # else it has a problem of its own, already told
            document.problem(key, f"{producer} does not stand above; a stage may read only what stands above it")
        return None
    else:
        names = [*above.sides, *above.stages]
        document.problem(key, f'nothing above is called "{producer}"{did_you_mean(producer, names)}')
        return None
    if not {p for p in produced if p is not type(None)} & set(union_members(wanted)):
        document.problem(key, f"{value} is {shown(produced)}, but {shown(union_members(wanted))} is needed")
        return None
    return Reference(producer, output)


def run_reference(document: Document, value: dict[str, Any], wanted: Any, key: Key) -> RunReference | None:
    """A network of another run, where an input takes a trained one."""
    networks = {Trained[Classifier]: False, Trained[Translator]: True}
    kinds = {networks[member] for member in union_members(wanted) if member in networks}
    if len(kinds) != 1:
        needed = shown(union_members(wanted))
        document.problem(key, f"{{run: DIR, row: NAME}} is a trained network, but {needed} is needed")
        return None
    try:
        given = validated(network_of_run, 0, "a network of another run", value)
    except ParameterProblems as error:
        for path, text in error.problems:
            document.problem((*key, *path), text)
        return None
    folder: Folder = given["run"]
    if not (folder.path / "index.json").is_file():
        near = {str(path.parent) for path in folder.path.parent.glob("*/index.json")}
        document.problem((*key, "run"), f"{folder} is not the folder of a run{did_you_mean(str(folder), near)}")
        return None
    return RunReference(folder, given["row"], given["seed"], given["fold"], kinds.pop())
