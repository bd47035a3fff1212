"""Pictures of a run. Each function writes one PNG, by rename: it is whole or it is not there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from dakit.files import written
from dakit.metrics import Summary

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 120

GAP = 4
"""Pixels between the images of a grid, and around it."""

_COLOURS = {"source": "tab:orange", "target": "tab:blue", "auxiliary": "0.6"}
_OTHERS = ("tab:green", "tab:red", "tab:purple", "tab:brown", "tab:pink", "tab:olive", "tab:cyan")


def confusion_png(summary: Summary, path: Path, title: str = "") -> None:
    """Draw how often images of each class (row) were taken for each (column): percent of the row, and counts."""
    counts = summary.confusion
    names = summary.classes
    longest = max(map(len, names))
    side = 1.2 + 0.08 * longest + 0.62 * len(names)
    figure = _figure(max(side, 3.6), side)
    axes = figure.add_subplot()
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(share, vmin=0, vmax=1, cmap="Blues")
    axes.set_xticks(range(len(names)), names, rotation=0 if longest < 6 else 90)
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("predicted (percent of the row, images)")
    axes.set_ylabel("truth")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    for (i, j), part in np.ndenumerate(share):
        colour = "white" if part > 0.55 else "0.55" if counts[i, j] == 0 else "black"
        axes.text(j, i - 0.12, f"{100 * part:.0f}", ha="center", va="center", fontsize=10, color=colour)
        axes.text(j, i + 0.24, f"{counts[i, j]}", ha="center", va="center", fontsize=6.5, color=colour)
    ave = f"Ave. {100 * summary.macro:.2f} (95 %: {100 * summary.low:.2f}-{100 * summary.high:.2f})"
    axes.set_title(f"{title}\n{ave}" if title else ave, fontsize=11)
    _save(figure, path)


def curves_png(history: Mapping[str, Sequence[float]], path: Path) -> None:
    """Draw each value over the steps, one panel each, because losses differ in scale.

    Args:
        history: "step" and, equally long, the values by name.
        path: of the picture.
    """
    names = [name for name in history if name != "step"]
    columns = min(3, len(names))
    rows = -(-len(names) // columns)
    figure = _figure(3.4 * columns, 2.3 * rows)
    for place, name in enumerate(names, start=1):
        axes = figure.add_subplot(rows, columns, place)
        axes.plot(history["step"], history[name], linewidth=1.2, marker="." if len(history[name]) < 20 else "")
        axes.set_title(name, fontsize=10)
        axes.tick_params(labelsize=8)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        if place > len(names) - columns:
            axes.set_xlabel("step", fontsize=9)
    _save(figure, path)


def label_curve(
    places: Sequence[tuple[str, float]], rows: Mapping[str, Sequence[Summary]], path: Path, title: str = ""
) -> None:
    """Draw macro accuracy, with its interval, against labelled images per class; a PNG or an SVG.

    Args:
        places: name and number of labels per class of each point, in rising order.
        rows: for each row of the table a summary at every place.
        path: of the picture; its suffix says which kind.
        title: heading.
    """
    figure = _figure(6.4, 4.4)
    axes = figure.add_subplot()
    axes.set_xscale("log")
    x = np.array([number for _, number in places])
    for n, (row, summaries) in enumerate(rows.items()):
        middle = [100 * s.macro for s in summaries]
        ends = [100 * abs(np.array([s.low, s.high]) - s.macro) for s in summaries]
        shifted = x * 1.03 ** (n - (len(rows) - 1) / 2)  # so that the intervals do not hide one another
        axes.errorbar(
            shifted, middle, np.transpose(ends), marker="o", markersize=4, capsize=2, linewidth=1.2, label=row
        )
    axes.set_xticks(x, [name if name != "all" else f"all\n({number:g})" for name, number in places])
    axes.minorticks_off()
    axes.set_xlabel("labelled target images per class")
    axes.set_ylabel("macro accuracy in percent, 95 % interval")
    axes.set_title(title, fontsize=11)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    _save(figure, path)


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
    figure = _figure(6, 5)
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
    _save(figure, path)


def _figure(width: float, height: float) -> Figure:
    """A figure in inches that pyplot does not know of: it has no window, no global state, nothing to close."""
    from matplotlib.figure import Figure

    return Figure((width, height), dpi=DPI, layout="constrained")


def _save(figure: Figure, path: Path) -> None:
    with written(path) as part:
        kind = path.suffix[1:]
        figure.savefig(part, format=kind, metadata={"Date" if kind == "svg" else "Software": None})
