from __future__ import annotations

import enum
import hashlib
import json
import math
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import annotated_types
import pytest
import torch
from typing_extensions import TypedDict

from dakit.data.augment import Augment
from dakit.errors import DakitError
from dakit.interfaces import Classifier, File, Folder, Fraction, NonNegative, Positive, Spec, plain
from dakit.signatures import ParameterProblems, describe_parameters, schema, validated


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def factory(
    *,
    steps: Positive,
    lr: Annotated[float, annotated_types.Gt(0)] = 1e-3,
    beta: NonNegative = 0.0,
    share: Fraction | None = None,
    form: Literal["mean", "sum"] = "mean",
    shuffle: bool = True,
    roots: list[Folder] | None = None,
    weights: File | None = None,
    layers: tuple[int, ...] = (),
    classifier: Spec[Classifier] | None = None,
    augment: Augment | None = None,
) -> None: ...


def problems(**params: Any) -> dict[str, str]:
    with pytest.raises(ParameterProblems) as caught:
        validated(factory, 0, 'thing "t"', params)
    return {".".join(path): text for path, text in caught.value.problems}


def test_defaults_are_filled_in():
    values = validated(factory, 0, "thing", {"steps": 3})
    assert values == {
        "steps": 3, "lr": 1e-3, "beta": 0.0, "share": None, "form": "mean", "shuffle": True, "roots": None,
        "weights": None, "layers": (), "classifier": None, "augment": None,
    }  # fmt: skip
    assert list(values) == list(schema(factory, 0, "thing").model_fields)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("steps", 0, "greater than 0, not 0"),
        ("steps", 2.5, "valid integer, not 2.5"),
        ("steps", "3", "valid integer, not '3'"),
        ("steps", True, "valid integer, not True"),
        ("steps", None, "valid integer, not None"),
        ("lr", 0, "greater than 0, not 0"),
        ("lr", "1e-3", "valid number, not '1e-3'"),
        ("lr", math.nan, "finite number, not nan"),
        ("lr", math.inf, "finite number, not inf"),
        ("beta", -1, "greater than or equal to 0, not -1"),
        ("share", 1.5, "less than or equal to 1, not 1.5"),
        ("form", "men", "'mean' or 'sum', not 'men'"),
        ("shuffle", 1, "valid boolean, not 1"),
        ("shuffle", "yes", "valid boolean, not 'yes'"),
        ("roots", "a", "valid list, not 'a'"),
        ("roots", [1], "0: Input should be a valid string, not 1"),
        ("weights", "", "at least 1 character, not ''"),
        ("classifier", "deep", "instance of Spec"),
        ("augment", {"flipp": 0.5}, 'flipp: there is no such key, did you mean "flip"?'),
        ("augment", {"flip": 2}, "flip: Input should be less than or equal to 1, not 2"),
    ],
)
def test_values_are_checked_strictly(name, value, message):
    found = problems(**{"steps": 1, name: value})
    assert list(found) == [name]
    assert message in found[name]


def test_a_whole_number_is_a_number():
    assert validated(factory, 0, "thing", {"steps": 1, "lr": 1, "beta": 2})["lr"] == 1


def test_every_problem_at_once_with_the_nearest_name():
    assert problems(lrr=1, form="x", batch=2) == {
        "batch": 'thing "t" has no such parameter; there are: augment, beta, classifier, form, layers, lr, '
        "roots, share, shuffle, steps, weights",
        "form": "Input should be 'mean' or 'sum', not 'x'",
        "lrr": 'thing "t" has no such parameter, did you mean "lr"?',
        "steps": 'thing "t" needs this parameter',
    }


def test_arguments_that_dakit_passes_cannot_be_set():
    def dataset(size: int, classes: Any, *, people: int = 1) -> None: ...

    assert validated(dataset, 2, "dataset", {}) == {"people": 1}
    with pytest.raises(ParameterProblems, match="size: dataset has no such parameter"):
        validated(dataset, 2, "dataset", {"size": 3})


@pytest.mark.parametrize("kind", ["args", "kwargs"])
def test_a_signature_without_names_cannot_be_checked(kind):
    def args(*args: int) -> None: ...
    def kwargs(**kwargs: int) -> None: ...

    with pytest.raises(DakitError, match=rf"thing: its signature has \*{kind}, so parameters cannot be checked"):
        schema({"args": args, "kwargs": kwargs}[kind], 0, "thing")


