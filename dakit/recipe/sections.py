"""What each section of a recipe may hold, as pydantic models, and how a fault in one is told."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, MinLen
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from dakit.errors import did_you_mean

NAME = r"[A-Za-z_][\w-]*"
DATA_SETTINGS = ("size", "classes", "on_bad_image")
"""Every other key of ``data`` is a role."""

ENTRIES = ("data", "components", "stages", "variants", "profiles")
"""Sections that hold entries by name, each a mapping."""

_SEEDS = "must be a list of different whole numbers from 0 on"
_KINDS = {"string_type": "text", "list_type": "list", "dict_type": "mapping"}


def _name(text: str) -> str:
    if not re.fullmatch(NAME, text):
        raise ValueError("a name is letters, digits, _ and -")
    return text


def _different(values: list[Any]) -> list[Any]:
    if len(set(values)) < len(values):
        raise ValueError(_SEEDS)
    return values


def _classes(names: list[str]) -> list[str]:
    if len(set(names)) < max(len(names), 2):
        raise ValueError("must be at least two different names")
    return names


class _Section(BaseModel):
    """A section; the description of a field says what it must be."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Root(_Section):
    """The top of a recipe."""

    recipe: Annotated[str, AfterValidator(_name)]
    title: str = ""
    method: Annotated[str, AfterValidator(_name)]
    base: str = ""
    rows: list[str] = Field([], description="a list of names")
    seeds: list[Any] = []
    engine: dict[str, Any] = {}
    observers: list[Any] = []
    data: dict[str, Any]
    components: dict[str, Any] = {}
    stages: dict[str, Any]
    pictures: list[str] = Field([], description="a list of names")
    variants: dict[str, Any] = {}
    profiles: dict[str, Any] = {}
    published: dict[str, Any] = {}
    baseline: str = ""
    metric: str = ""
    published_metric: str = ""


class DataSettings(_Section):
    """What holds for every role of ``data``."""

    size: Annotated[int, Gt(0)] = Field(description="the height and width of the images in pixels")
    on_bad_image: Literal["error", "skip"] = Field("error", description="error or skip")
    classes: Annotated[list[str], AfterValidator(_classes)] | None = Field(None, description="a list of names")


class DataRole(BaseModel):
    """What every dataset takes beside its own parameters."""

    model_config = ConfigDict(strict=True)

    split: dict[str, Any] = Field({}, description="a mapping such as {holdout: 0.2}")
    unlabelled: bool = Field(False, description="true or false")


class Repetitions(_Section):
    """The seeds, each a whole repetition."""

    seeds: Annotated[list[Annotated[int, Ge(0)]], MinLen(1), AfterValidator(_different)] = Field(
        description=_SEEDS.removeprefix("must be ")
    )


class Published(_Section):
    """The numbers of one row from a paper."""

    numbers: dict[str, float] = Field(description="a mapping from class to percent")


def root_faults(document: Mapping[str, Any], *, part: bool = False) -> Iterator[tuple[str, str]]:
    """Every fault at the top of a recipe: (key, what is wrong).

    Args:
        document: the recipe.
        part: whether it lies over another, so that nothing is missing.
    """
    for key, kind, text in _faults(Root, document):
        if kind == "missing":
            if not part:
                yield key, "is missing"
        elif kind == "extra_forbidden":
            yield key, f"a recipe has no such key{did_you_mean(key, Root.model_fields)}"
        else:
            yield key, text


def section_faults(model: type[BaseModel], given: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Every fault of a section: (key, what it must be and is not)."""
    for key, _, text in _faults(model, given):
        yield key, text


def _faults(model: type[BaseModel], given: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """One (key, kind, text) for each key with a fault."""
    try:
        model.model_validate(given)
    except ValidationError as error:
        seen = set()
        for fault in error.errors():
            key = str(fault["loc"][0])
            if key in seen:
                continue
            seen.add(key)
            value, words = given.get(key), getattr(model.model_fields.get(key), "description", None)
            message = str(fault.get("ctx", {}).get("error", ""))
            if message:
                text = message
            elif words and (len(fault["loc"]) > 1 or model is not Root):
                text = f"must be {words}"
            else:
                text = f"must be a {_KINDS.get(fault['type'], 'value')}"
            yield key, fault["type"], f"{text}, not {value!r}"
