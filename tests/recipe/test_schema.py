from __future__ import annotations

import copy
import json
from pathlib import Path

import jsonschema
import pytest

import toys as toy_module
from dakit.errors import DakitError, RecipeError
from dakit.files import shipped_recipes
from dakit.plugins import find_plugins
from dakit.recipe.load import load_recipe
from dakit.recipe.schema import describe, recipe_schema
from dakit.recipe.yaml_lines import read_yaml
from dakit.registry import KINDS, Registry
from dakit.signatures import schema as parameters

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def installed():
    """The schema of what dakit alone brings."""
    with pytest.MonkeyPatch.context() as patch:
        others = {plugin.distribution for plugin in find_plugins().found} - {"dakit"}
        patch.setenv("DAKIT_DISABLE_PLUGINS", ",".join(others))
        return recipe_schema(Registry(find_plugins()))


@pytest.fixture(scope="module")
def toy_schema(toys):
    return recipe_schema(Registry(find_plugins([toys])))


def faults(schema, document) -> list[str]:
    """Dotted paths of what is wrong."""
    found = jsonschema.Draft202012Validator(schema).iter_errors(document)
    return sorted({".".join(map(str, fault.absolute_path)) for fault in found})


def shipped(name):
    return read_yaml(shipped_recipes()[name].read_text(), name)[0]


def test_the_shipped_schema_is_current(installed):
    kept = json.loads((ROOT / "recipes" / "schema.json").read_text())
    assert kept == json.loads(json.dumps(installed)), "dakit schema > recipes/schema.json"


def test_it_is_a_schema_of_the_draft_that_it_names(installed, toy_schema):
    for schema in (installed, toy_schema):
        assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
        jsonschema.Draft202012Validator.check_schema(schema)
        text = json.dumps(schema)
        for definition in schema["$defs"]:
            assert f'"#/$defs/{definition}"' in text  # each is used
        assert text.count('"$ref": "#/$defs/') == sum(text.count(f'"$ref": "#/$defs/{d}"') for d in schema["$defs"])


@pytest.mark.parametrize("name", shipped_recipes())
def test_shipped_recipes_fit_and_name_it(installed, name):
    assert faults(installed, shipped(name)) == []
    assert "# yaml-language-server: $schema=schema.json" in shipped_recipes()[name].read_text().splitlines()


def test_plugins_are_in_it(installed, toy_schema):
    toy = read_yaml(toy_module.RECIPE, "toy")[0]
    assert faults(toy_schema, toy) == []
    assert "components.deep.use" in faults(installed, toy)


def definition(schema, key, name):
    """Of one component."""
    (found,) = (
        d for d in schema["$defs"].values() if "allOf" not in d and name in d["properties"].get(key, {}).get("enum", ())
    )
    return found


def test_every_component_is_in_it_with_its_parameters(installed):
    registry = Registry(find_plugins())
    for kind, about in KINDS.items():
        for entry in (e for e in registry.entries(kind) if e.distribution == "dakit"):
            key = "do" if kind == "stage" else "use"
            known = set(definition(installed, key, f"dakit/{entry.name}")["properties"])
            assert {*parameters(entry.factory, about.given, "x").model_fields, key} <= known


def test_an_editor_is_told_types_ranges_defaults_and_descriptions(installed):
    stage = definition(installed, "do", "train_classifier")
    about = stage["properties"]
    assert about["lr"] == {
        "type": "number",
        "exclusiveMinimum": 0,
        "default": 2e-4,
        "description": "learning rate of Adam.",
    }
    assert about["steps"] == {"type": "integer", "exclusiveMinimum": 0, "description": "optimiser steps."}
    assert about["update"]["enum"] == ["all", "head"]
    assert about["classifier"]["anyOf"] == [
        {"type": "string", "description": "one of `components`"}, {"$ref": "#/$defs/classifier"},
    ]  # fmt: skip
    assert {"type": "null"} in about["transfer"]["anyOf"]
    assert (about["train"]["type"], about["extra"]["type"]) == ("string", ["string", "null"])
    assert set(stage["required"]) >= {"classifier", "steps", "train"}
    assert "extra" not in stage["required"]
    assert stage["description"].startswith("Train a classifier")


