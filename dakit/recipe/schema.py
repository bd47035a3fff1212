"""JSON Schema (draft 2020-12) of recipes, made from the installed plugins, so that editors complete and check them.

It knows names, parameters, types and ranges. What hangs together across a recipe (references, class lists, what
stages accept together) only ``dakit check`` knows.
"""

from __future__ import annotations

import inspect
import json
import re
import typing
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import PydanticSchemaGenerationError, TypeAdapter
from pydantic.errors import PydanticInvalidForJsonSchema
from pydantic_core import PydanticSerializationError

from dakit.data.splits import Split
from dakit.errors import DakitError
from dakit.interfaces import Engine, plain
from dakit.recipe.rows import COMPONENTS
from dakit.recipe.sections import DATA_SETTINGS, NAME, Root
from dakit.registry import KINDS, Entry, Registry, component_kind
from dakit.signatures import optional, schema, stage_inputs
from dakit.statistics.measures import METRICS

Schema = dict[str, Any]

MISSING = object()

_TEXT: Schema = {"type": "string"}
_NAMED: Schema = {"type": "string", "pattern": f"^{NAME}$"}
_NAMES: Schema = {"type": "array", "items": _TEXT}
_OVERRIDES: Schema = {"type": "object", "additionalProperties": {"type": ["object", "null"]}}
_WHOLE: Schema = {
    "required": ["method", "data", "stages"],
    "properties": {
        "data": {
            "required": ["size"],
            "properties": dict.fromkeys(DATA_SETTINGS, True),
            "additionalProperties": {"type": "object", "required": ["use"]},
        },
        "components": {
            "additionalProperties": {"type": "object", "anyOf": [{"required": ["use"]}, {"required": ["like"]}]}
        },
        "stages": {"additionalProperties": {"type": "object", "anyOf": [{"required": ["do"]}, {"required": ["like"]}]}},
        **{key: {"additionalProperties": {"type": "object"}} for key in ("variants", "profiles")},
    },
}
"""What a recipe needs that builds on no other."""


def recipe_schema(registry: Registry) -> Schema:
    """The schema of every recipe that the registry's components allow; what cannot be described is left out."""
    definitions: Schema = {}
    offered: dict[str, list[tuple[str, list[str]]]] = {}
    for kind in KINDS:
        entries = registry.entries(kind)
        chosen = offered[kind] = []
        for n, entry in enumerate(entries):
            same = [other for other in entries if other.name == entry.name]
            names = [f"{entry.distribution}/{entry.name}", *([entry.name] if len(same) == 1 else [])]
            try:
                definitions[f"{kind}.{n}"] = _component(entry, names, definitions)
            except DakitError:
                continue
            chosen.append((f"{kind}.{n}", names))
        definitions[kind] = _one_of("do" if kind == "stage" else "use", chosen)
    definitions["component"] = _one_of("use", [pair for kind in COMPONENTS for pair in offered[kind]])
    for name in ("dataset", "component", "stage"):
        definitions[f"{name}.entry"] = _entry(name, definitions)
    whole = {"type": "integer", "minimum": 0}
    properties: dict[str, Schema] = {
        "recipe": {**_NAMED, "description": "the name of the recipe, and of its folder of results"},
        "title": {**_TEXT, "description": "the heading of its table"},
        "method": {**_NAMED, "description": "the name of the row that the stages make as they stand here"},
        "base": {**_TEXT, "description": "the recipe that this one builds on: a shipped one, or a .yaml beside it"},
        "rows": {**_NAMES, "description": "what is run when nobody says otherwise"},
        "baseline": {**_TEXT, "description": "the row that every other is compared with"},
        "metric": {"enum": [*METRICS], "default": "macro_accuracy", "description": "what the table is about"},
        "published_metric": {"enum": [*METRICS], "default": "macro_accuracy", "description": "that of `published`"},
        "seeds": {"type": "array", "items": whole, "minItems": 1, "uniqueItems": True},
        "engine": _parameters(Engine, 0, "engine", definitions),
        "observers": {
            "type": "array",
            "items": {"anyOf": [{"enum": [e.name for e in registry.entries("observer")]}, _ref("observer")]},
            "description": "what is told of a run; no result depends on them",
        },
        "data": {
            "type": "object",
            "properties": {
                "size": {"type": "integer", "minimum": 1, "description": "height and width of the images in pixels"},
                "classes": {**_NAMES, "minItems": 2, "uniqueItems": True},
                "on_bad_image": {"enum": ["error", "skip"]},
            },
            "additionalProperties": _ref("dataset.entry"),
        },
        "components": {"type": "object", "additionalProperties": _ref("component.entry")},
        "stages": {"type": "object", "additionalProperties": _ref("stage.entry"), "minProperties": 1},
        "pictures": {**_NAMES, "description": "stages that are made besides what the table needs"},
        "variants": {**_OVERRIDES, "description": "row -> what differs from the method, as stage.parameter: value"},
        "profiles": {**_OVERRIDES, "description": "profile -> what it sets, as stage.parameter: value"},
        "published": {
            "type": "object",
            "additionalProperties": {"type": "object", "additionalProperties": {"type": "number"}},
            "description": "row -> class -> percent, from the paper",
        },
    }
    assert properties.keys() == Root.model_fields.keys(), "every key of a recipe has its schema"
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "dakit recipe",
        "type": "object",
        "required": ["recipe"],
        "properties": properties,
        "if": {"required": ["base"]},
        "else": _WHOLE,
        "additionalProperties": False,
        "$defs": definitions,
    }


def _ref(name: str) -> Schema:
    return {"$ref": f"#/$defs/{name}"}


