"""From YAML to checked plans, one per row of the table: every problem at once, each with file:line and key."""

from __future__ import annotations

import copy
import re
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dakit.data.splits import Split
from dakit.errors import DakitError, RecipeError, did_you_mean
from dakit.files import shipped_recipes
from dakit.interfaces import Classifier, Engine, Folder, ImageSet, Observer, Spec, TestSet, Trained, Translator
from dakit.optional import ChecksInputs, offers
from dakit.recipe.given import refuse_others, registry_with, take_over
from dakit.recipe.plans import DataPlan, Plan, Recipe, Reference, RunReference, StagePlan
from dakit.recipe.sealing import evaluation_faults
from dakit.recipe.yaml_lines import plain_data, read_yaml
from dakit.registry import KINDS, Registry, component_kind
from dakit.signatures import ParameterProblems, optional, shown, stage_inputs, stage_outputs, union_members, validated
from dakit.statistics.measures import MACRO_ACCURACY, METRICS

Key = tuple[str, ...]

ROOT: Mapping[str, Any] = {
    "recipe": str, "title": str, "method": str, "rows": list, "seeds": list, "engine": dict, "observers": list,
    "data": dict, "components": dict, "stages": dict, "pictures": list, "variants": dict, "profiles": dict,
    "published": dict, "baseline": str, "metric": str, "published_metric": str,
}  # fmt: skip
_TYPES = {str: "text", list: "list", dict: "mapping"}
_DATA_SETTINGS = ("size", "classes", "on_bad_image")  # every other key of `data` is a role
NAME = r"[A-Za-z_][\w-]*"
COMPONENTS = [kind for kind in KINDS if kind not in ("dataset", "observer", "stage")]


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
    path = Path("recipe dict") if isinstance(source, Mapping) else find_recipe(source)
    document, where = plain_data(source, str(path)) if isinstance(source, Mapping) else _read(path)
    take_over(document, data or (), str(path))
    recipe = _Checker(document, where, path, known).check(profile, overrides, observe)
    refuse_others(recipe, data or ())
    return recipe


def _read(path: Path) -> tuple[Any, dict[Key, str]]:
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise RecipeError([f"{path}: not UTF-8 text (byte {error.start}); a recipe is a YAML file"]) from None
    except OSError as error:
        raise DakitError(f"{path}: cannot be read: {error.strerror}") from error
    return read_yaml(text, str(path))


def network_of_run(*, run: Folder, row: str, seed: int = 0, fold: int = 0) -> None:
    """The parameters of ``{run: DIR, row: NAME}``, see :class:`~dakit.recipe.plans.RunReference`."""


@dataclass(frozen=True, eq=False)
class _Override:
    """One ``--set``; ``row`` is "" where it is for all of them."""

    row: str
    key: str
    value: Any

    @property
    def origin(self) -> str:
        return f"--set {self.row}:{self.key}" if self.row else f"--set {self.key}"


