"""A recipe as plain data with the line of every key: what a dotted key names, and laying settings over it.

Variants, profiles and ``--set`` are settings, ``stage.parameter: value``. An entry of ``components`` or ``stages``
that says ``like: OTHER`` holds what that one says, but for its own keys.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from dakit.errors import DakitError, RecipeError, did_you_mean
from dakit.recipe.sections import DATA_SETTINGS, ENTRIES, NAME, Root, root_faults
from dakit.recipe.yaml_lines import read_yaml

Key = tuple[str, ...]

SETTABLE = ("data", "components", "stages")
"""Sections whose entries a setting may name without the section; a variant changes nothing else."""

ALIKE = ("components", "stages")
"""Sections whose entries may be ``like`` one another."""


class Problems:
    """What is wrong with a recipe: a line each, in order, and each once, as rows share most of the recipe."""

    def __init__(self, lines: Iterable[str] = ()) -> None:
        self.lines = dict.fromkeys(lines)

    def add(self, line: str) -> None:
        """Note one."""
        self.lines[line] = None

    def stop(self) -> None:
        """End here where there is one.

        Raises:
            RecipeError: with all of them.
        """
        if self.lines:
            raise RecipeError(self.lines)


@dataclass(frozen=True)
class Setting:
    """One ``--set``; ``row`` is "" where it is for all of them."""

    row: str
    key: str
    value: Any

    @property
    def origin(self) -> str:
        """Where it stands, for people."""
        return f"--set {self.row}:{self.key}" if self.row else f"--set {self.key}"

    @classmethod
    def parse(cls, text: str) -> Setting:
        """From ``KEY=VALUE`` or ``ROW:KEY=VALUE``.

        Raises:
            DakitError: it is neither, or the value is not YAML.
        """
        key, equals, value = text.partition("=")
        row, colon, rest = key.rpartition(":")
        setting = cls(row.strip(), rest.strip(), None)
        if not equals or not setting.key or (colon and not setting.row):
            raise DakitError(f'--set {text}: expected KEY=VALUE, such as "adapt.steps=500", or ROW:KEY=VALUE')
        return replace(setting, value=read_yaml(value, setting.origin)[0])


@dataclass(frozen=True)
class Difference:
    """What differs from the method in one row.

    Attributes:
        settings: dotted key -> value.
        without: full keys of the method that the row leaves out.
    """

    settings: Mapping[str, Any]
    without: tuple[Key, ...] = ()


@dataclass(eq=False)
class Document:
    """Plain data, and where each key of it stands.

    Attributes:
        data: the recipe.
        lines: full key -> ``file:line``, or whatever else tells where it was set.
        file: for keys that stand nowhere.
        problems: shared by every copy.
        origins: full key that an entry holds by ``like`` -> the key that says it.
    """

    data: dict[str, Any]
    lines: dict[Key, str]
    file: str
    problems: Problems = field(default_factory=Problems)
    origins: dict[Key, Key] = field(default_factory=dict)

    def copy(self) -> Document:
        """Another with the same content; problems of both are told together."""
        return replace(self, data=copy.deepcopy(self.data), lines=dict(self.lines), origins=dict(self.origins))

    def place(self, key: Key) -> str:
        """Where a key stands, or the nearest key above it."""
        return next((self.lines[key[:n]] for n in range(len(key), 0, -1) if key[:n] in self.lines), self.file)

    def problem(self, key: Key, text: str) -> None:
        """Note what is wrong at a full key; what an entry holds by ``like`` is told where it stands."""
        key = self.origins.get(key[:3], key[:3]) + key[3:]
        self.problems.add(f"{self.place(key)}: {'.'.join(key)}: {text}")

    def value(self, key: Key) -> Any:
        """The value of a full key; None where there is none."""
        value: Any = self.data
        for part in key:
            value = value.get(part) if isinstance(value, dict) else None
        return value

    def check_shape(self) -> None:
        """Check that everything is a mapping, a list or text where it must be; fill in sections that are left out.

        Raises:
            RecipeError: at once, as nothing further can be read.
        """
        known = len(self.problems.lines)
        for key, text in root_faults(self.data):
            self.problem((key,), text)
        if len(self.problems.lines) > known:
            self.problems.stop()
        for section in ENTRIES:
            for name, value in self.data.setdefault(section, {}).items():
                if not re.fullmatch(NAME, name):
                    self.problem((section, name), "a name is letters, digits, _ and -")
                if not isinstance(value, dict) and not (section == "data" and name in DATA_SETTINGS):
                    self.problem((section, name), f"must be a mapping, not {value!r}")
        if not self.data["stages"]:
            self.problem(("stages",), "there is none")
        if len(self.problems.lines) > known:
            self.problems.stop()

    def resolve(self, dotted: str) -> list[Key]:
        """Every full key that a dotted one may stand for."""
        key = tuple(dotted.split("."))
        if key[0] in Root.model_fields:
            return [key]
        return [(section, *key) for section in SETTABLE if key[0] in self.data[section]]

    def lay(self, settings: Mapping[str, Any], at: Key = (), origin: str = "") -> None:
        """Lay settings over it; a mapping replaces what stood there.

        Args:
            settings: dotted key -> value.
            at: the key that they stand below, which knows their lines.
            origin: where they stand, if that is no key.
        """
        for dotted, value in settings.items():
            here = (*at, dotted)
            place = origin or self.lines.get(here, self.file)
            keys = self.resolve(dotted)
            if not keys:
                first = dotted.partition(".")[0]
                names = [*self.data["stages"], *self.data["components"], *self.data["data"], *Root.model_fields]
                self.problems.add(f'{place}: {dotted}: nothing is called "{first}"{did_you_mean(first, names)}')
            elif len(keys) > 1:
                both = " or ".join(f"{key[0]}.{dotted}" for key in keys)
                self.problems.add(f"{place}: {dotted}: stands for two things; write {both}")
            elif not self.put(keys[0], value, place):
                self.problems.add(f"{place}: {dotted}: {'.'.join(keys[0][:-1])} has no parts to set")
            else:
                for known, line in list(self.lines.items()):
                    if known[: len(here)] == here and len(known) > len(here):
                        self.lines[(*keys[0], *known[len(here) :])] = line

    def put(self, key: Key, value: Any, place: str) -> bool:
        """Set one full key; False where what stands above it has no parts."""
        target: Any = self.data
        for n, part in enumerate(key[:-1], 1):
            target = target.setdefault(part, {}) if isinstance(target, dict) else target
            self.lines.setdefault(key[:n], place)
        if not isinstance(target, dict):
            return False
        self.forget(key)
        target[key[-1]] = copy.deepcopy(value)
        self.lines[key] = place
        return True

    def forget(self, key: Key) -> None:
        """Forget where a full key stands, and all below it."""
        for known in [known for known in self.lines if known[: len(key)] == key]:
            del self.lines[known]

    def drop(self, key: Key) -> None:
        """Take out one full key."""
        above = self.value(key[:-1])
        if isinstance(above, dict):
            above.pop(key[-1], None)
        self.forget(key)

    def difference(self, settings: Mapping[str, Any], at: Key, written: Document) -> Difference:
        """What a row says, spelled out where it gives a component or stage anew by ``like``.

        Such an entry takes the place of what is written of it in the recipe, key by key: what a profile or ``--set``
        lays over the method's entry holds for the row's, too.

        Args:
            settings: of the row.
            at: the key that they stand below.
            written: the recipe before profile and ``--set``.
        """
        spelled: dict[str, Any] = {}
        without: list[Key] = []
        for dotted, value in settings.items():
            keys = self.resolve(dotted)
            alike = len(keys) == 1 and len(keys[0]) == 2 and keys[0][0] in ALIKE
            if not alike or not isinstance(value, dict) or "like" not in value:
                spelled[dotted] = value
                continue
            without += [(*keys[0], name) for name in written.value(keys[0]) or () if name not in value]
            for name, inner in value.items():
                spelled[f"{dotted}.{name}"] = inner
                for known, line in list(self.lines.items()):
                    if known[: len(at) + 2] == (*at, dotted, name):
                        self.lines[(*at, f"{dotted}.{name}", *known[len(at) + 2 :])] = line
        return Difference(spelled, tuple(without))

    def named(self, difference: Difference) -> list[Key]:
        """Every full key that a row decides itself."""
        return [*difference.without, *(key for dotted in difference.settings for key in self.resolve(dotted))]

    def differ(self, difference: Difference, at: Key) -> None:
        """Make it the document of one row."""
        for key in difference.without:
            self.drop(key)
        self.lay(difference.settings, at)

    def spell_out(self) -> None:
        """Replace every ``like`` by what it stands for."""
        for section in ALIKE:
            above: dict[str, Any] = {}
            for name, entry in self.data[section].items():
                if isinstance(entry, dict) and "like" in entry:
                    self._spell(section, name, entry, above)
                above[name] = entry

    def _spell(self, section: str, name: str, entry: dict[str, Any], above: Mapping[str, Any]) -> None:
        """Spell out one entry; one whose ``like`` has a problem keeps it."""
        key, like = (section, name), entry["like"]
        if not isinstance(like, str) or like not in self.data[section]:
            what = section.removesuffix("s")
            self.problem((*key, "like"), f'there is no {what} "{like}"{did_you_mean(str(like), above)}')
        elif like not in above:
            self.problem((*key, "like"), f"{like} does not stand above; an entry may be like one that stands above it")
        elif "like" in above[like]:
            pass  # told there
        else:
            del entry["like"]
            for part, value in above[like].items():
                if part not in entry:
                    entry[part] = copy.deepcopy(value)
                    origin = (section, like, part)
                    self.origins[*key, part] = self.origins.get(origin, origin)
