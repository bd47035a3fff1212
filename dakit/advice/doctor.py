"""Faults in the data of a recipe: told before hours are spent on them.

The labels of a test side are never looked at here: its pixels, names and groups are. An image that is tested in one
fold and learned from in another has a label that a training side may see; that one is looked at. (That a split can be
made is asked of :class:`~dakit.data.splits.Split`, which deals whole classes.)

It is one thing: a list of questions, each a function, asked of the same opened data.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice, product
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from dakit.data.files import told_of
from dakit.data.sequences import Lean
from dakit.data.sets import Unlabelled
from dakit.data.splits import own_groups
from dakit.errors import DakitError
from dakit.interfaces import ImageSet, Observer
from dakit.optional import HasPaths, PassesOver, Readable, offers
from dakit.recipe.plans import DataPlan, Recipe
from dakit.results.store import Store
from dakit.statistics.metrics import Evaluation
from dakit.training.surroundings import undisturbed

Array = npt.NDArray[Any]
SEVERITIES = ("note", "warning", "error")
_BITS = 256
_NEAR = 16
"""Bits of 256 in which the perceptual hashes of near duplicates differ at most.

Measured: four photographs saved again as JPEG (quality 30 and 60), resized or made brighter differ in 0 to 8 bits;
digits saved again in 6 (median) to 18 (99th percentile); of 3,000 different digits the nearest two differ in 24.
"""
_COMPARED = 200_000_000
"""Pairs that :func:`near_pairs` compares at most for each of its bands: all pairs of 20,000 images."""
_FOUND = 1_000_000
"""Pairs that it finds at most."""
_NAMED = 10_000
"""Images that a finding names at most."""


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
        labels: of the first round's training side, -1 elsewhere;
        known: of every training side, -1 where an image stands in none.
        passed_over: what lies beside the images and is none, see :class:`~dakit.data.sets.FileImages`.
    """

    role: str
    images: ImageSet
    names: Sequence[str]
    paths: Sequence[Path] | None
    classes: tuple[str, ...]
    train: Array
    test: Array
    labels: Array
    known: Array
    predefined: bool = field(default=False)
    passed_over: str = ""


@undisturbed()
def examine(recipe: Recipe, observers: Iterable[Observer] = ()) -> list[Finding]:
    """Everything that can be said of a recipe's data without running it, the worst first.

    Args:
        recipe: whose data is opened.
        observers: told of the images that were looked at.
    """
    findings: list[Finding] = []
    opened: list[Opened] = []
    for data in {role: data for plan in recipe.plans.values() for role, data in plan.data.items()}.values():
        try:
            opened.append(open_role(data, recipe.seeds[0]))
        except DakitError as error:
            findings.append(Finding("error", "data", data.role, str(error)))
    lists = {dataset.role: dataset.classes for dataset in opened if dataset.classes}
    if len(set(lists.values())) > 1:
        text = "; ".join(f"{role}: {', '.join(names)}" for role, names in lists.items())
        findings.append(
            Finding("error", "classes", ", ".join(lists), f"the class lists differ ({text}); set data.classes")
        )
    for dataset in opened:
        findings += [*_labels(dataset), *_groups(dataset)]
        if dataset.passed_over:
            text = f"passed over, as they are no images by their suffix or place: {dataset.passed_over}"
            findings.append(Finding("warning", "passed over", dataset.role, text))
    looks = []
    total = sum(len(dataset.images) for dataset in opened)
    done = 0
    for observer in observers:
        observer.work_started(f"looking at {total} images", total)
    for dataset in opened:
        looks.append(looks_of(dataset))
        findings += _odd(dataset, looks[-1])
        done += len(dataset.images)
        for observer in observers:
            observer.step(done, {})
    findings += duplicates(opened, looks)
    return sorted(findings, key=lambda finding: -SEVERITIES.index(finding.severity))


def images_of(data: DataPlan) -> ImageSet:
    """A role's whole set; without the files that cannot be read where the recipe says to skip those.

    Raises:
        DakitError: it cannot be opened.
    """
    images: ImageSet = data.spec.build(data.size, data.classes)
    return images.readable()[0] if data.on_bad_image == "skip" and offers(images, Readable) else images


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
    paths = images.paths if offers(images, HasPaths) else None
    given = np.full(n, -1) if data.unlabelled else np.asarray(images.labels, np.int64)
    return Opened(
        role=data.role, images=Unlabelled(images),
        names=Lean(n, lambda i: str(paths[i]) if paths is not None else f"{data.role}[{i}]"), paths=paths,
        classes=() if data.unlabelled else images.classes, train=train, test=test,
        labels=np.where(train[0], given, -1), known=np.where(train.any(0), given, -1),
        predefined=data.split is not None and not (data.split.holdout or isinstance(data.split.folds, int)),
        passed_over=told_of(images.passed_over) if offers(images, PassesOver) else "",
    )  # fmt: skip


