"""Recipes as plain data, with components and images beside them."""

from __future__ import annotations

import copy
from enum import IntEnum
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

import toys
from dakit.errors import DakitError, RecipeError
from dakit.recipe.load import load_recipe
from dakit.recipe.yaml_lines import plain_data, read_yaml

DOCUMENT = yaml.safe_load(toys.RECIPE)
IMAGES = np.zeros((8, 3, 4, 4), np.uint8)
LABELS = [0, 1] * 4


def changed(*path: Any, to: Any) -> dict[str, Any]:
    document = copy.deepcopy(DOCUMENT)
    inner = document
    for part in path[:-1]:
        inner = inner[part]
    inner[path[-1]] = to
    return document


def test_a_recipe_of_python_is_that_of_the_file(load, known):
    of_file, of_dict = load(), load_recipe(DOCUMENT, registry=known)
    assert of_dict.plans == of_file.plans
    assert of_dict.document == of_file.document
    assert of_dict.file == "recipe dict"
    assert load_recipe(DOCUMENT, registry=known, profile="big", overrides=["adapt.steps=3"]).plans == (
        load("adapt.steps=3", profile="big").plans
    )


def test_the_caller_s_dict_stays_as_it_is(known):
    before = copy.deepcopy(DOCUMENT)
    recipe = load_recipe(DOCUMENT, registry=known, profile="big", overrides=["adapt.steps=3"])
    assert before == DOCUMENT
    assert recipe.document["stages"] is not DOCUMENT["stages"]


def test_faults_are_those_of_a_file_without_a_line(load, known):
    document = changed("stages", "adapt", "steps", to=0)
    document["components"]["deep"]["scael"] = 2
    document["stages"]["select"]["pool"] = "synthesise.image"
    text = {
        "    classifier: shallow\n": "    classifier: shallow\n    steps: 0\n",
        "use: toy_classifier}\n  shallow": "use: toy_classifier, scael: 2}\n  shallow",
        "pool: synthesise.images": "pool: synthesise.image",
    }
    with pytest.raises(RecipeError) as of_file:
        load(text=text)
    with pytest.raises(RecipeError) as of_dict:
        load_recipe(document, registry=known)
    assert {line.partition(": ")[2] for line in of_file.value.problems} == {
        line.removeprefix("recipe dict: ") for line in of_dict.value.problems
    }
    assert len(of_dict.value.problems) == 3
    assert "recipe dict: stages.adapt.steps: " in str(of_dict.value)


class Number(IntEnum):
    ONE = 1


def circle() -> list[Any]:
    rows: list[Any] = []
    rows.append(rows)
    return rows


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("components", "deep", "scale"), np.float64(1), "recipe dict: components.deep.scale: expected plain data"),
        (("components", "deep", "scale"), Number.ONE, r"not a .*test_given\.Number"),
        (("components", "deep", "use"), toys.ToyClassifier, "not a type; classes go into `components`"),
        (("data", "source", "use"), IMAGES, "not a numpy.ndarray; .* images into `data`"),
        (("data", "source", "root"), Path("a"), "data.source.root: expected plain data"),
        (("seeds",), {1, 2}, "recipe dict: seeds: expected plain data"),
        (("rows",), circle(), "recipe dict: rows.0: contains itself"),
        (("data", 3), {}, "recipe dict: data: a key must be text, not 3"),
        (("rows",), ["s2t"] * 100_001, "recipe dict: more than 100,000 values"),
    ],
)
def test_what_is_no_plain_data_is_refused(known, path, value, message):
    with pytest.raises(RecipeError, match=message):
        load_recipe(changed(*path, to=value), registry=known)


def test_no_mapping_at_all():
    with pytest.raises(DakitError, match="there is no such file"):
        load_recipe("no such recipe")


