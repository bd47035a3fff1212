"""Faults in the data of a recipe: told before hours are spent on them.

The labels of a test side are never looked at here: its pixels, names and groups are. (That a split can be made
is asked of :class:`~dakit.data.splits.Split`, which deals whole classes; and label noise is read from
evaluations that a run has made and kept.)
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from dakit.data.sets import Unlabelled
from dakit.data.splits import own_groups
from dakit.errors import DakitError
from dakit.interfaces import ImageSet, Observer
from dakit.metrics import Evaluation
from dakit.plans import DataPlan, Recipe
from dakit.store import Store

Array = npt.NDArray[Any]
SEVERITIES = ("note", "warning", "error")
_BITS = 256
_NEAR = 16
"""Bits of 256 in which the perceptual hashes of near duplicates differ at most.

Measured: four photographs saved again as JPEG (quality 30 and 60), resized or made brighter differ in 0 to 8 bits;
digits saved again in 6 (median) to 18 (99th percentile); of 3,000 different digits the nearest two differ in 24.
"""


class Finding(NamedTuple):
    """One thing that was found.

    Attributes:
        severity: "note", "warning" or "error".
        check: which check found it.
        where: the role, or both.
        text: what it is, and what to do.
        images: which; a pair is one text, "a = b".
    """

    severity: Literal["note", "warning", "error"]
    check: str
    where: str
    text: str
    images: tuple[str, ...] = ()


@dataclass(frozen=True)
class Opened:
    """One role's data, without the labels of its test side.

    Attributes:
        role: its name.
        images: the whole set, without labels.
        names: a path, or ``role[index]``, for each image.
        classes: of its labels.
        train: bool ``(rounds, N)``: the training side of each fold; of a set without a split, all.
        test: bool ``(rounds, N)``.
        labels: of the first round's training side, -1 elsewhere.
    """

    role: str
    images: ImageSet
    names: Sequence[str]
    paths: Sequence[Path] | None
    classes: tuple[str, ...]
    train: Array
    test: Array
    labels: Array
    predefined: bool = field(default=False)


def examine(recipe: Recipe, observers: Iterable[Observer] = ()) -> list[Finding]:
    """Everything that can be said of a recipe's data without running it, the worst first.

    Args:
        recipe: whose data is opened.
        observers: told of the images that were looked at.
    """
    found: list[Finding] = []
    opened: list[Opened] = []
    for data in {role: data for plan in recipe.plans.values() for role, data in plan.data.items()}.values():
        try:
            opened.append(open_role(data, recipe.seeds[0]))
        except DakitError as error:
            found.append(Finding("error", "data", data.role, str(error)))
    lists = {one.role: one.classes for one in opened if one.classes}
    if len(set(lists.values())) > 1:
        text = "; ".join(f"{role}: {', '.join(names)}" for role, names in lists.items())
        found.append(
            Finding("error", "classes", ", ".join(lists), f"the class lists differ ({text}); set data.classes")
        )
    for one in opened:
        found += [*_labels(one), *_groups(one)]
    looks = []
    total = sum(len(one.images) for one in opened)
    done = 0
    for observer in observers:
        observer.work_started(f"looking at {total} images", total)
    for one in opened:
        looks.append(looks_of(one))
        found += _odd(one, looks[-1])
        done += len(one.images)
        for observer in observers:
            observer.step(done, {})
    found += duplicates(opened, looks)
    return sorted(found, key=lambda finding: -SEVERITIES.index(finding.severity))


def images_of(data: DataPlan) -> ImageSet:
    """A role's whole set; without the files that cannot be read where the recipe says to skip those.

    Raises:
        DakitError: it cannot be opened.
    """
    images: ImageSet = data.spec.build(data.size, data.classes)
    readable = getattr(images, "readable", None)
    return readable()[0] if data.on_bad_image == "skip" and readable else images


def open_role(data: DataPlan, seed: int) -> Opened:
    """Open the data of a role as a run would.

    Raises:
        DakitError: it cannot be opened or divided.
    """
    images = images_of(data)
    n = len(images)
    train, test = np.ones((1, n), bool), np.zeros((1, n), bool)
    if data.split is not None:
        rounds = data.split.rounds(images)
        train, test = np.zeros((rounds, n), bool), np.zeros((rounds, n), bool)
        for fold in range(rounds):
            sides = data.split.apply(images, fold, seed)
            train[fold, sides["train"]] = test[fold, sides["test"]] = True
    paths = getattr(images, "paths", None)
    labels = np.full(n, -1) if data.unlabelled else np.where(train[0], np.asarray(images.labels), -1)
    return Opened(
        role=data.role, images=Unlabelled(images),
        names=[str(path) for path in paths] if paths else [f"{data.role}[{i}]" for i in range(n)], paths=paths,
        classes=() if data.unlabelled else images.classes, train=train, test=test, labels=labels,
        predefined=data.split is not None and not (data.split.holdout or isinstance(data.split.folds, int)),
    )  # fmt: skip


def _labels(one: Opened) -> Iterator[Finding]:
    """Classes without images, with few, and out of balance; on the first fold's training side."""
    if not one.classes:
        return
    counts = {name: int((one.labels == k).sum()) for k, name in enumerate(one.classes)}
    side = "the training side of fold 0" if one.test.any() else "it"
    empty = [name for name, count in counts.items() if not count]
    if empty:
        yield Finding("error", "classes", one.role, f"{side} has no image of {', '.join(empty)}")
    few = {name: count for name, count in counts.items() if 0 < count < 5}
    if few:
        text = ", ".join(f"{name} {count}" for name, count in few.items())
        yield Finding("warning", "few labels", one.role, f"{side} has fewer than 5 images of a class: {text}")
    most, least = max(counts.values()), min((count for count in counts.values() if count), default=0)
    if least and most >= 3 * least:
        worst = f"{max(counts, key=lambda k: counts[k])} {most}, {min(counts, key=lambda k: counts[k] or most)} {least}"
        advice = "`balanced: true` of train_classifier draws every class equally often"
        text = f"the largest class is {most / least:.1f} times the smallest ({worst}); {advice}"
        yield Finding("warning" if most >= 10 * least else "note", "imbalance", one.role, text)


