"""Which files of weights a recipe's components start from, and fetching those that are not here, when asked for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from dakit.errors import DakitError
from dakit.interfaces import Observer, Spec
from dakit.optional import NeedsWeights, WeightsFile, offers
from dakit.recipe.plans import Recipe


@dataclass(frozen=True)
class Need:
    """A file that components of a recipe start from.

    Attributes:
        file: what its component says of it.
        spec: the first component that needs it.
        rows: of the table that do.
    """

    file: WeightsFile
    spec: Spec[Any]
    rows: tuple[str, ...]


def needed(recipe: Recipe, rows: Iterable[str]) -> list[Need]:
    """Every file of weights that some rows need, once each, in the order of the recipe. Nothing is fetched.

    Raises:
        DakitError: a component cannot say what it needs, such as a network without pretrained weights.
    """
    needs: dict[Any, Need] = {}
    for row in rows:
        for stage in recipe.plan(row).stages:
            for spec in _specs(stage.spec):
                factory: Any = spec.factory
                if offers(factory, NeedsWeights):
                    for file in factory.weights_needed(**spec.params):
                        before = needs.get(file.place)
                        known = before.rows if before else ()
                        needs[file.place] = Need(
                            file, before.spec if before else spec, tuple(dict.fromkeys((*known, row)))
                        )
    return list(needs.values())


def fetch(needs: Iterable[Need], observers: Iterable[Observer] = ()) -> list[Need]:
    """Fetch the files that are not here and can be fetched.

    Returns:
        Those that were.

    Raises:
        DakitError: a file cannot be had; those before it are here now, and the others were tried all the same.
    """
    audience = tuple(observers)
    fetched, problems = [], []
    for need in needs:
        if need.file.there or not need.file.fetched_by:
            continue
        factory: Any = need.spec.factory
        try:
            factory.fetch_weights(audience, **need.spec.params)
            fetched.append(need)
        except DakitError as error:
            problems.append(str(error))
    if problems:
        raise DakitError("\n".join(problems))
    return fetched


def _specs(value: Any) -> Iterator[Spec[Any]]:
    """A spec and all that its parameters hold."""
    if isinstance(value, Spec):
        yield value
        value = value.params
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from _specs(item)