WRONG = {
    "recipe": ("a name!", "recipe"),
    "method": (None, "method"),
    "engnie": ({}, ""),
    "rows": ("cycleat", "rows"),
    "seeds": ([0, 0], "seeds"),
    "engine.precision": ("fp8", "engine.precision"),
    "engine.checkpoint_step": (3, "engine"),
    "observers": (["terminol"], "observers.0"),
    "data.size": (0, "data.size"),
    "data.classes": (["a"], "data.classes"),
    "data.source.use": ("bu3df", "data.source.use"),
    "data.source.split": ({"holdout": 2}, "data.source.split.holdout"),
    "data.source.peeple": (3, "data.source"),
    "components.deep.use": ("tim", "components.deep.use"),
    "components.nearest.neighbours": (0, "components.nearest.neighbours"),
    "components.nearest.neighbors": (3, "components.nearest"),
    "stages.adapt.do": ("train_clasifier", "stages.adapt.do"),
    "stages.adapt.steps": ("many", "stages.adapt.steps"),
    "stages.adapt.stepps": (3, "stages.adapt"),
    "stages.adapt.train": (None, "stages.adapt.train"),
    "stages.adapt.augment": ({"flipp": 0.5}, "stages.adapt.augment"),
    "stages.adapt.classifier": ({"use": "resnet_generator"}, "stages.adapt.classifier"),
    "variants.s2t": (3, "variants.s2t"),
    "published.s2t": ({"AN": "x"}, "published.s2t.AN"),
}


@pytest.mark.parametrize("key", WRONG)
def test_what_is_wrong_is_found_where_it_stands_and_by_dakit_too(installed, tmp_path, key):
    value, place = WRONG[key]
    document = copy.deepcopy(shipped("cycleat_sfew"))
    target = document
    *parents, last = key.split(".")
    for parent in parents:
        target = target[parent]
    target[last] = value
    found = faults(installed, document)
    assert any(fault == place or fault.startswith(f"{place}.") for fault in found), found
    (tmp_path / "wrong.yaml").write_text(json.dumps(document))  # JSON is YAML
    with pytest.raises(RecipeError):
        load_recipe(tmp_path / "wrong.yaml")


PARTS = {  # laid over the toy-like whole: what is there, and where it is wrong
    "stages": [
        ({"adapt": {"like": "pretrain", "steps": 3}}, None),
        ({"adapt": {"like": "pretrain", "do": "train_classifier", "extra": None}}, None),
        ({"adapt": {"like": 3}}, "stages.adapt.like"),
        ({"adapt": {"like": "pretrain", "stepps": 3}}, "stages.adapt"),
        ({"adapt": {"like": "pretrain", "steps": "many"}}, "stages.adapt.steps"),
        ({"adapt": {"like": "pretrain", "do": "train_clasifier"}}, "stages.adapt.do"),
    ],
    "components": [
        ({"twin": {"like": "deep", "depth": 8}}, None),
        ({"twin": {"like": "deep", "deepth": 8}}, "components.twin"),
        ({"twin": {"like": "nearest", "neighbours": 0}}, "components.twin.neighbours"),
    ],
}


@pytest.mark.parametrize(
    ("section", "entry", "place"), [(section, *case) for section, cases in PARTS.items() for case in cases]
)
def test_an_entry_that_is_like_another_is_checked_as_far_as_it_goes(installed, section, entry, place):
    document = copy.deepcopy(shipped("cycleat_sfew"))
    document[section] |= entry
    assert faults(installed, document) == ([place] if place else [])


@pytest.mark.parametrize(
    ("above", "place"),
    [
        ({"stages": {"adapt": {"steps": 3}}, "data": {"source": {"ignore": ["NE"]}}}, None),
        ({"variants": {"s2t": None}, "profiles": {"demo": None}, "stages": {"domains": None}}, None),
        ({"stages": {"adapt": {"steps": "many"}}}, "stages.adapt.steps"),
        ({"data": {"source": {"peeple": 3}}}, "data.source"),
        ({"base": 3}, "base"),
        ({"recipe": None}, "recipe"),
    ],
)
def test_a_recipe_with_a_base_may_hold_parts(installed, above, place):
    document = {"recipe": "mine", "base": "cycleat_sfew", **above}
    assert faults(installed, document) == ([place] if place else [])
    if place is None:  # which one without a base may not
        assert faults(installed, {key: value for key, value in document.items() if key != "base"})
        whole = copy.deepcopy(shipped("cycleat_sfew"))
        for section, entries in above.items():
            whole[section] |= entries
        assert faults(installed, whole)