def _labels(dataset: Opened) -> Iterator[Finding]:
    """Classes without images, with few, and out of balance; on the first fold's training side."""
    if not dataset.classes:
        return
    missing = np.flatnonzero(dataset.train[0] & (dataset.labels < 0))
    if len(missing):
        text = f"{len(missing)} of {dataset.train[0].sum()} images have no label; no classifier learns from such a set"
        yield Finding("error", "no label", dataset.role, text, _named(dataset, missing))
    counts = {name: int((dataset.labels == k).sum()) for k, name in enumerate(dataset.classes)}
    side = "the training side of fold 0" if dataset.test.any() else "it"
    empty = [name for name, count in counts.items() if not count]
    if empty:
        yield Finding("error", "classes", dataset.role, f"{side} has no image of {', '.join(empty)}")
    few = {name: count for name, count in counts.items() if 0 < count < 5}
    if few:
        text = ", ".join(f"{name} {count}" for name, count in few.items())
        yield Finding("warning", "few labels", dataset.role, f"{side} has fewer than 5 images of a class: {text}")
    most, least = max(counts.values()), min((count for count in counts.values() if count), default=0)
    if least and most >= 3 * least:
        worst = f"{max(counts, key=lambda k: counts[k])} {most}, {min(counts, key=lambda k: counts[k] or most)} {least}"
        advice = "`balanced: true` of train_classifier draws every class equally often"
        text = f"the largest class is {most / least:.1f} times the smallest ({worst}); {advice}"
        yield Finding("warning" if most >= 10 * least else "note", "imbalance", dataset.role, text)


def _groups(dataset: Opened) -> Iterator[Finding]:
    """Groups on both sides of a published split; dakit's own splits never divide one."""
    if not dataset.predefined:
        return
    groups = np.asarray(own_groups(dataset.images.groups, range(len(dataset.images))))
    split: set[str] = set()
    for train, test in zip(dataset.train, dataset.test, strict=True):
        split |= set(groups[train]) & set(groups[test])
    if split:
        text = f"{len(split)} groups stand on both sides of the published split: {', '.join(sorted(split)[:5])}"
        yield Finding("warning", "groups", dataset.role, text)


def _named(dataset: Opened, which: Iterable[int]) -> tuple[str, ...]:
    return tuple(dataset.names[int(i)] for i in islice(which, _NAMED))


class Looks(NamedTuple):
    """What one pass over a set's pixels keeps.

    Attributes:
        hashes: uint8 ``(N, 32)``, 256 bits of perceptual (DCT) hashes.
        digests: uint8 ``(N, 32)``, SHA-256 of the pixels.
        read: bool ``(N,)``, which images can be read.
        reasons: image -> why it cannot be read.
        flat: which images are one colour.
        grey: which have no colour.
        sizes: int ``(N, 2)``, width and height of the files; 0 = not known.
    """

    hashes: Array
    digests: Array
    read: Array
    reasons: dict[int, str]
    flat: Array
    grey: Array
    sizes: Array


