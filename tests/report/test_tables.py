import io
import json
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from dakit.report.tables import ladder, remarks, to_json, to_markdown
from dakit.statistics.comparison import Comparison
from dakit.statistics.metrics import ONE_SEED, Evaluation, Round, summarise

CLASSES = ("AN", "FE", "HA")


def summary(hits, seeds=1, folds=1, classes=CLASSES):
    """``hits[k]`` of 8 images of class k right, the same in each seed; the first class may have none."""
    labels = np.repeat(np.arange(len(classes)), [8 if hit is not None else 0 for hit in hits])
    said = np.concatenate(
        [np.where(np.arange(8) < hit, k, (k + 1) % len(classes)) for k, hit in enumerate(hits) if hit is not None]
    )
    rounds = []
    for seed in range(seeds):
        for fold in range(folds):
            mine = np.arange(len(labels)) % folds == fold
            probabilities = np.eye(len(classes), dtype=np.float32)[said[mine]]
            e = Evaluation(classes, np.flatnonzero(mine), labels[mine], said[mine], probabilities)
            rounds.append(Round(seed, fold, e))
    return summarise(rounds)


SUMMARIES = {"s2t": summary([1, 2, 3]), "cycleat": summary([5, 6, 8], seeds=3, folds=2)}
PUBLISHED = {"s2t": {"AN": 17.21, "HA": 55.6, "Ave.": 22.4}, "not run": {"AN": 1.0}}


def shown(table, width=100, **options):
    console = Console(width=width, file=io.StringIO(), **options)
    console.print(table)
    return console.file.getvalue()


def test_the_ladder_as_text():
    lines = shown(ladder(SUMMARIES, PUBLISHED, "CycleAT [SFEW]", "wiring only")).splitlines()
    s2t = SUMMARIES["s2t"]
    cells = [line.split() for line in lines]
    assert cells[0] == ["CycleAT", "[SFEW]"]
    assert cells[1:3] == [["seeds"], ["AN", "FE", "HA", "Ave.", "95", "%", "x", "folds"]]
    interval = f"{100 * s2t.low:.2f}-{100 * s2t.high:.2f}"
    assert cells[3] == ["s2t", "12.50", "25.00", "37.50", "25.00", interval, "1", "x", "1"]
    assert cells[4] == ["paper", "17.21", "-", "55.60", "22.40"]
    assert cells[5][:5] == ["cycleat", "62.50", "75.00", "100.00", "79.17"]
    assert cells[5][-3:] == ["3", "x", "2"]
    assert cells[6:] == [["wiring", "only"]]


def test_the_best_average_is_bold_and_the_paper_is_dim():
    text = shown(ladder(SUMMARIES, PUBLISHED), force_terminal=True, color_system="standard")
    assert "\x1b[1m79.17\x1b[0m" in text
    assert "\x1b[1m25.00\x1b[0m" not in text
    paper = next(line for line in text.splitlines() if "paper" in line)
    assert "\x1b[2;3m22.40" in paper.replace("\x1b[2;3m ", "\x1b[2;3m")
    assert "\x1b[2;3m" not in next(line for line in text.splitlines() if "cycleat" in line)


def test_seven_classes_fit_a_terminal_of_80_columns():
    wide = summary([1] * 7, classes=("AN", "DI", "FE", "HA", "NE", "SA", "SU"))
    text = shown(ladder({"cycleat_distinct": wide}), width=80)
    assert text.count("12.50") == 8
    assert "…" not in text


def test_a_class_without_images_has_a_dash():
    row = shown(ladder({"s2t": summary([None, 2, 4])})).splitlines()[-1].split()
    assert row[:5] == ["s2t", "-", "25.00", "50.00", "37.50"]


def test_markdown():
    lines = to_markdown(SUMMARIES, PUBLISHED, "CycleAT", "wiring only").splitlines()
    s2t = SUMMARIES["s2t"]
    interval = f"{100 * s2t.low:.2f}-{100 * s2t.high:.2f}"
    assert lines[:6] == [
        "**CycleAT**",
        "",
        "|  | AN | FE | HA | Ave. | 95 % | seeds x folds |",
        "| :--- | ---: | ---: | ---: | ---: | ---: | ---: |",
        f"| s2t | 12.50 | 25.00 | 37.50 | 25.00 | {interval} | 1 x 1 |",
        "| *paper* | *17.21* | *-* | *55.60* | *22.40* |  |  |",
    ]
    assert lines[6].startswith("| cycleat | 62.50 | 75.00 | 100.00 | **79.17** |")
    assert lines[7:] == ["", "wiring only"]
    odd = to_markdown({"a|b": summary([1, 2, 3])})
    assert odd.splitlines()[2].startswith(r"| a\|b | 12.50 |")


