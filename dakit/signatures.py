"""A factory's signature as a schema: what its parameters may be, checked in a recipe and from Python alike."""

from __future__ import annotations

import inspect
import re
import types
import typing
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import is_dataclass
from enum import Enum
from pathlib import PurePath
from typing import Annotated, Any, Literal, NamedTuple
from weakref import WeakKeyDictionary

from pydantic import BaseModel, ConfigDict, InstanceOf, ValidationError, create_model
from typing_extensions import is_typeddict

from dakit.errors import DakitError, did_you_mean
from dakit.interfaces import Classifier, Spec, TestSet, Trained, plain


class ParameterProblems(DakitError):
    """Every wrong parameter of one component: ``(parameter path, message)``."""

    def __init__(self, problems: list[tuple[tuple[str, ...], str]]) -> None:
        self.problems = problems
        super().__init__("; ".join(f"{'.'.join(path)}: {text}" for path, text in problems))


def validated(factory: Callable[..., Any], given: int, what: str, params: Mapping[str, Any]) -> dict[str, Any]:
    """Check parameters against a signature and fill in its defaults.

    They may be plain values, as YAML and JSON have them (see :func:`fitted`), or what the signature asks for.

    Raises:
        ParameterProblems: all of them at once.
    """
    model = schema(factory, given, what)
    hints = {name: field.annotation for name, field in model.model_fields.items()}
    values: dict[str, Any] = {}
    within: dict[tuple[str, ...], str] = {}
    for name, value in params.items():
        try:
            values[name] = fitted(hints.get(name, Any), value)
        except ParameterProblems as error:
            values[name], within[name,] = value, str(error)
    try:
        checked = model(**values)
    except ValidationError as error:
        raise ParameterProblems(sorted({**dict(_explain(what, model, error)), **within}.items())) from None
    return {name: getattr(checked, name) for name in model.model_fields}


_schemas: WeakKeyDictionary[Any, dict[tuple[int, str], type[BaseModel]]] = WeakKeyDictionary()


def schema(factory: Callable[..., Any], given: int, what: str) -> type[BaseModel]:
    """A pydantic model of a factory's parameters after the first ``given``: strict, unknown ones refused.

    Raises:
        DakitError: the signature cannot be a schema (``*args``, ``**kwargs``, an annotation that is not there).
    """
    # Every row of a recipe is checked against the same few signatures. What a notebook gave and has let go of, such as
    # a set of images, is not held on to here.
    known = _schemas.setdefault(factory, {})
    if (given, what) not in known:
        known[given, what] = _schema(factory, given, what)
    return known[given, what]


def _schema(factory: Callable[..., Any], given: int, what: str) -> type[BaseModel]:
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
        if any(typing.get_origin(member) is Spec for member in union_members(annotation)):
            annotation = InstanceOf[Spec[Any]] | None if optional(annotation) else InstanceOf[Spec[Any]]
        fields[parameter.name] = (
            annotation,
            ... if parameter.default is parameter.empty else parameter.default,
        )
    config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, arbitrary_types_allowed=True)
    with warnings.catch_warnings():  # a parameter may be called like a method of BaseModel, such as copy
        warnings.filterwarnings("ignore", 'Field name "')
        return create_model("Parameters", __config__=config, **fields)