def _one_of(key: str, chosen: list[tuple[str, list[str]]]) -> Schema:
    """The definition that ``key`` names; if and then, so that an editor tells what is wrong with that one alone."""
    meant: dict[str, list[Schema]] = {}  # one name may stand for components of several kinds
    for definition, names in chosen:
        for name in reversed(names):
            meant.setdefault(name, []).append(_ref(definition))
    cases = [
        {
            "if": {"properties": {key: {"const": name}}, "required": [key]},
            "then": refs[0] if not refs[1:] else {"anyOf": refs},
        }
        for name, refs in meant.items()
    ]
    return {"type": "object", "required": [key], "properties": {key: {"enum": list(meant)}}, "allOf": cases}


def _entry(kind: str, definitions: Schema) -> Schema:
    """An entry of ``data``, ``components`` or ``stages``: one by its name, or what changes one above or of the base."""
    key = "do" if kind == "stage" else "use"
    like = {"like": {**_TEXT, "description": "an entry above; what it says holds here, but for what stands here"}}
    named = [name for case in definitions[kind]["allOf"] for name in _definitions_of(case["then"])]
    every: dict[str, list[Schema]] = {}
    for name in dict.fromkeys(named):
        for parameter, value in definitions[name]["properties"].items():
            if parameter != key and value not in every.setdefault(parameter, []):
                every[parameter].append(value)
    parameters = {name: variants[0] if not variants[1:] else {"anyOf": variants} for name, variants in every.items()}
    names = definitions[kind]["properties"][key]
    part = {key: names, **({} if kind == "dataset" else like), **parameters}
    whole = {"required": [key]} if kind == "dataset" else {"required": [key], "not": {"required": ["like"]}}
    changed = {"properties": part, "additionalProperties": False}
    return {"type": ["object", "null"], "allOf": [{"if": whole, "then": _ref(kind), "else": changed}]}


def _definitions_of(schema: Schema) -> list[str]:
    return [option["$ref"].removeprefix("#/$defs/") for option in schema.get("anyOf", [schema])]


def _component(entry: Entry, names: list[str], definitions: Schema) -> Schema:
    """One component as a recipe writes it; for a stage with its inputs, for a dataset with its split."""
    definition = _parameters(entry.factory, KINDS[entry.kind].given, f"{entry.kind} {entry.name}", definitions)
    key = "do" if entry.kind == "stage" else "use"
    definition["properties"] = {key: {"enum": names}, **definition["properties"]}
    definition["description"] = (inspect.getdoc(entry.factory) or "").split("\n\n")[0]
    if entry.kind == "dataset":
        definition["properties"]["split"] = _parameters(Split, 0, "split", definitions)
        definition["properties"]["unlabelled"] = {"type": "boolean", "default": False, "description": "hide its labels"}
    if entry.kind == "stage":
        for name, annotation in stage_inputs(entry.factory).items():
            known = {"type": ["string", "null"] if optional(annotation) else "string"}
            definition["properties"][name] = {**known, "description": "what stands above, such as source.train"}
            definition["required"] += [] if optional(annotation) else [name]
    return definition


def _parameters(factory: Callable[..., Any], given: int, what: str, definitions: Schema) -> Schema:
    """An object with exactly the parameters of a signature, described by the docstring."""
    fields = schema(factory, given, what).model_fields
    hints = typing.get_type_hints(factory.__init__ if inspect.isclass(factory) else factory, include_extras=True)
    descriptions = describe(factory)
    properties = {}
    for name, field in fields.items():
        properties[name] = _value(hints.get(name, Any), what, definitions)
        if not field.is_required() and (default := _as_json(field.default)) is not MISSING:
            properties[name]["default"] = default
        if name in descriptions:
            properties[name]["description"] = descriptions[name]
    needed = [name for name, field in fields.items() if field.is_required()]
    return {"type": "object", "properties": properties, "required": needed, "additionalProperties": False}


def _value(annotation: Any, what: str, definitions: Schema) -> Schema:
    if kind := component_kind(annotation):
        named = {"type": "string", "description": "one of `components`"}
        return {"anyOf": [named, _ref(kind), *([{"type": "null"}] if optional(annotation) else [])]}
    place = what.replace(" ", ".")
    try:
        value_schema = TypeAdapter(annotation).json_schema(ref_template=f"#/$defs/{place}.{{model}}")
    except (PydanticSchemaGenerationError, PydanticInvalidForJsonSchema, PydanticSerializationError):
        return {}  # a type of a plugin's own, or choices that are no plain values: dakit check knows more
    definitions.update({f"{place}.{name}": value for name, value in value_schema.pop("$defs", {}).items()})
    return {key: value for key, value in value_schema.items() if key != "title"}


def _as_json(value: Any) -> Any:
    """A value as JSON has it; MISSING where it has none."""
    try:
        json_value = plain(value)
        json.dumps(json_value, allow_nan=False)
    except (TypeError, ValueError):
        return MISSING
    return json_value


def describe(factory: Any) -> Mapping[str, str]:
    """What the ``Args:`` section of a docstring says of each parameter.

    >>> describe(Split)["holdout"]
    'this fraction of every class is for testing, in (0, 1).'
    """
    section = re.search(r"^Args:\n((?:    .*\n?|\n)+)", inspect.getdoc(factory) or "", re.M)
    descriptions: dict[str, str] = {}
    for names, text in re.findall(r"^    ([\w, ]+): *((?:.*)(?:\n     .*)*)", section[1] if section else "", re.M):
        descriptions |= dict.fromkeys(re.findall(r"\w+", names), " ".join(text.split()))
    return descriptions
