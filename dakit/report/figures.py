"""Drawings for the page: each function makes one small SVG whose colours are the page's own, in light and dark."""

from __future__ import annotations

import base64
import io
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
from markupsafe import Markup

_PAPER = {  # stands in the drawing -> what the style sheet gives it
    "#010101": "currentColor",
    "#020202": "var(--muted)",
    "#030303": "var(--line)",
    "#040404": "var(--accent)",
    "#050505": "var(--source)",
    "#060606": "var(--auxiliary)",
    "#070707": "var(--target)",
}
_INK, _MUTED, _LINE, _ACCENT, _SOURCE, _AUXILIARY, _TARGET = _PAPER
_DOMAINS = {"source": _SOURCE, "auxiliary": _AUXILIARY, "target": _TARGET}
_MANY = ("#4e79a7", "#f28e2b", "#59a14f", "#e15759", "#b07aa1", "#9c755f", "#76b7b2", "#d4a72c", "#ff9da7", "#8a8f98")

Point = tuple[str, float, float, float]
"""A row's name, its macro accuracy (or another metric) in percent, and the ends of its interval."""


@contextmanager
def _drawn(
    width: float, height: float, drawings: list[Markup], place: tuple[float, float, float, float], **axes: Any
) -> Iterator[Any]:
    """Axes at a place (left, bottom, width, height; parts of 1) of so many inches; the SVG is put into ``drawings``."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    style: dict[Any, Any] = {
        "svg.fonttype": "none", "svg.hashsalt": "dakit", "text.parse_math": False, "font.size": 8.5,
        "text.color": _INK, "axes.labelcolor": _MUTED, "axes.edgecolor": _LINE, "axes.linewidth": 0.8,
        "xtick.color": _LINE, "ytick.color": _LINE, "xtick.labelcolor": _MUTED, "ytick.labelcolor": _INK,
        "axes.spines.top": False, "axes.spines.right": False, "xtick.major.size": 0, "ytick.major.size": 0,
        "grid.color": _LINE, "grid.linewidth": 0.6, "axes.axisbelow": True, "axes.titlesize": 9,
        "axes.titlelocation": "left",
    }  # fmt: skip
    with rc_context(style):
        figure = Figure((width, height))
        yield figure.add_axes(place, **axes)
        out = io.StringIO()
        with warnings.catch_warnings():  # the reader's browser has the fonts: texts stay texts in the drawing
            warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from font")
            figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = out.getvalue()
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    svg = re.sub(r'<g id="[a-zA-Z0-9]+_\d+(_\d+)?">', "<g>", svg)  # repeat on a page with many drawings
    svg = re.sub("|".join(_PAPER), lambda match: _PAPER[match[0]], svg)
    svg = re.sub(r"\s*\n\s*", "\n", svg)
    svg = re.sub(r'width="[\d.]+pt" height="[\d.]+pt"', f'role="img" style="width:{width * 96:.0f}px"', svg, count=1)
    drawings.append(Markup(svg))  # matplotlib escapes the texts in it


def forest(
    rows: Sequence[Point],
    chance: float | None,
    accent: str,
    published: Mapping[str, float],
    title: str = "macro accuracy",
) -> Markup:
    """Values with their intervals, one line per row; chance is dotted, a paper's number an open diamond."""
    drawings: list[Markup] = []
    height = 0.7 + 0.27 * len(rows)
    left = 0.02 + 0.011 * max(len(_short(name)) for name, *_ in rows)
    with _drawn(7.2, height, drawings, (left, 0.45 / height, 0.97 - left, 1 - 0.5 / height)) as axes:
        if chance is not None:
            axes.axvline(chance, color=_MUTED, linestyle=":", linewidth=1)
            axes.text(chance, -0.75, " chance", color=_MUTED, fontsize=7.5, va="center")
        for y, (name, macro, low, high) in enumerate(rows):
            colour = _ACCENT if name == accent else _MUTED
            axes.plot([low, high], [y, y], color=colour, linewidth=2.2, alpha=0.55, solid_capstyle="butt")
            axes.plot([macro], [y], "o", color=colour, markersize=6 if name == accent else 5)
            if name in published:
                axes.plot([published[name]], [y], "D", markersize=5, markerfacecolor="none", markeredgecolor=_INK)
        axes.set_yticks(range(len(rows)), [_short(name) for name, *_ in rows])
        axes.set_ylim(len(rows) - 0.4, -1.1)
        axes.set_xlabel(f"{title}, percent")
        axes.grid(axis="x")
        axes.spines["left"].set_visible(False)
    return drawings[0]


