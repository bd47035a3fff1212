"""What the caller gives beside a recipe: components and images as objects, which no file can hold."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from dakit.data.objects import opener
from dakit.errors import DakitError, RecipeError, did_you_mean
from dakit.objects import HERE, with_components
from dakit.plugins import find_plugins
from dakit.recipe.plans import Recipe
from dakit.registry import Entry, Registry

_STAYS = ("split", "unlabelled")
"""What a recipe says of a role's images, wherever they come from."""
_SETTINGS = ("size", "classes", "on_bad_image")


def registry_with(
    components: Mapping[str, Any],
    data: Mapping[str, Any],
    plugins: Iterable[Path] = (),
    registry: Registry | None = None,
) -> Registry:
    """A registry that has the caller's objects too; ``data`` as datasets called after their roles.

    Raises:
        DakitError: a component is none, or its kind is not clear, see :func:`dakit.objects.entries_of`.
    """
    known = registry or Registry(find_plugins(plugins))
    if components:
        known = with_components(known, components)
    # The content of images is in every key as it is; what opens them needs no code there.
    sets = [Entry("dataset", role, HERE, opener(images)) for role, images in data.items()]
    return Registry(known.plugins, (*known.given, *sets), known.doubts) if sets else known


def take_over(document: Any, roles: Iterable[str], file: str) -> None:
    """Let a recipe's roles read what the caller gives: in place of their ``use`` and its parameters.

    ``split`` and ``unlabelled`` stay as the recipe has them; a profile's other images for these roles are left out.

    Raises:
        DakitError: the recipe has no such role.
    """
    section = document.get("data") if isinstance(document, dict) else None
    if not isinstance(section, dict):
        return  # told with all that is wrong in it
    known = [role for role in section if role not in _SETTINGS]
    for role in roles:
        if role not in known:
            raise DakitError(f'data: {file} has no role "{role}"{did_you_mean(str(role), known)}')
        settings = section[role] if isinstance(section[role], dict) else {}
        section[role] = {"use": f"{HERE}/{role}"} | _staying(settings)
        profiles = document.get("profiles")
        for profile in profiles.values() if isinstance(profiles, dict) else ():
            if isinstance(profile, dict):
                _leave(profile, role)


def _staying(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name in _STAYS}


def _leave(profile: dict[str, Any], role: str) -> None:
    """Take a role's images out of a profile."""
    for dotted in list(profile):
        parts = dotted.removeprefix("data.").split(".")
        if parts[0] != role or (parts[1:2] and parts[1] in _STAYS):
            continue
        settings = profile.pop(dotted)
        if len(parts) == 1 and isinstance(settings, dict):
            profile |= {f"data.{role}.{name}": value for name, value in _staying(settings).items()}


def refuse_others(recipe: Recipe, roles: Iterable[str]) -> None:
    """Refuse a recipe of which a row reads other images than the caller gives.

    Raises:
        RecipeError: a variant or an override names another set for such a role.
    """
    problems = [
        f"{recipe.file}: {row}: data.{role}: images are given as an object, but here stands {plan.data[role].spec.name}"
        for role in roles
        for row, plan in recipe.plans.items()
        if role in plan.data and plan.data[role].spec.name != f"{HERE}/{role}"
    ]
    if problems:
        raise RecipeError(problems)
