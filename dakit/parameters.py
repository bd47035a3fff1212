"""Parameters that come from Python are checked as those of a recipe are: against the signature."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, TypeVar

from dakit.errors import DakitError

F = TypeVar("F", bound=Callable[..., Any])


def checked(factory: F) -> F:
    """A decorator for a class or function: its parameters, those by keyword, are checked each time, whoever calls.

    A recipe's parameters are checked before anything is built, see :func:`dakit.signatures.validated`; with this
    the same is true of ``TrainTranslator(objective="lsgan", ...)`` in a notebook. What dakit itself passes by
    position, such as the number of classes, is not looked at.

    >>> @checked
    ... def scaled(size: int, *, factor: float = 1.0) -> float:
    ...     return size * factor
    >>> scaled(3, factor="two")
    Traceback (most recent call last):
    dakit.errors.DakitError: scaled: factor: Input should be a valid number, not 'two'
    """
    signature = inspect.signature(factory).parameters.values()
    given = [parameter.name for parameter in signature if parameter.kind is not parameter.KEYWORD_ONLY]
    make: Callable[..., Any] = vars(factory)["__init__"] if inspect.isclass(factory) else factory

    @wraps(make)
    def call(*args: Any, **named: Any) -> Any:
        passed = {name: named.pop(name) for name in given if name in named}
        return make(*args, **passed, **verified(factory, named, len(given)))

    if not inspect.isclass(factory):
        return call  # type: ignore[return-value]
    type.__setattr__(factory, "__init__", call)
    return factory


def verified(factory: Callable[..., Any], values: Mapping[str, Any], given: int = 0) -> dict[str, Any]:
    """The values of a factory's parameters after the first ``given``, defaults included.

    Raises:
        DakitError: one is unknown, missing, of the wrong type or out of range; all of them are told.
    """
    from dakit.signatures import validated  # pydantic is not light, and importing a component does not need it

    try:
        return validated(factory, given, "it", values)
    except DakitError as error:
        raise DakitError(f"{factory.__name__}: {error}") from None
