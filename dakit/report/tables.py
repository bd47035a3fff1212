"""The ladder: one row per variant, the paper's numbers beneath, for terminals, Markdown and machines."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from dakit.statistics.comparison import METHOD, Comparison
from dakit.statistics.measures import MACRO_ACCURACY, Metric
from dakit.statistics.metrics import ONE_SEED, Summary

if TYPE_CHECKING:
    from rich.table import Table

Published = Mapping[str, Mapping[str, float]]
"""Row -> class or "Ave." (the heading of the metric) -> percent, as printed in a paper."""


class _Line(NamedTuple):
    """One line of the table as text: a measured row (``best``: none is better) or a published one."""

    cells: list[str]
    published: bool
    best: bool


def ladder(
    summaries: Mapping[str, Summary],
    published: Published | None = None,
    title: str = "",
    note: str = "",
    width: int | None = None,
) -> Table:
    """The table for a terminal: row, classes, "Ave." or another metric, interval, seeds x folds; numbers in percent.

    The best is bold. Beneath a row stands, dim, what the paper has for it. Seven classes take about 80
    columns; where the terminal's ``width`` is too small for the classes, they are left out, and the table says so.
    """
    from rich.cells import cell_len
    from rich.table import Table
    from rich.text import Text

    head = _head(summaries)
    lines = _lines(summaries, published or {})
    if width is not None:
        first, *others = zip(
            *([name.partition(" x ")[0] for name in head], *(line.cells for line in lines)), strict=True
        )
        needed = min(8, max(map(cell_len, first))) + sum(1 + max(map(cell_len, column)) for column in others)
        if needed > width:
            count = len(head) - 4
            head = [head[0], *head[-3:]]
            lines = [line._replace(cells=[line.cells[0], *line.cells[-3:]]) for line in lines]
            note = "\n".join(part for part in (f"{count} classes: see table.md", note) if part)

    table = Table(
        title=Text(title) if title else None,
        caption=Text(note) if note else None,
        box=None,
        padding=(0, 1, 0, 0),
    )
    table.add_column(head[0], overflow="fold", min_width=8)
    for name in head[1:]:
        table.add_column(Text(name.replace(" x ", "\nx ")), justify="right", no_wrap=True, vertical="bottom")
    average = len(head) - 3
    for line in lines:
        cells = [Text(cell) for cell in line.cells]
        if line.best:
            cells[average].stylize("bold")
        table.add_row(*cells, style="dim italic" if line.published else None)
    return table


def to_markdown(
    summaries: Mapping[str, Summary], published: Published | None = None, title: str = "", note: str = ""
) -> str:
    """The same table in Markdown; the paper's rows are in italics."""
    head = _head(summaries)
    rows = [_markdown_row(map(plain_markdown, head)), _markdown_row([":---"] + ["---:"] * (len(head) - 1))]
    average = len(head) - 3
    for line in _lines(summaries, published or {}):
        cells = [plain_markdown(cell.strip()) for cell in line.cells]
        if line.best:
            cells[average] = f"**{cells[average]}**"
        rows.append(_markdown_row([f"*{cell}*" if line.published and cell else cell for cell in cells]))
    return "\n\n".join(
        part for part in (f"**{plain_markdown(title)}**" if title else "", "\n".join(rows), note) if part
    )


def remarks(
    summaries: Mapping[str, Summary], comparisons: Mapping[str, Comparison | str], baseline: str | None
) -> list[str]:
    """What belongs beneath the table, a line each: what the intervals are of, and the verdict on every row."""
    metric = metric_of(summaries)
    lines = [] if metric is MACRO_ACCURACY else [f"{metric.heading}: {metric.about}, in percent; {_columns(metric)}."]
    lines += [f"95 %: over {text}." for text in {s.resampled: None for s in summaries.values()}]
    if any(isinstance(compared, Comparison) for compared in comparisons.values()):
        lines.append(f"Against {baseline}: {METHOD}.")
    for row, compared in comparisons.items():
        if isinstance(compared, str):
            lines.append(f"{row}: not compared: {compared}")
            continue
        points = f"{100 * compared.difference:+.2f} points, {100 * compared.low:+.2f} to {100 * compared.high:+.2f}"
        # Of the networks of one seed a p-value would be read as a verdict.
        sure = "" if compared.verdict == ONE_SEED else f", p = {compared.p_value:.2g}"
        lines.append(f"{row}: {compared.verdict} ({points}{sure}, {compared.images} images)")
    return lines


