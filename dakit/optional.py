"""The optional parts of every kind's contract, and which of a component's own names is one of them misspelt.

dakit asks for an optional part by name and goes on without it where it is not there. So one that is misspelt would be
passed over in silence, and the result would be another one than its author means.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterator, Mapping
from types import FunctionType
from typing import Any, Literal

from dakit.interfaces import Observer

Sort = Literal["number", "flag", "method"] | int
"""What a part is: a whole number, true or false (or a property), any method, or one called with so many arguments."""

_EVERY: Mapping[str, Sort] = {"version": "number", "identity": "method"}
_EVENTS: Mapping[str, Sort] = {
    name: len(inspect.signature(event).parameters) - 1
    for name, event in vars(Observer).items()
    if isinstance(event, FunctionType) and not name.startswith("_")
}

OPTIONAL: Mapping[str, Mapping[str, Sort]] = {
    "dataset": {**_EVERY, "fingerprint": 0, "readable": 0},
    "translator": _EVERY,
    "discriminator": _EVERY,
    "classifier": {**_EVERY, "stem": 1},
    "transfer_loss": {**_EVERY, "condense": 1, "zero_when_equal": "flag"},
    "selector": {**_EVERY, "together": "flag", "embed": "method"},
    "estimator": {**_EVERY, "check": 1},
    "observer": {**_EVERY, **_EVENTS},
    "stage": {**_EVERY, "together": "flag", "check": 1, "check_sizes": 1, "makes": 1},
}
"""For each kind the optional names that stand in a class; see :mod:`dakit.interfaces` for what they mean.

Three are attributes of what is built: ``head`` of a classifier, ``parts`` of a dataset, both of which :func:`near`
finds, and ``facts`` of an estimator.
"""


def misspelt(kind: str, factory: Any) -> str:
    """What is misspelt in a class or function that a plugin registers; "" where nothing is.

    A name is taken for another one misspelt where it is public and stands in the plugin's own classes, the right one
    does not, it is of the same sort (a method that takes as many arguments, a number, true or false), and the two are
    :func:`near`. A helper that is meant can begin with ``_``.

    >>> class Loss:
    ...     def condence(self, teacher): ...
    >>> misspelt("transfer_loss", Loss)
    '`condence`: did you mean `condense`? (dakit calls no method `condence`; a helper of your own may begin with _)'
    """
    own = dict(_own(factory))
    missing = {name: sort for name, sort in OPTIONAL[kind].items() if name not in own}
    found = []
    for name, value in own.items():
        right = next((part for part, sort in missing.items() if near(name, part) and _is(value, sort)), None)
        if right is not None and name not in OPTIONAL[kind]:
            asks = f"reads no `{name}`" if isinstance(value, int) else f"calls no method `{name}`"
            found.append(f"`{name}`: did you mean `{right}`? (dakit {asks}; a helper of your own may begin with _)")
    return "; ".join(found)


def near(name: str, right: str) -> bool:
    """Whether one name is the other with a letter more or less, or with two in the wrong order.

    Of seven letters or more, also where they are alike by 0.85 of :class:`difflib.SequenceMatcher`; another letter in a
    short name makes another word of it (stem, step, item).

    >>> near("togehter", "together"), near("haed", "head"), near("check_size", "check_sizes"), near("step", "stem")
    (True, True, True, False)
    """
    if name == right:
        return False
    if min(len(name), len(right)) >= 7 and difflib.SequenceMatcher(None, name, right).ratio() >= 0.85:
        return True
    at = next((i for i, (a, b) in enumerate(zip(name, right, strict=False)) if a != b), min(len(name), len(right)))
    a, b = name[at:], right[at:]
    return a[1:] == b or a == b[1:] or a[1::-1] + a[2:] == b


def _own(factory: Any) -> Iterator[tuple[str, Any]]:
    """The public names of a class, without those of other people's base classes, or of a function."""
    package = str(factory.__module__).partition(".")[0]
    for part in inspect.getmro(factory) if inspect.isclass(factory) else (factory,):
        if str(part.__module__).partition(".")[0] == package and part is not Observer:
            yield from ((name, value) for name, value in vars(part).items() if not name.startswith("_"))


def _is(value: Any, sort: Sort) -> bool:
    if sort == "flag":
        return isinstance(value, (bool, property))
    if sort == "number":
        return type(value) is int
    if not isinstance(value, (FunctionType, staticmethod, classmethod)):
        return False
    if sort == "method":
        return True
    plain = value if isinstance(value, FunctionType) else value.__func__
    given = [None] * (sort + (not isinstance(value, staticmethod)))  # self or the class
    try:
        inspect.signature(plain).bind(*given)
    except TypeError:
        return False
    return True