def test_a_module_without_weights_of_its_own_is_told_what_to_write():
    class Weightless(torch.nn.Module): ...

    with pytest.raises(DakitError, match=r"has \*args.*a signature of its own names each \(a class inherits"):
        schema(Weightless, 0, "translator")


@pytest.mark.parametrize("name", ["schema", "copy", "json", "model_name", "validate"])
def test_a_parameter_may_have_any_name(name):
    scope: dict[str, Any] = {}
    exec(f"def thing(*, {name}: int = 1) -> None: ...", scope)
    assert validated(scope["thing"], 0, "thing", {name: 2}) == {name: 2}


def test_a_class_is_a_factory():
    class Thing:
        version = 3

        def __init__(self, classes: int, *, width: Positive = 8) -> None: ...

    assert validated(Thing, 1, "thing", {"width": 2}) == {"width": 2}


def test_paths_are_filled_in_from_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("SOMEWHERE", str(tmp_path))
    values = validated(factory, 0, "thing", {"steps": 1, "roots": ["$SOMEWHERE/a"], "weights": "~/w"})
    assert values["roots"] == ["$SOMEWHERE/a"]
    assert isinstance(values["roots"][0], Folder)
    assert values["roots"][0].path == tmp_path / "a"
    assert isinstance(values["weights"], File)
    assert "~" not in str(values["weights"].path)


def test_a_file_counts_by_content_and_a_folder_by_name(tmp_path):
    file = tmp_path / "w"
    file.write_bytes(b"abc")
    spec = Spec("classifier", "x", {"weights": File(file), "root": Folder(tmp_path), "other": File(tmp_path / "no")})
    assert spec.identity()["params"] == {
        "weights": hashlib.sha256(b"abc").hexdigest(),
        "root": str(tmp_path),
        "other": f"missing: {tmp_path / 'no'}",
    }


@pytest.fixture
def unhurried(monkeypatch):
    """Every file was written long ago."""
    now = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: now() + 10_000_000_000)


def test_an_unchanged_file_is_read_once_and_a_changed_one_again(tmp_path, monkeypatch, unhurried):
    file = tmp_path / "w"
    file.write_bytes(b"abc")
    read = []
    real = hashlib.file_digest
    monkeypatch.setattr(hashlib, "file_digest", lambda opened, name: read.append(opened.name) or real(opened, name))
    for _ in range(3):
        assert Spec("classifier", "x", {"weights": File(file)}).identity()["params"]["weights"] == sha(b"abc")
    assert len(read) == 1
    status = file.stat()
    file.write_bytes(b"xyz")
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))  # of the same size and modification time
    assert Spec("classifier", "x", {"weights": File(file)}).identity()["params"]["weights"] == sha(b"xyz")
    assert len(read) == 2


def test_a_file_that_was_just_written_is_read_each_time(tmp_path):
    """It could change again within the clock's grain."""
    file = tmp_path / "w"
    for content in (b"abc", b"xyz", b"abc"):
        file.write_bytes(content)
        assert Spec("classifier", "x", {"weights": File(file)}).identity()["params"]["weights"] == sha(content)


# ------------------------------------------------------------------------------ types that YAML has not
class Pool(enum.Enum):
    MEAN = "mean"
    MOST = "max"


class Depth(enum.IntEnum):
    FLAT = 1
    DEEP = 2


class Act(enum.Enum):
    RELU = torch.nn.ReLU
    TANH = torch.nn.Tanh


@dataclass(frozen=True)
class Crop:
    at: tuple[int, int]
    kind: Pool = Pool.MEAN


class Size(TypedDict):
    side: tuple[int, int]


def typed(
    *,
    sizes: tuple[int, int] = (1, 2),
    many: tuple[float, ...] = (),
    nested: list[tuple[str, Pool]] | None = None,
    file: Path = Path("x"),
    pool: Pool = Pool.MEAN,
    depth: Depth = Depth.FLAT,
    act: Act = Act.RELU,
    names: set[str] = frozenset(),  # type: ignore[assignment]
    pools: frozenset[Pool] = frozenset(),
    weights: Mapping[int, float] | None = None,
    crop: Crop | None = None,
    size: Size | None = None,
    n: Positive = 1,
    either: int | float = 1,
    folds: int | Literal["all"] = "all",
    text: str | Path = "",
    loss: tuple[int, ...] | bool = False,
) -> None: ...


