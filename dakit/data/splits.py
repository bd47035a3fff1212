"""Which images a model learns from and which it is tested on: by group, by class, by seed."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import annotated_types
import numpy as np

from dakit.data.parts import part_role
from dakit.data.sequences import integers
from dakit.data.sets import parts_of
from dakit.errors import DakitError, did_you_mean
from dakit.interfaces import Fraction, ImageSet, Positive


@dataclass(frozen=True)
class Split:
    """How a data set is divided into "train" and "test". Exactly one of the first three is given.

    ``holdout`` and ``folds: k`` deal whole groups (people, videos) to the sides, so no group stands on two,
    and every class in the same proportion as far as the groups allow. Which group goes where depends on the
    groups' names, sizes and classes and on the seed, not on the order of the files. (An image whose group is
    "" is its own group, and has only its position for a name.) Published parts are taken as they are; one
    group may stand in two of them. What a part is for is told by its name, see :func:`~dakit.data.parts.part_role`;
    nothing learns from a part for testing.

    Args:
        holdout: this fraction of every class is for testing, in (0, 1).
        folds: k >= 2, every group is tested in one of k folds; or "predefined", fold i tests on the i-th
            published part, sorted by name, and trains on all others; not of parts for training and for testing.
        predefined: true: test on the published part "test" and train on "train" and "val", however spelt
            (Train, dev, test_set); ``choose: validation`` then looks at "val". Or the name of the part to test
            on, where that is another; it trains on all others but those for testing.
        per_class: of the training images keep so many of each class, drawn with the seed; the others are
            not used. Of the same draw, the images of a smaller number are among those of a larger one.
        repeats: draw all of this so many times; fold n is fold n mod k of repeat n // k. With 5 folds and 3
            repeats there are 15 folds, and every image is tested 3 times.
        seed: None = the run's own, so that every seed has its own split.

    Raises:
        DakitError: none or several of the first three are given, or a number is out of range.

    >>> from dakit.data.sets import TensorImages
    >>> import torch
    >>> pixels = torch.zeros(6, 3, 1, 1, dtype=torch.uint8)
    >>> faces = TensorImages(pixels, labels=[0, 1] * 3, groups=list("aabbcc"), classes=("AN", "HA"))
    >>> Split(folds=3).apply(faces, fold=0, seed=0)
    {'train': [2, 3, 4, 5], 'test': [0, 1]}
    """

    holdout: Fraction | None = None
    folds: Annotated[int, annotated_types.Ge(2)] | Literal["predefined"] | None = None
    predefined: bool | str = False
    per_class: Positive | None = None
    repeats: Positive = 1
    seed: int | None = None

    def __post_init__(self) -> None:
        given = (self.holdout is not None) + (self.folds is not None) + bool(self.predefined)
        if given != 1:
            raise DakitError(
                "a split needs exactly one of holdout: FRACTION, folds: NUMBER, folds: predefined and "
                f"predefined: true; here are {given}"
            )
        if self.holdout is not None and not 0 < self.holdout < 1:
            raise DakitError(f"holdout: {self.holdout} leaves a side empty; expected a number between 0 and 1")
        if isinstance(self.folds, int) and self.folds < 2:
            raise DakitError(f"folds: {self.folds} leaves a side empty; expected at least 2")
        if self.per_class is not None and self.per_class < 1:
            raise DakitError(f"per_class: {self.per_class} leaves no training images; expected at least 1")
        if self.repeats < 1:
            raise DakitError(f"repeats: {self.repeats} leaves nothing to run; expected at least 1")
        if self.repeats > 1 and not self.drawn:
            raise DakitError(f"repeats: {self.repeats} would repeat the same: published parts without per_class")

    @property
    def drawn(self) -> bool:
        """Whether chance has a part in it."""
        return not (self.predefined or self.folds == "predefined") or self.per_class is not None

    def rounds(self, images: ImageSet) -> int:
        """How many folds there are in all repeats.

        Raises:
            DakitError: the split is predefined and the data has not the published parts for it.
        """
        return self.repeats * self.folds_of(images)

    def folds_of(self, images: ImageSet) -> int:
        """How many folds there are in one repeat: k, the number of published parts, or 1.

        Raises:
            DakitError: the split is predefined and the data has not the published parts for it.
        """
        if isinstance(self.folds, int):
            return self.folds
        if self.holdout is not None:
            return 1
        return len(self._published(sorted(set(_parts(images)))))

    def _published(self, names: Sequence[str]) -> list[dict[str, str]]:
        """For each fold the side of every published part: "train", "test", or "" for neither."""
        roles = {name: part_role(name) for name in names}
        here = ", ".join(names)
        if isinstance(self.predefined, str):
            if self.predefined not in roles:
                near = did_you_mean(self.predefined, names)
                raise DakitError(f"predefined: {self.predefined}: there is no such published part{near}")
            if all(name == self.predefined or role == "test" for name, role in roles.items()):
                raise DakitError(f"predefined: {self.predefined} leaves no part to learn from; here are {here}")
            others = {name: "" if role == "test" else "train" for name, role in roles.items()}
            return [{**others, self.predefined: "test"}]
        if self.predefined:
            if "test" not in roles.values() or {*roles.values()} == {"test"} or None in roles.values():
                raise DakitError(
                    f"predefined: true needs the parts train and test, by name; here are {here}; "
                    "predefined: NAME tests on the part of that name"
                )
            return [{name: "test" if role == "test" else "train" for name, role in roles.items()}]
        if len(names) < 2:
            raise DakitError(f"folds: predefined needs at least two parts; here is {here}")
        if {"train", "test"} <= {*roles.values()}:
            raise DakitError(
                f"folds: predefined would learn from what is published for testing; here are the parts {here}; "
                "predefined: true tests on it"
            )
        return [{name: "test" if name == tested else "train" for name in names} for tested in names]

    def apply(self, images: ImageSet, fold: int, seed: int) -> dict[str, list[int]]:
        """The indices of "train" and of "test", in rising order; together all images but for ``per_class`` and parts
        for testing that are not tested on.

        Args:
            images: what is divided.
            fold: in [0, ``rounds(images)``).
            seed: the run's; used where the split has none of its own.

        Raises:
            DakitError: labels or published parts are missing where they are needed, or there are too few
                images or groups of a class.
        """
        rounds = self.rounds(images)
        if not 0 <= fold < rounds:
            raise ValueError(f"fold {fold} is not in [0, {rounds})")
        repeat, fold = divmod(fold, self.folds_of(images))
        seed = seed if self.seed is None else self.seed
        chance = f"{seed} repeat {repeat}" if repeat else seed
        side: Sequence[int | str]
        test: int | str
        if self.holdout is not None:
            side, test = _deal(images, [1 - self.holdout, self.holdout], chance, f"holdout: {self.holdout}"), 1
        elif isinstance(self.folds, int):
            side, test = _deal(images, [1 / self.folds] * self.folds, chance, f"folds: {self.folds}"), fold
        else:
            parts = _parts(images)
            sides = self._published(sorted(set(parts)))[fold]
            side, test = [sides[part] for part in parts], "test"
        train = [i for i, its in enumerate(side) if its not in (test, "")]
        if self.per_class is not None:
            train = _draw_per_class(images, train, self.per_class, chance)
        return {"train": train, "test": [i for i, its in enumerate(side) if its == test]}


def own_groups(groups: Sequence[str], indices: Iterable[int]) -> list[str]:
    """A name for every image's group: an image whose group is "" is its own, and named by its position.

    Where a group of the set's has that name, there is one "#" more.

    Args:
        groups: one per image.
        indices: the images' positions in their whole set.

    >>> own_groups(["ann", "", "ann", ""], range(4))
    ['ann', '#1', 'ann', '#3']
    """
    taken = set(groups)
    names = []
    for group, index in zip(groups, indices, strict=True):
        name = str(group) or f"#{index}"
        while not group and name in taken:
            name = f"#{name}"
        names.append(name)
    return names


def _deal(images: ImageSet, shares: Sequence[float], chance: int | str, split: str) -> Sequence[int]:
    """The side of every image: side s gets the fraction ``shares[s]`` of each class, in whole groups.

    Groups are dealt one by one, large ones first, those of like size in an order drawn by ``chance``. Each
    goes where it lowers sum_c (have_c - target_c)^2 / target_c most; c runs over the classes and, as one more,
    over all images together. For groups of one image this is Webster's apportionment.

    All folds come from one deal, so the last few deals are remembered, by what they depend on.
    """
    labels = np.array(_labels(images))
    unique_groups, row = np.unique(np.array(_groups(images), dtype=object), return_inverse=True)
    names: list[str] = unique_groups.tolist()
    about = hashlib.sha256(repr((tuple(shares), chance, images.classes, names)).encode())
    for numbers in (labels, row):
        about.update(numbers.astype(np.int64).tobytes())
    if about.digest() in _DEALT:
        return _DEALT[about.digest()]
    # How many images of each class a group has: most groups have few classes, so what is not there is not held.
    present, column = np.unique(labels, return_inverse=True)
    pairs, counts = np.unique(row * len(present) + column, return_counts=True)
    starts = np.searchsorted(pairs // len(present), np.arange(len(names) + 1))
    sizes = np.bincount(row, minlength=len(names))
    target = np.outer(shares, [*np.bincount(column), len(labels)])
    excess = -target
    sides = np.zeros(len(names), np.int64)
    for group in sorted(range(len(names)), key=lambda g: (-int(sizes[g]).bit_length(), _chance(chance, names[g]))):
        span = slice(starts[group], starts[group + 1])
        weights = np.zeros(len(present) + 1)
        weights[pairs[span] % len(present)] = counts[span]
        weights[-1] = sizes[group]
        cost = (weights * (2 * excess + weights) / target).sum(axis=1)
        sides[group] = cost.argmin()
        excess[sides[group]] += weights
    groups_of, classes_of = pairs // len(present), pairs % len(present)
    for number, label in enumerate(present):
        members = groups_of[classes_of == number]
        if len(members) < len(shares) or len(set(sides[members])) == 1:
            raise DakitError(
                f'{split}: class "{images.classes[label]}" has {int((column == number).sum())} images in '
                f"{len(members)} groups, too few to be on every side (a group is never divided)"
            )
    while len(_DEALT) > 7:
        del _DEALT[next(iter(_DEALT))]
    return _DEALT.setdefault(about.digest(), integers(sides[row]))


_DEALT: dict[bytes, Sequence[int]] = {}


def _draw_per_class(images: ImageSet, train: Sequence[int], count: int, chance: int | str) -> list[int]:
    """``count`` images of each class; an image is known by its group, its class and its place among those."""
    labels = _labels(images)
    groups = _groups(images)
    seen: Counter[tuple[str, int]] = Counter()
    by_label: dict[int, list[tuple[bytes, int]]] = {label: [] for label in range(len(images.classes))}
    for i in train:
        by_label[labels[i]].append((_chance(chance, groups[i], seen[groups[i], labels[i]]), i))
        seen[groups[i], labels[i]] += 1
    for label, candidates in by_label.items():
        if len(candidates) < count:
            raise DakitError(
                f'per_class: {count}: class "{images.classes[label]}" has {len(candidates)} training images'
            )
    return sorted(i for candidates in by_label.values() for _, i in sorted(candidates)[:count])


def _labels(images: ImageSet) -> list[int]:
    labels = list(images.labels)
    if not labels:
        raise DakitError("there are no images to split")
    missing = sum(label < 0 for label in labels)
    if missing:
        raise DakitError(
            f"{missing} of {len(labels)} images have no label; holdout, folds: NUMBER and per_class need "
            "them all, to keep the proportions of the classes"
        )
    return labels


def _groups(images: ImageSet) -> list[str]:
    return own_groups(images.groups, range(len(images.groups)))


def _parts(images: ImageSet) -> list[str]:
    parts = parts_of(images)
    if not parts:
        raise DakitError("the data has no published parts; expected holdout: FRACTION or folds: NUMBER")
    return list(parts)


def _chance(*what: int | str) -> bytes:
    """Bytes that look random but are the same for the same things, whatever else there is."""
    return hashlib.sha256(repr(what).encode()).digest()
