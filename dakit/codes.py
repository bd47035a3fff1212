"""A digest of what a class or function does: its compiled code, and whatever that reads, as far as it can be told.

It is for components that the caller gives as objects, such as a class in a notebook's cell: there is no file whose
content could count, and a cell that was edited and run again must not be taken for the one before.
"""

from __future__ import annotations

import dataclasses
import dis
import enum
import functools
import hashlib
import inspect
import re
import sys
import sysconfig
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

_INSTALLED = tuple(
    {str(Path(path).resolve()) for name in ("stdlib", "platstdlib", "purelib", "platlib")
     if (path := sysconfig.get_paths().get(name))}
)  # fmt: skip
_OWN = frozenset({"dakit", "dakit_builtins"})  # their components have versions that are raised instead
_NOT_CODE = frozenset(
    "__dict__ __weakref__ __module__ __firstlineno__ __static_attributes__ __annotations_cache__ __abstractmethods__ "
    "_abc_impl __subclasshook__ __parameters__ _is_protocol __dataclass_fields__ __dataclass_params__".split()
)
"""Attributes of a class that differ from process to process, or follow from the others."""
_NAMED = (
    types.BuiltinFunctionType, types.MethodDescriptorType, types.WrapperDescriptorType, types.MethodWrapperType,
    types.GetSetDescriptorType, types.MemberDescriptorType, types.ClassMethodDescriptorType,
)  # fmt: skip
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")


class Untold(Exception):
    """Something is read whose content cannot be told, such as an open file; the message names it."""


def code_of(factory: Any) -> str:
    """SHA-256 of the code of a class or function and of all that it reads.

    That is the compiled code of every function and method (so a comment or an empty line is no change, and another
    Python is), defaults, class attributes and base classes, what is closed over, and the globals that the code names:
    functions and classes likewise, numbers, text, containers, arrays, tensors and objects by content, modules of one's
    own by what is read of them. What is installed, and dakit itself, counts by name. A name that is only made up while
    the code runs (``globals()["x"]``) is not seen.

    Raises:
        Untold: something of it has no content that can be told.

    >>> def scaling(scale): return lambda x: scale * x
    >>> code_of(scaling(2)) == code_of(scaling(2)), code_of(scaling(2)) == code_of(scaling(3))
    (True, False)
    """
    walk = _Walk()
    walk.value(factory, getattr(factory, "__qualname__", "it"))
    return walk.digest.hexdigest()


