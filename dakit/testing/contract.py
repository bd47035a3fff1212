"""How a contract is run: small named checks, every one on a fresh seed, every failure told."""

from __future__ import annotations

import inspect
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from dakit.interfaces import Spec
from dakit.optional import misspelt
from dakit.training.seeds import seed_everything

Check = Callable[[Spec[Any]], None]


class ContractError(AssertionError):
    """A component does not do what its kind promises."""


class Result(NamedTuple):
    """One check of one component.

    Attributes:
        check: its name.
        problem: what was found and what is wanted; None = it passed.
    """

    check: str
    problem: str | None


def wanted(holds: object, problem: str) -> None:
    """Fail the running check unless ``holds``; ``problem`` says what is wrong."""
    if not holds:
        raise ContractError(problem)


def run(checks: Sequence[Check], spec: Spec[Any]) -> list[Result]:
    """Every check of a contract; one that fails, or raises, does not stop the others."""
    results = []
    for check in checks:
        seed_everything(0)
        reason = " ".join((inspect.getdoc(check) or "").split())
        problem = None
        try:
            check(spec)
        except ContractError as error:
            problem = f"{error}. {reason}"
        except Exception as error:  # whatever a stranger's component raises is the finding
            problem = f"raised {type(error).__name__}: {error}. {reason}"
        results.append(Result(check.__name__, problem))
    return results


def is_described(spec: Spec[Any]) -> None:
    """Users read docstring and parameters in `dakit show`, which names every one; an annotation is what is checked."""
    text = inspect.getdoc(spec.factory) or ""
    wanted(text and not text.startswith("Create a new"), "it has no docstring")
    missing = [name for name in spec.params if name not in text]
    wanted(not missing, f"the docstring does not name {', '.join(missing)}")
    given = inspect.signature(spec.factory).parameters
    bare = [name for name in spec.params if name in given and given[name].annotation is inspect.Parameter.empty]
    wanted(not bare, f"no annotation says what {', '.join(bare)} may be")


def spells_optional_parts_right(spec: Spec[Any]) -> None:
    """What dakit asks for by name, and goes on without, is there under that name or not at all."""
    with tempfile.TemporaryDirectory() as folder:
        given = {"dataset": (32, None), "classifier": (2,), "observer": (Path(folder),)}.get(spec.kind, ())
        mistake = misspelt(spec.kind, spec.factory) or misspelt(spec.kind, type(spec.build(*given)))
    wanted(not mistake, mistake)


FIRST: tuple[Check, ...] = (is_described, spells_optional_parts_right)
"""Of every kind."""


def images(count: int, size: int = 64) -> torch.Tensor:
    """Noise in [-1, 1], ``(count, 3, size, size)``."""
    return torch.rand(count, 3, size, size) * 2 - 1


def finite(*tensors: torch.Tensor) -> bool:
    """Whether no value is NaN or infinite."""
    return all(bool(torch.isfinite(tensor).all()) for tensor in tensors)