def test_what_cannot_be_described_is_left_out_or_open(tmp_path):
    (tmp_path / "odd.py").write_text(
        "from typing import Literal\n"
        "from dakit import hookimpl\n"
        "class Own: ...\n"
        "def stars(*args): ...\n"
        "def own(*, thing: Own, other: Own = Own(), many: list[int] = [1]):\n"
        "    'No section.'\n"
        "@hookimpl\ndef dakit_transfer_losses():\n    return {'stars': stars, 'own': own}\n"
    )
    schema = recipe_schema(Registry(find_plugins([tmp_path / "odd.py"])))
    names = schema["$defs"]["transfer_loss"]["properties"]["use"]["enum"]
    assert "own" in names
    assert "stars" not in names
    own = definition(schema, "use", "own")
    assert own["properties"]["thing"] == own["properties"]["other"] == {}
    assert own["properties"]["many"] == {"type": "array", "items": {"type": "integer"}, "default": [1]}


def test_a_name_of_two_plugins_needs_its_distribution(toys, tmp_path):
    (tmp_path / "twice.py").write_text(toys.read_text())
    schema = recipe_schema(Registry(find_plugins([toys, tmp_path / "twice.py"])))
    names = schema["$defs"]["classifier"]["properties"]["use"]["enum"]
    assert "toy_classifier" not in names
    assert {f"{toys}/toy_classifier", f"{tmp_path / 'twice.py'}/toy_classifier"} <= set(names)


def test_descriptions_come_from_docstrings():
    def factory(*, a: int, b: int, c: int) -> None:
        """Say.

        Args:
            a, b: two of
                them.

            c: one: more.

        Raises:
            DakitError: never.
        """

    assert describe(factory) == {"a": "two of them.", "b": "two of them.", "c": "one: more."}
    assert describe(print) == {}


def test_one_name_may_stand_for_components_of_two_kinds(tmp_path):
    (tmp_path / "two.py").write_text(
        "from dakit import hookimpl\n"
        "def narrow(*, width: int): ...\n"
        "def deep(*, depth: int): ...\n"
        "@hookimpl\ndef dakit_translators():\n    return {'mine': narrow}\n"
        "@hookimpl\ndef dakit_discriminators():\n    return {'mine': deep}\n"
    )
    schema = recipe_schema(Registry(find_plugins([tmp_path / "two.py"])))
    document = shipped("cycleat_sfew")
    for given, wrong in (({"width": 3}, []), ({"depth": 3}, []), ({"height": 3}, ["components.generator"])):
        document["components"]["generator"] = {"use": "mine", **given}
        assert faults(schema, document) == wrong


def test_types_that_json_has_not_are_described_by_the_values_that_stand_for_them(tmp_path):
    plugin = tmp_path / "typed.py"
    plugin.write_text("""
import enum
from pathlib import Path
import torch
from dakit import hookimpl

class Pool(enum.Enum):
    MEAN = "mean"
    MOST = "max"

class Act(enum.Enum):
    RELU = torch.nn.ReLU

def typed(
    size: int, classes: object, *, sizes: tuple[int, int] = (1, 2), pool: Pool = Pool.MOST, file: Path = Path("a/b"),
    names: frozenset[str] = frozenset({"b", "a"}), act: Act = Act.RELU,
):
    "Of many types."

@hookimpl
def dakit_datasets():
    return {"typed": typed}
""")
    registry = Registry(find_plugins([plugin]))
    schema = recipe_schema(registry)
    (component,) = [d for d in schema["$defs"].values() if d.get("description") == "Of many types."]
    defaults = {name: about.get("default") for name, about in component["properties"].items()}
    assert defaults == dict.fromkeys(("use", "split")) | {
        "sizes": [1, 2], "pool": "max", "file": "a/b", "names": ["a", "b"], "act": "RELU", "unlabelled": False
    }  # fmt: skip
    document = copy.deepcopy(read_yaml(toy_module.RECIPE, "toy.yaml")[0])

    def faults_of(params):
        document["data"] = {"size": 4, "source": {"use": "typed", **params}}
        return [one for one in faults(schema, document) if one.startswith("data.source")]

    good = {"sizes": [3, 4], "pool": "mean", "file": "x", "names": ["c"]}
    assert faults_of(good) == []
    registry.spec("dataset", "typed", good)
    for wrong in ({"sizes": [3]}, {"pool": "most"}, {"file": 3}, {"names": [1]}, {"sizes": [1, 2.5]}):
        assert faults_of(wrong)
        with pytest.raises(DakitError):
            registry.spec("dataset", "typed", wrong)
    assert faults_of({"sizes": [1.0, 2]}) == []  # a whole number, to JSON Schema as to dakit
    assert registry.spec("dataset", "typed", {"sizes": [1.0, 2]}).params["sizes"] == (1, 2)
