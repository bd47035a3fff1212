"""Pictures of a run. Each function writes one PNG, by rename: it is whole or it is not there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from dakit.files import written
from dakit.statistics.metrics import Summary

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 120

GAP = 4
"""Pixels between the images of a grid, and around it."""

_FONT = "DejaVu Sans"  # comes with matplotlib
_TOLD = 20  # with more classes a cell of a confusion matrix is too small for numbers
_SIDE = 14.0  # inches that its cells take at most

_COLOURS = {"source": "tab:orange", "target": "tab:blue", "auxiliary": "0.6"}
_OTHERS = ("tab:green", "tab:red", "tab:purple", "tab:brown", "tab:pink", "tab:olive", "tab:cyan")


def confusion_png(summary: Summary, path: Path, title: str = "") -> None:
    """Draw how often images of each class (row) were taken for each (column): percent of the row, and counts.

    With more than 20 classes colours alone tell; with more than about 150 not every class has its name at the side. The
    picture has at most about 2,000 pixels a side, however many classes there are and however long their names.
    """
    counts = summary.confusion
    count = len(summary.classes)
    numbered = count <= _TOLD
    names, remark = readable(summary.classes)
    names = [_short(name) for name in names]
    longest = max(map(len, names))
    font = 10.0 if numbered else max(4.5, 10 * _TOLD / count)
    cell = 0.62 if numbered else min(0.62, _SIDE / count)
    side = 1.6 + 0.08 * longest + cell * count
    with _drawn(max(side, 3.6), side, path, [*names, title]) as figure:
        axes = figure.add_subplot()
        share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        drawn = axes.imshow(share, vmin=0, vmax=1, cmap="Blues")
        places = range(0, count, max(1, round(count * font * 1.4 / 72 / _SIDE))) if not numbered else range(count)
        some = [names[i] for i in places]
        axes.set_xticks(places, some, rotation=0 if longest < 6 and numbered else 90, fontsize=font)
        axes.set_yticks(places, some, fontsize=font)
        axes.set_xlabel(f"predicted ({'percent of the row, images' if numbered else 'share of the row'}){remark}")
        axes.set_ylabel("truth")
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        if numbered:
            centred: dict[str, Any] = {"ha": "center", "va": "center", "in_layout": False}
            for (i, j), part in np.ndenumerate(share):
                colour = "white" if part > 0.55 else "0.55" if counts[i, j] == 0 else "black"
                axes.text(j, i - 0.12, f"{100 * part:.0f}", fontsize=10, color=colour, **centred)
                axes.text(j, i + 0.24, f"{counts[i, j]}", fontsize=6.5, color=colour, **centred)
        else:
            figure.colorbar(drawn, ax=axes, shrink=0.6)
        low, high = 100 * summary.low, 100 * summary.high
        ave = f"{summary.metric.heading} {100 * summary.value:.2f} (95 %: {low:.2f}-{high:.2f})"
        axes.set_title(f"{_plain(title)}\n{ave}" if title else ave, fontsize=11)


def curves_png(history: Mapping[str, Sequence[float]], path: Path) -> None:
    """Draw each value over the steps, one panel each, because losses differ in scale.

    Args:
        history: "step" and, equally long, the values by name.
        path: of the picture.
    """
    names = [name for name in history if name != "step"]
    columns = min(3, len(names))
    rows = -(-len(names) // columns)
    titles = [_short(_plain(name), 40) for name in names]
    with _drawn(3.4 * columns, 2.3 * rows, path, titles) as figure:
        for place, name in enumerate(names, start=1):
            axes = figure.add_subplot(rows, columns, place)
            axes.plot(history["step"], history[name], linewidth=1.2, marker="." if len(history[name]) < 20 else "")
            axes.set_title(titles[place - 1], fontsize=10)
            axes.tick_params(labelsize=8)
            axes.grid(alpha=0.25)
            axes.spines[["top", "right"]].set_visible(False)
            if place > len(names) - columns:
                axes.set_xlabel("step", fontsize=9)


def label_curve(
    places: Sequence[tuple[str, float]], rows: Mapping[str, Sequence[Summary]], path: Path, title: str = ""
) -> None:
    """Draw the table's metric, with its interval, against labelled images per class; a PNG or an SVG.

    Args:
        places: name and number of labels per class of each point, in rising order.
        rows: for each row of the table a summary at every place.
        path: of the picture; its suffix says which kind.
        title: heading.
    """
    names, _ = readable(list(rows))
    with _drawn(6.4, 4.4, path, [*names, title]) as figure:
        axes = figure.add_subplot()
        axes.set_xscale("log")
        x = np.array([number for _, number in places])
        for n, summaries in enumerate(rows.values()):
            middle = [100 * s.value for s in summaries]
            ends = [100 * abs(np.array([s.low, s.high]) - s.value) for s in summaries]
            shifted = x * 1.03 ** (n - (len(rows) - 1) / 2)  # so that the intervals do not hide one another
            axes.errorbar(
                shifted, middle, np.transpose(ends), marker="o", markersize=4, capsize=2, linewidth=1.2, label=names[n]
            )
        axes.set_xticks(x, [name if name != "all" else f"all\n({number:g})" for name, number in places])
        axes.minorticks_off()
        axes.set_xlabel("labelled target images per class")
        metric = next(iter(rows.values()))[0].metric
        less = "; less is better" if metric.smaller else ""
        axes.set_ylabel(f"{metric.title} in percent, 95 % interval{less}")
        axes.set_title(_plain(title), fontsize=11)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=9)


def grid_png(rows: Sequence[Tensor], row_titles: Sequence[str], path: Path) -> None:
    """Lay out rows of images, each with its title to the left (Figure 5 of CycleAT).

    Every image keeps its pixels; below 96 pixels it is magnified by a whole number s. The cell in row r and
    column c begins ``GAP + r * (s * H + GAP)`` pixels from the top and, with n columns,
    ``(n - c) * (s * W + GAP)`` pixels from the right edge.

    Args:
        rows: uint8 ``(n, 3, H, W)``, each with its own n, all with the same H and W.
        row_titles: one per row.
        path: of the picture.
    """
    from PIL import Image, ImageDraw, ImageFont

    height, width = rows[0].shape[-2:]
    if any(tuple(row.shape[1:]) != (3, height, width) for row in rows) or len(rows) != len(row_titles):
        raise ValueError(f"rows of {[tuple(row.shape) for row in rows]} with titles {list(row_titles)}")
    scale = max(1, -(-96 // max(height, width)))
    height, width = height * scale, width * scale
    font = ImageFont.load_default(14)
    margin = GAP + max(int(font.getlength(title)) for title in row_titles) + 2 * GAP
    picture = Image.new(
        "RGB",
        (margin + max(map(len, rows)) * (width + GAP), GAP + len(rows) * (height + GAP)),
        "white",
    )
    draw = ImageDraw.Draw(picture)
    for r, (row, title) in enumerate(zip(rows, row_titles, strict=True)):
        top = GAP + r * (height + GAP)
        draw.text((margin - 2 * GAP, top + height / 2), title, fill="black", font=font, anchor="rm")
        for c, image in enumerate(row.permute(0, 2, 3, 1).cpu().numpy()):
            cell = Image.fromarray(image.repeat(scale, axis=0).repeat(scale, axis=1))
            picture.paste(cell, (margin + c * (width + GAP), top))
    with written(path) as part:
        picture.save(part, format="PNG")


def domains_png(points: Tensor | npt.NDArray[Any], domains: Sequence[str], path: Path) -> None:
    """Draw embedded images by domain (Figure 4 of CycleAT): source orange, target blue, auxiliary grey.

    Args:
        points: ``(N, 2)`` or ``(N, 3)``.
        domains: N names.
        path: of the picture.
    """
    points = np.asarray(points)
    names = np.asarray(domains)
    with _drawn(6, 5, path, []) as figure:
        axes = figure.add_subplot(projection="3d" if points.shape[1] == 3 else None)
        others = iter(_OTHERS)
        colours = {name: _COLOURS.get(name) or next(others) for name in dict.fromkeys(domains)}
        # The largest first, so that the few target images are not hidden under the many others.
        for name in sorted(colours, key=lambda name: -int((names == name).sum())):
            of = points[names == name]
            label = f"{name} ({len(of)})"
            axes.plot(*of.T, "o", markersize=3.5, alpha=0.7, mew=0, color=colours[name], label=label)
        axes.tick_params(labelbottom=False, labelleft=False, length=0)
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, 0), ncols=len(colours), frameon=False, markerscale=2)


@contextmanager
def _drawn(width: float, height: float, path: Path, texts: Sequence[str]) -> Iterator[Figure]:
    """A figure in inches that pyplot does not know of (it has no window, no global state, nothing to close); saved.

    Texts are texts: a dollar sign begins no formula. Of those that are not dakit's own ``texts`` tells which fonts
    are needed.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    style: dict[Any, Any] = {"text.parse_math": False, "font.family": _families(texts)}
    with rc_context(style):
        figure = Figure((width, height), dpi=DPI, layout="constrained")
        yield figure
        _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    with written(path) as part:
        kind = path.suffix[1:]
        figure.savefig(part, format=kind, metadata={"Date" if kind == "svg" else "Software": None})


