"""A recipe that builds on another: ``base: NAME`` lays it over that one.

Sections are joined, and so are their entries, parameter by parameter. A variant, and an entry that says what it is
(``use:``, ``do:`` or ``like:`` of its own), replace the base's of that name; null takes it away. What belongs to one
table (``recipe``, ``title``, ``published`` and its metric) is never taken over.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dakit.errors import DakitError, RecipeError, did_you_mean
from dakit.files import shipped_recipes
from dakit.recipe.document import Document, Key, Problems
from dakit.recipe.sections import DATA_SETTINGS, ENTRIES, Root, root_faults
from dakit.recipe.yaml_lines import read_yaml

_OWN = ("recipe", "title", "published", "published_metric", "base")
_HEADS: Mapping[str, set[str]] = {
    "data": {"use"}, "components": {"use", "like"}, "stages": {"do", "like"}, "profiles": set(),
}  # fmt: skip
"""In which sections an entry may change a part of the base's, and what it must not say then."""


def find_recipe(source: str | Path) -> Path:
    """A recipe's file, from its path or from the name of a shipped one.

    Raises:
        DakitError: there is neither.
    """
    if Path(source).is_file():
        return Path(source)
    shipped = shipped_recipes()
    name = Path(source).name.removesuffix(".yaml")
    if name in shipped and str(source) in (name, f"{name}.yaml", f"recipes/{name}.yaml"):
        return shipped[name]
    raise DakitError(f"{source}: there is no such file, and no shipped recipe{did_you_mean(name, shipped)}")


def read_recipe(path: Path) -> Document:
    """The document in a file.

    Raises:
        RecipeError: it is not UTF-8, not YAML or no mapping.
        DakitError: it cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise RecipeError([f"{path}: not UTF-8 text (byte {error.start}); a recipe is a YAML file"]) from None
    except OSError as error:
        raise DakitError(f"{path}: cannot be read: {error.strerror}") from error
    data, lines = read_yaml(text, str(path))
    return as_document(data, lines, str(path))


def as_document(data: Any, lines: dict[Key, str], file: str) -> Document:
    """A document of plain data.

    Raises:
        RecipeError: it is no mapping.
    """
    if not isinstance(data, dict):
        raise RecipeError([f"{file}: a recipe is a mapping with {', '.join(Root.model_fields)}"])
    return Document(data, lines, file)


def based(document: Document, readers: tuple[Path, ...]) -> Document:
    """A document laid over the one that it builds on, and that over its own.

    Args:
        document: of a file or of Python; itself where it has no ``base``.
        readers: the files whose bases led here, the last of them its own.

    Raises:
        RecipeError: a base is not there, builds on itself, or does not have the shape of a recipe.
    """
    name = document.data.get("base")
    if name is None:
        return document
    for key, text in root_faults(document.data, part=True):
        document.problem((key,), text)
    document.problems.stop()
    path = _base_file(document, str(name), readers[-1].parent if readers else Path())
    chain = [*(file.resolve() for file in readers), path.resolve()]
    if path.resolve() in chain[:-1]:
        circle = " -> ".join(file.name for file in chain[chain.index(path.resolve()) :])
        document.problem(("base",), f"it builds on itself: {circle}")
        document.problems.stop()
    below = based(read_recipe(path), (*readers, path))
    below.problems = Problems()
    below.check_shape()
    return _laid_over(below, document)


def _base_file(document: Document, name: str, folder: Path) -> Path:
    """A ``.yaml`` beside the recipe, or a shipped recipe."""
    if name.endswith((".yaml", ".yml")):
        if (folder / name).is_file():
            return folder / name
        near = [str(path.relative_to(folder)) for path in folder.glob("*.yaml")]
        document.problem(("base",), f"{folder / name}: there is no such file{did_you_mean(name, near)}")
    elif name in (shipped := shipped_recipes()):
        return shipped[name]
    else:
        what = "a base is a shipped recipe or a .yaml file, as seen from the recipe's folder"
        document.problem(("base",), f'there is no shipped recipe "{name}"{did_you_mean(name, shipped)} ({what})')
    raise RecipeError(document.problems.lines)


def _laid_over(below: Document, above: Document) -> Document:
    """``above`` over ``below``, as a third."""
    document = below.copy()
    document.file, document.problems = above.file, above.problems
    for key in _OWN:
        document.drop((key,))
    document.data = {key: above.data[key] for key in ("recipe", "title") if key in above.data} | document.data
    for key, value in above.data.items():
        if key in ENTRIES:
            _join(document, above, key)
        elif key == "engine":
            for name, setting in value.items():
                _take(document, above, ("engine", name), setting)
        elif key != "base":
            _take(document, above, (key,), value)
    return document


def _join(document: Document, above: Document, section: str) -> None:
    """Lay one section of entries over that of the base."""
    entries = above.data[section]
    known = list(document.data[section])
    for name, value in entries.items():
        key = (section, name)
        if value is None and not (section == "data" and name in DATA_SETTINGS):
            if name not in known:
                above.problem(key, f"is null, but the base has none{did_you_mean(name, known)}")
            document.drop(key)
        elif name in known and isinstance(value, dict) and section in _HEADS and not value.keys() & _HEADS[section]:
            for part, inner in value.items():
                _take(document, above, (*key, part), inner)
        else:
            _take(document, above, key, value)
    if section == "stages":
        document.data["stages"] = {
            name: document.data["stages"][name] for name in _order(known, entries, document.data["stages"])
        }


def _order(known: list[str], entries: Mapping[str, Any], there: Mapping[str, Any]) -> list[str]:
    """Stages in the base's order; a new one stands above the next that is named below it, else above the last."""
    order = [name for name in known if name in there]
    following = order[-1:]
    for name in reversed([name for name in entries if name in there]):
        if name not in order:
            order.insert(order.index(following[0]) if following else len(order), name)
        following = [name]
    return order


def _take(document: Document, above: Document, key: Key, value: Any) -> None:
    """Take over one key, with its lines."""
    document.put(key, value, above.place(key))
    for known, line in above.lines.items():
        if known[: len(key)] == key:
            document.lines[known] = line
