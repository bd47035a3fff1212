"""Finds plugins: installed distributions with a ``dakit`` entry point, and files the user named.

There is no global manager; each run makes its own. An installed plugin that cannot be used (it fails at import,
misspells a hook, was made for another interface version) is named and skipped, and only a recipe that needs it
fails. A file that the user named must be good.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import json
import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.metadata import Distribution, EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

import pluggy

from dakit import hookspecs
from dakit.errors import DakitError, did_you_mean

_HOOKS = [name for name in vars(hookspecs) if name.startswith("dakit_")]


@dataclass(frozen=True)
class Plugin:
    """One plugin as found on this machine.

    Attributes:
        name: of the entry point, or the file's stem.
        distribution: that installed it, or the file.
        version: of the distribution; "" for a file.
        hooks: which questions it answers.
        state: "active", "disabled", or "failed: why".
        unasked: optional hooks that this dakit does not know.
        code: a digest of its source where that may change under the same version: of a file, and of a distribution
            that is installed to be edited (``pip install -e``); "" for any other.
    """

    name: str
    distribution: str
    version: str
    hooks: tuple[str, ...]
    state: str
    unasked: tuple[str, ...] = ()
    code: str = ""


@dataclass(frozen=True)
class Plugins:
    """The pluggy manager and what was found.

    Attributes:
        manager: with every plugin that can be used.
        found: every plugin.
        unknown: names in ``DAKIT_DISABLE_PLUGINS`` that nothing has.
    """

    manager: pluggy.PluginManager
    found: tuple[Plugin, ...] = field(default=())
    unknown: tuple[str, ...] = ()

    def plugin(self, name: str | None) -> Plugin:
        """The one that is registered under a name."""
        return next(plugin for plugin in self.found if plugin.name == name)

    def failures(self) -> list[str]:
        """One line for each plugin that cannot be used."""
        return [f"{p.distribution}/{p.name}: {p.state}" for p in self.found if p.state.startswith("failed")]

    def warnings(self) -> list[str]:
        """What the user must know: plugins that are left out, and why."""
        names = {name for plugin in self.found for name in (plugin.distribution, plugin.name)}
        return [
            *(f"plugin not loaded: {line}" for line in self.failures()),
            *(
                f"plugin {p.distribution}/{p.name} answers {hook}, which this dakit does not ask; made for a newer one?"
                for p in self.found
                for hook in p.unasked
            ),
            *(f'DAKIT_DISABLE_PLUGINS: no plugin is called "{n}"{did_you_mean(n, names)}' for n in self.unknown),
        ]


def find_plugins(files: Iterable[Path] = ()) -> Plugins:
    """Load every entry point of the group ``dakit`` and every file of ``files``.

    ``DAKIT_DISABLE_PLUGINS`` lists names (of a distribution or an entry point, comma separated) to leave out.

    Raises:
        DakitError: a file is missing, or is not a plugin that can be used.
    """
    manager = pluggy.PluginManager("dakit")
    manager.add_hookspecs(hookspecs)
    disabled = {name.strip() for name in os.environ.get("DAKIT_DISABLE_PLUGINS", "").split(",")} - {""}
    plugins: dict[str, Plugin] = {}
    for entry in sorted(entry_points(group="dakit"), key=lambda entry: entry.name):
        distribution = entry.dist.name if entry.dist else "unknown"
        version = entry.dist.version if entry.dist else ""
        if entry.name in plugins and plugins[entry.name].distribution == distribution:
            continue  # one distribution seen twice on sys.path
        name = entry.name if entry.name not in plugins else f"{distribution}/{entry.name}"
        hooks: tuple[str, ...] = ()
        unasked: tuple[str, ...] = ()
        state = "active"
        if disabled & {distribution, entry.name}:
            state = "disabled"
        else:
            try:
                module = entry.load()
                hooks, unasked = _register(manager, module, name)
            except DakitError as error:
                state = f"failed: {error}"
            except Exception as error:  # whatever a stranger's import raises is theirs, and is told
                state = f"failed: {type(error).__name__}: {error}"
        code = _code_of(entry) if state == "active" else ""
        plugins[name] = Plugin(name, distribution, version, hooks, state, unasked, code)
    for file in dict.fromkeys(Path(file) for file in files):
        module, source = _import_file(file)
        name = file.stem if file.stem not in plugins else str(file)
        try:
            hooks, unasked = _register(manager, module, name)
        except DakitError as error:
            raise DakitError(f"--plugin {file}: {error}") from error
        plugins[name] = Plugin(
            name,
            str(file),
            "",
            hooks,
            "active",
            unasked,
            _digest([source, *_beside(module, source, file.resolve().parent).values()]),
        )
    known = {known for plugin in plugins.values() for known in (plugin.distribution, plugin.name.split("/")[-1])}
    return Plugins(manager, tuple(plugins.values()), tuple(sorted(disabled - known)))


def _register(manager: pluggy.PluginManager, module: object, name: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Take a plugin in; returns the hooks that it answers, and its optional ones that dakit does not know.

    Raises:
        DakitError: it cannot be used.
    """
    version = getattr(module, "dakit_interface", hookspecs.INTERFACE_VERSION)
    if version != hookspecs.INTERFACE_VERSION:
        raise DakitError(
            f"made for interface version {version!r}, but this dakit has {hookspecs.INTERFACE_VERSION}: "
            f"{'update it' if version in range(hookspecs.INTERFACE_VERSION) else 'it needs another dakit'}"
        )
    marked = {hook: options for hook in dir(module) if (options := manager.parse_hookimpl_opts(module, hook))}
    unknown = tuple(hook for hook in marked if hook not in _HOOKS)
    wrong = [hook for hook in unknown if not marked[hook]["optionalhook"]]
    if wrong:
        raise DakitError("; ".join(f"dakit asks no hook {hook}{did_you_mean(hook, _HOOKS)}" for hook in wrong))
    if not marked:
        raise DakitError(f"it answers no hook (a function with @hookimpl, called one of {', '.join(_HOOKS)})")
    try:
        manager.register(module, name=name)
    except pluggy.PluginValidationError as error:
        manager.unregister(name=name)
        raise DakitError(" ".join(str(error).split())) from error
    return tuple(hook for hook in _HOOKS if hook in marked), unknown