class _Walk:
    """Goes over values in an order that is the same in every process, and takes each into one digest."""

    def __init__(self) -> None:
        self.digest = hashlib.sha256()
        self._seen: dict[int, int] = {}
        self._alive: list[Any] = []  # an object that is let go could give its number to another

    def text(self, *parts: object) -> None:
        for part in parts:
            raw = part if isinstance(part, bytes) else str(part).encode("utf-8", "surrogatepass")
            self.digest.update(b"%d:" % len(raw) + raw)

    def value(self, value: Any, where: str) -> None:
        """One value; ``where`` names it for people."""
        if value is None or value is ... or isinstance(value, (int, float, complex, str, bytes)):
            self.text(type(value).__name__, repr(value) if not isinstance(value, bytes) else value)
            if issubclass(type(value), enum.Enum):
                self.value(type(value), where)
            return
        if isinstance(value, (tuple, frozenset)):  # equal ones may or may not be one object
            self._first(value, where)
            return
        if id(value) in self._seen:
            self.text("again", self._seen[id(value)])
            return
        self._seen[id(value)] = len(self._seen)
        self._alive.append(value)
        self._first(value, where)

    def _first(self, value: Any, where: str) -> None:
        if isinstance(value, types.FunctionType):
            self.function(value, where)
        elif isinstance(value, types.ModuleType):
            self.text("module", value.__name__)  # what is read of one's own: see `names`
        elif inspect.isclass(value):
            self.kind(value, where)
        elif isinstance(value, _NAMED):
            owner = getattr(value, "__self__", None)
            self.text(type(value).__name__, getattr(value, "__qualname__", value.__name__))
            if owner is not None and not isinstance(owner, (types.ModuleType, type)):
                self.value(owner, where)
        elif isinstance(value, types.MethodType):
            self.value(value.__func__, where)
            self.value(value.__self__, where)
        elif isinstance(value, (staticmethod, classmethod)):
            self.text(type(value).__name__)
            self.value(value.__func__, where)
        elif isinstance(value, property):
            self.text("property")
            for accessor in (value.fget, value.fset, value.fdel):
                self.value(accessor, where)
        elif isinstance(value, functools.partial):
            self.text("partial")
            for part in (value.func, value.args, value.keywords):
                self.value(part, where)
        elif isinstance(value, functools.cached_property):
            self.value(value.func, where)
        elif isinstance(value, enum.Enum):
            self.text(value.name)
            self.value(type(value), where)
        elif isinstance(value, (dict, types.MappingProxyType, list, tuple, set, frozenset)):
            self.container(value, where)
        else:
            self.object(value, where)

    def container(self, value: Any, where: str) -> None:
        """What is in it, in order; and its attributes, where it is of a class of one's own."""
        self.text(type(value).__name__, len(value))
        if isinstance(value, (set, frozenset)):
            self.text(*sorted(map(_alone(where), value)))
        elif isinstance(value, (list, tuple)):
            for i, inner in enumerate(value):
                self.value(inner, f"{where}[{i}]")
        else:
            for key, inner in value.items():
                self.value(key, where)
                self.value(inner, f"{where}[{key!r}]")
        if _local(type(value)):
            self.value(type(value), where)
            self.value(dict(getattr(value, "__dict__", {})), where)

    def object(self, value: Any, where: str) -> None:
        """Anything else: by its name, its text or its parts."""
        kind = type(value)
        if isinstance(value, (PurePath, re.Pattern, range, slice)) or kind.__module__ == "typing":
            self.text(kind.__name__, _steady(value))
        elif isinstance(value, (types.GenericAlias, types.UnionType, typing.TypeVar)):
            self.text(kind.__name__, _steady(value))
        elif (array := _array(value)) is not None:
            self.text(*array)
        elif kind.__module__.partition(".")[0] in ("torch", "numpy") and kind.__name__ in (
            "dtype", "device", "Size", "ufunc", "layout", "memory_format", "finfo", "iinfo",
        ):  # fmt: skip
            self.text(kind.__name__, repr(value))
        elif _by_name(value):
            self.text("of", value.__module__, value.__qualname__)
        elif kind.__name__ == "Logger" and kind.__module__ == "logging":
            self.text("logger", value.name)
        elif hasattr(value, "__wrapped__") and callable(value):  # functools.cache
            self.text(kind.__name__)
            self.value(value.__wrapped__, where)
        elif kind.__name__ == "_tuplegetter":  # a field of a NamedTuple
            self.text(kind.__name__)
        elif _plain(kind):
            self.value(kind, where)
            for name, inner in _attributes(value):
                self.text(name)
                self.value(inner, f"{where}.{name}")
        elif name := _global_of_its_module(value):
            self.text("of", kind.__module__, name)
        else:
            raise Untold(f"{where} is a {kind.__module__}.{kind.__qualname__}, whose content cannot be told")

    def function(self, function: types.FunctionType, where: str) -> None:
        """Its code, and what that is given and reads."""
        if not _local(function):
            self.text("of", function.__module__, function.__qualname__)
            return
        self.text("function")
        if _local_globals(function.__globals__):
            self.code(function.__code__, where)
            self.names(function.__code__, function.__globals__)
        else:  # what an installed decorator made of one's own function
            self.text(function.__globals__.get("__name__"), function.__code__.co_name)
        self.value(function.__defaults__, where)
        self.value(function.__kwdefaults__, where)
        self.text(_steady(function.__annotations__))
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            self.text(name)
            try:
                content = cell.cell_contents
            except ValueError:  # not filled yet
                continue
            if name != "__class__":  # of super(): the class itself, whatever it is called now
                self.value(content, f"{where}: {name}")
        self.value(dict(vars(function)), where)

    def code(self, code: types.CodeType, where: str) -> None:
        """What is run, without where it stands."""
        self.text("code", code.co_code, code.co_flags, code.co_argcount, code.co_kwonlyargcount)
        self.text(code.co_posonlyargcount, code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)
        self.text(code.co_exceptiontable, len(code.co_consts))
        for constant in code.co_consts:
            if isinstance(constant, types.CodeType):
                self.code(constant, where)  # not by `value`: it knows equal code objects as different ones
            else:
                self.value(constant, where)

    def names(self, code: types.CodeType, known: Mapping[str, Any]) -> None:
        """The globals that a code names, and what it reads of modules of one's own."""
        read = set(_names(code))
        waiting = [(name, known[name]) for name in sorted(set(_globals(code)) & known.keys())]
        modules: set[int] = set()
        while waiting:
            name, value = waiting.pop(0)
            self.text(name)
            self.value(value, name)
            if isinstance(value, types.ModuleType) and _local_globals(vars(value)) and id(value) not in modules:
                modules.add(id(value))
                inner = vars(value)
                waiting += [(f"{name}.{part}", inner[part]) for part in sorted(read & inner.keys())]

    def kind(self, kind: type, where: str) -> None:
        """A class: by its name where it is installed, else by all that stands in it."""
        if not _local(kind):
            self.text("class of", kind.__module__, kind.__qualname__)
            return
        self.text("class", kind.__name__)
        for base in kind.__mro__[1:]:
            self.value(base, where)
        if issubclass(kind, enum.Enum):
            self.value({name: member.value for name, member in kind.__members__.items()}, where)
            self.value({name: part for name, part in vars(kind).items() if isinstance(part, types.FunctionType)}, where)
            return
        if type(kind) is not type:
            self.value(type(kind), where)
        for name, inner in sorted(vars(kind).items()):
            if name == "__annotations__":
                self.text(name, _steady(inner))
            elif name not in _NOT_CODE:
                self.text(name)
                self.value(inner, f"{where}.{name}")