def _comparison(compared: Comparison | str | None, baseline: str | None) -> dict[str, Any] | None:
    if compared is None:
        return None
    if isinstance(compared, str):
        return {"baseline": baseline, "reason": compared}
    return {
        "baseline": baseline,
        "difference": 100 * compared.difference,
        "interval": [100 * compared.low, 100 * compared.high],
        "p": compared.p_value,
        "mcnemar_p": compared.mcnemar,
        "n": compared.images,
        "method": METHOD,
        "verdict": compared.verdict,
    }


def to_json(
    summaries: Mapping[str, Summary],
    published: Published | None = None,
    comparisons: Mapping[str, Comparison | str] | None = None,
    baseline: str | None = None,
) -> dict[str, Any]:
    """The table as plain values, by row; every rate in percent and not rounded, None where there is none.

    ``value`` is the metric, of which ``per_class``, ``interval``, ``per_seed`` and ``comparison`` are too; ``macro`` is
    always macro accuracy.
    ``comparison`` has the difference to the baseline in percentage points, or the ``reason`` why there is none.
    """
    return {
        row: {
            "per_class": dict(zip(summary.classes, map(_percent, summary.per_class.tolist()), strict=True)),
            "macro": _percent(summary.macro),
            "value": _percent(summary.value),
            "interval": [_percent(summary.low), _percent(summary.high)],
            "per_seed": {str(seed): _percent(value) for seed, value in summary.per_seed.items()},
            "seeds": list(summary.seeds),
            "folds": list(summary.folds),
            "repeats": summary.repeats,
            "resampled": summary.resampled,
            "comparison": _comparison((comparisons or {}).get(row), baseline),
            "images": summary.images,
            "classes": list(summary.classes),
            "confusion": summary.confusion.tolist(),
            "published": dict((published or {}).get(row, {})) or None,
        }
        for row, summary in summaries.items()
    }


def metric_of(summaries: Mapping[str, Summary]) -> Metric:
    """What a table is about; its rows have one metric."""
    return next((summary.metric for summary in summaries.values()), MACRO_ACCURACY)


def _columns(metric: Metric) -> str:
    return f"the columns of the classes are {metric.columns}" if metric.columns else "there is none of a class"


def _classes(summaries: Mapping[str, Summary]) -> list[str]:
    """The classes of all rows, in the order in which they come; rows of one recipe have the same."""
    return list(dict.fromkeys(name for summary in summaries.values() for name in summary.classes))


def _head(summaries: Mapping[str, Summary]) -> list[str]:
    return ["", *_classes(summaries), metric_of(summaries).heading, "95 %", "seeds x folds"]


def _lines(summaries: Mapping[str, Summary], published: Published) -> list[_Line]:
    classes = _classes(summaries)
    metric = metric_of(summaries)
    best = max((summary.value for summary in summaries.values()), key=lambda v: metric.sign * v, default=math.nan)
    lines = []
    for row, summary in summaries.items():
        values = dict(zip(summary.classes, summary.per_class.tolist(), strict=True))
        by_class = [_cell(_percent(values.get(name, math.nan))) for name in classes]
        interval = f"{_cell(_percent(summary.low))}-{_cell(_percent(summary.high))}"
        rounds = f"{len(summary.seeds)} x {len(summary.folds)}"
        cells = [row, *by_class, _cell(_percent(summary.value)), interval, rounds]
        lines.append(_Line(cells, published=False, best=summary.value == best))
        if row in published:
            numbers = [_cell(published[row].get(name)) for name in (*classes, metric.heading)]
            lines.append(_Line(["  paper", *numbers, "", ""], published=True, best=False))
    return lines


def _percent(rate: float) -> float | None:
    return None if math.isnan(rate) else 100 * rate


def _cell(percent: float | None) -> str:
    return "-" if percent is None else f"{percent:.2f}"


def plain_markdown(text: str) -> str:
    r"""A text for Markdown that is to be read as it is: what would be a sign of Markdown or HTML stands behind a \.

    A _ within a word, as in ``s2t_fine_tune``, is none.

    >>> print(plain_markdown("US$ [s2t_a] <b>|x"))
    US\$ \[s2t_a\] \<b\>\|x
    """
    return re.sub(r"[\\`*\[\]<>|~$&]|(?<!\w)_|_(?!\w)", r"\\\g<0>", " ".join(text.split()))


def _markdown_row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
