"""YAML with the line of every key. Data only, as ``yaml.safe_load``, with two traps closed:
a duplicate key is an error, and ``2e-4`` is a number.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

from dakit.errors import RecipeError

Path = tuple[str, ...]


LARGEST = 100_000
"""A document has at most so many values, counting what stands behind every alias: ten lines can stand for billions."""


class _Loader(yaml.SafeLoader):
    """PyYAML reads 2e-4 as text (YAML 1.1 wants 2.0e-4); everybody who writes a learning rate means a number."""

    values = 0


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d[\d_]*\.?\d*|\.\d+)[eE][-+]?\d+$"),
    list("-+.0123456789"),
)


def read_yaml(text: str, file: str) -> tuple[Any, dict[Path, str]]:
    """Parse one document.

    Returns:
        The plain data, and for each key path where it stands, ``file:line``.

    Raises:
        RecipeError: it is not YAML, a key stands twice or is not text, a node contains itself, or it is larger than
            :data:`LARGEST`.

    >>> read_yaml("a: {lr: 2e-4}", "x.yaml")
    ({'a': {'lr': 0.0002}}, {('a',): 'x.yaml:1', ('a', 'lr'): 'x.yaml:1'})
    """
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        where: dict[Path, str] = {}
        problems: list[str] = []
        data = None if node is None else _convert(loader, node, (), file, where, problems, ())
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise RecipeError([f"{file}:{line}: not valid YAML: {error.problem}"]) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise RecipeError([f"{file}: not valid YAML: {error}"]) from None
    if problems:
        raise RecipeError(problems)
    return data, where


def plain_data(value: Any, name: str) -> tuple[Any, dict[Path, str]]:
    """A document that Python made, as :func:`read_yaml` returns one; a tuple becomes a list.

    Args:
        value: mappings with text as keys, lists, text, numbers, true, false and None.
        name: of the document, for people.

    Returns:
        A copy, and for each key path where it stands: as there are no lines, ``name``.

    Raises:
        RecipeError: something in it is no plain data, contains itself, or it is larger than :data:`LARGEST`.

    >>> plain_data({"rows": ("a", "b")}, "recipe dict")
    ({'rows': ['a', 'b']}, {('rows',): 'recipe dict'})
    """
    problems: list[str] = []
    where: dict[Path, str] = {}
    left = LARGEST

    def copied(value: Any, path: Path, keys: Path, parents: tuple[int, ...]) -> Any:
        nonlocal left
        left -= 1
        place = f"{name}: {'.'.join(path)}" if path else name
        if left < 0:
            raise RecipeError([f"{name}: more than {LARGEST:,} values"])
        if id(value) in parents:
            problems.append(f"{place}: contains itself")
        elif value is None or type(value) in (bool, int, float, str):
            return value
        elif type(value) in (list, tuple):
            return [copied(inner, (*path, str(i)), keys, (*parents, id(value))) for i, inner in enumerate(value)]
        elif isinstance(value, dict):
            for key in value:
                if type(key) is not str:
                    problems.append(f"{place}: a key must be text, not {key!r}")
                where[(*keys, str(key))] = name  # as in YAML, without the place in a list
            return {
                k: copied(inner, (*path, str(k)), (*keys, str(k)), (*parents, id(value))) for k, inner in value.items()
            }
        else:
            what = f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
            problems.append(
                f"{place}: expected plain data (text, numbers, true or false, None, lists and mappings), not a {what}; "
                "classes go into `components` and images into `data`, beside the recipe"
            )
        return None

    data = copied(value, (), (), ())
    if problems:
        raise RecipeError(problems)
    return data, where


def _convert(
    loader: _Loader,
    node: yaml.Node,
    path: Path,
    file: str,
    where: dict[Path, str],
    problems: list[str],
    parents: tuple[yaml.Node, ...],
) -> Any:
    loader.values += 1
    if loader.values > LARGEST:
        raise RecipeError([f"{file}: more than {LARGEST:,} values, with what its aliases stand for"])
    if node in parents:
        problems.append(f"{file}:{node.start_mark.line + 1}: {'.'.join(path)}: contains itself")
        return None
    parents = (*parents, node)
    if not isinstance(node, yaml.ScalarNode) and node.tag not in (
        loader.DEFAULT_MAPPING_TAG,
        loader.DEFAULT_SEQUENCE_TAG,
    ):
        problems.append(f"{file}:{node.start_mark.line + 1}: {'.'.join(path)}: the tag {node.tag} is not allowed")
        return None
    if isinstance(node, yaml.MappingNode):
        data: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = loader.construct_object(key_node, deep=True)
            place = f"{file}:{key_node.start_mark.line + 1}"
            dotted = ".".join((*path, str(key)))
            if not isinstance(key, str):
                problems.append(f"{place}: {dotted}: a key must be text, not {key!r} (put it in quotes)")
            elif key in data:
                problems.append(f"{place}: {dotted}: this key stands twice (first at {where[(*path, key)]})")
            else:
                where[(*path, key)] = place
                data[key] = _convert(loader, value_node, (*path, key), file, where, problems, parents)
        return data
    if isinstance(node, yaml.SequenceNode):
        return [_convert(loader, item, path, file, where, problems, parents) for item in node.value]
    return loader.construct_object(node, deep=True)
