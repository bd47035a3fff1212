"""What a selection may ask of its pool, and what to report of it."""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from torch import Tensor

from dakit.data.sets import unlabelled_among
from dakit.errors import DakitError
from dakit.interfaces import ImageSet, Selection


def check_request(
    pool: ImageSet,
    anchors: ImageSet,
    *,
    neighbours: int,
    same_class: bool = False,
    max_reuse: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Refuse what the pool cannot give, and say which images may be chosen for which anchor.

    Returns:
        An int64 code for each pool image ``(N,)`` and each anchor ``(A,)``: an image may be chosen for an
        anchor of the same code. With ``same_class`` it stands for the class, by name; otherwise all are 0.

    Raises:
        DakitError: there are no anchors; labels are missing; the pool, or a class of it, has fewer than
            ``neighbours`` images or, at ``max_reuse`` uses each, fewer uses than the anchors need.
    """
    if not len(anchors):
        raise DakitError("there are no anchors to select images for")
    if same_class:
        check_labelled(anchors, "same_class: true", "every anchor")
        check_labelled(pool, "same_class: true", "the pool")
        codes = {name: code for code, name in enumerate(anchors.classes)}
        wanted = torch.tensor(list(anchors.labels))
        offered = torch.tensor([codes.get(pool.classes[label], -1) for label in pool.labels])
    else:
        wanted, offered = (
            torch.zeros(len(anchors), dtype=torch.int64),
            torch.zeros(len(pool), dtype=torch.int64),
        )
    for code in sorted(set(wanted.tolist())):
        images = f'images of class "{anchors.classes[code]}"' if same_class else "images"
        have, need = int((offered == code).sum()), int((wanted == code).sum())
        if have < neighbours:
            raise DakitError(f"neighbours: {neighbours} for each anchor, but the pool has {have} {images}")
        if max_reuse is not None and need * neighbours > have * max_reuse:
            raise DakitError(
                f"max_reuse: {need} anchors x {neighbours} neighbours = {need * neighbours} picks, but "
                f"{have} pool {images} at most {max_reuse} times each give {have * max_reuse}; "
                "raise max_reuse or lower neighbours"
            )
    return offered, wanted


def check_labelled(images: ImageSet, why: str, what: str) -> None:
    """Refuse a set in which an image has no label.

    Raises:
        DakitError: one has not; ``why`` needs ``what`` to have them.
    """
    missing = unlabelled_among(images) if images.classes else f"{len(images)} of {len(images)} images have no label"
    if missing and len(images):
        raise DakitError(f"{why} needs {what} to be labelled, but {missing}")


def selection_report(selection: Selection, pool: ImageSet, anchors: ImageSet) -> dict[str, Any]:
    """How a selection uses its pool, in plain JSON values.

    A few pool images ("hubs") can be the nearest of nearly every anchor, so that a selection of many picks
    holds few images; these numbers show it.

    Returns:
        picks: how many images were chosen, repeats counted.
        distinct: how many different ones.
        largest_reuse: how often the most frequent one was chosen.
        picks_per_class, distinct_per_class: the same by the pool's classes; empty where it has none.
        picks_of_own_class: how many have their anchor's class; None where either has no classes.
        exact_picks: how many are among the nearest of their anchor in the full feature space; None = not known.
        exact_distinct: how many different images those nearest are; None = not known.

    >>> from dakit.data.sets import TensorImages
    >>> pool = TensorImages(torch.zeros(3, 3, 1, 1, dtype=torch.uint8), [0, 1, 1], classes=("a", "b"))
    >>> chosen = Selection(
    ...     torch.tensor([[2, 1], [2, -1], [2, 0]]), torch.zeros(3, 2), (), torch.tensor([[1, 0], [2, 0], [0, 1]])
    ... )
    >>> report = selection_report(chosen, pool, pool)
    >>> report["picks"], report["distinct"], report["largest_reuse"], report["picks_of_own_class"]
    (5, 3, 3, 2)
    >>> report["picks_per_class"], report["distinct_per_class"]
    ({'a': 1, 'b': 4}, {'a': 1, 'b': 2})
    >>> report["exact_picks"], report["exact_distinct"]
    (3, 3)
    """
    pairs = [(anchor, index) for anchor, row in enumerate(selection.indices.tolist()) for index in row if index >= 0]
    uses = Counter(index for _, index in pairs)

    def class_of(images: ImageSet, index: int) -> str | None:
        label = images.labels[index]
        return images.classes[label] if label >= 0 and images.classes else None

    picks = Counter(class_of(pool, index) for _, index in pairs)
    distinct = Counter(class_of(pool, index) for index in uses)
    nearest = None if selection.exact is None else selection.exact.tolist()
    same_class = sum(class_of(pool, index) == class_of(anchors, anchor) is not None for anchor, index in pairs)
    return {
        "picks": len(pairs),
        "distinct": len(uses),
        "largest_reuse": max(uses.values(), default=0),
        "picks_per_class": {name: picks[name] for name in pool.classes},
        "distinct_per_class": {name: distinct[name] for name in pool.classes},
        "picks_of_own_class": same_class if pool.classes and anchors.classes else None,
        "exact_picks": None if nearest is None else sum(index in nearest[anchor] for anchor, index in pairs),
        "exact_distinct": None if nearest is None else len({index for row in nearest for index in row if index >= 0}),
    }