def _groups(one: Opened) -> Iterator[Finding]:
    """Groups on both sides of a published split; dakit's own splits never divide one."""
    if not one.predefined:
        return
    groups = np.asarray(own_groups(one.images.groups, range(len(one.images))))
    split: set[str] = set()
    for train, test in zip(one.train, one.test, strict=True):
        split |= set(groups[train]) & set(groups[test])
    if split:
        text = f"{len(split)} groups stand on both sides of the published split: {', '.join(sorted(split)[:5])}"
        yield Finding("warning", "groups", one.role, text)


class Looks(NamedTuple):
    """What one pass over a set's pixels keeps.

    Attributes:
        hashes: bool ``(N, 256)``, perceptual (DCT) hashes.
        digests: of the pixels; "" = cannot be read.
        reasons: image -> why it cannot be read.
        flat: which images are one colour.
        grey: which have no colour.
        sizes: int ``(N, 2)``, width and height of the files; 0 = not known.
    """

    hashes: Array
    digests: list[str]
    reasons: dict[int, str]
    flat: Array
    grey: Array
    sizes: Array


def looks_of(one: Opened) -> Looks:
    """Decode every image once, as the recipe does, in threads."""
    import imagehash

    n = len(one.images)
    looks = Looks(
        np.zeros((n, _BITS), bool), [""] * n, {}, np.zeros(n, bool), np.zeros(n, bool), np.zeros((n, 2), np.int64)
    )

    def look(i: int) -> None:
        try:
            pixels = one.images[i].image.numpy()
            if one.paths is not None:
                with Image.open(one.paths[i]) as file:
                    looks.sizes[i] = file.size
        except (DakitError, OSError, UnidentifiedImageError) as error:
            looks.reasons[i] = str(error)
            return
        looks.digests[i] = hashlib.sha256(pixels.tobytes()).hexdigest()
        looks.flat[i] = pixels.std() < 2
        looks.grey[i] = bool((pixels[0] == pixels[1]).all() and (pixels[1] == pixels[2]).all())
        image = Image.fromarray(pixels.transpose(1, 2, 0))
        looks.hashes[i] = imagehash.phash(image, hash_size=16).hash.ravel()

    with ThreadPoolExecutor() as pool:
        list(pool.map(look, range(n)))
    return looks


