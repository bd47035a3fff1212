"""From a name in a recipe to a checked :class:`~dakit.interfaces.Spec`: the factory's signature is the schema."""

from __future__ import annotations

import typing
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from dakit import interfaces
from dakit.errors import DakitError, did_you_mean
from dakit.interfaces import Spec
from dakit.optional import misspelt
from dakit.plugins import Plugin, Plugins
from dakit.signatures import ParameterProblems, parameter_types, union_members, validated


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
    "estimator": Kind("dakit_estimators", 0, interfaces.Estimator),
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

    Args:
        plugins: that were found.
        given: further factories, which the caller has as objects (see :mod:`dakit.objects`).
        doubts: what the caller must know of those.

    Raises:
        DakitError: (when asked for a name) it is unknown, or two plugins offer it.
    """

    def __init__(self, plugins: Plugins, given: Iterable[Entry] = (), doubts: Iterable[str] = ()) -> None:
        self.plugins = plugins
        self.given = tuple(given)
        self.doubts = tuple(doubts)
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
            entries = [
                Entry(kind, name, plugin.distribution, factory, plugin.code)
                for plugin, name, factory in self._offers(KINDS[kind].hook)
            ]
            entries += [entry for entry in self.given if entry.kind == kind]
            self._entries[kind] = sorted(entries, key=lambda entry: (entry.name, entry.distribution))
        return self._entries[kind]

    def given_among(self, entries: Iterable[Entry]) -> list[Entry]:
        """Those whose code the caller gave; images that the caller gave have none."""
        return [entry for entry in dict.fromkeys(entries) if entry in self.given and entry.code]

    def preparations(self) -> dict[str, Callable[..., Any]]:
        """The commands of ``dakit prepare``; ``distribution/name`` where two plugins offer the same name.

        Raises:
            DakitError: a plugin's hook fails.
        """
        offers = list(self._offers("dakit_preparations"))
        if self._failures:
            raise DakitError("; ".join(self._failures))
        counts = Counter(name for _, name, _ in offers)
        return {name if counts[name] == 1 else f"{p.distribution}/{name}": command for p, name, command in offers}

    def _offers(self, hook: str) -> Iterator[tuple[Plugin, str, Callable[..., Any]]]:
        """What plugins answer; one whose hook fails offers nothing, and that is told."""
        for implementation in getattr(self.plugins.manager.hook, hook).get_hookimpls():
            plugin = self.plugins.plugin(implementation.plugin_name)
            try:
                offers = dict(implementation.function())
                wrong = [name for name, factory in offers.items() if not _offered(name, factory)]
                if wrong:
                    raise TypeError(f"expected {{name: class or function}} without / in a name, not {wrong[0]!r}")
            except Exception as error:  # whatever a stranger's hook raises is theirs, and is told
                where = f"{plugin.distribution}/{plugin.name}: {hook}"
                self._failures.append(f"{where} fails: {type(error).__name__}: {error}")
                continue
            yield from ((plugin, name, factory) for name, factory in offers.items())

    def called(self, kind: str, name: str) -> list[Entry]:
        """Every factory called ``name``, or ``distribution/name``."""
        distribution, _, bare = name.rpartition("/")
        return [e for e in self.entries(kind) if e.name == bare and distribution in ("", e.distribution)]

    def find(self, kind: str, name: str) -> Entry:
        """The factory called ``name``; ``distribution/name`` picks one of several."""
        bare = name.rpartition("/")[2]
        matches = self.called(kind, name)
        if not matches:
            failed = "".join(f"\n  (plugin not loaded: {line})" for line in self.failures())
            known = [entry.name for entry in self.entries(kind)]
            raise DakitError(f'no {kind} is called "{name}"{did_you_mean(bare, known)}{failed}')
        if len(matches) > 1:
            names = " or ".join(f'"{entry.distribution}/{entry.name}"' for entry in matches)
            raise DakitError(f'{len(matches)} plugins offer the {kind} "{name}": say which, {names}')
        return matches[0]

    def spec(self, kind: str, name: str, params: Mapping[str, Any]) -> Spec[Any]:
        """Check the parameters and return the unbuilt component.

        A component that it takes itself is a Spec, or ``{use: NAME, ...}`` as a recipe writes it.

        Raises:
            ParameterProblems: some parameters are unknown, missing, of the wrong type or out of range.
            DakitError: an optional part of the component is misspelt, see :func:`dakit.optional.misspelt`.
        """
        entry = self.find(kind, name)
        if wrong := misspelt(kind, entry.factory):
            raise DakitError(f'{kind} "{entry.name}" of {entry.distribution}: {wrong}')
        what = f'{kind} "{entry.name}"'
        values = validated(entry.factory, KINDS[kind].given, what, self._inner(entry.factory, params))
        version = getattr(entry.factory, "version", 1)
        if not isinstance(version, int):
            raise DakitError(f'{kind} "{entry.name}": its version is {version!r}; a whole number was expected')
        return Spec(kind, name, values, entry.factory, version, entry.code)

    def _inner(self, factory: Callable[..., Any], params: Mapping[str, Any]) -> dict[str, Any]:
        """The parameters, with a Spec for each component that is written out in one of them."""
        values = dict(params)
        problems: list[tuple[tuple[str, ...], str]] = []
        for name, value in params.items():
            inner = component_kind(parameter_types(factory).get(name))
            if inner is None or value is None or isinstance(value, Spec):
                continue
            an = "an" if inner[0] in "aeiou" else "a"
            if not isinstance(value, Mapping) or not isinstance(value.get("use"), str):
                text = f"expected {an} {inner} written out here, {{use: NAME, ...}}, not {value!r}"
                problems.append(((name,), text))
                continue
            try:
                values[name] = self.spec(inner, value["use"], {k: v for k, v in value.items() if k != "use"})
            except ParameterProblems as error:
                problems += [((name, *path), text) for path, text in error.problems]
            except DakitError as error:
                problems.append(((name, "use"), str(error)))
        if problems:
            raise ParameterProblems(problems)
        return values


def _offered(name: Any, factory: Any) -> bool:
    return isinstance(name, str) and "/" not in name and callable(factory)


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