TYPED = [
    ("sizes", [3, 4], (3, 4)),
    ("many", [1, 0.5], (1.0, 0.5)),
    ("nested", [["a", "max"]], [("a", Pool.MOST)]),
    ("file", "data/x", Path("data/x")),
    ("pool", "max", Pool.MOST),
    ("depth", 2, Depth.DEEP),
    ("act", "TANH", Act.TANH),
    ("names", ["b", "a"], {"a", "b"}),
    ("pools", ["max", "mean"], frozenset(Pool)),
    ("weights", {"0": 0.5, "12": 2}, {0: 0.5, 12: 2.0}),
    ("crop", {"at": [1, 2], "kind": "max"}, Crop((1, 2), Pool.MOST)),
    ("size", {"side": [1, 2]}, {"side": (1, 2)}),
    ("n", 1e4, 10_000),
    ("either", 2.0, 2.0),
    ("folds", 2.0, 2),
    ("folds", "all", "all"),
    ("text", "a/b", "a/b"),
    ("loss", [1], (1,)),
    ("loss", True, True),
]


@pytest.mark.parametrize(("name", "plain_value", "value"), TYPED)
def test_plain_values_become_what_the_signature_asks_for_and_come_back(name, plain_value, value):
    found = validated(typed, 0, "thing", {name: plain_value})[name]
    assert found == value
    assert type(found) is type(value)
    assert validated(typed, 0, "thing", {name: value})[name] == value  # as it is in Python
    spec: Spec[Any] = Spec("classifier", "typed", {name: found})
    kept = json.loads(json.dumps(spec.plain_params()))
    assert validated(typed, 0, "thing", kept)[name] == value
    assert json.loads(json.dumps(spec.identity()))["params"] == kept
    assert hash(spec) == hash(Spec("classifier", "typed", {name: value}))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("sizes", [3], "1: Field required"),
        ("sizes", [3, 4, 5], "at most 2 items"),
        ("sizes", [3, "4"], "1: Input should be a valid integer, not '4'"),
        ("sizes", "34", "valid tuple, not '34'"),
        ("file", 3, "instance of Path, not 3"),
        ("pool", "mast", "Input should be 'mean' or 'max', not 'mast'"),
        ("pool", "MOST", "Input should be 'mean' or 'max', not 'MOST'"),
        ("depth", True, "Input should be 1 or 2, not True"),
        ("depth", "1", "Input should be 1 or 2, not '1'"),
        ("act", "ReLU", "Input should be 'RELU' or 'TANH', not 'ReLU'"),
        ("names", "ab", "valid set, not 'ab'"),
        ("names", [["a"]], "valid set, not"),
        ("weights", {"a": 1}, "valid integer, not 'a'"),
        ("crop", {"at": [1, "x"]}, "at: 1: Input should be a valid integer, not 'x'"),
        ("crop", {"at": [1, 2], "knd": "max"}, 'knd: Crop has no such parameter, did you mean "kind"?'),
        ("crop", {}, "at: Crop needs this parameter"),
        ("size", {"side": [1]}, "Field required"),
        ("n", 2.5, "valid integer, not 2.5"),
        ("n", 0.0, "greater than 0, not 0"),
        ("n", math.inf, "valid integer, not inf"),
        ("folds", 2.5, "valid integer, not 2.5"),
    ],
)
def test_what_is_not_the_same_thing_is_refused(name, value, message):
    with pytest.raises(ParameterProblems) as caught:
        validated(typed, 0, "thing", {name: value})
    ((path, text),) = caught.value.problems
    assert path == (name,)
    assert message in text


def test_a_sets_members_have_one_order_in_every_key():
    names = [f"name {i}" for i in range(50)]
    assert plain(set(names)) == plain(frozenset(reversed(names))) == sorted(names)
    assert plain({Pool.MOST, Pool.MEAN}) == ["max", "mean"]


def test_what_cannot_be_a_part_of_a_key_is_named():
    with pytest.raises(TypeError, match=r"cannot be written as JSON: torch.float32 \(dtype\)"):
        Spec("classifier", "x", {"kind": torch.float32}).identity()


def test_defaults_are_shown_as_a_recipe_writes_them():
    shown = {name: default for name, _, default in describe_parameters(typed, 0)}
    assert (shown["file"], shown["pool"], shown["act"], shown["sizes"]) == ("'x'", "'mean'", "'RELU'", "(1, 2)")