YAML = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text("ab -:#'\"\n", max_size=5) | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc_", min_size=1), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.text("abc_", min_size=1), YAML, max_size=3))
def test_plain_data_is_what_its_yaml_would_be(document):
    text = yaml.safe_dump(document, allow_unicode=True)
    of_text, lines = read_yaml(text, "x") if document else ({}, {})
    data, where = plain_data(document, "x")
    assert data == of_text == document
    assert where.keys() == lines.keys()


# ------------------------------------------------------------------------------------------ images
def test_given_images_take_the_place_of_what_the_recipe_reads(known):
    recipe = load_recipe(DOCUMENT, registry=known, data={"target": (IMAGES, ["dark", "bright"] * 4)})
    for plan in recipe.plans.values():
        assert plan.data["target"].spec.name == "here/target"
        assert plan.data["target"].spec.params == {}
        assert plan.data["target"].split.folds == "predefined"
        assert len(plan.data["target"].spec.build(4, None)) == 8
    assert recipe.document["data"]["target"] == {"use": "here/target", "split": {"folds": "predefined"}}
    assert recipe.plan("cycleat").data["source"].spec.name == "toy_images"


def test_a_role_need_not_say_where_its_images_are(known):
    document = changed("data", "auxiliary", to={"unlabelled": True})
    recipe = load_recipe(document, registry=known, data={"auxiliary": IMAGES})
    assert recipe.plan("cycleat").data["auxiliary"].unlabelled
    with pytest.raises(RecipeError, match=r"data\.auxiliary: needs `use:`"):
        load_recipe(document, registry=known)


@pytest.mark.parametrize(
    "profile",
    [
        {"data.source": {"use": "toy_images", "people": 9, "split": {"holdout": 0.5}}, "data.size": 6},
        {"source.people": 9, "data.source.split": {"holdout": 0.5}, "data.size": 6},
    ],
)
def test_given_images_win_over_those_of_a_profile(known, profile):
    document = changed("profiles", to={"small": profile})
    recipe = load_recipe(document, registry=known, profile="small", data={"source": (IMAGES, ["a", "b"] * 4)})
    data = recipe.plan("cycleat").data["source"]
    assert (data.spec.name, data.split.holdout, data.size) == ("here/source", 0.5, 6)


def test_a_role_that_the_recipe_has_not_is_refused(known):
    with pytest.raises(DakitError, match='data: recipe dict has no role "traget", did you mean "target"'):
        load_recipe(DOCUMENT, registry=known, data={"traget": IMAGES})
    with pytest.raises(DakitError, match='has no role "size"'):
        load_recipe(DOCUMENT, registry=known, data={"size": IMAGES})


def test_a_row_that_reads_other_images_is_refused(known):
    document = changed("variants", "other", to={"data.target": {"use": "toy_images", "split": {"holdout": 0.5}}})
    with pytest.raises(
        RecipeError, match=r"recipe dict: other: data\.target: images are given as an object, but here st"
    ):
        load_recipe(document, registry=known, data={"target": (IMAGES, LABELS)})
    with pytest.raises(RecipeError, match=r'data\.source\.people: dataset "source" has no such parameter'):
        load_recipe(DOCUMENT, registry=known, overrides=["source.people=3"], data={"source": (IMAGES, LABELS)})


def test_components_are_known_when_the_recipe_is_checked(known):
    class Wider(toys.ToyClassifier):
        def __init__(self, classes: int, *, factor: float = 1.0) -> None:
            super().__init__(classes, scale=factor)

    document = changed("components", "deep", to={"use": "wider", "factor": 2})
    recipe = load_recipe(document, registry=known, components={"classifier/wider": Wider})
    spec = recipe.plan("cycleat").stages[0].spec.params["classifier"]
    assert (spec.name, spec.params, spec.factory) == ("wider", {"factor": 2.0}, Wider)
    document["components"]["deep"]["fcator"] = 1
    with pytest.raises(RecipeError, match=r'components\.deep\.fcator: .*did you mean "factor"'):
        load_recipe(document, registry=known, components={"classifier/wider": Wider})
    with pytest.raises(RecipeError, match='no plugin offers "wider"'):
        load_recipe(document, registry=known)
