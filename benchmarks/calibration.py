"""How often verdicts are false and intervals miss the truth, by simulation; and what differences can be seen.

    python benchmarks/calibration.py --save calibration.json       # all of docs/measured.md, 20 CPU minutes
    python benchmarks/calibration.py --quick                       # the same with a tenth of the tables
    python benchmarks/calibration.py --metric auroc                # another metric: coverage, false verdicts

A simulated table has a baseline and ten rows, all equally good. A test image is read right where a normal number
falls below the quantile of its network's accuracy. That number is made of the image's difficulty (half of the variance:
the same for all methods and seeds), of what this method makes of this image (a fifth: the same for all its seeds)
and of chance; in the way "independent" of chance alone. A network's accuracy is the method's plus luck of training,
normal with the standard deviation named, cut off symmetrically at 2.4 of them so that it stays below 1.

Ways: "images", every image its own group; "independent", the same without common difficulty; "folds", five of them,
each with a network and luck of its own; "groups", three images of one person, who share half of what is not chance.
Classes are of unequal size, the largest three times the smallest. The errors are those of
:class:`dakit.statistics.metrics.Estimate`, whose distribution is integrated here instead of drawn.

With ``--metric`` networks give probabilities: softmax of a logit of the true class, the method's sharpness plus luck,
and of normal numbers made of difficulty, method and chance in the same shares. What such a network truly has is
measured on 200,000 images, for 40 quantiles of luck.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri, stdtr, stdtrit

from dakit.files import write_json
from dakit.statistics.measures import BINS, METRICS
from dakit.statistics.metrics import Estimate, Evaluation, Figures, Round, Tally, summarise

Array = npt.NDArray[Any]
ROWS = 10
SEEDS = (1, 2, 3, 5, 10)
WAYS = ("images", "independent", "folds", "groups")
LUCK = (0.0, 0.01, 0.02, 0.04)
TABLES = {90: 600, 2007: 400, 10_000: 150}
POWER = 100  # tables are enough for it


class Setting(NamedTuple):
    """A test set: how many images, how good the methods are, and how images, folds and groups lie (see WAYS)."""

    images: int
    accuracy: float
    way: str


class Cell(NamedTuple):
    """What came of a setting with so much luck and so many seeds.

    Attributes:
        setting: the test set.
        luck: standard deviation of a network's accuracy.
        seeds: trained.
        tables: simulated.
        false: share of the comparisons with p < 0.05; a verdict, where there are several seeds.
        any_false: share of tables with at least one such after Holm.
        row: share of the rows' 95 % intervals that hold the truth: with one seed, that of the networks.
        difference: and of the differences' intervals.
        seen: the difference that is significant in 80 % of comparisons, alone and in a table of ten (Holm's first
            step); of "images" and three seeds or more.
    """

    setting: Setting
    luck: float
    seeds: int
    tables: int
    false: float
    any_false: float
    row: float
    difference: float
    seen: tuple[float, float] | None


def settings() -> list[Setting]:
    sizes = ((90, 0.6), (90, 0.98), (2007, 0.9), (10_000, 0.9))
    whole = [Setting(*size, way) for size, way in product(sizes, WAYS)]
    return [one for one in whole if one.images < 10_000 or one.way != "independent"]


def cells(setting: Setting, tables: int, seed: int = 0, luck: Sequence[float] = LUCK) -> Iterator[Cell]:
    """Simulate so many tables; luck and seeds share the images and the chance of a table."""
    rng = np.random.default_rng([seed, setting.images, round(100 * setting.accuracy), WAYS.index(setting.way)])
    luck = [sd for sd in luck if 2 * sd <= 1 - setting.accuracy]
    found: dict[tuple[float, int], list[tuple[list[Estimate], list[Estimate], list[float]]]] = {}
    for _ in range(tables):
        for sd, tallies, truths in table(rng, setting, luck):
            strata, weights = tallies[0].strata()
            values, effects = [t.macros() for t in tallies], [t.effects() for t in tallies]
            for seeds in SEEDS:
                rows = [
                    Estimate.of(v[:seeds], e[:, :seeds], weights, strata) for v, e in zip(values, effects, strict=True)
                ]
                against = [
                    Estimate.of((v - values[0])[:seeds], (e - effects[0])[:, :seeds], weights, strata)
                    for v, e in zip(values[1:], effects[1:], strict=True)
                ]
                truth = [float(t[0]) if seeds == 1 else setting.accuracy for t in truths]
                found.setdefault((sd, seeds), []).append((rows, against, truth))
    for (sd, seeds), made in found.items():
        rows, against = (np.array([one[kind] for one in made]) for kind in (0, 1))
        truth = np.array([one[2] for one in made])
        p_values = tail(against[..., 0], against)
        gap = truth[:, 1:] - truth[:, :1]
        yield Cell(
            setting,
            sd,
            seeds,
            tables,
            false=float((p_values < 0.05).mean()),
            any_false=float((p_values.min(axis=1) < 0.05 / ROWS).mean()),
            row=float((tail(rows[..., 0] - truth, rows) >= 0.05).mean()),
            difference=float((tail(against[..., 0] - gap, against) >= 0.05).mean()),
            seen=(seen(against, 0.05), seen(against, 0.05 / ROWS)) if setting.way == "images" and seeds > 2 else None,
        )


def table(
    rng: np.random.Generator, setting: Setting, luck: Sequence[float]
) -> Iterator[tuple[float, list[Tally], list[Array]]]:
    """For each luck: the tallies of baseline and rows with the most seeds, and what their networks truly can."""
    n, accuracy, way = setting
    names = tuple("abcdefg" if n < 100 else "abcdefghij")
    share = np.linspace(1, 3, len(names))
    labels = np.repeat(np.arange(len(names)), np.diff(np.round(np.r_[0, share.cumsum() / share.sum() * n])).astype(int))
    people = np.arange(n) // 3 if way == "groups" else np.arange(n)
    fold = rng.integers(0, 5, n) if way == "folds" else np.zeros(n, int)
    methods, most = ROWS + 1, max(SEEDS)

    def draw(*shape: int) -> Array:
        """Standard normal numbers by image, half of which its group shares where groups are."""
        own = rng.standard_normal((*shape, n), np.float32)
        if way != "groups":
            return own
        return math.sqrt(0.5) * (own + rng.standard_normal((*shape, people[-1] + 1), np.float32)[..., people])

    if way == "independent":
        latent = rng.standard_normal((methods, most, n), np.float32)
    else:
        latent = math.sqrt(0.3) * rng.standard_normal((methods, most, n), np.float32)
        latent += math.sqrt(0.5) * draw() + math.sqrt(0.2) * draw(methods, 1)
    fortune = rng.standard_normal((methods, most, fold.max() + 1)).clip(-2.4, 2.4)
    part = 1 / (len(names) * np.bincount(labels))[labels]
    of_fold = np.bincount(fold, part, fortune.shape[2])
    runs = tuple((seed, 0) for seed in range(most))
    for sd in luck:
        can = np.clip(accuracy + sd * fortune, 2 * accuracy - 1, 1)
        right = latent < ndtri(can).astype(np.float32)[:, :, fold]
        tallies = [Tally(names, runs, labels, people, r.T.astype(float), np.ones((n, most))) for r in right]
        yield sd, tallies, list(can @ of_fold)


def tail(distance: Array, estimates: Array) -> Array:
    """P(error >= distance in size) of each estimate, on the last axis.

    See :meth:`dakit.statistics.metrics.Estimate.test`.
    """
    middle = (np.arange(60) + 0.5) / 60
    by_images = np.sqrt(estimates[..., 1, None]) * stdtrit(estimates[..., 2, None], middle)
    return _tail(distance, estimates, by_images)


def _tail(distance: Array, estimates: Array, by_images: Array) -> Array:
    _, images, freedom, units, count, over, under = np.moveaxis(estimates, -1, 0)
    distance = np.maximum(0, np.abs(distance) - np.where(distance > 0, over, under))
    if (count == 1).all():
        return np.asarray(2 * stdtr(freedom, -distance / np.sqrt(images)))
    rest = (-distance[..., None] - by_images) / np.sqrt(np.maximum(units, 1e-30))[..., None]
    return np.asarray(2 * stdtr((count - 1)[..., None], rest).mean(axis=-1))


def seen(estimates: Array, level: float) -> float:
    """The difference that is significant in 80 % of comparisons: added to each simulated one, errors as they are."""
    estimates = estimates[:POWER]
    by_images = np.sqrt(estimates[..., 1, None]) * stdtrit(estimates[..., 2, None], (np.arange(60) + 0.5) / 60)
    low, high = np.zeros(estimates.shape[:-1]), np.ones(estimates.shape[:-1])
    for _ in range(14):  # half the width of the interval, at most 1
        middle = (low + high) / 2
        inside = _tail(middle, estimates, by_images) >= level
        low, high = np.where(inside, middle, low), np.where(inside, high, middle)
    # Larger in size than half the width, on the right side of 0: on the wrong one it is no power.
    return float(np.quantile(high - estimates[..., 0], 0.8))


class MetricCell(NamedTuple):
    """What came of a metric with so many images and seeds, a baseline and three rows that are equally good.

    Attributes:
        truth: the mean over luck of what a network has on 200,000 images.
        value: mean of what was measured.
        row: share of the rows' 95 % intervals that hold the truth,
        difference: and of the differences' that hold 0.
        false: share of the comparisons with p < 0.05.
    """

    metric: str
    images: int
    way: str
    luck: float
    seeds: int
    tables: int
    truth: float
    value: float
    row: float
    difference: float
    false: float


def logits(rng: np.random.Generator, labels: Array, people: Array, sharp: Array) -> Array:
    """``(methods, seeds, N, K)`` of networks with these sharpnesses ``(methods, seeds)``."""
    n, k, (methods, seeds) = len(labels), 4, sharp.shape

    def draw(*shape: int) -> Array:
        own = rng.standard_normal((*shape, n, k), np.float32)
        shared = rng.standard_normal((*shape, people.max() + 1, k), np.float32)[..., people, :]
        return math.sqrt(0.5) * (own + shared) if people.max() + 1 < n else own

    noise = math.sqrt(0.5) * draw() + math.sqrt(0.2) * draw(methods, 1)
    noise = noise + math.sqrt(0.3) * rng.standard_normal((methods, seeds, n, k), np.float32)
    return np.asarray(noise + sharp[:, :, None, None] * np.eye(k, dtype=np.float32)[labels])


def evaluations(rng: np.random.Generator, images: int, way: str, sharp: Array) -> list[list[Evaluation]]:
    """By method and seed. Calibrated up to a factor of 1.3 of the logits, as networks are too sure."""
    size = 3 if way == "groups" else 1
    people = np.arange(images) // size
    of_people = np.resize(np.repeat(np.arange(4), [1, 2, 3, 4]), people.max() + 1)
    labels = of_people[people]
    every = 1.3 * logits(rng, labels, people, sharp)
    table = np.exp(every - every.max(-1, keepdims=True))
    table /= table.sum(-1, keepdims=True)
    names = np.array([f"p{i}" for i in people]) if size > 1 else None
    return [[Evaluation(tuple("abcd"), np.arange(images), labels, t.argmax(1), t, names) for t in of] for of in table]


def metric_cells(
    name: str, images: int, way: str, luck: float, tables: int, seed: int = 0, counts: Sequence[int] = (3, 5)
) -> list[MetricCell]:
    """Simulate so many tables of one metric."""
    rng = np.random.default_rng([seed, images, round(1000 * luck), list(METRICS).index(name)])
    metric, most = METRICS[name], max(counts)

    def sharpness(*shape: int) -> Array:
        return 1.5 + luck * rng.standard_normal(shape).clip(-2.4, 2.4)

    spread = ndtri((np.arange(40) + 0.5) / 40)[None].clip(-2.4, 2.4)
    whole = evaluations(rng, 5_000, way, 1.5 + luck * spread)[0]
    truth = float(np.mean([summarise([Round(0, 0, one)], metric=metric, resamples=1).value for one in whole]))
    if metric.measure is METRICS["ece"].measure:  # less what is left of its excess
        truth = float(np.mean([_unbiased(one) for one in whole]))
    found: dict[int, list[tuple[list[Estimate], list[Estimate]]]] = {}
    for _ in range(tables):
        made = evaluations(rng, images, way, sharpness(4, most))
        for count in counts:
            rounds = [[Round(s, 0, one) for s, one in enumerate(of[:count])] for of in made]
            figures = [Figures.of(parts, metric, Tally.of(parts)) for parts in rounds]
            rows = [one.estimate() for one in figures]
            found.setdefault(count, []).append((rows, [one.estimate(figures[0]) for one in figures[1:]]))
    cells = []
    for count, both in found.items():
        rows_, against = (np.array([pair[kind] for pair in both]) for kind in (0, 1))
        held = tail(rows_[..., 0] - truth, rows_) >= 0.05
        p_values = tail(against[..., 0], against)
        cells.append(
            MetricCell(
                name,
                images,
                way,
                luck,
                count,
                tables,
                truth,
                float(rows_[..., 0].mean()),
                float(held.mean()),
                float((p_values >= 0.05).mean()),
                float((p_values < 0.05).mean()),
            )
        )
    return cells


def _unbiased(one: Evaluation) -> float:
    """A calibration error of many images, without the bins that noise alone would fill."""
    sure = one.probabilities[np.arange(len(one.labels)), one.predictions].astype(float)
    bins = np.clip(np.ceil(sure * BINS).astype(int) - 1, 0, BINS - 1)
    gap = sure - (one.predictions == one.labels)
    sums, squares = np.bincount(bins, gap, BINS), np.bincount(bins, gap**2, BINS)
    return float(np.sqrt(np.maximum(0, sums**2 - squares)).sum() / len(sure))


def _cells(job: tuple[Setting, int]) -> list[Cell]:
    return list(cells(*job))


def markdown(made: Sequence[Cell]) -> str:
    """Four tables in percent, a line for each test set and luck, a column for each number of seeds."""
    found: dict[tuple[int, float, float], dict[int, list[Cell]]] = {}
    for cell in made:
        about = (cell.setting.images, cell.setting.accuracy, cell.luck)
        found.setdefault(about, {}).setdefault(cell.seeds, []).append(cell)
    several = [seeds for seeds in SEEDS if seeds > 2]

    def lines(title: str, columns: Sequence[int], told: Callable[[list[Cell]], str]) -> list[str]:
        head = ["images", "accuracy", "luck", *(f"{seeds} seeds" if seeds > 1 else "1 seed" for seeds in columns)]
        rows = [
            [f"{images:,}", f"{100 * accuracy:.0f}", f"{100 * luck:g}", *(told(of[seeds]) for seeds in columns)]
            for (images, accuracy, luck), of in found.items()
        ]
        return ["", title, "", *map(_line, [head, ["---:"] * len(head), *rows])]

    return "\n".join(
        [
            *lines("p < 0.05 in a single comparison", SEEDS, lambda of: _mean_and_worst([c.false for c in of], max)),
            *lines("any in ten rows (Holm)", SEEDS, lambda of: _mean_and_worst([c.any_false for c in of], max)),
            *lines(
                "intervals that hold the truth: rows; differences",
                SEEDS,
                lambda of: "; ".join(
                    _mean_and_worst(rates, min) for rates in ([c.row for c in of], [c.difference for c in of])
                ),
            ),
            *lines(
                "seen in 80 %: alone, and in ten rows",
                several,
                lambda of: ", ".join(_points(rate) for cell in of for rate in cell.seen or ()),
            ),
        ]
    )


def _mean_and_worst(rates: Sequence[float], worst: Callable[[Sequence[float]], float]) -> str:
    return f"{100 * sum(rates) / len(rates):.1f} ({100 * worst(rates):.1f})"


def _points(rate: float) -> str:
    return f"{100 * rate:.1f}" if rate < 0.5 else "none"


def _line(texts: Sequence[str]) -> str:
    return f"| {' | '.join(texts)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the tables")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--save", type=Path, help="every cell as JSON")
    parser.add_argument("--metric", choices=[name for name in METRICS if name != "macro_accuracy"])
    parser.add_argument("--tables", type=int, default=200, help="of --metric")
    given = parser.parse_args()
    if given.metric:
        metric_made = [
            cell
            for images, way, luck in ((90, "images", 0.1), (300, "images", 0.1), (300, "groups", 0.0))
            for cell in metric_cells(given.metric, images, way, luck, given.tables)
        ]
        head = ["metric", "images", "way", "luck", "seeds", "tables", "truth", "value", "rows", "differences", "false"]
        lines = [[*map(str, cell[:6]), *(f"{100 * rate:.1f}" for rate in cell[6:])] for cell in metric_made]
        sys.stdout.write("\n".join(map(_line, [head, ["---:"] * len(head), *lines])) + "\n")
        return
    jobs = [(one, max(1, TABLES[one.images] // (10 if given.quick else 1))) for one in settings()]
    with ProcessPoolExecutor(given.processes, mp_context=get_context("spawn")) as pool:
        longest_first = list(pool.map(_cells, reversed(jobs)))
    made = [cell for found in reversed(longest_first) for cell in found]
    sys.stdout.write(markdown(made) + "\n")
    if given.save is not None:
        write_json(given.save, [cell._asdict() | {"setting": cell.setting._asdict()} for cell in made])


if __name__ == "__main__":
    main()