def _odd(one: Opened, looks: Looks) -> Iterator[Finding]:
    def about(which: Iterable[int]) -> tuple[str, ...]:
        return tuple(one.names[i] for i in which)

    readable = np.array([bool(digest) for digest in looks.digests])
    n = int(readable.sum())
    if looks.reasons:
        first = looks.reasons[min(looks.reasons)]
        text = f"{len(looks.reasons)} images cannot be read, and a run would stop at them: {first}"
        yield Finding("error", "unreadable", one.role, text, about(sorted(looks.reasons)))
    flat = np.flatnonzero(looks.flat)
    if len(flat):
        yield Finding("warning", "one colour", one.role, f"{len(flat)} images are one colour", about(flat))
    grey = looks.grey & readable & ~looks.flat
    if 0 < grey.sum() < n / 2:
        text = f"{grey.sum()} of {n} images have no colour, the others have"
        yield Finding("note", "no colour", one.role, text, about(np.flatnonzero(grey)))
    shorter, longer = looks.sizes.min(1), looks.sizes.max(1)
    size = one.images[int(np.flatnonzero(readable)[0])].image.shape[-1] if n else 0
    small = np.flatnonzero((shorter > 0) & (2 * shorter <= size))
    if len(small):
        text = f"{len(small)} images are enlarged to twice their size and more, to {size} pixels"
        yield Finding("warning" if 2 * len(small) > n else "note", "small", one.role, text, about(small))
    long = np.flatnonzero(longer > 3 * np.maximum(shorter, 1))
    if len(long):
        text = f"{len(long)} images are more than three times as long as wide; little of them is left in a square"
        yield Finding("warning", "shape", one.role, text, about(long))


def near_pairs(hashes: Array, most: int = _NEAR) -> Array:
    """Which hashes differ in at most ``most`` bits: int64 ``(M, 2)``, the smaller index first.

    With bits as signs, the product of two rows is bits - 2 x distance; one matrix product for 2,048 rows at once
    makes 20,000 images a matter of seconds.

    >>> near_pairs(np.array([[0, 0, 1], [1, 1, 0], [0, 1, 1]], bool), 1).tolist()
    [[0, 2]]
    """
    signs = hashes.astype(np.float32) * 2 - 1
    pairs = [np.empty((0, 2), np.int64)]
    for start in range(0, len(signs), 2048):
        alike = signs[start : start + 2048] @ signs[start:].T >= hashes.shape[1] - 2 * most
        pairs.append(np.argwhere(np.triu(alike, 1)) + start)
    return np.concatenate(pairs)


def duplicates(opened: Sequence[Opened], looks: Sequence[Looks]) -> Iterator[Finding]:
    """The same or nearly the same image twice, inside a role and across; worst where one is a test image."""
    where = [(role, i) for role, one in enumerate(opened) for i in range(len(one.images))]
    members: dict[str, list[int]] = {}
    for at, (role, i) in enumerate(where):
        if looks[role].digests[i] and not looks[role].flat[i]:
            members.setdefault(looks[role].digests[i], []).append(at)
    same = list(members.values())
    exact = [(first, other) for first, *others in same for other in others]
    unique = [first for first, *_ in same]
    hashes = np.concatenate([look.hashes for look in looks]) if looks else np.zeros((0, _BITS), bool)
    near = [sorted(pair) for a, b in near_pairs(hashes[unique]) for pair in product(same[a], same[b])]
    found: dict[tuple[int, str, str, str], list[str]] = {}
    for kind, pairs in (("exact duplicates", exact), ("near duplicates", near)):
        for a, b in pairs:
            (role_a, i), (role_b, j) = where[a], where[b]
            one, other = opened[role_a], opened[role_b]
            if role_a == role_b:
                place = one.role
                leak = bool(((one.train[:, i] & one.test[:, j]) | (one.test[:, i] & one.train[:, j])).any())
                how = "stand on the training and the test side of a fold" if leak else "inside one role"
            else:
                place = f"{one.role}, {other.role}"
                leak = bool(one.test[:, i].any() or other.test[:, j].any())
                how = "of a test image in another role" if leak else "across roles"
            severity = (1 if kind.startswith("near") else 2) if leak else (0 if kind.startswith("near") else 1)
            found.setdefault((severity, kind, place, how), []).append(f"{one.names[i]} = {other.names[j]}")
    for (severity, kind, place, how), names in found.items():
        advice = "; give them one group, or remove one" if severity and "fold" in how else ""
        text = f"{len(names)} {how}{advice}"
        yield Finding(SEVERITIES[severity], kind, place, text, tuple(names))  # type: ignore[arg-type]


