"""What a class or function does is one digest: every change of it is another, and nothing else is."""

from __future__ import annotations

import linecache
import random
import subprocess
import sys
import textwrap
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dakit.codes import Untold, code_of

CELL = """\
import enum
import functools
import math
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

SCALE = 2.0
TABLE = {"a": [1, 2], "b": (3, {4, 5})}
WEIGHTS = torch.arange(3.0)
ARRAY = np.eye(2)


class Way(enum.Enum):
    NEAR = "near"
    FAR = "far"


class Pair(NamedTuple):
    first: int = 1
    second: int = 2


@dataclass
class Setting:
    size: int = 3
    names: list = field(default_factory=lambda: ["x"])


def inner(x):
    return x * SCALE


@functools.cache
def cached(n):
    return n + 1


def twice(function):
    @functools.wraps(function)
    def call(*given):
        return 2 * function(*given)

    return call


class Base:
    offset = 1


class Loss(Base, nn.Module):
    \"\"\"A loss.\"\"\"

    version: ClassVar[int] = 1
    setting = Setting()

    def __init__(self, *, weight: float = 1.0):
        super().__init__()
        self.weight = weight

    @property
    def doubled(self):
        return self.weight * 2

    @staticmethod
    def part(x):
        return [y + 1 for y in x if y in {1, 2, 3}]

    @twice
    def forward(self, teacher, student):
        # a remark
        if Way.NEAR is Way("near"):
            return inner(teacher) + F.relu(student) + math.pi + cached(3) + Pair(5).second
        return TABLE["a"][0] + WEIGHTS + ARRAY.sum() + self.offset
"""


def run(source: str, name: str = "Loss", **extra: Any) -> Any:
    """What a cell defines; as in a notebook the source stands in ``linecache`` alone."""
    linecache.cache["<cell>"] = (len(source), None, source.splitlines(True), "<cell>")
    names: dict[str, Any] = {"__name__": "__main__", **extra}
    exec(compile(source, "<cell>", "exec"), names)
    return names[name]


def test_the_same_cell_again_has_the_same_digest():
    assert code_of(run(CELL)) == code_of(run(CELL))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("SCALE = 2.0", "SCALE = 2.5"),  # read by a function that is read
        ("[1, 2]", "[1, 3]"),
        ("{4, 5}", "{4, 6}"),
        ("arange(3.0)", "arange(1.0, 4.0)"),
        ("np.eye(2)", "np.ones((2, 2))"),
        ('"far"', '"farther"'),
        ("second: int = 2", "second: int = 3"),
        ("size: int = 3", "size: int = 4"),
        ('["x"]', '["y"]'),
        ("x * SCALE", "x / SCALE"),
        ("n + 1", "n + 2"),
        ("return 2 * function", "return 3 * function"),  # in a decorator
        ("offset = 1", "offset = 2"),  # of a base class
        ("weight: float = 1.0", "weight: float = 1.5"),
        ("weight: float = 1.0", "weight: int = 1.0"),
        ("self.weight * 2", "self.weight * 3"),
        ("y + 1", "y + 2"),
        ("{1, 2, 3}", "{1, 2, 4}"),
        ("F.relu", "F.gelu"),
        ("math.pi", "math.e"),
        ("version: ClassVar[int] = 1", "version: ClassVar[int] = 2"),
        ("class Loss(Base, nn.Module)", "class Loss(nn.Module)"),
    ],
)
def test_a_change_of_what_is_read_is_another_digest(old, new):
    assert CELL.count(old) == 1
    assert code_of(run(CELL.replace(old, new))) != code_of(run(CELL))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("# a remark", "# another remark\n"),
        ("SCALE = 2.0", "\n\n\nSCALE = 2.0\nunread = object()"),
        ("ARRAY = np.eye(2)", "ARRAY = np.eye(2)\nmean = sum = 3"),
    ],
)
def test_what_changes_nothing_is_no_change(old, new):
    assert code_of(run(CELL.replace(old, new))) == code_of(run(CELL))


def test_an_attribute_of_a_global_s_name_does_not_read_it():
    source = "def f(x):\n    return x.mean\n"
    assert code_of(run(source, "f", mean=1)) == code_of(run(source, "f", mean=2))
    assert code_of(run("def f(x):\n    return mean\n", "f", mean=1)) != code_of(
        run("def f(x):\n    return mean\n", "f", mean=2)
    )


def test_what_is_closed_over_counts():
    source = "def make(n):\n    def f(x):\n        return x + n\n    return f\nf = make({})\n"
    assert code_of(run(source.format(1), "f")) == code_of(run(source.format(1), "f"))
    assert code_of(run(source.format(1), "f")) != code_of(run(source.format(2), "f"))


def test_a_module_of_one_s_own_counts_by_what_is_read_of_it(tmp_path, monkeypatch):
    import importlib

    monkeypatch.syspath_prepend(tmp_path)
    source = "import helpers_of_mine\ndef f(x):\n    return helpers_of_mine.read(x)\n"
    digests = []
    for read, unread in (("x", "1"), ("x", "2"), ("x + 1", "2")):
        (tmp_path / "helpers_of_mine.py").write_text(f"def read(x):\n    return {read}\nunread = {unread}\n")
        importlib.invalidate_caches()
        sys.modules.pop("helpers_of_mine", None)
        monkeypatch.setattr(sys, "dont_write_bytecode", True)
        digests.append(code_of(run(source, "f")))
    sys.modules.pop("helpers_of_mine", None)
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize("value", ["open(__import__('os').devnull)", "__import__('random').Random(3)", "object()",
                                   "(i for i in range(3))", "__import__('torch').Generator()",
                                   "__import__('threading').Lock()"])  # fmt: skip
def test_what_cannot_be_told_is_named(value):
    names: dict[str, Any] = {}
    exec(f"held = {value}", names)
    with pytest.raises(Untold, match=r"held is a .*, whose content cannot be told"):
        code_of(run("def f(x):\n    return held, x\n", "f", held=names["held"]))
    getattr(names["held"], "close", lambda: None)()


def test_another_process_has_the_same_digest(tmp_path):
    script = tmp_path / "cell.py"
    script.write_text(CELL + "\nfrom dakit.codes import code_of\nprint(code_of(Loss))\n")
    found = [
        subprocess.run(
            [sys.executable, script], check=True, capture_output=True, text=True,
            env={**__import__("os").environ, "PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2")
    ]  # fmt: skip
    assert found[0] == found[1]
    assert len(found[0].strip()) == 64


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(PLAIN, PLAIN)
def test_values_are_told_apart(a, b):
    source = "def f():\n    return value\n"
    same = repr(a) == repr(b)
    assert (code_of(run(source, "f", value=a)) == code_of(run(source, "f", value=b))) == same


@given(st.sets(st.text()))
def test_the_order_of_a_set_does_not_count(values):
    shuffled = list(values)
    random.shuffle(shuffled)
    source = "def f():\n    return value\n"
    assert code_of(run(source, "f", value=values)) == code_of(run(source, "f", value=set(shuffled)))


def test_what_is_installed_counts_by_name():
    from dakit.stages.classifier import TrainClassifier

    assert code_of(TrainClassifier) == code_of(TrainClassifier)
    indented = textwrap.dedent("""
        from dakit.stages.classifier import TrainClassifier
        class Mine(TrainClassifier):
            pass
    """)
    assert code_of(run(indented, "Mine")) == code_of(run(indented, "Mine"))