def test_json_survives_a_round_trip_and_holds_no_nan():
    made = to_json({**SUMMARIES, "partly": summary([None, 2, 4])}, PUBLISHED)
    assert json.loads(json.dumps(made, allow_nan=False)) == made
    assert list(made) == ["s2t", "cycleat", "partly"]
    s2t, cycleat = made["s2t"], made["cycleat"]
    assert s2t["per_class"] == {"AN": 12.5, "FE": 25.0, "HA": 37.5}
    assert s2t["published"] == PUBLISHED["s2t"]
    assert cycleat["published"] is None
    assert cycleat["macro"] == pytest.approx(100 * (5 + 6 + 8) / 24)
    assert cycleat["per_seed"] == {str(seed): cycleat["macro"] for seed in range(3)}
    assert (cycleat["seeds"], cycleat["folds"], cycleat["images"]) == ([0, 1, 2], [0, 1], 24)
    assert cycleat["confusion"] == [[15, 9, 0], [0, 18, 6], [0, 0, 24]]
    assert cycleat["interval"] == [100 * SUMMARIES["cycleat"].low, 100 * SUMMARIES["cycleat"].high]
    assert made["partly"]["per_class"]["AN"] is None


COMPARISONS = {
    "s2t": Comparison(-0.123, -0.2, -0.05, 0.0123, 0.5, 24, "worse"),
    "cycleat": "the baseline was not run",
}


def test_what_is_said_beneath_the_table():
    assert remarks(SUMMARIES, COMPARISONS, "base") == [
        "95 %: over test images within their class; one seed: of these networks only.",
        "95 %: over test images within their class, and seeds.",
        "Against base: paired over test images and over seeds (t), p adjusted for the number of rows (Holm).",
        "s2t: worse (-12.30 points, -20.00 to -5.00, p = 0.012, 24 images)",
        "cycleat: not compared: the baseline was not run",
    ]
    once = {"s2t": replace(COMPARISONS["s2t"], verdict=ONE_SEED)}
    # No p-value, which would be read as a verdict.
    assert remarks({"s2t": SUMMARIES["s2t"]}, once, "base")[2:] == [
        "s2t: one seed: of these networks only (-12.30 points, -20.00 to -5.00, 24 images)"
    ]
    assert len(remarks({"s2t": SUMMARIES["s2t"]}, {"s2t": "the baseline was not run"}, "base")) == 2
    assert len(remarks({"s2t": SUMMARIES["s2t"]}, {}, None)) == 1


def test_comparisons_in_json():
    made = to_json({**SUMMARIES, "base": summary([1, 2, 3])}, None, COMPARISONS, "base")
    found = made["s2t"]["comparison"]
    assert found.pop("method").startswith("paired over test images")
    assert found == {
        "baseline": "base", "difference": pytest.approx(-12.3), "interval": [-20, -5], "p": 0.0123, "mcnemar_p": 0.5,
        "n": 24, "verdict": "worse",
    }  # fmt: skip
    assert made["cycleat"]["comparison"] == {"baseline": "base", "reason": "the baseline was not run"}
    assert made["base"]["comparison"] is None


def test_classes_that_do_not_fit_are_left_out():
    names = tuple(f"class_{i:03d}" for i in range(65))
    wide = {"cycleat_distinct": summary([4] * 65, classes=names), "s2t": summary([2] * 65, classes=names)}
    published = {"s2t": {"class_000": 1.0, "Ave.": 22.4}}
    lines = shown(ladder(wide, published, width=80), width=80).splitlines()
    assert lines[1].split() == ["Ave.", "95", "%", "x", "folds"]
    assert lines[2].split()[:2] == ["cycleat_distinct", "50.00"]
    assert lines[3].split()[:2] == ["s2t", "25.00"]
    assert lines[4].split() == ["paper", "22.40"]
    assert lines[5].strip() == "65 classes: see table.md"
    assert "class_064" in to_markdown(wide)
    seven = {"cycleat_distinct": summary([1] * 7, classes=("AN", "DI", "FE", "HA", "NE", "SA", "SU"))}
    assert shown(ladder(seven, width=80), width=80) == shown(ladder(seven), width=80)
    assert "AN" not in shown(ladder(seven, width=60), width=60)


def test_wide_letters_count_twice():
    names = tuple("猫" * 12 + str(i) for i in range(3))
    text = shown(ladder({"s2t": summary([1, 2, 3], classes=names)}, width=90), width=90)
    assert "3 classes: see table.md" in text
    assert "…" not in text


def test_signs_of_markdown_are_text():
    classes = ("US$", "<b>x", "a|b\nc", "[d]")
    lines = to_markdown({"s2t_a": summary([1, 2, 3, 4], classes=classes), "_x_": summary([1] * 4, classes=classes)})
    head, _, one, two = lines.splitlines()
    assert head.startswith(r"|  | US\$ | \<b\>x | a\|b c | \[d\] | Ave. |")
    assert one.startswith("| s2t_a | 12.50 |")
    assert two.startswith(r"| \_x\_ | 12.50 |")
