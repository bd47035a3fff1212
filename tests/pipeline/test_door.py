"""``dakit.run``: a recipe in any form, with components and images as objects, as in a notebook."""

from __future__ import annotations

import builtins
import copy
import linecache
import os
import re
import subprocess
import sys
import types
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch.utils.data import Dataset

import dakit
import toys
from dakit.errors import DakitError
from dakit.pipeline import run as pipeline
from dakit.pipeline.door import in_notebook
from dakit.recipe.load import load_recipe

DOCUMENT = yaml.safe_load(toys.RECIPE)
DOCUMENT["data"]["classes"] = ["dark", "bright"]
IMAGES = np.zeros((20, 3, 4, 4), np.uint8)
COMPONENTS = {
    "toy_images": toys.toy_images,
    "toy_classifier": toys.ToyClassifier,
    "translator/toy_translator": toys.ToyTranslator,
    "toy_train": toys.ToyTrain,
    "toy_translate": toys.ToyTranslate,
}
CELL = """\
import torch
from torch import nn
from dakit.interfaces import Prediction

FACTOR = {factor}

class Mine(nn.Module):
    \"\"\"A linear layer on the mean colour.\"\"\"

    def __init__(self, classes: int):
        super().__init__()
        self.head = nn.Linear(3, classes)

    def forward(self, images) -> Prediction:
        features = FACTOR * images.mean((2, 3)){remark}
        return Prediction(self.head(features), features, (images,))
"""


def cell(number: int, *, factor: float = 1.0, remark: str = "") -> Any:
    """What a cell defines, as IPython runs it: compiled from a text that only ``linecache`` has."""
    source, name = CELL.format(factor=factor, remark=remark), f"<ipython-input-{number}>"
    linecache.cache[name] = (len(source), None, source.splitlines(True), name)
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(source, name, "exec"), names)
    return names["Mine"]


def document(**components: Any) -> dict[str, Any]:
    made = copy.deepcopy(DOCUMENT)
    made["components"] |= components
    return made


class Pictures(Dataset[Any]):
    """Dark and bright ones; ``change`` makes one pixel of one image another."""

    classes = ("dark", "bright")

    def __init__(self, change: int = 0) -> None:
        self.change = change
        self.groups = [f"person {i // 2}" for i in range(len(self))]

    def __len__(self) -> int:
        return 20

    def __getitem__(self, index: int) -> Any:
        image = torch.full((3, 4, 4), 10 + 100 * (index % 2) + index, dtype=torch.uint8)
        image[0, 0, 0] += self.change * (index == 7)
        return image, index % 2


def test_a_recipe_in_any_form_is_the_same_run(toys, tmp_path):
    path = tmp_path / "toy.yaml"
    path.write_text(yaml.safe_dump(DOCUMENT, sort_keys=False))
    first = dakit.run(str(path), plugins=[toys], rows=["s2t"], out=tmp_path / "out")
    assert (first.made, first.reused) == (3, 0)
    for recipe in (path, DOCUMENT):
        again = dakit.run(recipe, plugins=[toys], rows=["s2t"], out=tmp_path / "out")
        assert (again.made, again.reused) == (0, 3)
    loaded = load_recipe(DOCUMENT, plugins=[toys])
    assert dakit.run(loaded, rows=["s2t"], out=tmp_path / "out").made == 0
    assert dakit.run(DOCUMENT, profile="big", plugins=[toys], rows=["s2t"], out=tmp_path / "out").made == 3


def test_what_is_for_loading_is_refused_with_a_loaded_recipe(load):
    with pytest.raises(DakitError, match="was loaded and checked already: give profile and data to load_recipe"):
        dakit.run(load(), profile="big", data={"source": 1})


def test_a_whole_table_of_components_that_are_objects(tmp_path):
    outcome = dakit.run(DOCUMENT, components=COMPONENTS, out=tmp_path)
    assert list(outcome.summaries) == DOCUMENT["rows"]
    assert outcome.warnings == ()
    assert dakit.run(DOCUMENT, components=COMPONENTS, out=tmp_path).made == 0
    run = dakit.open_run(tmp_path, components=COMPONENTS)
    assert run.classifier("cycleat", 0, 0).network(torch.zeros(1, 3, 4, 4)).logits.shape == (1, 2)
    with pytest.raises(DakitError, match=r"made with: components=\{'toy_.*': ...\}"):
        dakit.open_run(tmp_path).classifier("cycleat", 0, 0)