def curve(lines: Sequence[tuple[Sequence[float], Sequence[float]]], title: str) -> Markup:
    """One value over the steps of several trainings, the first of which is the one to look at."""
    drawings: list[Markup] = []
    with _drawn(3.3, 1.8, drawings, (0.15, 0.2, 0.83, 0.66)) as axes:
        for place, (steps, values) in reversed([*enumerate(lines)]):
            marker = "." if len(values) < 20 else ""
            colour, width = (_MUTED, 0.8) if place else (_ACCENT, 1.6)
            axes.plot(steps, values, marker=marker, ls="-", color=colour, lw=width)
        axes.set_title(_short(title))
        axes.set_xlabel("step")
        axes.grid(axis="y")
        axes.tick_params(labelcolor=_MUTED)
        axes.margins(x=0.02)
        axes.spines["left"].set_visible(False)
    return drawings[0]


def scatter(points: npt.NDArray[Any], names: Sequence[str], title: str) -> Markup:
    """Embedded images ``(N, 2)`` or ``(N, 3)``, coloured by name; the three domains have their fixed colours."""
    drawings: list[Markup] = []
    of = np.asarray(names)
    flat = points.shape[1] == 2
    known = sorted({*names} - {""}) if not {*names} <= {*_DOMAINS} else [d for d in _DOMAINS if d in names]
    colours = {name: _DOMAINS.get(name, _MANY[i % len(_MANY)]) for i, name in enumerate(known)}
    height = 3.9 + 0.18 * (-(-len(known) // 3))
    bottom = 1 - 3.7 / height
    with _drawn(4.4, height, drawings, (0.02, bottom, 0.96, 0.94 - bottom), projection=None if flat else "3d") as axes:
        if (of == "").any():
            axes.plot(*points[of == ""].T, "o", color=_LINE, markersize=2.6, mew=0, label="no label")
        # The largest first, so that the few target images are not hidden under the many others.
        for name in sorted(known, key=lambda name: -int((of == name).sum())):
            mine = points[of == name]
            label = f"{_short(name, 14)} ({len(mine)})"
            axes.plot(*mine.T, "o", color=colours[name], markersize=3.6, alpha=0.75, mew=0, label=label)
        axes.tick_params(labelbottom=False, labelleft=False)
        if flat:
            axes.set_xticks([])
            axes.set_yticks([])
            axes.spines[:].set_visible(True)
        else:
            axes.tick_params(labelright=False, labeltop=False, axis="z")
            axes.set_zticklabels([])
            for axis in (axes.xaxis, axes.yaxis, axes.zaxis):
                axis.pane.set_alpha(0)
        axes.set_title(title)
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, 0), ncols=3, frameon=False, fontsize=7.5, markerscale=1.8)
    return drawings[0]


def picture(pixels: npt.NDArray[np.uint8]) -> str:
    """``(h, w, 3)`` as a data URI."""
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "WEBP", quality=88)
    return f"data:image/webp;base64,{base64.b64encode(out.getvalue()).decode()}"


def looked_at(pixels: npt.NDArray[np.uint8], weights: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """An image in grey under a map ``(h', w')`` of weights in [0, 1]: dark violet = none, yellow = most."""
    from matplotlib import colormaps
    from PIL import Image

    height, width = pixels.shape[:2]
    map_ = Image.fromarray(weights.astype(np.float32)).resize((width, height), Image.Resampling.BICUBIC)
    colour = colormaps["inferno"](np.clip(np.asarray(map_), 0, 1))[..., :3] * 255
    grey = pixels.mean(2, keepdims=True)
    mixed: npt.NDArray[np.uint8] = (0.4 * grey + 0.6 * colour).clip(0, 255).astype(np.uint8)
    return mixed


def _short(name: str, most: int = 22) -> str:
    """A name that fits."""
    return name if len(name) <= most else f"{name[: most - 1]}…"
