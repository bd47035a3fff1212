from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

import browser
from dakit.pipeline.run import run
from dakit.recipe.load import load_recipe
from dakit.report.page import headline, write_page
from dakit.results.runs import open_run

EVIL = "<script>alert(1)</script>"

RECIPE = f"""\
recipe: faces
title: "{EVIL} & co, cost $5 to $9"
method: cycle
baseline: s2t
rows: [s2t, cycle]
pictures: [map]
engine: {{device: cpu}}
data:
  size: 16
  classes: [dark, "{EVIL}"]
  source: {{use: toy_images, people: 4}}
  auxiliary: {{use: toy_images, people: 4, shift: 9, unlabelled: true}}
  target: {{use: toy_images, people: 4, shift: 20, split: {{folds: predefined}}}}
components:
  network: {{use: resnet_cifar, depth: 8, width: 4}}
  generator: {{use: resnet_generator, blocks: 1, width: 4}}
  discriminator: {{use: patchgan, width: 4, layers: 1}}
  attention: {{use: attention_transfer}}
  nearest: {{use: tsne_knn, neighbours: 2, otherwise: classifier, perplexity: 3}}
stages:
  pretrain: {{do: train_classifier, train: source.all, classifier: network, steps: 2, batch_size: 4}}
  translate:
    do: train_translator
    source: source.all
    target: auxiliary.all
    generator: generator
    discriminator: discriminator
    steps: 2
    batch_size: 4
  synthesise: {{do: synthesise, images: source.all, translator: translate.translator, judge: pretrain.model}}
  select: {{do: select, pool: synthesise.images, anchors: target.train, selector: nearest, classifier: pretrain.model}}
  adapt:
    do: train_classifier
    train: target.train
    extra: select.images
    teacher: pretrain.model
    transfer: attention
    classifier: network
    steps: 2
    batch_size: 4
  map:
    do: map_domains
    source: source.all
    auxiliary: auxiliary.all
    target: target.train
    classifier: pretrain.model
    selector: nearest
  evaluate: {{do: evaluate, model: adapt.model, test: target.test}}
variants:
  s2t: {{evaluate.model: pretrain.model}}
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, toys: Path) -> Path:
    """A run with everything that a page can show, and a class with an evil name."""
    folder = tmp_path_factory.mktemp("page")
    (folder / "faces.yaml").write_text(RECIPE)
    outcome = run(load_recipe(folder / "faces.yaml", plugins=[toys]), out=folder / "run", fold=0)
    assert not [text for text in outcome.warnings if "report" in text]
    return folder / "run"


@pytest.fixture(scope="module")
def page(made: Path) -> str:
    return (made / "report.html").read_text(encoding="utf-8")


SECTIONS = (
    "data", "results", "classes", "mistakes", "generated", "agreement", "selection", "domains", "attention", "training",
    "cost", "record",
)  # fmt: skip


def test_every_section_is_there_and_in_the_table_of_contents(page: str) -> None:
    assert re.findall(r'<h2 id="(\w+)">', page) == list(SECTIONS)
    assert re.findall(r'<a href="#(\w+)">', page) == list(SECTIONS)


def test_the_table_has_the_numbers_of_the_results(made: Path, page: str) -> None:
    for row, about in json.loads((made / "results.json").read_text())["rows"].items():
        (line,) = re.findall(rf'<tr[^>]*><td title="{row}">.*?</tr>', page, re.DOTALL)
        cells = re.findall(r"<td[^>]*>(.*?)</td>", line)
        verdict = about["comparison"] and about["comparison"]["verdict"]
        assert cells.pop(3).startswith(verdict or "baseline")
        low, high = about["interval"]
        recalls = [f"{recall:.2f}" for recall in about["per_class"].values()]
        assert f"with 95 % intervals, over {about['resampled']}. Look" in page
        assert cells == [row, f"{about['macro']:.2f}", f"{low:.2f} - {high:.2f}", *recalls, "4", "1 x 1", "last"]


def test_names_are_escaped_and_nothing_is_loaded(page: str) -> None:
    assert "<script" not in page
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;") > 5
    assert "cost $5 to $9" in page
    assert not re.findall(r'(?:src|href)="(?!data:|#)', page)
    assert "url(" not in re.sub(r"url\(#\w+\)", "", page)
    assert len(page) < 2_000_000


def test_what_a_run_lacks_is_left_out(made: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(made, tmp_path / "run"))
    (folder / "results.json").unlink()
    (folder / "samples.npz").unlink()
    for path in folder.glob("store/*"):
        if path.name.startswith(("translate", "select", "adapt", "evaluate", "map", "synthesise")):
            shutil.rmtree(path)
    write_page(open_run(folder), tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    assert re.findall(r'<h2 id="(\w+)">', text) == ["data", "training", "cost", "record"]
    assert "Not run to its evaluation" in text


def test_a_page_that_fails_harms_no_result(
    made: Path, toys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*given: object) -> None:
        raise ZeroDivisionError("in a drawing")

    monkeypatch.setattr("dakit.report.page.write_page", fails)
    folder = Path(shutil.copytree(made, tmp_path / "run"))
    before = json.loads((folder / "results.json").read_text())["rows"]
    outcome = run(load_recipe(made.parent / "faces.yaml", plugins=[toys]), out=folder, fold=0)
    assert outcome.warnings[-1] == "report.html was not made: ZeroDivisionError: in a drawing"
    assert outcome.made == 0
    assert json.loads((folder / "results.json").read_text())["rows"] == before


def test_a_picture_that_fails_harms_neither_table_nor_page(
    made: Path, toys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*given: object) -> None:
        raise MemoryError("so many classes")

    monkeypatch.setattr("dakit.report.pictures.confusion_png", fails)
    folder = Path(shutil.copytree(made, tmp_path / "run"))
    for name in ("table.md", "report.html"):
        (folder / name).unlink()
    outcome = run(load_recipe(made.parent / "faces.yaml", plugins=[toys]), out=folder, fold=0)
    expected = [f"confusion-{row}.png was not made: MemoryError: so many classes" for row in ("s2t", "cycle")]
    assert list(outcome.warnings[-2:]) == expected
    assert (folder / "table.md").is_file()
    assert (folder / "report.html").is_file()


def test_matrices_of_many_classes_are_not_in_the_page(made: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(made, tmp_path / "run"))
    results = json.loads((folder / "results.json").read_text())
    for count, there in ((60, True), (61, False)):
        names = [f"c{i}" for i in range(count)]
        for about in results["rows"].values():
            about |= {"classes": names, "per_class": dict.fromkeys(names, 50.0), "confusion": np.eye(count).tolist()}
        (folder / "results.json").write_text(json.dumps(results))
        write_page(open_run(folder), tmp_path / "page.html")
        text = (tmp_path / "page.html").read_text()
        assert ('class="confusion"' in text) is there
        assert ("61 classes are too many for this page" in text) is not there


def test_samples_are_never_test_images(made: Path) -> None:
    """Of 8 target images 4 may be learned from, two of each class."""
    with np.load(made / "samples.npz") as file:
        assert file["counts"].tolist() == [[4, 4], [0, 0], [2, 2]]


def row(macro: float | None, **more: object) -> dict[str, object]:
    return {"macro": macro, "interval": [1.0, 2.0], "classes": ["a", "b"], "images": 1000, **more}


def test_headline_in_words() -> None:
    verdict = {"verdict": "better", "baseline": "tuned", "difference": 3.456, "interval": [1.0, 5.0]}
    told = headline({"tuned": row(60.0), "mine": row(63.456, comparison=verdict)}, "mine")
    assert told == [
        "mine reads 63.5 % (95 %: 1.0 to 2.0) of 1,000 test images right, as the mean over 2 classes; "
        "guessing gives 50.0 %.",
        "It is the best of 2 rows.",
        "Against tuned: better (+3.46 points, 95 % +1.00 to +5.00).",
    ]
    alone = verdict | {"verdict": "one seed: of these networks only"}
    told = headline({"tuned": row(60.0), "mine": row(63.456, comparison=alone)}, "mine")
    assert told[2] == "Against tuned: one seed: of these networks only (+3.46 points, 95 % +1.00 to +5.00)."
    told = headline({"tuned": row(60.0), "mine": row(50.0, comparison={"reason": "other images"})}, "mine")
    assert told[1:] == ["The best of 2 rows is tuned, with 60.0 % (95 %: 1.0 to 2.0)."]
    assert headline({"mine": row(None)}, "mine") == []


@pytest.mark.skipif(browser.CHROMIUM is None, reason="needs chromium")
def test_in_a_browser(made: Path, tmp_path: Path) -> None:
    path = made / "report.html"
    with browser.browser(tmp_path) as tab:
        papers = set()
        for width, scheme in ((1200, "light"), (400, "light"), (400, "dark")):
            seen = tab.look(path, width=width, scheme=scheme)
            assert seen["console"] == []
            assert seen["requests"] == [path.resolve().as_uri()]
            assert seen["images"] > 30
            assert (seen["broken"], seen["overflow"], seen["scripts"]) == (0, 0, 0)
            assert EVIL in seen["text"]
            assert seen["paper"] != seen["ink"]
            papers.add((scheme, seen["paper"]))
        assert len(papers) == 2
        assert len({paper for _, paper in papers}) == 2
        # The check itself can fail: a script, a request, a broken picture, a wide element.
        bad = tmp_path / "bad.html"
        bad.write_text('<script>console.log(1)</script><img src="none.png"><p style="width:900px">x')
        seen = tab.look(bad, width=400, scheme="light")
        assert (seen["broken"], seen["scripts"], len(seen["requests"])) == (1, 1, 2)
        assert seen["overflow"] > 0
        assert seen["console"]