_imported: dict[Path, bytes] = {}
"""What source files held when their modules were first seen here."""


def _source(file: Path) -> bytes:
    """The source of a module that stays imported.

    Raises:
        DakitError: it was edited since: what runs is no longer what the file says.
    """
    source = file.read_bytes()
    if _imported.setdefault(file, source) != source:
        raise DakitError(f"{file}: was edited after it was imported; start Python anew")
    return source


def _digest(sources: Iterable[bytes]) -> str:
    """SHA-256 of source files, whatever they are called."""
    contents = sorted(hashlib.sha256(source).hexdigest() for source in sources)
    return hashlib.sha256("\n".join(contents).encode()).hexdigest()


def editable(distribution: Distribution) -> bool:
    """Whether a distribution is installed to be edited (PEP 610), so that its version says little of its code."""
    about = json.loads(distribution.read_text("direct_url.json") or "{}")
    return bool(about.get("dir_info", {}).get("editable"))


def _code_of(entry: EntryPoint) -> str:
    """The digest of an editable plugin's package; dakit's own components have versions that are raised instead."""
    if entry.dist is None or entry.dist.name == "dakit" or not editable(entry.dist):
        return ""
    file = sys.modules[entry.module.partition(".")[0]].__file__
    if file is None:  # a namespace package
        file = sys.modules[entry.module].__file__
    path = Path(str(file))
    return _digest(map(_source, path.parent.rglob("*.py") if path.name == "__init__.py" else [path]))


def _beside(module: ModuleType, source: bytes, folder: Path) -> dict[Path, bytes]:
    """The sources of what lies in a plugin's folder and is imported by it, directly or through another such file."""
    sources: dict[Path, bytes] = {}
    waiting = [(module, source)]
    while waiting:
        importing, text = waiting.pop()
        for name in _imports(text, importing.__package__ or ""):
            other = sys.modules.get(name)
            place = getattr(other, "__file__", None)
            if other is None or place is None or name.partition(".")[0] in ("dakit", "dakit_builtins"):
                continue
            path = Path(place).resolve()
            if folder in path.parents and "site-packages" not in path.parts and path.suffix == ".py":
                if path not in sources:
                    sources[path] = _source(path)
                    waiting.append((other, sources[path]))
    return sources


def _imports(source: bytes, package: str) -> set[str]:
    """The full names that the import statements of a source may stand for."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            base = importlib.util.resolve_name(base, package) if node.level else base
            names |= {base, *(f"{base}.{alias.name}" for alias in node.names)}
    return names


class _Uncompiled(SourceFileLoader):
    """Reads the source alone: a compiled file is told from it by its size and second of change only."""

    source = b""

    def path_stats(self, path: str) -> Any:
        raise OSError

    def get_data(self, path: str) -> bytes:
        self.source = super().get_data(path)
        return self.source


def _import_file(file: Path) -> tuple[ModuleType, bytes]:
    """The module of a file, made anew, and the source that it was made from."""
    if not file.is_file():
        raise DakitError(f"--plugin {file}: there is no such file")
    if file.suffix != ".py":
        raise DakitError(f"--plugin {file}: not a Python file (expected a name ending in .py)")
    name = f"dakit plugin {file.resolve()}"
    loader = _Uncompiled(name, str(file))
    module = importlib.util.module_from_spec(ModuleSpec(name, loader, origin=str(file)))
    sys.modules[name] = module  # where the annotations of its classes are looked up
    try:
        loader.exec_module(module)
    except Exception as error:
        raise DakitError(f"--plugin {file}: {type(error).__name__} at import: {error}") from error
    return module, loader.source