def looks_of(dataset: Opened) -> Looks:
    """Decode every image once, as the recipe does, in threads."""
    import imagehash

    n = len(dataset.images)
    hashes, digests = np.zeros((2, n, _BITS // 8), np.uint8)
    read, flat, grey = np.zeros((3, n), bool)
    looks = Looks(hashes, digests, read, {}, flat, grey, np.zeros((n, 2), np.int32))

    def look(i: int) -> None:
        try:
            pixels = dataset.images[i].image.numpy()
            if dataset.paths is not None:
                with Image.open(dataset.paths[i]) as file:
                    looks.sizes[i] = file.size
        except (DakitError, OSError, UnidentifiedImageError) as error:
            looks.reasons[i] = str(error)
            return
        looks.digests[i] = np.frombuffer(hashlib.sha256(pixels.tobytes()).digest(), np.uint8)
        looks.read[i] = True
        looks.flat[i] = pixels.std() < 2
        looks.grey[i] = bool((pixels[0] == pixels[1]).all() and (pixels[1] == pixels[2]).all())
        image = Image.fromarray(pixels.transpose(1, 2, 0))
        looks.hashes[i] = np.packbits(imagehash.phash(image, hash_size=16).hash.ravel())

    with ThreadPoolExecutor() as pool:
        for start in range(0, n, 4096):  # a pool holds a task for all that it is given
            list(pool.map(look, range(start, min(start + 4096, n))))
    return looks


def _odd(dataset: Opened, looks: Looks) -> Iterator[Finding]:
    readable = looks.read
    n = int(readable.sum())
    if looks.reasons:
        first = looks.reasons[min(looks.reasons)]
        text = f"{len(looks.reasons)} images cannot be read, and a run would stop at them: {first}"
        yield Finding("error", "unreadable", dataset.role, text, _named(dataset, sorted(looks.reasons)))
    flat = np.flatnonzero(looks.flat)
    if len(flat):
        yield Finding(
            "warning", "one colour", dataset.role, f"{len(flat)} images are one colour", _named(dataset, flat)
        )
    grey = looks.grey & readable & ~looks.flat
    if 0 < grey.sum() < n / 2:
        text = f"{grey.sum()} of {n} images have no colour, the others have"
        yield Finding("note", "no colour", dataset.role, text, _named(dataset, np.flatnonzero(grey)))
    shorter, longer = looks.sizes.min(1), looks.sizes.max(1)
    size = dataset.images[int(np.flatnonzero(readable)[0])].image.shape[-1] if n else 0
    small = np.flatnonzero((shorter > 0) & (2 * shorter <= size))
    if len(small):
        text = f"{len(small)} images are enlarged to twice their size and more, to {size} pixels"
        yield Finding("warning" if 2 * len(small) > n else "note", "small", dataset.role, text, _named(dataset, small))
    long = np.flatnonzero(longer > 3 * np.maximum(shorter, 1))
    if len(long):
        text = f"{len(long)} images are more than three times as long as wide; little of them is left in a square"
        yield Finding("warning", "shape", dataset.role, text, _named(dataset, long))


def near_pairs(hashes: Array, most: int = _NEAR) -> tuple[Array, bool]:
    """Which hashes differ in at most ``most`` bits: int64 ``(M, 2)``, the smaller index first; and if these are all.

    Two hashes that differ in m bits agree in at least one of m + 1 parts of them ("bands"), so only those that agree
    in a band are compared: exact, without looking at all N^2 / 2 pairs. Where very many agree in a band no more than
    200 million pairs of it are compared; with up to 20,000 hashes that is never so. The memory is about
    8 x N x (bits / 8) bytes and 32 bytes for each pair found, of which there are at most a million.

    Args:
        hashes: uint8 ``(N, bits / 8)``, from ``np.packbits``.
        most: bits.

    Source: Manku, Jain, Das Sarma, *Detecting near-duplicates for web crawling*, WWW 2007, section 3.

    >>> near_pairs(np.array([[0b0011], [0b1100], [0b0111]], np.uint8), 1)
    (array([[0, 2]]), True)
    """
    n, bits = len(hashes), 8 * hashes.shape[1]
    words = np.pad(hashes, ((0, 0), (0, -hashes.shape[1] % 8))).view(np.uint64).T.copy()
    codes = np.empty(0, np.int64)
    complete = True
    for band in np.array_split(np.arange(bits), min(bits, max(most + 1, -(-bits // 64)))):
        keys = _keys(hashes, band)
        order = np.argsort(keys, kind="stable")
        keys = keys[order]
        here, apart, compared = np.arange(n), 0, 0
        while True:  # the pairs of neighbours in the sorted order, then of those two apart, and so on
            apart += 1
            here = here[here + apart < n]
            here = here[keys[here] == keys[here + apart]]
            compared += len(here)
            if not len(here):
                break
            if compared > _COMPARED or len(codes) > _FOUND:
                complete = False
                break
            new = [codes]
            for some in np.array_split(here, 1 + len(here) // 2**18):
                first, second = order[some], order[some + apart]
                differ = np.zeros(len(first), np.uint64)
                for word in words:  # most pairs are too far apart after the first
                    differ = differ + _ones(word[first] ^ word[second])
                    near = differ <= most
                    first, second, differ = first[near], second[near], differ[near]
                new.append(np.minimum(first, second) * n + np.maximum(first, second))
            if sum(map(len, new[1:])):
                codes = np.concatenate(new)
        codes = np.unique(codes)
    return np.stack(np.divmod(codes, max(n, 1)), 1), complete


def _ones(numbers: Array) -> Array:
    """How many bits of each 64-bit number are 1: counted for pairs of bits, then for fours, eights and all."""
    few, some, many = (np.uint64(mask) for mask in (0x5555555555555555, 0x3333333333333333, 0x0F0F0F0F0F0F0F0F))
    numbers = numbers - ((numbers >> np.uint64(1)) & few)
    numbers = (numbers & some) + ((numbers >> np.uint64(2)) & some)
    total: Array = ((numbers + (numbers >> np.uint64(4))) & many) * np.uint64(0x0101010101010101) >> np.uint64(56)
    return total


def _keys(hashes: Array, band: Array) -> Array:
    """Up to 64 bits of each hash as one number."""
    keys = np.zeros((len(hashes), 8), np.uint8)
    for start in range(0, len(hashes), 2**16):
        some = np.packbits(np.unpackbits(hashes[start : start + 2**16], axis=1)[:, band], axis=1)
        keys[start : start + 2**16, : some.shape[1]] = some
    return keys.view(np.uint64).ravel()


def duplicates(opened: Sequence[Opened], looks: Sequence[Looks]) -> Iterator[Finding]:
    """The same or nearly the same image twice, inside a role and across; worst where one is a test image.

    Where both have a label that one training side may see (or two roles' training sides), and not the same, that is
    told besides: one of the two is wrong.
    """
    if not opened:
        return
    starts = np.cumsum([0, *(len(dataset.images) for dataset in opened)])
    good = np.flatnonzero(np.concatenate([look.read & ~look.flat for look in looks]))
    digests = np.ascontiguousarray(np.concatenate([look.digests for look in looks])[good]).view("V32").ravel()
    _, number = np.unique(digests, return_inverse=True)
    good = good[np.argsort(number, kind="stable")]
    firsts = np.searchsorted(np.sort(number), np.arange(number.max(initial=-1) + 2))
    same = Lean(len(firsts) - 1, lambda k: good[firsts[k] : firsts[k + 1]].tolist())
    several = np.flatnonzero(np.diff(firsts) > 1).tolist()
    exact = ((its[0], other) for its in map(same.__getitem__, several) for other in its[1:])
    one_each = np.argsort(good[firsts[:-1]], kind="stable")  # of the same ones the first, in the order of the roles
    hashes = np.concatenate([look.hashes for look in looks])[good[firsts[:-1]][one_each]]
    pairs, complete = near_pairs(hashes)
    near = (sorted(pair) for a, b in pairs for pair in product(same[one_each[a]], same[one_each[b]]))
    examples: dict[tuple[int, str, str, str], list[str]] = {}
    counts: Counter[tuple[int, str, str, str]] = Counter()
    for kind, some in (("exact duplicates", exact), ("near duplicates", islice(near, _FOUND))):
        weaker = kind.startswith("near")
        for a, b in some:
            role_a, role_b = (int(np.searchsorted(starts, at, side="right")) - 1 for at in (a, b))
            i, j = int(a - starts[role_a]), int(b - starts[role_b])
            first, second = opened[role_a], opened[role_b]
            label, its = first.known[i], second.known[j]
            if role_a == role_b:
                place = first.role
                leak = bool(((first.train[:, i] & first.test[:, j]) | (first.test[:, i] & first.train[:, j])).any())
                how = "stand on the training and the test side of a fold" if leak else "inside one role"
                together = bool((first.train[:, i] & first.train[:, j]).any())
            else:
                place = f"{first.role}, {second.role}"
                leak = bool(first.test[:, i].any() or second.test[:, j].any())
                how = "of a test image in another role" if leak else "across roles"
                together = True
            severity = (1 if weaker else 2) if leak else (0 if weaker else 1)
            kinds = [(severity, kind, place, how)]
            if together and label >= 0 and its >= 0 and first.classes[label] != second.classes[its]:
                kinds.append((0 if weaker else 2, f"{kind}, two labels", place, "have different labels"))
            for key in kinds:
                counts[key] += 1
                if counts[key] <= _NAMED:
                    labels = (
                        [f" ({first.classes[label]})", f" ({second.classes[its]})"] if key is not kinds[0] else ["", ""]
                    )
                    examples.setdefault(key, []).append(f"{first.names[i]}{labels[0]} = {second.names[j]}{labels[1]}")
    for key, names in examples.items():
        severity, kind, place, how = key
        advice = "; give them one group, or remove one" if severity and "fold" in how else ""
        advice = "; one of the two is wrong" if "labels" in how and severity else advice
        more = " and more" if kind.startswith("near") and not complete else ""
        text = f"{counts[key]}{more} {how}{advice}"
        yield Finding(SEVERITIES[severity], kind, place, text, tuple(names))  # type: ignore[arg-type]


def label_suspects(evaluations: Sequence[Evaluation], only: Array | None = None) -> list[tuple[int, int, int, float]]:
    """Images whose label is in doubt, from out-of-fold predictions: (index, label, better label, its probability).

    With p the mean probability over the evaluations of an image and t_j = mean of p_j over the images labelled j,
    an image is suspected when the most probable class j among those with p_j >= t_j is not its label; the most
    probable first.

    Args:
        evaluations: of the same images in one numbering.
        only: bool, one for each number: the images that are looked at; None = all.

    Source: Northcutt, Jiang, Chuang, *Confident learning: estimating uncertainty in dataset labels*, Journal of
    Artificial Intelligence Research 2021, section 3.1.
    """
    sums: dict[int, Array] = {}
    labels: dict[int, int] = {}
    times: Counter[int] = Counter()
    for evaluation in evaluations:
        for index, label, probabilities in zip(
            evaluation.indices, evaluation.labels, evaluation.probabilities, strict=True
        ):
            if only is not None and not only[index]:
                continue
            sums[int(index)] = sums.get(int(index), 0) + probabilities.astype(np.float64)
            labels[int(index)] = int(label)
            times[int(index)] += 1
    order = sorted(sums)
    if not order:
        return []
    given = np.array([labels[i] for i in order])
    mean = np.array([sums[i] / times[i] for i in order])
    thresholds = [mean[given == j, j].mean() if (given == j).any() else np.inf for j in range(mean.shape[1])]
    confident = np.where(mean >= thresholds, mean, -1)
    best = confident.argmax(1)
    suspects = [
        (i, int(given[n]), int(best[n]), float(confident[n, best[n]]))
        for n, i in enumerate(order)
        if confident[n, best[n]] >= 0 and best[n] != given[n]
    ]
    return sorted(suspects, key=lambda suspect: -suspect[3])


def label_noise(recipe: Recipe, out: str | Path | None = None) -> list[Finding]:
    """Suspects among the labels of the role that the method's row is tested on, where that is done in folds.

    They are read from evaluations that a finished run, with just this data and recipe, has kept. Only with folds:
    there an image that is tested in one fold is learned from in another, and is judged by models that did not learn
    from it. An image that no fold learns from (with ``per_class``, say) is left out, and so is every image of a role
    with a fixed test side: their labels are nobody's to correct after a look at the predictions.
    """
    from dakit.pipeline import run as pipeline

    row = recipe.plan(str(recipe.document["method"]))
    data = row.tested
    if data is None or data.split is None or data.split.folds is None:
        return []
    try:
        jobs = pipeline.plan(recipe, rows=[row.row], out=out)
        learned = [open_role(data, seed) for seed in recipe.seeds]
    except DakitError:
        return []  # told already: the data cannot be opened
    final = row.stages[-1]
    assert final.evaluation is not None  # else the row is tested on nothing
    wanted = [(job, state) for job, state in jobs if job.stage.name == final.name]
    if not wanted or any(state != "cached" for _, state in wanted):
        return []
    store = Store(Path(out or recipe.folder) / "store", recipe.registry)
    output = final.evaluation.evaluation
    evaluations = [store.open(job.stage.name, job.key, job.inputs).output(output) for job, _ in wanted]
    seen = np.any([dataset.train.any(0) for dataset in learned], axis=0)
    suspects = label_suspects(evaluations, seen)
    if not suspects:
        return []
    names = learned[0].names
    classes = evaluations[0].classes
    advice = "look at them, the model may be wrong"
    text = f"{len(suspects)} labels are in doubt by {row.row}'s predictions out of fold; {advice}"
    images = tuple(f"{names[i]}: {classes[label]}, or {classes[other]} ({p:.2f})?" for i, label, other, p in suspects)
    return [Finding("note", "labels", data.role, text, images)]
