"""The data of a recipe: every set is opened once, and its test side sealed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from dakit.data.kept import Kept
from dakit.data.sets import (
    FileImages,
    Sealed,
    Subset,
    TensorImages,
    Unlabelled,
    Withheld,
    described,
    fingerprint,
    shown,
)
from dakit.errors import DakitError, RecipeError
from dakit.files import write_json
from dakit.interfaces import File, Folder, ImageSet
from dakit.optional import IsView, Readable, offers
from dakit.recipe.load import load_recipe
from dakit.recipe.plans import DataPlan, Recipe
from dakit.results.store import digest
from dakit.statistics.measures import Metric

OPENINGS = "test_labels.json"
"""Counts how often the labels of each test set were opened; stays when results are made anew."""


_ANY = "any"
"""Before 0.3.0 openings were counted without saying of which set."""


class Roles:
    """The sets of a recipe's roles (source, auxiliary, target), opened when they are first asked for.

    Args:
        recipe: names them.
        folder: where decoded images are kept in a run, and whose parent counts the openings of test labels.
        room: bytes that they may take, see :class:`~dakit.data.kept.Kept`; 0 for one who only looks.

    Attributes:
        warnings: what was left out of them.
    """

    def __init__(self, recipe: Recipe, folder: Path, room: int | None = None) -> None:
        self.recipe = recipe
        self.folder = folder
        self.room = room
        self.warnings: list[str] = []
        self._sets: dict[str, ImageSet] = {}

    def open(self, rows: Sequence[str]) -> None:
        """Open every data set that the rows need; all problems in one message.

        Raises:
            DakitError: folders are missing, or class lists differ.
        """
        needed = {}
        for row in rows:
            for data in self.recipe.plan(row).data.values():
                needed[data_key(data)] = data
        problems = []
        for data in needed.values():
            try:
                self.set(data)
            except DakitError as error:
                problems.append(f"{data.role} ({data.spec.name}): {error}")
        if problems:
            missing = any(not path.exists() for data in needed.values() for path in data_paths(data))
            raise DakitError("\n".join(problems) + (self._without_data() if missing else ""))
        labelled = {data.role: self.set(data) for data in needed.values() if self.set(data).classes}
        classes = {role: images.classes for role, images in labelled.items()}
        if len(set(classes.values())) > 1:
            lists = "\n".join(f"  {role}: {', '.join(names)}" for role, names in classes.items())
            raise RecipeError([f"{self.recipe.file}: data: the class lists differ:\n{lists}\n"
                               "  expected the same names in the same order (set data.classes)"])  # fmt: skip
        for names in set(classes.values()):
            used_labels = {label for images in labelled.values() for label in images.labels}
            empty = [name for label, name in enumerate(names) if label not in used_labels]
            if empty or len(names) < 2:
                what = f"no image is of the class {', '.join(empty)}" if empty else f"there is one class, {names[0]}"
                raise RecipeError([f"{self.recipe.file}: data: {what}; expected images of two classes or more"])

    def _without_data(self) -> str:
        """Name a profile that needs nothing from disk."""
        for profile in self.recipe.profiles:
            try:
                other = load_recipe(self.recipe.file, profile=profile, registry=self.recipe.registry)
            except DakitError:  # it does not fit, or the recipe came from no file
                continue
            if not any(data_paths(data) for plan in other.plans.values() for data in plan.data.values()):
                return f"\nWithout any data: dakit run {self.recipe.file} --profile {profile}"
        return ""

    def set(self, data: DataPlan) -> ImageSet:
        """The whole data set of a role."""
        key = data_key(data)
        if key not in self._sets:
            images: ImageSet = data.spec.build(data.size, data.classes)
            if isinstance(images, FileImages):  # before the check, which decodes them
                images = Kept(images, self.folder, room=self.room)
            images = self._readable(data, images)
            if not isinstance(images, (TensorImages, Kept)):
                images = Kept(images, self.folder, room=self.room)
            self._sets[key] = Unlabelled(images) if data.unlabelled else images
        return self._sets[key]

    def plain(self, data: DataPlan) -> ImageSet:
        """What the dataset plugin made, without the views that are laid over it."""
        images = self.set(data)
        while offers(images, IsView):
            images = images.base
        return images

    def _readable(self, data: DataPlan, images: ImageSet) -> ImageSet:
        """The set as the recipe wants it where some files cannot be decoded."""
        if not offers(images, Readable):
            return images
        good, faults = images.readable()
        if not faults:
            return images
        listed = "".join(f"\n  {shown(path)}: {why}" for path, why in list(faults.items())[:20])
        listed += f"\n  and {len(faults) - 20} more" if len(faults) > 20 else ""
        summary = f"{len(faults)} of {len(images)} images cannot be read"
        if data.on_bad_image == "error" or not len(good):
            raise DakitError(f"{summary}:{listed}\n  mend or remove them, or set data.on_bad_image: skip")
        self.warnings.append(f"{data.role} ({data.spec.name}): {summary} and are left out:{listed}")
        return good

    def parts(self, data: DataPlan, seed: int, fold: int) -> dict[str, Any]:
        """What a recipe may name of a role: ``all``, or ``train`` and ``test``."""
        images = self.set(data)
        if data.split is None:
            return {"all": images}
        rounds = data.split.rounds(images)
        key = f"{data_key(data)} {data.split} {seed} {fold % rounds}"
        if key not in self._sets:
            try:
                sides = data.split.apply(images, fold % rounds, seed)
            except DakitError as error:
                raise DakitError(f"data.{data.role}.split: {error}") from error
            self._sets[key] = {  # type: ignore[assignment]
                "train": Subset(Withheld(images, sides["train"]), sides["train"]),
                "test": Sealed(Subset(images, sides["test"]), partial(self._count_opening, data)),
            }
        return self._sets[key]  # type: ignore[return-value]

    def tests(self) -> Iterator[tuple[str, int, int, int]]:
        """Row, seed, fold and repeat of all that the recipe tests."""
        for row, plan in self.recipe.plans.items():
            if (data := plan.tested) and data.split:
                images = self.set(data)
                for seed, fold in product(self.recipe.seeds, range(data.split.rounds(images))):
                    yield row, seed, fold, fold // data.split.folds_of(images)

    def measurable(self, metric: Metric, rounds: Iterable[tuple[str, int, int, int]]) -> None:
        """Ask, before a run, whether its test images have what a metric needs: all classes, or groups of one class.

        Args:
            metric: that the table is about.
            rounds: row, seed, fold and repeat of all that is to be tested.

        Raises:
            DakitError: they have not.
        """
        if metric.needs is None:
            return
        tests: dict[tuple[str, int, int], list[tuple[Any, ...]]] = {}
        plans: dict[str, DataPlan] = {}
        for row, seed, fold, repeat in sorted(rounds):
            if data := self.recipe.plan(row).tested:
                sealed: Sealed = self.parts(data, seed, fold)["test"]
                tests.setdefault((data_key(data), seed, repeat), []).append(described(sealed))
                plans[data_key(data)] = data
        problems: dict[str, None] = {}
        for (key, seed, _), parts in tests.items():
            labels, groups = (np.concatenate([part[place] for part in parts]) for place in (1, 2))
            if problem := metric.needs(self.set(plans[key]).classes, labels, groups):
                problems[f"metric: {metric.name}: {plans[key].role} (seed {seed}): {problem}"] = None
        if problems:
            raise RecipeError([f"{self.recipe.file}: {problem}" for problem in problems])

    def _count_opening(self, data: DataPlan) -> None:
        counts = self._opened()
        key = fingerprint_once(self.set(data))
        counts[key] = counts.get(key, 0) + 1
        write_json(self.folder.parent / OPENINGS, {"opened": sum(counts.values()), "by_set": counts})

    def openings(self, rows: Iterable[str]) -> int:
        """How often the labels of the sets that these rows are tested on were opened with this folder of results, in
        all runs so far.
        """
        counts = self._opened()
        tested = {fingerprint_once(self.set(data)) for row in rows if (data := self.recipe.plan(row).tested)}
        return sum(counts.get(key, 0) for key in (_ANY, *tested))

    def _opened(self) -> dict[str, int]:
        path = self.folder.parent / OPENINGS
        about = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        return dict(about.get("by_set", {_ANY: about["opened"]} if about else {}))


def data_paths(data: DataPlan) -> list[Path]:
    """Every file and folder that a set reads."""
    values = [x for v in data.spec.params.values() for x in (v if isinstance(v, list) else [v])]
    return [value.path for value in values if isinstance(value, (File, Folder))]


def fingerprint_once(images: Any) -> str:
    """A set's fingerprint, computed once per object."""
    if not hasattr(images, "_fingerprint"):
        images._fingerprint = fingerprint(images)
    return str(images._fingerprint)


def content_key(data: DataPlan, images: Any) -> str:
    """What results that read ``images``, a part of a role, depend on.

    That is what the set holds, and what makes its images: the dataset's name, version, code and parameters. Of
    parameters that name a folder only the content counts, wherever it lies.
    """
    params = {name: value for name, value in data.spec.params.items() if not _folders(value)}
    return digest([replace(data.spec, params=params).identity(), fingerprint_once(images)])


def _folders(value: Any) -> bool:
    return isinstance(value, Folder) or (isinstance(value, list) and any(isinstance(item, Folder) for item in value))


def data_key(data: DataPlan) -> str:
    """What tells one set of a recipe from another."""
    about = [data.role, data.spec.identity(), data.unlabelled, data.size, data.classes, data.on_bad_image]
    return json.dumps(about, sort_keys=True)