def test_a_cell_that_is_run_again_as_it_was_finds_its_results(tmp_path):
    recipe = document(shallow={"use": "mine"})

    def made(mine: Any) -> list[str]:
        loaded = load_recipe(recipe, components={**COMPONENTS, "mine": mine})
        will = [job.stage.name for job, state in pipeline.plan(loaded, rows=["s2t", "fine_tune"], out=tmp_path)
                if state != "cached"]  # fmt: skip
        dakit.run(loaded, rows=["s2t", "fine_tune"], out=tmp_path)
        return will

    assert made(cell(1)) == ["pretrain", "evaluate", "evaluate", "adapt", "evaluate", "adapt", "evaluate"]
    assert made(cell(2)) == []  # another class object, another name of the cell
    assert made(cell(3, remark="  # a remark")) == []
    assert made(cell(4, factor=2.0)) == ["adapt", "evaluate"] * 2
    assert made(cell(5, remark=" + 1")) == ["adapt", "evaluate"] * 2
    assert made(cell(6)) == []


def test_what_has_no_content_is_made_anew_and_told(tmp_path):
    class Drawn(toys.ToyClassifier):
        generator = torch.Generator()

    for _ in range(2):
        outcome = dakit.run(
            document(deep={"use": "drawn"}), components={**COMPONENTS, "classifier/drawn": Drawn}, rows=["s2t"],
            out=tmp_path,
        )  # fmt: skip
        assert outcome.made == 3
        assert any('"drawn", given as an object' in text and "no result of it is reused" in text
                   for text in outcome.warnings)  # fmt: skip


def test_images_that_are_objects_count_by_their_content(known, tmp_path):
    def made(data: Any) -> int:
        return dakit.run(load_recipe(DOCUMENT, registry=known, data=data), rows=["s2t"], out=tmp_path).made

    pictures = Pictures()
    assert made({"source": pictures}) == 3
    assert made({"source": pictures}) == 0
    assert made({"source": Pictures()}) == 0
    tensors = torch.stack([pictures[i][0] for i in range(20)])
    assert made({"source": (tensors, [0, 1] * 10, pictures.groups)}) == 0
    assert made({"source": Pictures(change=1)}) == 3
    assert made({"source": (tensors, [0, 1] * 10)}) == 3  # without its groups


def test_the_test_side_of_given_images_stays_sealed(known, tmp_path):
    recipe = document()
    recipe["data"]["target"]["split"] = {"holdout": 0.5}
    loaded = load_recipe(recipe, registry=known, data={"target": Pictures()})
    outcome = dakit.run(loaded, rows=["s2t", "fine_tune"], out=tmp_path)
    assert outcome.opened == 2
    assert outcome.summaries["s2t"].images == 10
    recipe["stages"]["adapt"]["train"] = "target.test"
    with pytest.raises(DakitError, match="only"):
        load_recipe(recipe, registry=known, data={"target": Pictures()})


def test_another_process_finds_the_results(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        f"import sys; sys.path.insert(0, {os.path.dirname(toys.__file__)!r})\n"
        + CELL.format(factor=1.0, remark="")
        + "import copy, yaml, numpy as np, dakit, toys\n"
        "document = yaml.safe_load(toys.RECIPE)\n"
        "document['components']['deep'] = {'use': 'mine'}\n"
        "document['data']['classes'] = ['dark', 'bright']\n"
        "images = np.arange(20 * 48, dtype=np.uint8).reshape(20, 3, 4, 4)\n"
        "outcome = dakit.run(document, plugins=[toys.__file__], components={'mine': Mine}, rows=['s2t'],\n"
        f"                    data={{'source': (images, ['dark', 'bright'] * 10)}}, out={str(tmp_path / 'out')!r})\n"
        "print(outcome.made, outcome.reused)\n"
    )
    environment = {**os.environ, "DAKIT_DISABLE_PLUGINS": os.environ["DAKIT_DISABLE_PLUGINS"]}
    found = [
        subprocess.run([sys.executable, script], check=True, capture_output=True, text=True,
                       env={**environment, "PYTHONHASHSEED": seed})
        for seed in ("1", "2")
    ]  # fmt: skip
    assert [done.stdout for done in found] == ["3 0\n", "0 3\n"]
    assert {done.stderr for done in found} == {""}


