"""From a name in a recipe to a checked :class:`~dakit.interfaces.Spec`: the factory's signature is the schema."""

from __future__ import annotations

import inspect
import re
import types
import typing
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from pydantic import BaseModel, ConfigDict, InstanceOf, ValidationError, create_model

from dakit import interfaces
from dakit.errors import DakitError, did_you_mean
from dakit.interfaces import Spec
from dakit.optional import misspelt
from dakit.plugins import Plugins


@dataclass(frozen=True)
class Kind:
    """One kind of component.

    Attributes:
        hook: that plugins answer.
        given: how many leading arguments dakit passes itself.
        interface: the Protocol that a stage's signature names.
    """

    hook: str
    given: int
    interface: type


KINDS: Mapping[str, Kind] = {
    "dataset": Kind("dakit_datasets", 2, interfaces.ImageSet),
    "translator": Kind("dakit_translators", 0, interfaces.Translator),
    "discriminator": Kind("dakit_discriminators", 0, interfaces.Discriminator),
    "classifier": Kind("dakit_classifiers", 1, interfaces.Classifier),
    "transfer_loss": Kind("dakit_transfer_losses", 0, interfaces.TransferLoss),
    "selector": Kind("dakit_selectors", 0, interfaces.Selector),
    "observer": Kind("dakit_observers", 1, interfaces.Observer),
    "stage": Kind("dakit_stages", 0, interfaces.Stage),
}


@dataclass(frozen=True)
class Entry:
    """One registered factory and where it comes from; ``code`` as in :class:`~dakit.interfaces.Spec`."""

    kind: str
    name: str
    distribution: str
    factory: Callable[..., Any]
    code: str = ""


class Registry:
    """All factories of all plugins, by kind and name. A kind's plugins are asked when it is first needed.

    Raises:
        DakitError: (when asked for a name) it is unknown, or two plugins offer it.
    """

    def __init__(self, plugins: Plugins) -> None:
        self.plugins = plugins
        self._entries: dict[str, list[Entry]] = {}
        self._failures: list[str] = []

    def failures(self) -> list[str]:
        """One line for each plugin that cannot be used, and each hook that failed so far."""
        return [*self.plugins.failures(), *self._failures]

    def warnings(self) -> list[str]:
        """What the user must know about the plugins that were asked so far."""
        return [*self.plugins.warnings(), *(f"plugin asked in vain: {line}" for line in self._failures)]

    def entries(self, kind: str) -> list[Entry]:
        """Every factory of a kind, sorted by name; a plugin whose hook fails has none."""
        if kind not in KINDS:
            raise DakitError(f'there is no kind "{kind}"{did_you_mean(kind, KINDS)}')
        if kind not in self._entries:
            found = []
            for impl in getattr(self.plugins.manager.hook, KINDS[kind].hook).get_hookimpls():
                plugin = self.plugins.plugin(impl.plugin_name)
                try:
                    offers = dict(impl.function())
                    wrong = [name for name, factory in offers.items() if not _offered(name, factory)]
                    if wrong:
                        raise TypeError(f"expected {{name: class or function}} without / in a name, not {wrong[0]!r}")
                except Exception as error:  # whatever a stranger's hook raises is theirs, and is told
                    where = f"{plugin.distribution}/{plugin.name}: {KINDS[kind].hook}"
                    self._failures.append(f"{where} fails: {type(error).__name__}: {error}")
                    continue
                found += [
                    Entry(kind, name, plugin.distribution, factory, plugin.code) for name, factory in offers.items()
                ]
            self._entries[kind] = sorted(found, key=lambda entry: (entry.name, entry.distribution))
        return self._entries[kind]

    def called(self, kind: str, name: str) -> list[Entry]:
        """Every factory called ``name``, or ``distribution/name``."""
        distribution, _, bare = name.rpartition("/")
        return [e for e in self.entries(kind) if e.name == bare and distribution in ("", e.distribution)]

    def find(self, kind: str, name: str) -> Entry:
        """The factory called ``name``; ``distribution/name`` picks one of several."""
        bare = name.rpartition("/")[2]
        found = self.called(kind, name)
        if not found:
            failed = "".join(f"\n  (plugin not loaded: {line})" for line in self.failures())
            known = [entry.name for entry in self.entries(kind)]
            raise DakitError(f'no {kind} is called "{name}"{did_you_mean(bare, known)}{failed}')
        if len(found) > 1:
            names = " or ".join(f'"{entry.distribution}/{entry.name}"' for entry in found)
            raise DakitError(f'{len(found)} plugins offer the {kind} "{name}": say which, {names}')
        return found[0]

    def spec(self, kind: str, name: str, params: Mapping[str, Any]) -> Spec[Any]:
        """Check the parameters and return the unbuilt component.

        Raises:
            ParameterProblems: some parameters are unknown, missing, of the wrong type or out of range.
            DakitError: an optional part of the component is misspelt, see :func:`dakit.optional.misspelt`.
        """
        entry = self.find(kind, name)
        if wrong := misspelt(kind, entry.factory):
            raise DakitError(f'{kind} "{entry.name}" of {entry.distribution}: {wrong}')
        values = check(entry.factory, KINDS[kind].given, f'{kind} "{entry.name}"', params)
        version = getattr(entry.factory, "version", 1)
        if not isinstance(version, int):
            raise DakitError(f'{kind} "{entry.name}": its version is {version!r}; a whole number was expected')
        return Spec(kind, name, values, entry.factory, version, entry.code)


