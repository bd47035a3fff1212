"""What a stage's result depends on, as one digest: it never goes on from what another stage left in its folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import wraps
from typing import Any, TypeVar

import torch
from torch import Tensor

from dakit.data.sets import fingerprint
from dakit.interfaces import Context, Engine, Spec, Trained

F = TypeVar("F", bound=Callable[..., Any])


def identified(run: F) -> F:
    """A decorator for a stage's ``run``: gives it a context with an ``identity``, where it was given one without.

    It is made of the stage's class, its version and attributes (which are its parameters), the inputs, the seed and
    what of the engine changes results: what a run's key is made of. Images count by their fingerprints, networks by
    their weights.
    """

    @wraps(run)
    def named(stage: Any, ctx: Context, **inputs: Any) -> Any:
        if not ctx.identity:
            ctx = replace(ctx, identity=identity(stage, ctx, inputs))
        return run(stage, ctx, **inputs)

    return named  # type: ignore[return-value]


def identity(stage: Any, ctx: Context, inputs: Mapping[str, Any]) -> str:
    """The digest of a stage that is about to run, see :func:`identified`."""
    kind = type(stage)
    name, version = f"{kind.__module__}.{kind.__qualname__}", getattr(stage, "version", 1)
    return digest(
        {
            "stage": Spec("stage", name, vars(stage), version=version).identity(),
            "seed": ctx.seed,
            "engine": of_engine(ctx.engine),
            "inputs": {name: _input(value) for name, value in inputs.items()},
        }
    )


def of_engine(engine: Engine) -> dict[str, Any]:
    """What of an engine changes results."""
    return {"precision": engine.precision, "accumulate": engine.accumulate}


def digest(value: Any) -> str:
    """SHA-256 of a nested value; what JSON does not know counts as Python shows it."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=repr).encode()).hexdigest()


def of_tensors(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of names, types, shapes and content."""
    hasher = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu()
        hasher.update(repr((name, tensor.dtype, tuple(tensor.shape))).encode())
        hasher.update(tensor.flatten().view(torch.uint8).numpy().data)
    return hasher.hexdigest()


def _input(value: Any) -> Any:
    if value is None:
        return None
    if isinstance(value, Trained):
        return [value.spec.identity(), value.classes, of_tensors(value.state)]
    if isinstance(value, tuple):  # all that an earlier stage made
        return [_input(part) for part in value]
    return fingerprint(value)
