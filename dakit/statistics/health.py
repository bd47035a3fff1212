"""Signs that a result is worth little although nothing failed: what is looked at, from where on it is told, and why.

A warning says what was measured and against what; it stops nothing. The thresholds are ours.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

from dakit.statistics.comparison import Comparison, compare_rows
from dakit.statistics.measures import MACRO_ACCURACY, Metric
from dakit.statistics.metrics import ONE_SEED, Round

CRITIC = 0.05
"""A discriminator whose loss is below this share of a guess's (2 ln 2, or 1/2 for least squares) is never wrong."""
CLASS = 0.5
"""A class read less often than this times chance (1 / K) is lost; from :data:`ENOUGH` images on."""
ENOUGH = 20


def lost_game(history: Mapping[str, Sequence[float]], objective: str) -> list[str]:
    """Discriminators that were never wrong in the last tenth of a training: then a translator learns nothing of them.

    Args:
        history: see :meth:`dakit.training.trainer.Trainer.fit`; its ``D_...`` are the discriminators' losses.
        objective: "log", "log_saturating" or "least_squares".
    """
    guess = 0.5 if objective == "least_squares" else 2 * math.log(2)
    texts = []
    for name in sorted(name for name in history if name.startswith("D_")):
        last = history[name][-max(1, len(history[name]) // 10) :]
        loss = sum(last) / len(last)
        if loss < CRITIC * guess:
            texts.append(
                f"discriminator collapse: {name} tells every generated image from a real one (loss {loss:.2g} over the "
                f"last tenth of the steps, {guess:.2g} is a guess, below {CRITIC * guess:.2g} is told), so the "
                "translator gets no direction from it; a lower lr, fewer layers or objective: least_squares may help"
            )
    return texts


def lost_classes(labels: Sequence[int], read_as: Sequence[int], classes: Sequence[str]) -> list[str]:
    """Classes whose translated images the judge hardly ever reads as such.

    Either the translator takes the label away, or the judge cannot read the new look; the pictures tell which.

    Args:
        labels: of the originals; -1 = none.
        read_as: what the judge says of the translated images.
        classes: names in the order of the labels.
    """
    chance = 1 / len(classes)
    of = Counter(labels)
    right = Counter(label for label, reading in zip(labels, read_as, strict=True) if label == reading)
    lost = [k for k in range(len(classes)) if of[k] >= ENOUGH and right[k] / of[k] < CLASS * chance]
    if not lost:
        return []
    favourite, times = Counter(read_as).most_common(1)[0]
    parts = ", ".join(f"{classes[k]} {right[k]} of {of[k]}" for k in lost)
    return [
        f"class collapse: the judge hardly ever reads the label in the translated images of {len(lost)} of "
        f"{len(classes)} classes ({parts}; below {CLASS * chance:.1%} is told, {chance:.1%} is chance); it reads "
        f"{times / len(read_as):.0%} of all as {classes[favourite]}. Either the translator takes the label away or the "
        "judge cannot read the new look: the translator's pairs.png shows which"
    ]


def lost_to_source(base: str, rounds: Mapping[str, Sequence[Round]], metric: Metric = MACRO_ACCURACY) -> list[str]:
    """Rows that are worse than ``base``, which learned from the source alone.

    By :func:`dakit.statistics.comparison.compare_rows`.
    With one seed it is told of its networks, and the text says so.

    Args:
        base: a row.
        rounds: of every row; those with other test images are passed over.
        metric: that says what is worse.
    """
    texts = []
    for row, comparison in compare_rows(rounds, base, metric=metric).items():
        if isinstance(comparison, Comparison) and metric.sign * comparison.difference < 0 and comparison.p_value < 0.05:
            only = f" ({ONE_SEED})" if comparison.verdict == ONE_SEED else ""
            texts.append(
                f"fine-tuning lost: {row} is worse than {base}, which saw no target label{only}: "
                f"{100 * comparison.difference:+.2f} points "
                f"({100 * comparison.low:.2f} to {100 * comparison.high:.2f}, adjusted p = {comparison.p_value:.2g})"
            )
    return texts