def fitted(annotation: Any, value: Any) -> Any:
    """A plain value as what an annotation asks for, where that is the same thing in a type that YAML has not.

    A list becomes a tuple or a set, text a path or a member of an Enum (by its value; by its name where that is no
    plain value), a number such as 1e4 an int where it is whole, the keys of a mapping numbers, a mapping a dataclass;
    also within lists, mappings and TypedDicts. All else is returned as it is, for pydantic to judge.

    Raises:
        ParameterProblems: a mapping does not fit the dataclass.

    >>> fitted(tuple[int, int], [3, 4.0]), fitted(int, 2.5), fitted(int, True)
    ((3, 4), 2.5, True)
    """
    annotation = _bare(annotation)
    if len(members := union_members(annotation)) > 1:
        if not any(_takes(member, value) for member in members):
            changed = (candidate for member in members if type(candidate := fitted(member, value)) is not type(value))
            return next(changed, value)
        annotation = _bare(next(member for member in members if _takes(member, value)))
    origin, inner = typing.get_origin(annotation) or annotation, typing.get_args(annotation)
    if origin is int:
        return int(value) if type(value) is float and value.is_integer() else value
    if not isinstance(origin, type):
        return value
    if issubclass(origin, Enum):
        return next(
            (member for member in origin if type(plain(member)) is type(value) and plain(member) == value), value
        )
    if issubclass(origin, PurePath):
        return origin(value) if type(value) is str else value
    if isinstance(value, (list, tuple)):
        return _fitted_list(origin, inner, value)
    if isinstance(value, Mapping) and len(inner) == 2:
        return {_key(inner[0], key): fitted(inner[1], item) for key, item in value.items()}
    if isinstance(value, Mapping) and is_dataclass(origin) and origin is not Spec:
        return origin(**validated(origin, 0, origin.__name__, value))
    if isinstance(value, Mapping) and not inner:  # of a TypedDict, or whatever else has fields
        hints = typing.get_type_hints(origin, include_extras=True)
        return {key: fitted(hints.get(key, Any), item) for key, item in value.items()}
    return value


def _fitted_list(origin: type, inner: tuple[Any, ...], value: Sequence[Any]) -> Any:
    if origin is tuple and inner and inner[-1] is not ...:
        items = [*map(fitted, inner, value), *value[len(inner) :]]
    else:
        items = [fitted(inner[0] if inner else Any, item) for item in value]
    if origin is tuple:
        return tuple(items)
    if issubclass(origin, Set):
        try:
            return frozenset(items) if origin is frozenset else set(items)
        except TypeError:  # of what cannot be in a set
            return value
    return items if isinstance(value, list) else tuple(items)


def _key(annotation: Any, key: Any) -> Any:
    """A mapping's key: in YAML it is always text."""
    number = type(key) is str and re.fullmatch(r"-?\d+", key) and _bare(annotation) is int
    return int(key) if number else fitted(annotation, key)


def _bare(annotation: Any) -> Any:
    """Without what stands beside the type in ``Annotated``, and without the name that ``type X = ...`` gave it."""
    annotation = getattr(annotation, "__value__", annotation)
    return typing.get_args(annotation)[0] if typing.get_origin(annotation) is Annotated else annotation


def _takes(annotation: Any, value: Any) -> bool:
    """Whether a value is already of the type that one alternative of a union asks for, as far as its outside goes."""
    annotation = _bare(annotation)
    origin = typing.get_origin(annotation) or annotation
    if origin is Literal:
        return any(type(choice) is type(value) and choice == value for choice in typing.get_args(annotation))
    if origin is float:  # a whole number is one
        return type(value) in (int, float)
    if isinstance(value, (bool, int, float, str)) or value is None:
        return type(value) is origin
    if isinstance(value, Mapping):  # for a mapping, or for whatever has fields
        return isinstance(origin, type) and not issubclass(origin, (str, int, list, tuple, Set, PurePath, Enum))
    return origin in type(value).__mro__ or (origin is Sequence and isinstance(value, list))


