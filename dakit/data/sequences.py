"""Compact lists: what a set of a million images says of each of them, without a million Python objects."""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar, overload

import numpy as np

T = TypeVar("T")


def integers(values: Iterable[int]) -> array[int]:
    """Whole numbers in 4 bytes each: a sequence of Python's own integers.

    Raises:
        OverflowError: one does not fit into 32 bits.

    >>> integers([3, -1]).tolist()
    [3, -1]
    """
    if not isinstance(values, np.ndarray):
        return array("i", values)
    if values.size and not -(2**31) <= values.min() <= values.max() < 2**31:
        raise OverflowError("a number does not fit into 32 bits")
    numbers = array("i")
    numbers.frombytes(values.astype(np.int32).tobytes())
    return numbers


class Lean(Sequence[T]):
    """A sequence whose items are made when they are asked for; equal to any sequence of the same items.

    Args:
        count: how many items there are.
        item: makes the item of a number in [0, count).

    >>> Lean(3, lambda i: i * i)[1:]
    [1, 4]
    """

    def __init__(self, count: int, item: Callable[[int], T]) -> None:
        self._count = count
        self._make = item

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> list[T]: ...
    def __getitem__(self, index: int | slice) -> T | list[T]:
        places = range(self._count)[index]  # refuses what is outside
        return self._make(places) if isinstance(places, int) else [self._make(place) for place in places]

    def __iter__(self) -> Iterator[T]:
        return map(self._make, range(self._count))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(item == its for item, its in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return repr(list(self))


def lean_paths(paths: Iterable[str | os.PathLike[str]]) -> Lean[Path]:
    """Paths in as many bytes as their text has, and 8.

    >>> lean_paths(["a/b.png", "c.png"])[1].name
    'c.png'
    """
    if isinstance(paths, Lean):
        return paths
    text, ends = bytearray(), array("q", [0])
    for path in paths:
        text += os.fsencode(path)
        ends.append(len(text))
    return Lean(len(ends) - 1, lambda i: Path(os.fsdecode(bytes(text[ends[i] : ends[i + 1]]))))


def numbered(count: int) -> Lean[str]:
    """``#0``, ``#1`` and so on: the names of groups of one image each."""
    return Lean(count, lambda i: f"#{i}")


def taken(of: Sequence[T], indices: Sequence[int]) -> Lean[T]:
    """Some items of another sequence, in the order of ``indices``; nothing is copied.

    >>> list(taken("abc", [2, 0]))
    ['c', 'a']
    """
    return Lean(len(indices), lambda i: of[indices[i]])
