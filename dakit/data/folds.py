"""Inner folds: what of an estimator is chosen, or calibrated, on images that it was not fitted on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from dakit.interfaces import LabelledFeatures

FOLDS = 5


def inner_folds(known: LabelledFeatures, folds: int = FOLDS) -> list[tuple[np.ndarray, np.ndarray]]:
    """Splits of labelled images into what is fitted on and what is held out, whole groups, classes alike.

    Held out is each image once but those of ``extra``, which are always fitted on: what is chosen is chosen for the
    domain that the classifier is for. scikit-learn's StratifiedGroupKFold, without chance.

    Args:
        known: of which groups and labels count.
        folds: at most so many; no more than the rarest class has groups.

    Returns:
        Indices ``(fitted on, held out)``, both int64; none where a class has fewer than two groups, and no fold
        without an image of each class to fit on.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    extra, labels = known.extra.numpy(), known.labels.numpy()
    places, beside = np.flatnonzero(~extra), np.flatnonzero(extra)
    groups = np.unique(np.asarray(known.groups)[places], return_inverse=True)[1]
    held_classes = np.unique(labels[places])
    folds = min([folds, *(len(np.unique(groups[labels[places] == label])) for label in held_classes)])
    if folds < 2:
        return []
    splits = []
    for fitted, held in StratifiedGroupKFold(folds).split(places, labels[places], groups):
        fitted, held = np.concatenate([places[fitted], beside]), places[held]
        if len(held) and len(np.unique(labels[fitted])) == len(np.unique(labels)):
            splits.append((fitted, held))
    return splits


def best(
    known: LabelledFeatures, rows: np.ndarray, candidates: Sequence[Any], make: Callable[[Any], Any]
) -> tuple[Any, dict[str, Any]]:
    """The candidate with which images that are held out are classified best, by macro accuracy over all of them.

    Args:
        known: of which groups and labels count.
        rows: what is fitted on, ``(N, ...)``.
        candidates: values of a setting; of equally good ones the first is taken.
        make: a scikit-learn classifier with such a value, to be fitted.

    Returns:
        The value, and as plain JSON values what was seen of each (percent); where there are too few groups for inner
        folds it is the value in the middle, and that is said.
    """
    if len(candidates) == 1:
        return candidates[0], {"chosen": candidates[0], "by": "the recipe"}
    folds = inner_folds(known)
    if not folds:
        middle = candidates[len(candidates) // 2]
        return middle, {"chosen": middle, "by": "none: a class has fewer than two groups, and this is the middle one"}
    labels = known.labels.numpy()
    held = np.concatenate([held for _, held in folds])
    answers = {
        number: np.concatenate([make(value).fit(rows[fit], labels[fit]).predict(rows[out]) for fit, out in folds])
        for number, value in enumerate(candidates)
    }
    scores = [_macro_accuracy(labels[held], answer) for answer in answers.values()]
    chosen = candidates[int(np.argmax(scores))]
    tried = [[value, score] for value, score in zip(candidates, scores, strict=True)]
    return chosen, {"chosen": chosen, "by": f"{len(folds)} inner folds", "tried": tried}


def _macro_accuracy(labels: np.ndarray, answers: np.ndarray) -> float:
    """In percent."""
    return 100 * float(np.mean([np.mean(answers[labels == label] == label) for label in np.unique(labels)]))