def union_members(annotation: Any) -> tuple[Any, ...]:
    """The alternatives of a union, or the annotation alone."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return typing.get_args(annotation)
    return (annotation,)


def optional(annotation: Any) -> bool:
    """Whether None is one of the alternatives."""
    return type(None) in union_members(annotation)


def parameter_types(factory: Callable[..., Any]) -> dict[str, Any]:
    """What the signature of a class or function annotates, by name; nothing where that cannot be read."""
    try:
        return typing.get_type_hints(factory.__init__ if inspect.isclass(factory) else factory)
    except (NameError, TypeError):  # told where the signature is made a schema
        return {}


def stage_inputs(factory: Any) -> dict[str, Any]:
    """The inputs of a stage: the parameters of its ``run`` after the context, with their annotations."""
    hints = typing.get_type_hints(factory.run)
    return {name: hint for name, hint in hints.items() if name not in ("return", "ctx")}


def stage_outputs(factory: Any) -> dict[str, Any]:
    """What a stage makes: the fields of the NamedTuple that its ``run`` returns."""
    return typing.get_type_hints(typing.get_type_hints(factory.run)["return"])


class EvaluationStage(NamedTuple):
    """How an evaluation stage calls what every one of them has.

    Attributes:
        test: its input annotated ``TestSet``.
        models: its inputs annotated ``Trained[Classifier]``, in the order of the signature.
        evaluation: its output.
    """

    test: str
    models: tuple[str, ...]
    evaluation: str


def evaluation_stage(factory: Any) -> EvaluationStage | None:
    """What says whether a stage is an evaluation: one with an input annotated ``TestSet``, whatever its name is.

    It alone may be given test images, and what it makes is read by no stage. That its only output is an ``Evaluation``
    is asked where a recipe is checked (:func:`dakit.recipe.sealing.evaluation_faults`).

    Returns:
        None where it is none.
    """
    if not hasattr(factory, "run"):
        return None
    inputs = {name: union_members(hint) for name, hint in stage_inputs(factory).items()}
    tests = [name for name, members in inputs.items() if TestSet in members]
    if not tests:
        return None
    models = tuple(name for name, members in inputs.items() if Trained[Classifier] in members)
    return EvaluationStage(tests[0], models, next(iter(stage_outputs(factory)), ""))


def describe_parameters(factory: Any, given: int) -> list[tuple[str, str, str]]:
    """(name, type, default) of every parameter, for people."""
    model = schema(factory, given, "component")
    hints = typing.get_type_hints(factory.__init__ if inspect.isclass(factory) else factory)
    return [
        (name, shown(union_members(hints.get(name, Any))), "needed" if f.is_required() else _as_written(f.default))
        for name, f in model.model_fields.items()
    ]


def within(factory: Any) -> dict[str, type]:
    """The parameters that are a mapping in a recipe, each with the dataclass or TypedDict that says of what."""
    hints = typing.get_type_hints(factory.__init__ if inspect.isclass(factory) else factory)
    return {
        name: member
        for name, hint in hints.items()
        for member in union_members(hint)
        if is_typeddict(member) or (isinstance(member, type) and is_dataclass(member))
    }


def _as_written(value: Any) -> str:
    """A default as a recipe writes it, for people."""
    try:
        return repr(value if isinstance(value, tuple) or is_dataclass(value) else plain(value))
    except TypeError:
        return repr(value)


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
        elif fault["type"] == "extra_forbidden" and (keys := _keys(model.model_fields[path[0]].annotation)):
            key = str(fault["loc"][-1])
            text = f"{key}: there is no such key{did_you_mean(key, keys)}"
            text = f"{problems[path]}; {text}" if path in problems else text
        else:
            inner = ".".join(str(p) for p in fault["loc"][1:] if isinstance(p, int) or p.isidentifier())
            message = fault["msg"]
            for choices in _enums(model.model_fields[path[0]].annotation):
                if fault["type"] == "is_instance_of" and fault["ctx"]["class"] == choices.__name__:
                    message = f"Input should be {' or '.join(repr(plain(choice)) for choice in choices)}"
            text = (f"{inner}: " if inner else "") + f"{message}, not {fault['input']!r}"
            if path in problems and text not in problems[path]:
                text = f"{problems[path]}; or: {text}"
        problems[path] = text
    return sorted(problems.items())


def _keys(annotation: Any) -> list[str]:
    """Of a parameter that is a TypedDict, or may be one."""
    mappings = (member for member in union_members(annotation) if is_typeddict(member))
    return [key for mapping in mappings for key in typing.get_type_hints(mapping)]


def _enums(annotation: Any) -> Iterator[type[Enum]]:
    """Every Enum within an annotation."""
    annotation = _bare(annotation)
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        yield annotation
    for inner in typing.get_args(annotation):
        yield from _enums(inner)