def _alone(where: str) -> Any:
    def digest(value: Any) -> str:
        walk = _Walk()
        walk.value(value, where)
        return walk.digest.hexdigest()

    return digest


def _names(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names(constant)


def _globals(code: types.CodeType) -> Iterator[str]:
    """The names that code looks up as globals; an attribute of the same name is none."""
    for instruction in dis.get_instructions(code):
        if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"):
            yield str(instruction.argval)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _globals(constant)


def _plain(kind: type) -> bool:
    """Whether all that an object of this class holds are its attributes: nothing of it is kept by a library in C."""
    if dataclasses.is_dataclass(kind) or kind is types.SimpleNamespace:
        return True
    readable = any(_local(base) or base.__module__.startswith("torch.nn.") for base in kind.__mro__)
    return readable and all(
        base is object or _local(base) or base.__module__.partition(".")[0] in ("abc", "torch", "torchvision", "typing")
        for base in kind.__mro__
    )


def _attributes(value: Any) -> Iterator[tuple[str, Any]]:
    yield from getattr(value, "__dict__", {}).items()
    for base in type(value).__mro__:
        slots = vars(base).get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if name not in ("__dict__", "__weakref__") and hasattr(value, name):
                yield name, getattr(value, name)


def _steady(value: Any) -> str:
    """Its text without addresses in memory."""
    return _ADDRESS.sub("", repr(value))


def _array(value: Any) -> Sequence[object] | None:
    """What an array or tensor holds; None where it is none."""
    module = type(value).__module__.partition(".")[0]
    if module == "torch" and hasattr(value, "detach"):
        import torch

        if isinstance(value, torch.Tensor) and value.layout is torch.strided:
            plain = value.detach().cpu().contiguous()
            raw = plain.view(torch.uint8) if plain.ndim else plain.reshape(1).view(torch.uint8)
            return "tensor", plain.dtype, tuple(plain.shape), value.requires_grad, raw.numpy().tobytes()
    if module == "numpy" and hasattr(value, "tobytes") and not getattr(value.dtype, "hasobject", True):
        return "array", value.dtype.str, value.shape, value.tobytes()
    return None


def _by_name(value: Any) -> bool:
    """Whether an installed module has just this object under its name."""
    module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    if not (isinstance(module, str) and isinstance(name, str) and module in sys.modules):
        return False
    if _local_globals(vars(sys.modules[module])):
        return False
    target: Any = sys.modules[module]
    for part in name.split("."):
        target = inspect.getattr_static(target, part, None)
    return target is value or getattr(target, "__func__", None) is value


def _global_of_its_module(value: Any) -> str:
    """The name under which the installed module of its class holds this object; "" where none does."""
    module = sys.modules.get(type(value).__module__)
    if module is None or _local_globals(vars(module)) or type(value).__module__ == "builtins":
        return ""
    return next((name for name, held in vars(module).items() if held is value), "")


def _local(value: Any) -> bool:
    """Whether a class or function is the user's own: not installed, not dakit's."""
    module = sys.modules.get(str(getattr(value, "__module__", "")))
    if isinstance(value, types.FunctionType):
        return _local_globals(value.__globals__) or not _by_name(value)
    return module is None or _local_globals(vars(module))


def _local_globals(known: Mapping[str, Any]) -> bool:
    """Whether a module, by its globals, is the user's own."""
    name, file = str(known.get("__name__", "")), known.get("__file__")
    if name.partition(".")[0] in _OWN:
        return False
    if file is None:  # the prompt, a notebook, exec; or built into Python
        return known.get("__spec__") is None or name == "__main__"
    path = Path(file).resolve()
    if {"site-packages", "dist-packages"} & {*path.parts}:
        return False
    return not any(path.is_relative_to(folder) for folder in _INSTALLED)
