"""The door: from a recipe to checked plans, one per row of the table: every problem at once, each with file:line."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from dakit.errors import DakitError, did_you_mean
from dakit.interfaces import Engine, Observer, Spec
from dakit.recipe.base import as_document, based, find_recipe, read_recipe
from dakit.recipe.document import SETTABLE, Difference, Document, Key, Setting
from dakit.recipe.given import refuse_others, registry_with, take_over
from dakit.recipe.plans import Plan, Recipe
from dakit.recipe.rows import Doubtful, Row
from dakit.recipe.sections import Published, Repetitions, Root, section_faults
from dakit.recipe.yaml_lines import plain_data, read_yaml
from dakit.registry import Registry
from dakit.statistics.measures import MACRO_ACCURACY, METRICS

_NAMED = "what a variant names stays as it is"


def load_recipe(
    source: str | Path | Mapping[str, Any],
    *,
    profile: str | None = None,
    overrides: Iterable[str] = (),
    observe: Iterable[str] = (),
    plugins: Iterable[Path] = (),
    components: Mapping[str, Any] | None = None,
    data: Mapping[str, Any] | None = None,
    registry: Registry | None = None,
) -> Recipe:
    """Read and check a recipe.

    Args:
        source: a path, the name of a shipped recipe, or the recipe itself as plain data.
        profile: a set of overrides that the recipe names.
        overrides: ``"stage.parameter=value"``, the value in YAML; laid over the profile, for the method and for every
            variant that does not name this key itself. ``"row:stage.parameter=value"`` is for one row, and may replace
            a number that its variant names, but nothing else. For which rows one does not hold is in ``Recipe.notes``.
        observe: further observers: a name, or ``"{use: name, parameter: value}"``.
        plugins: Python files with further plugins.
        components: classes and functions that the recipe may name, ``{"mine": MyLoss}`` or, where the shape of one does
            not tell its kind, ``{"translator/mine": MyNetwork}``; see :mod:`dakit.objects`.
        data: images for roles of the recipe, in place of what it reads there: ``{"source": dataset}``; see
            :func:`dakit.data.objects.read_object`. ``split`` and ``unlabelled`` stay as the recipe has them.
        registry: to look names up in, instead of finding the plugins anew.

    Raises:
        RecipeError: with every problem found.
        DakitError: the file cannot be read.

    >>> recipe = load_recipe("cycleat_digits")
    >>> recipe.plan("cycleat").stages[0].name
    'pretrain'
    """
    known = registry_with(components or {}, data or {}, plugins, registry)
    if isinstance(source, Mapping):
        document = based(as_document(*plain_data(source, "recipe dict"), "recipe dict"), ())
    else:
        path = find_recipe(source)
        document = based(read_recipe(path), (path,))
    take_over(document.data, data or (), document.file)
    recipe = checked_recipe(document, known, profile=profile, overrides=overrides, observe=observe)
    refuse_others(recipe, data or ())
    return recipe


def checked_recipe(
    document: Document,
    registry: Registry,
    *,
    profile: str | None = None,
    overrides: Iterable[str] = (),
    observe: Iterable[str] = (),
) -> Recipe:
    """The recipe in a document; the arguments are those of :func:`load_recipe`.

    Raises:
        RecipeError: with every problem found.
        DakitError: there is no such profile, or an override cannot be read.
    """
    document.check_shape()
    written = document.copy()
    profiles = document.data["profiles"]
    if profile is not None:
        if profile not in profiles:
            raise DakitError(f'{document.file}: there is no profile "{profile}"{did_you_mean(profile, profiles)}')
        document.lay(profiles[profile], ("profiles", profile))
    plain = document.copy()
    settings = [Setting.parse(text) for text in overrides]
    for setting in settings:
        if not setting.row:
            document.lay({setting.key: setting.value}, (), setting.origin)
    document.check_shape()
    notes: dict[tuple[str, str], dict[str, None]] = {}
    plans = {
        row: _plan(document, plain, row, difference, settings, registry, notes)
        for row, difference in _differences(document, plain, written, settings).items()
    }
    return _table(document, plans, profile or "", observe, registry, _note_lines(notes))


def _differences(
    document: Document, plain: Document, written: Document, settings: Sequence[Setting]
) -> dict[str, Difference]:
    """What differs in each row, the method first.

    Args:
        document: the recipe as it is to be run.
        plain: without ``--set``.
        written: and without the profile.
        settings: every ``--set``; those for one row are added to what it says.

    Raises:
        RecipeError: a row has the method's name, changes what it may not, or is made another than it is said to be.
    """
    variants, method = document.data["variants"], document.data["method"]
    if method in variants:
        document.problem(("variants", method), "is the method itself; a variant needs another name")
    for row in variants.keys() & plain.data["variants"].keys():
        if variants[row] != plain.data["variants"][row]:
            document.problem(("variants", row), "a row means what the recipe says; give another variant its own name")
    rows = {method: {}, **variants}
    for setting in settings:
        if setting.row:
            _set_in_row(document, rows, plain.data["variants"], written, setting)
    if rows[method]:
        variants[method] = rows[method]  # for the record
    for row, changes in rows.items():
        for dotted in changes:
            if dotted.split(".")[0] in Root.model_fields.keys() - set(SETTABLE):
                document.problem(("variants", row, dotted), "a variant changes data, components and stages only")
    document.problems.stop()
    return {row: document.difference(changes, ("variants", row), written) for row, changes in rows.items()}


def _set_in_row(
    document: Document,
    rows: dict[str, dict[str, Any]],
    variants: Mapping[str, dict[str, Any]],
    written: Document,
    setting: Setting,
) -> None:
    """Add to what one row says; not what would make it another row than ``variants`` say."""
    row = setting.row
    if row not in rows:
        document.problems.add(f'{setting.origin}: there is no variant "{row}"{did_you_mean(row, rows)}')
        return
    keys = document.resolve(setting.key)
    difference = document.difference(variants.get(row, {}), ("variants", row), written)
    reasons = [f"without {'.'.join(key[1:])}" for key in difference.without if any(_overlap(key, k) for k in keys)]
    for dotted, value in difference.settings.items():
        named = document.resolve(dotted)
        numbers = all(type(number) in (int, float) for number in (value, setting.value))
        if any(_overlap(a, b) for a in keys for b in named) and not (numbers and keys == named):
            reasons.append(f"with {dotted}: {'null' if value is None else value}")
    if reasons:
        what = f"{row} is the row {reasons[0]}; what differs there is another variant, with its own name"
        document.problems.add(f"{setting.origin}: {what}")
        return
    rows[row][setting.key] = setting.value
    document.lines["variants", row, setting.key] = setting.origin


def _plan(
    document: Document,
    plain: Document,
    row: str,
    difference: Difference,
    settings: Sequence[Setting],
    registry: Registry,
    notes: dict[tuple[str, str], dict[str, None]],
) -> Plan:
    """The plan of one row; for which settings do not hold in it, ``notes`` gain (setting, why) -> row."""
    its, at = document.copy(), ("variants", row)
    its.differ(difference, at)
    its.check_shape()
    doubtful: list[Doubtful] = []
    if row != document.data["method"]:
        without_settings = plain.copy()
        without_settings.lines = dict(document.lines)
        without_settings.differ(difference, at)
        without_settings.spell_out()
        named = its.named(difference)
        for setting in settings:
            for key in its.resolve(setting.key) if not setting.row else ():
                if any(_overlap(key, other) for other in named):
                    if its.value(key) != setting.value:
                        notes.setdefault((setting.origin, _NAMED), {})[row] = None
                elif len(key) == 3 and any(key[:2] == other[:2] for other in named):
                    # It turns on what is off in a stage that the variant changes: it may not fit there.
                    if without_settings.value(key) is None:
                        doubtful.append(Doubtful(key, setting.value, partial(_note, notes, row, setting)))
    its.spell_out()
    return Row(its, registry).plan(row, doubtful)


def _note(notes: dict[tuple[str, str], dict[str, None]], row: str, setting: Setting, why: str) -> None:
    notes.setdefault((setting.origin, why), {})[row] = None


def _note_lines(notes: Mapping[tuple[str, str], Iterable[str]]) -> tuple[str, ...]:
    """For which rows a setting does not hold, a line each."""
    return tuple(f"{what}: not for {', '.join(rows)}: {why}" for (what, why), rows in notes.items())


def _table(
    document: Document,
    plans: Mapping[str, Plan],
    profile: str,
    observe: Iterable[str],
    registry: Registry,
    notes: tuple[str, ...],
) -> Recipe:
    """The recipe of checked rows, and what belongs to the whole table.

    Raises:
        RecipeError: with every problem of rows and table.
    """
    data = document.data
    rows, published, seeds = data.get("rows", [data["method"]]), data.get("published", {}), data.get("seeds", [0])
    baseline = data.get("baseline", next((row for row in plans if row.endswith("fine_tune")), None))
    for key, names in {"rows": rows, "published": published, "baseline": [baseline] if baseline else []}.items():
        for row in names:
            if row not in plans:
                document.problem((key,), f'there is no variant "{row}"{did_you_mean(row, plans)}')
    for row, numbers in published.items():
        for _, text in section_faults(Published, {"numbers": numbers}):
            document.problem(("published", row), text)
    for key, text in section_faults(Repetitions, {"seeds": seeds}):
        document.problem((key,), text)
    metric = _metric(document)
    about = Row(document, registry)
    engine = about.checked(Engine, "engine", data.get("engine", {}), ("engine",))
    observers = _observers(about, observe)
    document.problems.stop()
    in_order = [*rows, *(row for row in plans if row not in rows)]
    return Recipe(
        name=data["recipe"],
        title=str(data.get("title", data["recipe"])),
        file=document.file,
        profile=profile,
        rows=tuple(rows),
        baseline=baseline,
        seeds=tuple(seeds),
        engine=Engine(**(engine or {})),
        observers=observers,
        plans={row: plans[row] for row in in_order},
        published=published if metric == data.get("published_metric", MACRO_ACCURACY.name) else {},
        metric=metric,
        profiles=tuple(data["profiles"]),
        document=data,
        registry=registry,
        notes=notes,
    )


def _metric(document: Document) -> str:
    """The name of what the table is about; published numbers stand beside it where they are of the same."""
    for key in ("metric", "published_metric"):
        if (name := document.data.get(key, MACRO_ACCURACY.name)) not in METRICS:
            document.problem((key,), f'there is no metric "{name}"{did_you_mean(name, METRICS)}')
    if "published_metric" in document.data and not document.data.get("published"):
        document.problem(("published_metric",), "there is no `published`")
    return str(document.data.get("metric", MACRO_ACCURACY.name))


def _observers(about: Row, observe: Iterable[str]) -> tuple[Spec[Observer], ...]:
    """Those of the recipe, then those of the command line."""
    document = about.document
    listed = document.data.setdefault("observers", [])
    for text in observe:
        document.lines["observers", str(len(listed))] = origin = f"--observe {text}"
        listed.append(read_yaml(text, origin)[0])
    named = [{"use": given} if isinstance(given, str) else given for given in listed]
    specs = [about.component(given, ("observers", str(n)), "observer") for n, given in enumerate(named)]
    return tuple(spec for spec in specs if spec is not None)


def _overlap(a: Key, b: Key) -> bool:
    """Whether one key is the other or a part of it."""
    return a[: len(b)] == b[: len(a)]