def test_a_component_that_changed_after_the_recipe_was_loaded_is_refused(tmp_path, monkeypatch):
    mine = cell(7)
    loaded = load_recipe(document(deep={"use": "mine"}), components={**COMPONENTS, "mine": mine})
    monkeypatch.setitem(mine.forward.__globals__, "FACTOR", 3.0)
    with pytest.raises(DakitError, match='the classifier "mine", or something that it reads, is another now'):
        dakit.run(loaded, rows=["s2t"], out=tmp_path)


def test_a_curve_and_the_doctor_take_given_images(known, tmp_path):
    from dakit.advice.doctor import examine
    from dakit.pipeline.curve import curve

    recipe = document()
    recipe["data"]["target"]["split"] = {"holdout": 0.5}
    loaded = load_recipe(recipe, registry=known, data={"target": Pictures()})
    points = curve(loaded, [1, None], rows=["fine_tune"], out=tmp_path)
    assert [point.per_class for point in points] == [1, 5]
    findings = examine(load_recipe(recipe, registry=known, data={"target": (IMAGES, [0, 1] * 10)}))
    pairs = [pair for finding in findings if "target" in finding.where for pair in finding.images]
    assert "target[0]" in pairs  # all are black


# ----------------------------------------------------------------------------------- in a notebook
class ZMQInteractiveShell:
    """The name of the shell of a notebook's kernel, by which it is known."""


@pytest.fixture
def notebook(monkeypatch):
    """As rich and dakit know one; what is displayed."""
    shown: list[str] = []
    display = types.ModuleType("IPython.display")
    display.display = lambda *things, **_: shown.extend(  # type: ignore[attr-defined]
        getattr(thing, "text", str(thing)) for thing in things
    )
    package = types.ModuleType("IPython")
    package.display = display  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", package)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    monkeypatch.setattr(builtins, "get_ipython", ZMQInteractiveShell, raising=False)
    return shown


def test_a_notebook_is_known(notebook, monkeypatch):
    assert in_notebook()
    monkeypatch.delattr(builtins, "get_ipython")
    assert not in_notebook()


def test_progress_is_shown_in_a_notebook(notebook, load, tmp_path, capsys):
    dakit.run(load(), rows=["s2t"], out=tmp_path / "out")
    text = re.sub(r"\x1b\[[\d;]*m", "", "".join(notebook))
    finished = re.findall(r"^\[\d/3\] .*$", text, re.MULTILINE)
    assert len(finished) == 3
    assert "pretrain (for s2t, seed 0, fold 0)" in finished[0]


def test_whoever_watches_already_is_not_shown_more(notebook, load, tmp_path):
    class Mine:
        def __init__(self) -> None:
            self.done = 0

        def stage_finished(self, stage: Any, seconds: float) -> None:
            self.done += 1

    mine = Mine()
    dakit.run(load(), rows=["s2t"], out=tmp_path / "out", observers=[mine])
    assert mine.done == 3
    assert notebook == []


def test_outside_nothing_is_printed(load, tmp_path, capsys):
    dakit.run(load(), rows=["s2t"], out=tmp_path / "out")
    assert capsys.readouterr() == ("", "")


def test_an_observer_may_be_an_object_of_a_recipe(tmp_path):
    told: list[str] = []

    class Clock:
        def __init__(self, folder: Any) -> None:
            self.folder = folder

        def stage_finished(self, stage: Any, seconds: float) -> None:
            told.append(stage.name)

    dakit.run({**DOCUMENT, "observers": ["clock"]}, components={**COMPONENTS, "clock": Clock}, rows=["s2t"],
              out=tmp_path)  # fmt: skip
    assert told == ["pretrain", "evaluate", "evaluate"]


def test_tensors_of_a_notebook_are_let_go(known):
    import gc
    import weakref

    images = np.zeros((8, 3, 4, 4), np.uint8)
    array = images.view()
    alive = weakref.ref(array)
    recipe = load_recipe(DOCUMENT, registry=known, data={"source": (array, [0, 1] * 4)})
    assert alive() is not None
    del recipe, array
    gc.collect()
    assert alive() is None
