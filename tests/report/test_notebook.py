from __future__ import annotations

import re
import sys
import types
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dakit.errors import DakitError
from dakit.pipeline.outcome import Outcome
from dakit.report.notebook import lines
from dakit.statistics.comparison import compare_rows
from dakit.statistics.metrics import Evaluation, Round, summarise

CLASSES = ("cat", "<dog> & co")


def rounds(right: list[list[int]]) -> list[Round]:
    """One round for each seed; of four images 0 to 3, of the classes 0, 0, 1, 1, those are right."""
    labels = np.array([0, 0, 1, 1])
    made = []
    for seed, known in enumerate(right):
        predictions = np.where(np.isin(np.arange(4), known), labels, 1 - labels)
        made.append(
            Round(
                seed,
                0,
                Evaluation(CLASSES, np.arange(4), labels, predictions, np.eye(2, dtype=np.float32)[predictions]),
            )
        )
    return made


@pytest.fixture
def outcome() -> Outcome:
    evaluated = {"fine_tune": rounds([[0, 1], [0, 1, 2]]), "<script>": rounds([[0, 1, 2, 3], [1, 2, 3]])}
    return Outcome(
        {row: summarise(parts) for row, parts in evaluated.items()}, evaluated, 1, 0, Path("out"),
        warnings=("a <b>doubt</b>",), comparisons=compare_rows(evaluated, "fine_tune", []),
        recipe=types.SimpleNamespace(  # type: ignore[arg-type]
            published={}, baseline="fine_tune", title="", plan=lambda row: types.SimpleNamespace(weights="last")
        ),
    )  # fmt: skip


def test_a_line_has_the_numbers_of_its_row(outcome):
    found = lines(outcome._rows())
    assert list(found) == ["fine_tune", "<script>"]
    first, second = found.values()
    # By hand: recalls (1, 0) and (1, 0.5); (1, 1) and (0.5, 1).
    assert first["value"] == pytest.approx(62.5)
    assert first["class cat"] == pytest.approx(100)
    assert first["class <dog> & co"] == pytest.approx(25)
    assert second["value"] == pytest.approx(87.5)
    assert second["difference"] == pytest.approx(25)
    assert second["baseline"] == "fine_tune"
    assert first["verdict"] is first["difference"] is first["baseline"] is None
    comparison = outcome.comparisons["<script>"]
    assert second["verdict"] == comparison.verdict
    assert second["difference_low"] == pytest.approx(100 * comparison.low)
    assert second["difference_high"] == pytest.approx(100 * comparison.high)
    assert second["p"] == comparison.p_value
    summary = outcome.summaries["<script>"]
    assert (second["low"], second["high"]) == pytest.approx((100 * summary.low, 100 * summary.high))
    assert (second["seeds"], second["folds"], second["images"]) == (2, 1, 4)


def test_a_frame_is_made_of_the_lines(outcome, monkeypatch):
    """Against the one call of pandas that is made; with pandas itself where it is installed, below."""
    module = types.ModuleType("pandas")
    module.DataFrame = types.SimpleNamespace(from_dict=lambda data, orient: (orient, data))  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pandas", module)
    assert outcome.to_frame() == ("index", lines(outcome._rows()))


def test_a_real_frame(outcome):
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    frame = outcome.to_frame()
    assert isinstance(frame, pandas.DataFrame)
    assert list(frame.index) == ["fine_tune", "<script>"]
    assert frame.loc["<script>", "value"] == pytest.approx(87.5)


def test_without_pandas_it_is_said_how_to_get_it(outcome, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(DakitError, match=r"pandas is not installed: pip install 'dakit\[notebook\]'"):
        outcome.to_frame()


class Tags(HTMLParser):
    """The tags and the texts of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.texts: list[str] = []
        self.feed(page)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.open.append(tag)
        self.tags.add(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.texts.append(data.strip())


def test_the_table_is_shown_and_every_name_is_text(outcome):
    page = Tags(outcome._repr_html_())
    assert {"script", "dog"} & page.tags == set()
    for text in ("<script>", "<dog> & co", "a <b>doubt</b>", "62.50", "87.50", "25.00", "baseline",
                 outcome.comparisons["<script>"].verdict):  # fmt: skip
        assert text in page.texts, text


def test_the_best_mean_is_bold(outcome):
    assert re.findall(r"<b>([\d.]+)</b>", outcome._repr_html_()) == ["87.50"]


def test_a_run_of_the_toy_recipe_shows_its_remarks(load, tmp_path):
    from dakit.pipeline.run import run

    recipe = load()
    made = run(recipe, rows=["s2t", "fine_tune"], out=tmp_path / "out")
    texts = Tags(made._repr_html_()).texts
    assert recipe.title in texts
    assert set(made.remarks(recipe)) <= set(texts)
    assert "paper" in texts
    assert "not run" not in " ".join(texts)


def test_a_run_without_numbers_says_so(load, tmp_path):
    from dakit.pipeline.run import run

    made = run(load(), rows=["s2t"], out=tmp_path / "out", until="pretrain")
    assert "Not run to its evaluation: there is no number yet." in Tags(made._repr_html_()).texts
