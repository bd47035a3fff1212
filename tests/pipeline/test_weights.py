from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dakit.errors import DakitError
from dakit.interfaces import Spec
from dakit.optional import WeightsFile
from dakit.pipeline.weights import fetch, needed

fetched: list[tuple[str, Any]] = []


class Net:
    """Starts from ``<folder>/<name>``, which can be fetched unless the name begins with "gone" or "own"."""

    @staticmethod
    def weights_needed(*, name: str, folder: Path) -> list[WeightsFile]:
        place = folder / name
        library = "" if name.startswith("own") else "shelf"
        return [WeightsFile(name, name.upper(), place, place.is_file(), 3, "mit", library)]

    @staticmethod
    def fetch_weights(observers: Sequence[Any], /, *, name: str, folder: Path) -> None:
        fetched.append((name, observers))
        if name.startswith("gone"):
            raise DakitError(f"{name}: is not there")
        (folder / name).write_bytes(b"abc")


class Plain:
    """Needs nothing."""


def recipe(folder: Path, **rows: list[Any]) -> Any:
    """A row for each list of what its stages have as a parameter: the names of networks, also below other things."""

    def spec(value: Any) -> Any:
        if isinstance(value, str):
            return Spec("classifier", "net", {"name": value, "folder": folder}, Net)
        return value if not isinstance(value, (list, dict)) else _inside(value)

    def _inside(value: Any) -> Any:
        return [spec(one) for one in value] if isinstance(value, list) else {k: spec(v) for k, v in value.items()}

    def plan(row: str) -> Any:
        stages = [Spec("stage", "train", {"steps": 3, "classifier": spec(one)}, Plain) for one in rows[row]]
        return SimpleNamespace(stages=[SimpleNamespace(spec=one) for one in stages])

    return SimpleNamespace(plan=plan)


def test_each_file_once_with_the_rows_that_need_it(tmp_path: Path) -> None:
    (tmp_path / "b").write_bytes(b"abc")
    given = recipe(tmp_path, first=["a", 7, {"deep": ["b"]}], second=["b", "a", "a"], third=["c"])
    found = needed(given, ["first", "second"])
    assert [(need.file.file, need.file.there, need.rows) for need in found] == [
        ("a", False, ("first", "second")),
        ("b", True, ("first", "second")),
    ]


def test_what_is_missing_is_fetched_and_every_problem_told(tmp_path: Path) -> None:
    (tmp_path / "b").write_bytes(b"abc")
    fetched.clear()
    needs = needed(recipe(tmp_path, row=["gone1", "a", "b", "own", "gone2"]), ["row"])
    with pytest.raises(DakitError) as caught:
        fetch(needs, ["observer"])
    assert str(caught.value).splitlines() == ["gone1: is not there", "gone2: is not there"]
    assert fetched == [("gone1", ("observer",)), ("a", ("observer",)), ("gone2", ("observer",))]
    fetched.clear()
    assert [need.file.file for need in fetch(needed(recipe(tmp_path, row=["a", "b", "own"]), ["row"]))] == []
    assert fetched == []
    assert [need.file.file for need in fetch(needed(recipe(tmp_path, row=["c"]), ["row"]))] == ["c"]
