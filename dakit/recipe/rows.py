"""One row of the table: its document checked against the plugins, and the plan that comes of it."""

from __future__ import annotations

import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dakit.data.splits import Split
from dakit.errors import DakitError, did_you_mean
from dakit.interfaces import Spec
from dakit.optional import ChecksInputs, offers
from dakit.recipe.document import Document, Key, Problems
from dakit.recipe.plans import DataPlan, Plan, Reference, RunReference, StagePlan
from dakit.recipe.references import Above, reference
from dakit.recipe.sealing import evaluation_faults
from dakit.recipe.sections import DATA_SETTINGS, DataRole, DataSettings, section_faults
from dakit.registry import KINDS, Registry, component_kind
from dakit.signatures import ParameterProblems, optional, stage_inputs, stage_outputs, validated

COMPONENTS = [kind for kind in KINDS if kind not in ("dataset", "observer", "stage")]
"""Kinds that stand in ``components``."""

_ROLE = tuple(DataRole.model_fields)


@dataclass(frozen=True)
class Doubtful:
    """A parameter that was laid over a stage which the row changes: it may not fit there.

    Attributes:
        key: full.
        value: that it has.
        left_off: told why, where it did not fit.
    """

    key: Key
    value: Any
    left_off: Callable[[str], None]


class Row:
    """Checks the document of one row; problems are told in the document."""

    def __init__(self, document: Document, registry: Registry) -> None:
        self.document = document
        self.registry = registry

    def plan(self, row: str, doubtful: Sequence[Doubtful] = ()) -> Plan:
        """The plan of the row; whole only where there is no problem."""
        data = self.document.data
        roles, sides = self.roles(data["data"])
        for name, entry in data["components"].items():
            if "like" not in entry:  # else it has a problem, already told
                self.component(entry, ("components", name))
        stages: dict[str, StagePlan] = {}
        for name in data["stages"]:
            above = Above(sides, stages)
            for parameter in doubtful:
                if parameter.key[:2] == ("stages", name):
                    self.leave_off_unfit(parameter, above)
            stage = self.stage(name, above)
            if stage is not None:
                stages[name] = stage
        pictures = data.get("pictures", [])
        for name in pictures:
            if name not in data["stages"]:
                self.document.problem(("pictures",), f'there is no stage "{name}"{did_you_mean(str(name), stages)}')
        needed = {*list(data["stages"])[-1:], *pictures}
        for stage in reversed(stages.values()):
            if stage.name in needed:
                needed |= {source.producer for source in stage.inputs.values()}
        return Plan(
            row=row,
            data={role: plan for role, plan in roles.items() if role in needed},
            stages=tuple(stage for stage in stages.values() if stage.name in needed),
        )

    def leave_off_unfit(self, parameter: Doubtful, above: Above) -> None:
        """Leave a parameter off where it is a problem of this row's stage, and the only one."""
        section, name, key = parameter.key

        def faults() -> list[str]:
            before, self.document.problems = self.document.problems, Problems()
            self.stage(name, above)
            problems, self.document.problems = self.document.problems, before
            return list(problems.lines)

        problems = faults()
        if not problems:
            return
        del self.document.data[section][name][key]
        if faults():
            self.document.data[section][name][key] = parameter.value
        else:
            parameter.left_off(problems[0].partition(f"{section}.{name}: ")[2])

    # ------------------------------------------------------------------------------------ the data
    def roles(self, section: Mapping[str, Any]) -> tuple[dict[str, DataPlan], dict[str, tuple[str, ...]]]:
        """Every role of ``data`` (with its size and classes, as one cannot be read without them), and its sides."""
        settings = {name: section[name] for name in DATA_SETTINGS if name in section}
        faults = dict(section_faults(DataSettings, settings))
        for name, text in faults.items():
            self.document.problem(("data", name), text)
        plans: dict[str, DataPlan] = {}
        sides: dict[str, tuple[str, ...]] = {}
        for role, given in section.items():
            if role in DATA_SETTINGS:
                continue
            key = ("data", role)
            spec = self.spec("dataset", given.get("use"), _without(given, "use", *_ROLE), key)
            sides[role] = ("train", "test") if "split" in given else ("all",)
            split = self.split(given, key)
            if spec is not None and not faults:
                plans[role] = DataPlan(
                    role=role,
                    spec=spec,
                    split=split,
                    unlabelled=given.get("unlabelled", False) is True,
                    size=settings["size"],
                    classes=tuple(settings["classes"]) if settings.get("classes") is not None else None,
                    on_bad_image=settings.get("on_bad_image", "error"),
                )
        return plans, sides

    def split(self, given: Mapping[str, Any], key: Key) -> Split | None:
        """How a role is split; None where it is not, or where that has a problem."""
        faults = dict(section_faults(DataRole, {name: given[name] for name in _ROLE if name in given}))
        for name, text in faults.items():
            self.document.problem((*key, name), text)
        if "split" not in given or "split" in faults:
            return None
        try:
            fields = self.checked(Split, "a split", given["split"], (*key, "split"))
            return None if fields is None else Split(**fields)
        except DakitError as error:
            self.document.problem((*key, "split"), str(error))
        return None

    # ------------------------------------------------------------------------------- components
    def component(self, given: Any, key: Key, kind: str | None = None) -> Spec[Any] | None:
        """A component's spec; without a kind, whichever kind has its name."""
        if not isinstance(given, dict):
            self.document.problem(key, f"must be a mapping with `use`, not {given!r}")
            return None
        use, params = given.get("use"), _without(given, "use")
        if not isinstance(use, str):
            self.document.problem(key, f"needs `use:` with the name of a {kind or 'component'}")
            return None
        if kind is not None:
            return self.spec(kind, use, params, key)
        kinds = self.kinds(use)
        if not kinds:
            names = [entry.name for k in COMPONENTS for entry in self.registry.entries(k)]
            failed = "".join(f"\n  (plugin not loaded: {line})" for line in self.registry.failures())
            self.document.problem((*key, "use"), f'no plugin offers "{use}"{did_you_mean(use, names)}{failed}')
            return None
        return self.spec(kinds[0], use, params, key) if len(kinds) == 1 else None

    def kinds(self, use: Any) -> list[str]:
        """The kinds of component that have one of this name."""
        return [kind for kind in COMPONENTS if self.registry.called(kind, str(use))]

    def spec(
        self, kind: str, use: Any, params: Mapping[str, Any], key: Key, reported: frozenset[str] = frozenset()
    ) -> Spec[Any] | None:
        """The spec of a name and its parameters; None where one has a problem, which is told or was (``reported``)."""
        if not isinstance(use, str):
            self.document.problem(key, f"needs `use:` with the name of a {kind}")
            return None
        try:
            return self.registry.spec(kind, use, params)
        except ParameterProblems as error:
            for path, text in error.problems:
                if not reported.intersection(path[:1]):
                    self.document.problem((*key, *path), text)
        except DakitError as error:
            self.document.problem((*key, "use" if kind != "stage" else "do"), str(error))
        return None

    def checked(self, factory: Any, what: str, params: Mapping[str, Any], key: Key) -> dict[str, Any] | None:
        """Parameters of a signature; None where one has a problem, which is told."""
        try:
            return validated(factory, 0, what, params)
        except ParameterProblems as error:
            for path, text in error.problems:
                self.document.problem((*key, *path), text)
        return None

    # ------------------------------------------------------------------------------- one stage
    def stage(self, name: str, above: Above) -> StagePlan | None:
        """A stage's plan; without its parameters where one has a problem, so that what stands below is checked, too."""
        given, key = self.document.data["stages"][name], ("stages", name)
        if "like" in given:
            return None  # told
        do = given.get("do")
        if not isinstance(do, str):
            self.document.problem(key, "needs `do:` with the name of a stage")
            return None
        try:
            factory = self.registry.find("stage", do).factory
        except DakitError as error:
            self.document.problem((*key, "do"), str(error))
            return None
        try:
            inputs, hints = stage_inputs(factory), typing.get_type_hints(factory.__init__)
            stage_outputs(factory)
            faults = evaluation_faults(factory)
        except (AttributeError, KeyError, NameError, TypeError) as error:
            self.document.problem((*key, "do"), f'stage "{do}": the annotations of `run` cannot be read: {error!r}')
            return None
        for text in faults:
            self.document.problem((*key, "do"), f'stage "{do}": {text}')
        hints.pop("return", None)
        params: dict[str, Any] = {}
        references: dict[str, Reference | RunReference] = {}
        reported: set[str] = set()
        for parameter, value in _without(given, "do").items():
            here = (*key, parameter)
            if parameter in inputs:
                source = None if value is None else reference(self.document, value, inputs[parameter], here, above)
                if source is not None:
                    references[parameter] = source
            elif parameter not in hints:
                known = [*hints, *inputs]
                self.document.problem(here, f'stage "{do}" has no such parameter{did_you_mean(parameter, known)}')
            elif (kind := component_kind(hints[parameter])) and value is not None:
                component = self.named_component(value, kind, here)
                if component is None:
                    reported.add(parameter)
                else:
                    params[parameter] = component
            else:
                params[parameter] = value
        for parameter, annotation in inputs.items():
            if given.get(parameter) is None and not optional(annotation):
                self.document.problem(key, f'stage "{do}" needs the input "{parameter}"')
        spec = self.spec("stage", do, params, key, frozenset(reported))
        if spec is not None and not reported:
            try:
                stage = spec.build()
                present = frozenset(parameter for parameter in inputs if given.get(parameter) is not None)
                problems = list(stage.check(present)) if offers(stage, ChecksInputs) else []
            except DakitError as error:
                problems = [str(error)]
            for text in problems:
                self.document.problem(key, text)
            if not problems:
                return StagePlan(name, spec, references)
        return StagePlan(name, Spec("stage", do, {}, factory), references)

    def named_component(self, value: Any, kind: str, key: Key) -> Spec[Any] | None:
        """The component that a stage names; None where it has a problem, which is told."""
        if isinstance(value, dict):
            return self.component(value, key, kind)
        components = self.document.data["components"]
        if not isinstance(value, str) or value not in components:
            self.document.problem(key, f'there is no component "{value}"{did_you_mean(str(value), components)}')
            return None
        kinds = self.kinds(components[value].get("use"))
        if not kinds:
            return None  # told where it stands
        if kind not in kinds:
            fitting = [name for name, entry in components.items() if kind in self.kinds(entry.get("use"))]
            near = did_you_mean(str(value), fitting)
            self.document.problem(key, f'"{value}" is a {kinds[0]}, but a {kind} is needed{near}')
            return None
        return self.component(components[value], ("components", value), kind)


def _without(mapping: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in mapping.items() if name not in names}
