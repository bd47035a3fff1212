from __future__ import annotations

import copy
import os
from pathlib import Path

import numpy as np
import pytest

from dakit.data.sequences import Lean, integers, lean_paths, numbered, taken


def test_integers_are_pythons_own_in_four_bytes() -> None:
    for made in (
        integers([3, -1, 2**31 - 1]),
        integers(np.array([3, -1, 2**31 - 1])),
        integers(iter([3, -1, 2**31 - 1])),
    ):
        assert list(made) == [3, -1, 2**31 - 1]
        assert all(type(one) is int for one in made)
        assert made.itemsize == 4
        assert np.asarray(made).dtype == np.int32
    for wrong in ([2**31], np.array([2**31]), np.array([0, 2**31]), np.array([-(2**31) - 1, 0])):
        with pytest.raises(OverflowError):
            integers(wrong)


def test_a_lean_sequence_is_like_a_list() -> None:
    lean, plain = Lean(5, lambda i: i * i), [0, 1, 4, 9, 16]
    assert lean == plain
    assert list(lean) == plain
    assert [lean[i] for i in range(-5, 5)] == [plain[i] for i in range(-5, 5)]
    assert lean[1:4] == plain[1:4]
    assert lean[::-2] == plain[::-2]
    assert (lean.index(9), lean.count(4), 16 in lean, 3 in lean) == (3, 1, True, False)
    assert lean != [0, 1, 4, 9]
    assert lean != [0, 1, 4, 9, 17]
    assert lean != 5
    assert repr(lean) == repr(plain)
    for outside in (5, -6):
        with pytest.raises(IndexError):
            lean[outside]


def test_paths_come_back_as_they_were() -> None:
    paths = [Path("a/b c.png"), Path("/x/Zoë.jpg"), Path("."), Path(os.fsdecode(b"caf\xe9.png"))]
    lean = lean_paths(paths)
    assert list(lean) == paths
    assert lean_paths(lean) is lean
    assert lean_paths([]) == []


def test_views_copy_nothing() -> None:
    names = ["a", "b", "c"]
    view = taken(taken(names, [2, 0]), [1, 1, 0])
    assert list(view) == ["a", "a", "c"]
    names[0] = "z"
    assert view[0] == "z"
    assert list(numbered(3)) == ["#0", "#1", "#2"]
    assert list(copy.copy(view)) == ["z", "z", "c"]