class _Checker:
    """Collects problems while it turns a document into plans."""

    def __init__(self, data: Any, where: dict[Key, str], path: Path, registry: Registry) -> None:
        self.data = data
        self.where = where
        self.path = path
        self.registry = registry
        self.problems: dict[str, None] = {}  # ordered, each once: rows share most of the recipe
        self.kept: dict[tuple[str, str], dict[str, None]] = {}  # (--set, why it is not for) -> these rows

    def problem(self, key: Key, text: str) -> None:
        place = next((self.where[key[:n]] for n in range(len(key), 0, -1) if key[:n] in self.where), str(self.path))
        self.problems[f"{place}: {'.'.join(key)}: {text}"] = None

    def stop_on_problems(self) -> None:
        if self.problems:
            raise RecipeError(self.problems)

    # ------------------------------------------------------------------------------ the document
    def check(self, profile: str | None, overrides: Iterable[str], observe: Iterable[str]) -> Recipe:
        if not isinstance(self.data, dict):
            raise RecipeError([f"{self.path}: a recipe is a mapping with {', '.join(ROOT)}"])
        for key in ("recipe", "method", "data", "stages"):
            if key not in self.data:
                self.problem((key,), "is missing")
        self.shape(self.data)
        self.stop_on_problems()
        profiles = self.data["profiles"]
        if profile is not None and profile not in profiles:
            raise DakitError(f'{self.path}: there is no profile "{profile}"{did_you_mean(profile, profiles)}')
        if profile is not None:
            self.override(self.data, profiles[profile], ("profiles", profile))
        plain = copy.deepcopy(self.data)
        wanted = [self.parse_override(text) for text in overrides]
        for change in wanted:
            if not change.row:
                self.override(self.data, {change.key: change.value}, (), change.origin)
        self.shape(self.data)
        variants = self.data["variants"]
        method = self.data["method"]
        if method in variants:
            self.problem(("variants", method), "is the method itself; a variant needs another name")
        for row in variants.keys() & plain["variants"].keys():
            if variants[row] != plain["variants"][row]:
                self.problem(("variants", row), "a row means what the recipe says; give another variant its own name")
        rows = {method: {}, **variants}
        for change in wanted:
            if change.row:
                self.override_row(rows, plain["variants"], change)
        if rows[method]:
            variants[method] = rows[method]  # for the record
        for row, changes in rows.items():
            for dotted in changes:
                if dotted.split(".")[0] in ROOT.keys() - {"data", "components", "stages"}:
                    self.problem(("variants", row, dotted), "a variant changes data, components and stages only")
        self.stop_on_problems()

        plans = {}
        base_where = dict(self.where)
        for row, changes in rows.items():
            self.where = dict(base_where)
            document, own = copy.deepcopy(self.data), copy.deepcopy(plain)
            self.override(document, changes, ("variants", row))
            self.shape(document)
            spare: list[tuple[_Override, Key]] = []
            if row != method:
                self.override(own, changes, ("variants", row), "")
                spare = self.keep(document, own, row, changes, [change for change in wanted if not change.row])
            plans[row] = self.plan(document, row, spare)
        self.where = base_where
        chosen = self.data.get("rows", [method])
        published = self.data.get("published", {})
        baseline = self.data.get("baseline", next((row for row in plans if row.endswith("fine_tune")), None))
        named = {"rows": chosen, "published": published, "baseline": [baseline] if baseline else []}
        for key, names in named.items():
            for row in names:
                if row not in plans:
                    self.problem((key,), f'there is no variant "{row}"{did_you_mean(row, plans)}')
        for row, numbers in published.items():
            if not isinstance(numbers, dict) or not all(type(n) in (int, float) for n in numbers.values()):
                self.problem(("published", row), f"must be a mapping from class to percent, not {numbers!r}")
        metric = self.metric(published)
        seeds = self.data.get("seeds", [0])
        if not seeds or not all(type(s) is int and s >= 0 for s in seeds) or len(set(seeds)) < len(seeds):
            self.problem(("seeds",), f"must be a list of different whole numbers from 0 on, not {seeds!r}")
        engine = self.checked(Engine, 0, "engine", self.data.get("engine", {}), ("engine",))
        observers = self.observers(observe)
        self.stop_on_problems()
        in_order = [*chosen, *(row for row in plans if row not in chosen)]
        return Recipe(
            name=self.data["recipe"],
            title=str(self.data.get("title", self.data["recipe"])),
            file=str(self.path),
            profile=profile or "",
            rows=tuple(chosen),
            baseline=baseline,
            seeds=tuple(seeds),
            engine=Engine(**engine),
            observers=observers,
            plans={row: plans[row] for row in in_order},
            published=published if metric == self.data.get("published_metric", MACRO_ACCURACY.name) else {},
            metric=metric,
            profiles=tuple(profiles),
            document=self.data,
            registry=self.registry,
            notes=tuple(f"{what}: not for {', '.join(of)}: {why}" for (what, why), of in self.kept.items()),
        )

    def metric(self, published: Mapping[str, Any]) -> str:
        """The name of what the table is about; published numbers stand beside it where they are of the same."""
        for key in ("metric", "published_metric"):
            if (name := self.data.get(key, MACRO_ACCURACY.name)) not in METRICS:
                self.problem((key,), f'there is no metric "{name}"{did_you_mean(name, METRICS)}')
        if "published_metric" in self.data and not published:
            self.problem(("published_metric",), "there is no `published`")
        return str(self.data.get("metric", MACRO_ACCURACY.name))

    def shape(self, document: dict[str, Any]) -> None:
        """Check that everything is a mapping, a list or text where it must be; fill in groups that are left out.

        Raises:
            RecipeError: at once, as nothing further can be read.
        """
        before = len(self.problems)
        for key, value in document.items():
            if key not in ROOT:
                self.problem((key,), f"a recipe has no such key{did_you_mean(key, ROOT)}")
            elif not isinstance(value, ROOT[key]):
                self.problem((key,), f"must be a {_TYPES[ROOT[key]]}, not {value!r}")
            elif key in ("rows", "pictures") and not all(isinstance(name, str) for name in value):
                self.problem((key,), f"must be a list of names, not {value!r}")
            elif key in ("recipe", "method") and not re.fullmatch(NAME, value):
                self.problem((key,), f"a name is letters, digits, _ and -, not {value!r}")
        if len(self.problems) > before:
            self.stop_on_problems()
        for group in ("data", "components", "stages", "variants", "profiles"):
            for name, value in document.setdefault(group, {}).items():
                if not re.fullmatch(NAME, name):
                    self.problem((group, name), "a name is letters, digits, _ and -")
                if not isinstance(value, dict) and not (group == "data" and name in _DATA_SETTINGS):
                    self.problem((group, name), f"must be a mapping, not {value!r}")
        if not document["stages"] and ("stages",) in self.where:
            self.problem(("stages",), "there is none")
        if len(self.problems) > before:
            self.stop_on_problems()

    def parse_override(self, text: str) -> _Override:
        key, equals, value = text.partition("=")
        row, colon, rest = key.rpartition(":")
        change = _Override(row.strip(), rest.strip(), None)
        if not equals or not change.key or (colon and not change.row):
            raise DakitError(f'--set {text}: expected KEY=VALUE, such as "adapt.steps=500", or ROW:KEY=VALUE')
        return replace(change, value=read_yaml(value, change.origin)[0])

    def override_row(self, rows: dict[str, dict[str, Any]], said: Mapping[str, Any], change: _Override) -> None:
        """Add to what one row says; not what would make it another row than it is ``said`` to be."""
        if change.row not in rows:
            self.problems[f'{change.origin}: there is no variant "{change.row}"{did_you_mean(change.row, rows)}'] = None
            return
        keys = self.resolve(self.data, change.key)
        for dotted, value in said.get(change.row, {}).items():
            named = self.resolve(self.data, dotted)
            numbers = all(type(number) in (int, float) for number in (value, change.value))
            if any(_overlap(a, b) for a in keys for b in named) and not (numbers and keys == named):
                what = f"{dotted}: {'null' if value is None else value}"
                told = f"{change.row} is the row with {what}; what differs there is another variant, with its own name"
                self.problems[f"{change.origin}: {told}"] = None
                return
        rows[change.row][change.key] = change.value
        self.where["variants", change.row, change.key] = change.origin

    def keep(
        self, document: Any, own: Any, row: str, changes: Mapping[str, Any], wanted: Sequence[_Override]
    ) -> list[tuple[_Override, Key]]:
        """Note which overrides a variant outdoes.

        Returns:
            Those of the others that turn on what is off in a stage that the variant changes: it may not fit there.
        """
        named = [key for dotted in changes for key in self.resolve(document, dotted)]
        spare: list[tuple[_Override, Key]] = []
        for change in wanted:
            for key in self.resolve(document, change.key):
                if any(_overlap(key, other) for other in named):
                    if _at(document, key) != change.value:
                        self.kept.setdefault((change.origin, "what a variant names stays as it is"), {})[row] = None
                elif len(key) == 3 and any(key[:2] == other[:2] for other in named) and _at(own, key) is None:
                    spare.append((change, key))
        return spare

    def resolve(self, document: Mapping[str, Any], dotted: str) -> list[Key]:
        """Every full key that a dotted one may stand for."""
        key = tuple(dotted.split("."))
        if key[0] in ROOT:
            return [key]
        return [(group, *key) for group in ("data", "components", "stages") if key[0] in document[group]]

    def override(self, document: dict[str, Any], changes: Mapping[str, Any], at: Key, origin: str = "") -> None:
        """Lay ``changes`` (dotted key -> value) over a document; a mapping replaces what stood there."""
        for dotted, value in changes.items():
            here = (*at, dotted)
            place = origin or self.where.get(here, str(self.path))
            keys = self.resolve(document, dotted)
            if not keys:
                first = dotted.partition(".")[0]
                names = [*document["stages"], *document["components"], *document["data"], *ROOT]
                self.problems[f'{place}: {dotted}: nothing is called "{first}"{did_you_mean(first, names)}'] = None
                continue
            if len(keys) > 1:
                both = " or ".join(f"{key[0]}.{dotted}" for key in keys)
                self.problems[f"{place}: {dotted}: stands for two things; write {both}"] = None
                continue
            key = keys[0]
            target: Any = document
            for n, part in enumerate(key[:-1], 1):
                target = target.setdefault(part, {}) if isinstance(target, dict) else target
                self.where.setdefault(key[:n], place)
            if not isinstance(target, dict):
                self.problems[f"{place}: {dotted}: {'.'.join(key[:-1])} has no parts to set"] = None
                continue
            target[key[-1]] = copy.deepcopy(value)
            for known in [known for known in self.where if known[: len(key)] == key]:
                del self.where[known]
            self.where[key] = place
            for known, line in list(self.where.items()):
                if known[: len(here)] == here and len(known) > len(here):
                    self.where[(*key, *known[len(here) :])] = line

    # ----------------------------------------------------------------------------------- one row
    def plan(self, document: dict[str, Any], row: str, spare: Sequence[tuple[_Override, Key]] = ()) -> Plan:
        data = self.roles(document["data"])
        for name in document["components"]:
            self.component(document["components"][name], ("components", name))
        stages: dict[str, StagePlan] = {}
        for name in document["stages"]:
            for change, key in spare:
                if key[:2] == ("stages", name):
                    self.take_back(document, row, change, key, data, stages)
            stage = self.stage(document, name, data, stages)
            if stage is not None:
                stages[name] = stage
        pictures = document.get("pictures", [])
        for name in pictures:
            if name not in document["stages"]:
                self.problem(("pictures",), f'there is no stage "{name}"{did_you_mean(str(name), stages)}')
        needed = {*list(document["stages"])[-1:], *pictures}
        for stage in reversed(stages.values()):
            if stage.name in needed:
                needed |= {reference.producer for reference in stage.inputs.values()}
        return Plan(
            row=row,
            data={role: plan for role, plan in data.items() if role in needed},
            stages=tuple(stage for stage in stages.values() if stage.name in needed),
        )

    def take_back(
        self, document: Any, row: str, change: _Override, key: Key,
        data: Mapping[str, DataPlan], above: Mapping[str, StagePlan],
    ) -> None:  # fmt: skip
        """Leave a parameter off where it is a problem of this row's stage, and the only one."""

        def faults() -> list[str]:
            before, self.problems = self.problems, {}
            self.stage(document, key[1], data, above)
            found, self.problems = self.problems, before
            return list(found)

        found = faults()
        if not found:
            return
        del document[key[0]][key[1]][key[2]]
        if faults():
            document[key[0]][key[1]][key[2]] = change.value
        else:
            self.kept.setdefault((change.origin, found[0].partition(f"{'.'.join(key[:2])}: ")[2]), {})[row] = None

    def roles(self, document: dict[str, Any]) -> dict[str, DataPlan]:
        """Every role of ``data``: with its size and classes, as one cannot be read without them."""
        size, classes, bad = document.get("size"), document.get("classes"), document.get("on_bad_image", "error")
        if type(size) is not int or size < 1:
            self.problem(("data", "size"), f"must be the height and width of the images in pixels, not {size!r}")
        if bad not in ("error", "skip"):
            self.problem(("data", "on_bad_image"), f"must be error or skip, not {bad!r}")
        if classes is not None:
            if not isinstance(classes, list) or not all(isinstance(c, str) for c in classes):
                self.problem(("data", "classes"), f"must be a list of names, not {classes!r}")
            elif len(set(classes)) != len(classes) or len(classes) < 2:
                self.problem(("data", "classes"), f"must be at least two different names, not {classes!r}")
        plans = {}
        for role, given in document.items():
            if role in _DATA_SETTINGS:
                continue
            key = ("data", role)
            params = {k: v for k, v in given.items() if k not in ("use", "split", "unlabelled")}
            spec = self.spec("dataset", given.get("use"), params, key)
            split = None
            if "split" in given:
                split_key = (*key, "split")
                split = Split(holdout=0.5)  # stands in for one with a problem, so that no reader is blamed
                if isinstance(given["split"], dict):
                    fields = self.checked(Split, 0, "a split", given["split"], split_key)
                    try:
                        split = Split(**fields) if fields else split
                    except DakitError as error:
                        self.problem(split_key, str(error))
                else:
                    self.problem(split_key, f"must be a mapping such as {{holdout: 0.2}}, not {given['split']!r}")
            unlabelled = given.get("unlabelled", False)
            if type(unlabelled) is not bool:
                self.problem((*key, "unlabelled"), f"must be true or false, not {unlabelled!r}")
            plans[role] = DataPlan(
                role=role,
                spec=spec or Spec("dataset", "?"),
                split=split,
                unlabelled=unlabelled is True,
                size=size if type(size) is int else 0,
                classes=tuple(classes) if isinstance(classes, list) else None,
                on_bad_image=bad,
            )
        return plans

    def component(self, given: Any, key: Key, kind: str | None = None) -> Spec[Any] | None:
        """A component's spec; without a kind, whichever kind has its name."""
        if not isinstance(given, dict):
            self.problem(key, f"must be a mapping with `use`, not {given!r}")
            return None
        use = given.get("use")
        params = {k: v for k, v in given.items() if k != "use"}
        if not isinstance(use, str):
            self.problem(key, f"needs `use:` with the name of a {kind or 'component'}")
            return None
        if kind is not None:
            return self.spec(kind, use, params, key)
        kinds = [k for k in COMPONENTS if self.registry.called(k, use)]
        if not kinds:
            names = [entry.name for k in COMPONENTS for entry in self.registry.entries(k)]
            failed = "".join(f"\n  (plugin not loaded: {line})" for line in self.registry.failures())
            self.problem((*key, "use"), f'no plugin offers "{use}"{did_you_mean(str(use), names)}{failed}')
            return None
        return self.spec(kinds[0], use, params, key) if len(kinds) == 1 else None

    def spec(self, kind: str, use: Any, params: Mapping[str, Any], key: Key) -> Spec[Any] | None:
        if not isinstance(use, str):
            self.problem(key, f"needs `use:` with the name of a {kind}")
            return None
        try:
            return self.registry.spec(kind, use, params)
        except ParameterProblems as error:
            for path, text in error.problems:
                self.problem((*key, *path), text)
        except DakitError as error:
            self.problem((*key, "use" if kind != "stage" else "do"), str(error))
        return None

    def observers(self, observe: Iterable[str]) -> tuple[Spec[Observer], ...]:
        """Those of the recipe, then those of the command line."""
        listed = self.data.setdefault("observers", [])
        for text in observe:
            self.where["observers", str(len(listed))] = origin = f"--observe {text}"
            listed.append(read_yaml(text, origin)[0])
        named = [{"use": given} if isinstance(given, str) else given for given in listed]
        specs = [self.component(given, ("observers", str(n)), "observer") for n, given in enumerate(named)]
        return tuple(spec for spec in specs if spec is not None)

    def checked(self, factory: Any, given: int, what: str, params: Mapping[str, Any], key: Key) -> dict[str, Any]:
        try:
            return validated(factory, given, what, params)
        except ParameterProblems as error:
            for path, text in error.problems:
                self.problem((*key, *path), text)
        return {}

    # --------------------------------------------------------------------------------- one stage
    def stage(
        self,
        document: dict[str, Any],
        name: str,
        data: Mapping[str, DataPlan],
        above: Mapping[str, StagePlan],
    ) -> StagePlan | None:
        given = document["stages"][name]
        key = ("stages", name)
        if not isinstance(given.get("do"), str):
            self.problem(key, "needs `do:` with the name of a stage")
            return None
        try:
            entry = self.registry.find("stage", given["do"])
        except DakitError as error:
            self.problem((*key, "do"), str(error))
            return None
        try:
            inputs, hints = stage_inputs(entry.factory), typing.get_type_hints(entry.factory.__init__)
            stage_outputs(entry.factory)
            faults = evaluation_faults(entry.factory)
        except (AttributeError, KeyError, NameError, TypeError) as error:
            self.problem((*key, "do"), f'stage "{given["do"]}": the annotations of `run` cannot be read: {error!r}')
            return None
        for text in faults:
            self.problem((*key, "do"), f'stage "{given["do"]}": {text}')
        hints.pop("return", None)
        params: dict[str, Any] = {}
        references: dict[str, Reference | RunReference] = {}
        for parameter, value in given.items():
            if parameter == "do":
                continue
            here = (*key, parameter)
            if parameter in inputs:
                if value is None:
                    continue
                reference = self.reference(document, value, inputs[parameter], here, data, above)
                if reference is not None:
                    references[parameter] = reference
            elif parameter in hints and (kind := component_kind(hints[parameter])) and value is not None:
                params[parameter] = self.named_component(document, value, kind, here)
            elif parameter in hints:
                params[parameter] = value
            else:
                known = [*hints, *inputs]
                self.problem(here, f'stage "{given["do"]}" has no such parameter{did_you_mean(parameter, known)}')
        for parameter, annotation in inputs.items():
            if given.get(parameter) is None and not optional(annotation):
                self.problem(key, f'stage "{given["do"]}" needs the input "{parameter}"')
        spec = self.spec("stage", given["do"], params, key)
        # One with a problem goes on without its parameters, so that what stands below is checked as well.
        unset = StagePlan(name, Spec("stage", given["do"], {}, entry.factory), references)
        if spec is None or any(isinstance(value, Spec) and value.name == "?" for value in params.values()):
            return unset
        try:
            stage = spec.build()
            present = frozenset(parameter for parameter in inputs if given.get(parameter) is not None)
            problems = list(stage.check(present)) if offers(stage, ChecksInputs) else []
        except DakitError as error:
            problems = [str(error)]
        for text in problems:
            self.problem(key, text)
        return unset if problems else StagePlan(name, spec, references)

    def named_component(self, document: dict[str, Any], value: Any, kind: str, key: Key) -> Spec[Any]:
        """The component that a stage names; one called "?" where it has a problem, which is told."""
        missing: Spec[Any] = Spec(kind, "?")
        if isinstance(value, dict):
            return self.component(value, key, kind) or missing
        components = document["components"]
        if not isinstance(value, str) or value not in components:
            self.problem(key, f'there is no component "{value}"{did_you_mean(str(value), components)}')
            return missing
        kinds = [k for k in COMPONENTS if self.registry.called(k, str(components[value].get("use")))]
        if not kinds:
            return missing  # told where it stands
        if kind not in kinds:
            fitting = [n for n, c in components.items() if self.registry.called(kind, str(c.get("use")))]
            self.problem(key, f'"{value}" is a {kinds[0]}, but a {kind} is needed{did_you_mean(str(value), fitting)}')
            return missing
        return self.component(components[value], ("components", value), kind) or missing

    def reference(
        self,
        document: dict[str, Any],
        value: Any,
        wanted: Any,
        key: Key,
        data: Mapping[str, DataPlan],
        above: Mapping[str, StagePlan],
    ) -> Reference | RunReference | None:
        if isinstance(value, dict):
            return self.run_reference(value, wanted, key)
        if not isinstance(value, str):
            self.problem(key, f"must name what stands above, such as source.train, not {value!r}")
            return None
        producer, _, output = value.partition(".")
        if producer in data:
            split = data[producer].split
            parts = ["train", "test"] if split else ["all"]
            if output not in parts:
                because = "" if split is None or output != "all" else " (all of it would include the test images)"
                self.problem(key, f'{producer} has no "{output}"{because}{did_you_mean(output, parts)}')
                return None
            if output == "test" and TestSet not in union_members(wanted):
                self.problem(
                    key, f"{value} holds the test images: only an evaluation stage, such as `evaluate`, may read them"
                )
                return None
            produced: tuple[Any, ...] = (TestSet,) if output == "test" else (ImageSet,)
        elif producer in above:
            if above[producer].evaluation is not None:
                self.problem(key, f"{value} holds what became of the test images: no stage may read it")
                return None
            outputs = stage_outputs(above[producer].spec.factory)
            if output and output not in outputs:
                self.problem(key, f'stage {producer} makes no "{output}"{did_you_mean(output, outputs)}')
                return None
            if not output:
                made = above[producer].spec.factory.run  # type: ignore[attr-defined]
                produced = (typing.get_type_hints(made)["return"],)
            else:
                produced = union_members(outputs[output])
                if type(None) in produced and above[producer].spec.params.get(output, "") is None:
                    self.problem(key, f"{value} is nothing, as stage {producer} has no `{output}`")
                    return None
        elif producer in document["stages"]:
            order = list(document["stages"])
            if order.index(producer) >= order.index(key[1]):  # else it has a problem of its own, already told
                self.problem(key, f"{producer} does not stand above; a stage may read only what stands above it")
            return None
        else:
            names = [*data, *above]
            self.problem(key, f'nothing above is called "{producer}"{did_you_mean(producer, names)}')
            return None
        if not {p for p in produced if p is not type(None)} & set(union_members(wanted)):
            self.problem(key, f"{value} is {shown(produced)}, but {shown(union_members(wanted))} is needed")
            return None
        return Reference(producer, output)

    def run_reference(self, value: dict[str, Any], wanted: Any, key: Key) -> RunReference | None:
        """A network of another run, where an input takes a trained one."""
        networks = {Trained[Classifier]: False, Trained[Translator]: True}
        kinds = {networks[member] for member in union_members(wanted) if member in networks}
        if len(kinds) != 1:
            self.problem(
                key, f"{{run: DIR, row: NAME}} is a trained network, but {shown(union_members(wanted))} is needed"
            )
            return None
        given = self.checked(network_of_run, 0, "a network of another run", value, key)
        if not given:
            return None
        folder: Folder = given["run"]
        if not (folder.path / "index.json").is_file():
            near = {str(path.parent) for path in folder.path.parent.glob("*/index.json")}
            self.problem((*key, "run"), f"{folder} is not the folder of a run{did_you_mean(str(folder), near)}")
            return None
        return RunReference(folder, given["row"], given["seed"], given["fold"], kinds.pop())


def _at(document: Any, key: Key) -> Any:
    """The value of a full key; None where there is none."""
    for part in key:
        document = document.get(part) if isinstance(document, dict) else None
    return document


def _overlap(a: Key, b: Key) -> bool:
    """Whether one key is the other or a part of it."""
    return a[: len(b)] == b[: len(a)]
