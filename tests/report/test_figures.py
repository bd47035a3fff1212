from __future__ import annotations

import base64
import io
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from PIL import Image

from dakit.report import figures

EVIL = "<b>$a$ & b</b>"


def drawings() -> dict[str, str]:
    points = np.random.default_rng(0).normal(size=(9, 3))
    return {
        "forest": figures.forest([(EVIL, 50.0, 40.0, 60.0), ("b", 30.0, 20.0, 45.0)], 25.0, "b", {"b": 33.0}),
        "curve": figures.curve([([1, 2, 3], [3.0, 2.0, 1.0]), ([1, 3], [2.0, 2.5])], EVIL),
        "domains": figures.scatter(points[:, :2], ["source", "target", "auxiliary"] * 3, "2-D"),
        "classes": figures.scatter(points, [EVIL, "b", ""] * 3, "3-D"),
    }


@pytest.mark.parametrize("name", ["forest", "curve", "domains", "classes"])
def test_a_drawing_is_whole_small_and_of_the_pages_own_colours(name):
    svg = drawings()[name]
    ET.fromstring(svg)
    assert len(svg) < 60_000
    assert "currentColor" in svg or "var(--muted)" in svg
    assert not re.findall(r"#0[1-7]0[1-7]0[1-7]", svg)
    assert '<g id="axes' not in svg
    assert EVIL not in svg


def test_texts_are_told_as_they_are():
    texts = {node.text for node in ET.fromstring(drawings()["forest"]).iter() if node.tag.endswith("text")}
    assert {EVIL, "b"} <= texts
    svg = drawings()["domains"]
    assert {"var(--source)", "var(--auxiliary)", "var(--target)"} <= set(re.findall(r"var\(--\w+\)", svg))
    assert "no label" in drawings()["classes"]


def test_the_method_alone_has_the_accent_and_an_interval_its_length():
    svg = figures.forest([("a", 50.0, 40.0, 60.0), ("b", 50.0, 30.0, 70.0)], 10.0, "b", {})
    lines = re.findall(r'd="M ([\d.]+) ([\d.]+)\nL ([\d.]+) \2\n"[^>]*stroke: var\(--(\w+)\); stroke-opacity', svg)
    widths = {colour: float(right) - float(left) for left, _, right, colour in lines}
    assert widths["accent"] == pytest.approx(2 * widths["muted"], rel=1e-3)


def test_a_picture_is_a_data_uri():
    pixels = np.full((4, 6, 3), 90, np.uint8)
    head, _, body = figures.picture(pixels).partition(",")
    assert head == "data:image/webp;base64"
    with Image.open(io.BytesIO(base64.b64decode(body))) as image:
        assert image.size == (6, 4)


def test_looked_at_is_bright_where_the_weight_is():
    pixels = np.full((8, 8, 3), 100, np.uint8)
    seen = figures.looked_at(pixels, np.array([[0.0, 1.0], [0.0, 1.0]], np.float16)).astype(int)
    assert seen.shape == pixels.shape
    assert seen[:, 7].sum() > 2 * seen[:, 0].sum()
