"""Finds plugins: installed distributions with a ``dakit`` entry point, and files the user named.

There is no global manager; each run makes its own. A plugin that fails at import is named and skipped, and
only a recipe that needs it fails.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path

import pluggy

from dakit import hookspecs
from dakit.errors import DakitError

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
    """

    name: str
    distribution: str
    version: str
    hooks: tuple[str, ...]
    state: str


@dataclass(frozen=True)
class Plugins:
    """The pluggy manager and what was found."""

    manager: pluggy.PluginManager
    found: tuple[Plugin, ...] = field(default=())

    def distribution(self, plugin_name: str | None) -> str:
        """Which distribution a registered plugin came from."""
        return next(plugin.distribution for plugin in self.found if plugin.name == plugin_name)

    def failures(self) -> list[str]:
        """One line for each plugin that could not be imported."""
        return [f"{p.distribution}/{p.name}: {p.state}" for p in self.found if p.state.startswith("failed")]


def find_plugins(files: Iterable[Path] = ()) -> Plugins:
    """Load every entry point of the group ``dakit`` and every file of ``files``.

    ``DAKIT_DISABLE_PLUGINS`` lists names (of a distribution or an entry point, comma separated) to leave out.

    Raises:
        DakitError: a file is missing or fails at import, or a plugin has a hook that dakit does not ask.
    """
    manager = pluggy.PluginManager("dakit")
    manager.add_hookspecs(hookspecs)
    disabled = {name.strip() for name in os.environ.get("DAKIT_DISABLE_PLUGINS", "").split(",")}
    found: dict[str, Plugin] = {}
    for entry in sorted(entry_points(group="dakit"), key=lambda entry: entry.name):
        distribution = entry.dist.name if entry.dist else "unknown"
        version = entry.dist.version if entry.dist else ""
        if entry.name in found and found[entry.name].distribution == distribution:
            continue  # one distribution seen twice on sys.path
        name = entry.name if entry.name not in found else f"{distribution}/{entry.name}"
        hooks: tuple[str, ...] = ()
        state = "active"
        if disabled & {distribution, entry.name}:
            state = "disabled"
        else:
            try:
                module = entry.load()
                manager.register(module, name=name)
                hooks = _hooks_of(module)
            except Exception as error:  # whatever a stranger's import raises is theirs, and is told
                state = f"failed: {type(error).__name__}: {error}"
        found[name] = Plugin(name, distribution, version, hooks, state)
    for file in dict.fromkeys(Path(file) for file in files):
        module = _import_file(file)
        name = file.stem if file.stem not in found else str(file)
        manager.register(module, name=name)
        found[name] = Plugin(name, str(file), "", _hooks_of(module), "active")
    try:
        manager.check_pending()
    except pluggy.PluginValidationError as error:
        raise DakitError(f"plugin {error}; the hooks are: {', '.join(_HOOKS)}") from error
    return Plugins(manager, tuple(found.values()))


def _hooks_of(module: object) -> tuple[str, ...]:
    return tuple(name for name in _HOOKS if hasattr(module, name))


def _import_file(file: Path) -> object:
    if not file.is_file():
        raise DakitError(f"--plugin {file}: there is no such file")
    spec = importlib.util.spec_from_file_location(f"dakit plugin {file.resolve()}", file)
    if spec is None or spec.loader is None:
        raise DakitError(f"--plugin {file}: not a Python file (expected a name ending in .py)")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where the annotations of its classes are looked up
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise DakitError(f"--plugin {file}: {type(error).__name__} at import: {error}") from error
    return module