def label_suspects(evaluations: Sequence[Evaluation]) -> list[tuple[int, int, int, float]]:
    """Images whose label is in doubt, from out-of-fold predictions: (index, label, better label, its probability).

    With p the mean probability over the evaluations of an image and t_j = mean of p_j over the images labelled j,
    an image is suspected when the most probable class j among those with p_j >= t_j is not its label; the most
    probable first.

    Source: Northcutt, Jiang, Chuang, *Confident learning: estimating uncertainty in dataset labels*, Journal of
    Artificial Intelligence Research 2021, section 3.1.
    """
    sums: dict[int, Array] = {}
    labels: dict[int, int] = {}
    times: Counter[int] = Counter()
    for evaluation in evaluations:
        for index, label, said in zip(evaluation.indices, evaluation.labels, evaluation.probabilities, strict=True):
            sums[int(index)] = sums.get(int(index), 0) + said.astype(np.float64)
            labels[int(index)] = int(label)
            times[int(index)] += 1
    order = sorted(sums)
    given = np.array([labels[i] for i in order])
    mean = np.array([sums[i] / times[i] for i in order])
    thresholds = [mean[given == j, j].mean() if (given == j).any() else np.inf for j in range(mean.shape[1])]
    confident = np.where(mean >= thresholds, mean, -1)
    best = confident.argmax(1)
    found = [
        (i, int(given[n]), int(best[n]), float(confident[n, best[n]]))
        for n, i in enumerate(order)
        if confident[n, best[n]] >= 0 and best[n] != given[n]
    ]
    return sorted(found, key=lambda one: -one[3])


def label_noise(recipe: Recipe, out: str | Path | None = None) -> list[Finding]:
    """Suspects among the target's labels, where a run with folds has been made with just this data and recipe.

    Only with folds: there every image is a training image too, judged by models that did not learn from it. The
    labels of a fixed test side are nobody's to correct after a look at the predictions.
    """
    from dakit import pipeline

    row = recipe.plan(str(recipe.document["method"]))
    folded = [data for data in row.data.values() if data.split and data.split.folds is not None]
    try:
        steps = pipeline.plan(recipe, rows=[row.row], out=out) if folded else []
    except DakitError:
        return []  # told already: the data cannot be opened
    done = [step for step, state in steps if step.stage.spec.name == "evaluate" and state == "cached"]
    if not done or len(done) < len([step for step, _ in steps if step.stage.spec.name == "evaluate"]):
        return []
    store = Store(pipeline.output_folder(recipe, out) / "store", recipe.registry)
    said = [store.open(step.stage.name, step.key, step.inputs).output("evaluation") for step in done]
    suspects = label_suspects(said)
    if not suspects:
        return []
    (data,) = folded
    names = open_role(data, recipe.seeds[0]).names
    classes = said[0].classes
    advice = "look at them, the model may be wrong"
    text = f"{len(suspects)} labels are in doubt by {row.row}'s predictions out of fold; {advice}"
    images = tuple(f"{names[i]}: {classes[label]}, or {classes[other]} ({p:.2f})?" for i, label, other, p in suspects)
    return [Finding("note", "labels", data.role, text, images)]