def readable(names: Sequence[str]) -> tuple[list[str], str]:
    """Names as a picture can show them, and what to say where it cannot show all.

    A name with a letter that no installed font has becomes its number, "#3" for the third.
    """
    drawable = [all(_has(letter) for letter in name) for name in names]
    shown = [name if good else f"#{number}" for number, (name, good) in enumerate(zip(names, drawable, strict=True), 1)]
    without = "" if all(drawable) else "\n#n: the n-th class of table.md\n(no font here has all its letters)"
    return shown, without


def _families(texts: Sequence[str]) -> list[str]:
    """The usual font, and those that have what it lacks."""
    needed = {_font_of(letter) for text in texts for letter in text}
    return [_FONT, *sorted(name for name in needed if name not in (None, _FONT))]


@cache
def _fonts() -> Mapping[str, str]:
    """The file of every installed font, by name; the usual one first."""
    from matplotlib.font_manager import findfont, fontManager

    files = {_FONT: str(findfont(_FONT))}
    for entry in sorted(fontManager.ttflist, key=lambda entry: (entry.name, entry.fname)):
        upright = entry.style == "normal" and entry.weight in (400, "normal", "regular", "book")
        if upright and not entry.name.startswith(("Last Resort", "cm", "STIX")):  # boxes, and formulas
            files.setdefault(entry.name, str(entry.fname))
    return files


@cache
def _letters(file: str) -> frozenset[int]:
    """The letters that a font can draw."""
    from matplotlib.ft2font import FT2Font

    try:
        font = FT2Font(file)
        return frozenset(font.get_charmap()) if font.scalable else frozenset()  # one of coloured pictures is not
    except (OSError, RuntimeError):  # a font that matplotlib cannot read
        return frozenset()


@cache
def _font_of(letter: str) -> str | None:
    """The first installed font that has a letter."""
    return next((name for name, file in _fonts().items() if ord(letter) in _letters(file)), None)


def _has(letter: str) -> bool:
    return letter.isprintable() and _font_of(letter) is not None


def _plain(text: str) -> str:
    """A text with ? for what no installed font has."""
    return "".join(letter if _has(letter) else "?" for letter in text)


def _short(name: str, most: int = 24) -> str:
    return name if len(name) <= most else f"{name[: most - 1]}…"
