from __future__ import annotations

import pytest

from dakit.errors import DakitError, RecipeError
from dakit.recipe.document import Difference, Document, Problems, Setting
from dakit.recipe.yaml_lines import read_yaml

TEXT = """\
data: {size: 4, source: {use: d, people: 3}}
components:
  net: {use: n, scale: 0.5}
  twin: {like: net, scale: 2}
stages:
  one: {do: train, steps: 5, augment: {flip: 0.5}}
  two: {like: one, extra: one.images, lr: 1}
variants:
  whole:
    two:
      like: one
      teacher: one.model
  part: {two.lr: 3}
"""


@pytest.fixture
def document() -> Document:
    data, lines = read_yaml(TEXT, "r.yaml")
    return Document(data, lines, "r.yaml")


def test_a_dotted_key_stands_for_a_full_one(document):
    assert document.resolve("one.steps") == [("stages", "one", "steps")]
    assert document.resolve("size") == [("data", "size")]
    assert document.resolve("engine.device") == [("engine", "device")]
    assert document.resolve("three.steps") == []
    document.data["data"]["one"] = {}
    assert document.resolve("one.steps") == [("data", "one", "steps"), ("stages", "one", "steps")]


def test_settings_are_laid_over_with_their_lines(document):
    document.lay({"one.steps": 7, "net": {"use": "m"}, "engine.device": "cpu"}, origin="--set x")
    assert document.data["stages"]["one"]["steps"] == 7
    assert document.data["components"]["net"] == {"use": "m"}
    assert document.data["engine"] == {"device": "cpu"}
    assert document.place(("stages", "one", "steps")) == "--set x"
    assert document.place(("components", "net", "scale")) == "--set x"  # what stood there is gone
    assert document.place(("stages", "one", "do")) == "r.yaml:6"
    assert document.place(("nowhere",)) == "r.yaml"
    assert not document.problems.lines


def test_a_copy_is_another_but_problems_are_told_together(document):
    other = document.copy()
    other.lay({"one.steps": 9, "nothing.steps": 3}, origin="here")
    assert document.data["stages"]["one"]["steps"] == 5
    assert document.place(("stages", "one", "steps")) == "r.yaml:6"
    (problem,) = document.problems.lines
    assert problem.startswith('here: nothing.steps: nothing is called "nothing"; there are: base, baseline, ')


def test_a_setting_is_parsed():
    assert Setting.parse("one.steps = 2e3") == Setting("", "one.steps", 2000.0)
    assert Setting.parse("row:one={a: [b]}") == Setting("row", "one", {"a": ["b"]})
    assert (Setting.parse("r:a.b=1").origin, Setting.parse("a.b=1").origin) == ("--set r:a.b", "--set a.b")
    with pytest.raises(DakitError, match="expected KEY=VALUE"):
        Setting.parse("one.steps")


def test_problems_are_each_told_once_and_in_order():
    problems = Problems()
    problems.stop()
    for line in ("b", "a", "b"):
        problems.add(line)
    with pytest.raises(RecipeError) as caught:
        problems.stop()
    assert caught.value.problems == ("b", "a")


# ---------------------------------------------------------------------------------------------- like
def test_like_stands_for_what_the_other_says_but_for_its_own_keys(document):
    document.spell_out()
    assert document.data["components"]["twin"] == {"use": "n", "scale": 2}
    two = document.data["stages"]["two"]
    assert two == {"do": "train", "steps": 5, "augment": {"flip": 0.5}, "extra": "one.images", "lr": 1}
    assert two["augment"] is not document.data["stages"]["one"]["augment"]
    document.problem(("stages", "two", "augment", "flip"), "no")
    document.problem(("stages", "two", "lr"), "no")
    assert list(document.problems.lines) == ["r.yaml:6: stages.one.augment.flip: no", "r.yaml:7: stages.two.lr: no"]


def test_like_goes_on_through_what_is_like_another(document):
    document.data["stages"]["three"] = {"like": "two", "steps": None}
    document.spell_out()
    three = document.data["stages"]["three"]
    assert three == {"do": "train", "steps": None, "augment": {"flip": 0.5}, "extra": "one.images", "lr": 1}
    document.problem(("stages", "three", "do"), "no")
    assert list(document.problems.lines) == ["r.yaml:6: stages.one.do: no"]


def test_a_row_that_gives_an_entry_anew_leaves_out_what_is_written_of_it(document):
    written = document.copy()
    document.lay({"two.lr": 8, "two.depth": 2}, origin="--set")  # whatever is laid over it
    difference = document.difference(document.data["variants"]["whole"], ("variants", "whole"), written)
    assert difference == Difference(
        {"two.like": "one", "two.teacher": "one.model"}, (("stages", "two", "extra"), ("stages", "two", "lr"))
    )
    assert set(document.named(difference)) == {
        ("stages", "two", "extra"), ("stages", "two", "lr"), ("stages", "two", "like"), ("stages", "two", "teacher"),
    }  # fmt: skip
    document.differ(difference, ("variants", "whole"))
    document.spell_out()
    assert document.data["stages"]["two"] == {
        "do": "train", "steps": 5, "augment": {"flip": 0.5}, "teacher": "one.model", "depth": 2,
    }  # fmt: skip
    assert document.place(("stages", "two", "teacher")) == "r.yaml:12"


def test_a_row_that_gives_no_entry_anew_says_what_it_says(document):
    difference = document.difference(document.data["variants"]["part"], ("variants", "part"), document)
    assert difference == Difference({"two.lr": 3})
    whole = {"two": {"do": "other"}}
    assert document.difference(whole, (), document) == Difference(whole)