def _offered(name: Any, factory: Any) -> bool:
    return isinstance(name, str) and "/" not in name and callable(factory)


class ParameterProblems(DakitError):
    """Every wrong parameter of one component: ``(parameter path, message)``."""

    def __init__(self, problems: list[tuple[tuple[str, ...], str]]) -> None:
        self.problems = problems
        super().__init__("; ".join(f"{'.'.join(path)}: {text}" for path, text in problems))


def check(factory: Callable[..., Any], given: int, what: str, params: Mapping[str, Any]) -> dict[str, Any]:
    """Check parameters against a signature and fill in its defaults.

    Raises:
        ParameterProblems: all of them at once.
    """
    model = schema(factory, given, what)
    try:
        checked = model(**params)
    except ValidationError as error:
        raise ParameterProblems(_explain(what, model, error)) from None
    return {name: getattr(checked, name) for name in model.model_fields}


@cache  # every row of a recipe is checked against the same few signatures
def schema(factory: Callable[..., Any], given: int, what: str) -> type[BaseModel]:
    """A pydantic model of a factory's parameters after the first ``given``: strict, unknown ones refused.

    Raises:
        DakitError: the signature cannot be a schema (``*args``, ``**kwargs``, an annotation that is not there).
    """
    target = factory.__init__ if inspect.isclass(factory) else factory
    try:
        hints = typing.get_type_hints(target, include_extras=True)
    except NameError as error:
        raise DakitError(f"{what}: an annotation of its signature cannot be read: {error}") from error
    fields: dict[str, Any] = {}
    for parameter in list(inspect.signature(factory).parameters.values())[given:]:
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise DakitError(
                f"{what}: its signature has *{parameter.name}, so parameters cannot be checked; "
                "a signature of its own names each (a class inherits that of nn.Module, which does not)"
            )
        annotation = hints.get(parameter.name, Any)
        if component_kind(annotation):
            annotation = InstanceOf[Spec[Any]] | None if optional(annotation) else InstanceOf[Spec[Any]]
        fields[parameter.name] = (
            annotation,
            ... if parameter.default is parameter.empty else parameter.default,
        )
    config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, arbitrary_types_allowed=True)
    with warnings.catch_warnings():  # a parameter may be called like a method of BaseModel, such as copy
        warnings.filterwarnings("ignore", 'Field name "')
        return create_model("Parameters", __config__=config, **fields)


def component_kind(annotation: Any) -> str | None:
    """The kind that a parameter annotated ``Spec[Classifier]`` (or ``Spec[Classifier] | None``) asks for.

    >>> component_kind(Spec[interfaces.Classifier] | None)
    'classifier'
    >>> component_kind(int) is None
    True
    """
    for member in union_members(annotation):
        if typing.get_origin(member) is Spec:
            interface = typing.get_args(member)[0]
            return next(name for name, kind in KINDS.items() if kind.interface is interface)
    return None


def union_members(annotation: Any) -> tuple[Any, ...]:
    """The alternatives of a union, or the annotation alone."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return typing.get_args(annotation)
    return (annotation,)


def optional(annotation: Any) -> bool:
    """Whether None is one of the alternatives."""
    return type(None) in union_members(annotation)


def stage_inputs(factory: Any) -> dict[str, Any]:
    """The inputs of a stage: the parameters of its ``run`` after the context, with their annotations."""
    hints = typing.get_type_hints(factory.run)
    return {name: hint for name, hint in hints.items() if name not in ("return", "ctx")}


def stage_outputs(factory: Any) -> dict[str, Any]:
    """What a stage makes: the fields of the NamedTuple that its ``run`` returns."""
    return typing.get_type_hints(typing.get_type_hints(factory.run)["return"])


def describe_parameters(factory: Any, given: int) -> list[tuple[str, str, str]]:
    """(name, type, default) of every parameter, for people."""
    model = schema(factory, given, "component")
    hints = typing.get_type_hints(factory.__init__ if inspect.isclass(factory) else factory)
    return [
        (name, shown(union_members(hints.get(name, Any))), "needed" if f.is_required() else repr(f.default))
        for name, f in model.model_fields.items()
    ]


def shown(types: Sequence[Any]) -> str:
    """Alternatives of an annotation, for people: "int or nothing"."""
    return " or ".join(
        "nothing" if t is type(None) else getattr(t, "__name__", str(t)) if not typing.get_args(t)
        else re.sub(r"(dakit\.interfaces|dakit\.data\.augment|typing|collections\.abc)\.", "", str(t))
        for t in types
    )  # fmt: skip


def _explain(what: str, model: type[BaseModel], error: ValidationError) -> list[tuple[tuple[str, ...], str]]:
    problems: dict[tuple[str, ...], str] = {}
    for fault in error.errors():
        path = tuple(str(part) for part in fault["loc"][:1])
        if fault["type"] == "extra_forbidden" and len(fault["loc"]) == 1:
            text = f"{what} has no such parameter{did_you_mean(path[0], model.model_fields)}"
        elif fault["type"] == "missing" and len(fault["loc"]) == 1:
            text = f"{what} needs this parameter"
        else:
            inner = ".".join(str(p) for p in fault["loc"][1:] if isinstance(p, int) or p.isidentifier())
            text = (f"{inner}: " if inner else "") + f"{fault['msg']}, not {fault['input']!r}"
            if path in problems and text not in problems[path]:
                text = f"{problems[path]}; or: {text}"
        problems[path] = text
    return sorted(problems.items())
