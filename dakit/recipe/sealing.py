"""What an evaluation stage must be, so that nothing that learns can see a test image."""

from __future__ import annotations

from typing import Any

import numpy as np

from dakit.data.sets import Sealed, described
from dakit.interfaces import TestSet
from dakit.signatures import evaluation_stage, optional, stage_inputs, stage_outputs, union_members
from dakit.statistics.metrics import Evaluation


def evaluation_faults(factory: Any) -> list[str]:
    """Why a stage that is given test images cannot be an evaluation; nothing for every other stage.

    It takes one input annotated ``TestSet``, which is not optional, and makes one thing, an ``Evaluation``. That it
    does not train on what it opens cannot be seen here; but no network and no images leave it, for another to read.
    """
    if evaluation_stage(factory) is None:
        return []
    faults = []
    tests = {name: hint for name, hint in stage_inputs(factory).items() if TestSet in union_members(hint)}
    if len(tests) > 1:
        faults.append(f"an evaluation takes one TestSet, but here are {', '.join(tests)}")
    faults += [f"the input {name}, a TestSet, cannot be optional" for name, hint in tests.items() if optional(hint)]
    outputs = stage_outputs(factory)
    others = [name for name, hint in outputs.items() if hint is not Evaluation]
    if others:
        faults.append(
            f"it is given test images, so all it may make is an Evaluation (dakit.statistics.metrics), not also "
            f"{', '.join(others)}, which another stage could read"
        )
    if len(outputs) - len(others) != 1:
        faults.append(
            f"an evaluation makes one Evaluation (dakit.statistics.metrics), not {len(outputs) - len(others)}"
        )
    return faults


def evaluation_problem(evaluation: Any, test: Sealed) -> str:
    """Why what an evaluation stage made is not of the test images that it was given; "" = it is.

    Numbers are paired and pooled by the images' positions, and errors are by group, so both must be theirs.
    """
    if not isinstance(evaluation, Evaluation):
        return f"it made a {type(evaluation).__name__}, not an Evaluation (dakit.statistics.metrics)"
    indices, labels, groups = described(test)
    n = len(indices)
    if sorted(evaluation.indices.tolist()) != sorted(indices.tolist()):
        return (
            f"its Evaluation has {len(evaluation.indices)} images, which are not the {n} test images: `indices` are "
            "positions in the whole data set, getattr(images, 'indices', range(len(images))), each once"
        )
    order, theirs = np.argsort(indices), np.argsort(evaluation.indices)
    if (evaluation.labels[theirs] != labels[order]).any():
        return "the labels of its Evaluation are not those of the test images"
    named = np.full(n, "") if evaluation.groups is None else evaluation.groups
    if (named[theirs] != groups[order]).any():
        return "the groups of its Evaluation are not those of the test images (images.groups)"
    return ""
