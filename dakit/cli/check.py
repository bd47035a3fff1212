"""``dakit check``."""

from __future__ import annotations

import typer

from dakit.cli.common import PluginFiles, Profile, RecipeArgument, Settings, load


def check(
    recipe: RecipeArgument,
    profile: Profile = None,
    set_: Settings = None,
    plugin: PluginFiles = None,
) -> None:
    """Check a recipe, with all its variants and profiles; where the data is there, that and the networks."""
    from dakit.errors import RecipeError
    from dakit.pipeline.preflight import check_data
    from dakit.recipe.load import load_recipe

    loaded = load(recipe, profile, set_, plugin)
    problems: dict[str, None] = {}
    for name in loaded.profiles if profile is None else ():
        try:
            load_recipe(recipe, profile=name, overrides=set_ or (), registry=loaded.registry)
        except RecipeError as error:
            problems |= {f"(profile {name}) {problem}": None for problem in error.problems}
    if problems:
        raise RecipeError(problems)
    data = check_data(loaded)
    typer.echo(f"{loaded.file}: good; rows: {', '.join(loaded.plans)}; profiles: {', '.join(loaded.profiles)}")
    typer.echo(data)
