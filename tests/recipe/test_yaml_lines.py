from __future__ import annotations

import contextlib

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from dakit.errors import RecipeError
from dakit.recipe.yaml_lines import read_yaml


def test_every_key_knows_its_line():
    data, where = read_yaml("a: 1\nb:\n  c: {d: 2,\n      e: [x, {f: 3}]}\n", "r.yaml")
    assert data == {"a": 1, "b": {"c": {"d": 2, "e": ["x", {"f": 3}]}}}
    assert where[("a",)] == "r.yaml:1"
    assert where[("b",)] == "r.yaml:2"
    assert where[("b", "c")] == where[("b", "c", "d")] == "r.yaml:3"
    assert where[("b", "c", "e")] == "r.yaml:4"


@pytest.mark.parametrize(
    ("text", "number"),
    [("2e-4", 2e-4), ("1E5", 1e5), ("-1e-3", -1e-3), ("1_0e1", 100.0), (".5e1", 5.0), ("2.5e-4", 2.5e-4)],
)
def test_scientific_notation_is_a_number(text, number):
    value = read_yaml(f"lr: {text}", "r.yaml")[0]["lr"]
    assert isinstance(value, float)
    assert value == number


@pytest.mark.parametrize("text", ["e4", "2e", "2e-4x", '"2e-4"', "1e4e4"])
def test_what_only_looks_like_a_number_stays_text(text):
    assert read_yaml(f"name: {text}", "r.yaml")[0]["name"] == text.strip('"')


def test_a_key_that_stands_twice_is_refused_with_both_lines():
    with pytest.raises(RecipeError) as caught:
        read_yaml("a:\n  lr: 1\n  b: 2\n  lr: 3\n", "r.yaml")
    assert caught.value.problems == ("r.yaml:4: a.lr: this key stands twice (first at r.yaml:2)",)


def test_all_problems_are_told_at_once():
    with pytest.raises(RecipeError) as caught:
        read_yaml("a: 1\na: 2\n3: x\nno: y\n", "r.yaml")
    first, second, third = caught.value.problems
    assert "r.yaml:2: a: this key stands twice" in first
    assert "r.yaml:3: 3: a key must be text, not 3" in second
    assert "r.yaml:4: False: a key must be text, not False (put it in quotes)" in third


def test_broken_yaml_is_named_with_its_line():
    with pytest.raises(RecipeError, match=r"r\.yaml:2: not valid YAML"):
        read_yaml("a: 1\n b: 2\n", "r.yaml")


def test_unclosed_bracket_and_control_characters():
    for text in ("a: [1, 2", "a: \x00", "a: @b", "a: *nothing", "[" * 5000):
        with pytest.raises(RecipeError, match="not valid YAML"):
            read_yaml(text, "r.yaml")


def test_two_documents_are_refused():
    with pytest.raises(RecipeError, match="not valid YAML"):
        read_yaml("a: 1\n---\nb: 2\n", "r.yaml")


def test_a_node_that_contains_itself():
    with pytest.raises(RecipeError, match=r"r\.yaml:1: a\.b: contains itself"):
        read_yaml("a: &x {b: *x}\n", "r.yaml")


def test_an_alias_is_a_copy():
    data, _ = read_yaml("a: &x {b: 1}\nc: *x\n", "r.yaml")
    assert data == {"a": {"b": 1}, "c": {"b": 1}}
    assert data["a"] is not data["c"]


@pytest.mark.parametrize(
    "text",
    [
        "!!python/object/apply:os.system ['touch hacked']",
        "!!python/name:os.system",
        "!import_call os.system",
        "!!python/object/new:os.system ['touch hacked']",
    ],
)
def test_tags_build_nothing(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RecipeError, match=r"r\.yaml:1: "):
        read_yaml(f"a: {text}\n", "r.yaml")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("tag", ["!!python/dict", "!!set", "!!omap", "!x"])
def test_tags_on_mappings_are_refused_too(tag):
    with pytest.raises(RecipeError, match=r"r\.yaml:1: "):
        read_yaml(f"a: {tag} {{b: 1}}\n", "r.yaml")


def test_nothing_at_all():
    assert read_yaml("", "r.yaml") == (None, {})


LETTERS = st.characters(categories=("L", "N"), include_characters=" _-:#[]{}'\"\n")
# 2e-4 is a number here and text to PyYAML, which writes it without quotes.
NAMES = st.text(LETTERS, min_size=1, max_size=8).filter(
    lambda text: not (text[0] in "-.0123456789" and "e" in text.lower())
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | NAMES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=20,
)


@settings(deadline=None)
@given(st.dictionaries(NAMES, VALUES, max_size=5), st.booleans())
def test_whatever_is_written_as_yaml_is_read_back_with_a_line_for_every_key(data, flow):
    text = yaml.safe_dump(data, allow_unicode=True, default_flow_style=flow, sort_keys=False)
    found, where = read_yaml(text, "x")
    assert found == data

    def keys(value, path=()):
        for key, inner in value.items() if isinstance(value, dict) else ():
            yield (*path, key)
            yield from keys(inner, (*path, key))

    assert set(keys(data)) <= set(where)
    assert all(1 <= int(place.removeprefix("x:")) <= text.count("\n") for place in where.values())


@settings(deadline=None)
@given(st.text(max_size=60))
def test_any_text_is_read_or_refused_in_words(text):
    with contextlib.suppress(RecipeError):
        read_yaml(text, "x")
