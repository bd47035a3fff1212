"""``dakit.run``: a recipe in whatever form the caller has it, run in the caller's own process, such as a notebook."""

from __future__ import annotations

import builtins
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from dakit.errors import DakitError
from dakit.interfaces import Observer
from dakit.pipeline import run as pipeline
from dakit.pipeline.observers import build
from dakit.pipeline.outcome import Outcome
from dakit.recipe.load import load_recipe
from dakit.recipe.plans import Recipe

_SHOWN = "terminal"
"""The observer that shows progress where nobody says otherwise, by its name in recipes."""


def run(
    recipe: Recipe | str | Path | Mapping[str, Any],
    *,
    profile: str | None = None,
    overrides: Iterable[str] = (),
    plugins: Iterable[Path] = (),
    components: Mapping[str, Any] | None = None,
    data: Mapping[str, Any] | None = None,
    rows: Iterable[str] | None = None,
    out: str | Path | None = None,
    until: str | None = None,
    fold: int | None = None,
    fresh: Iterable[str] = (),
    observers: Iterable[Any] = (),
    store: Path | None = None,
) -> Outcome:
    """Run a recipe and write its table and pictures.

    The table is that of the recipe as it is now. Rows, seeds and folds of earlier runs into the same folder stay in it
    where all that they are made of is still the same; others leave it, and a warning says so.

    In a notebook progress is shown where nothing else is to (no ``observers``, none in the recipe). Everywhere
    ``logging.getLogger("dakit")`` is told of every job and warning.

    Args:
        recipe: from :func:`dakit.load_recipe`, or what that reads: a path, the name of a shipped recipe, plain data.
        profile: a set of overrides that the recipe names; this and the next four as for :func:`dakit.load_recipe`,
            and not with a recipe that was loaded.
        overrides: ``"stage.parameter=value"``.
        plugins: Python files with further plugins.
        components: classes and functions that the recipe may name. An edit of one (or of what it reads) makes results
            anew as an edit of the recipe does.
        data: images for roles of the recipe, as a torch ``Dataset``, tensors or an image set.
        rows: which rows of the table; None = the recipe's own choice.
        out: folder of results; None = ``runs/<recipe>`` or ``runs/<recipe>-<profile>``.
        until: stop after this stage.
        fold: only this one.
        fresh: stages whose results are made anew, and with them whatever reads what then is another.
        observers: told of progress, besides those that the recipe names
            (:class:`~dakit.interfaces.Observer`; one that raises is in the warnings).
        store: where the results of stages are, for several runs to share; None = ``store`` in ``out``.

    Raises:
        RecipeError: with every problem found in the recipe.
        DakitError: missing data, a fault in a stage, a folder that cannot be written or that another run writes.
    """
    overrides, plugins, observers = list(overrides), list(plugins), list(observers)
    if isinstance(recipe, Recipe):
        asked = {
            "profile": profile, "overrides": overrides, "plugins": plugins, "components": components, "data": data,
        }  # fmt: skip
        if wrong := [name for name, value in asked.items() if value]:
            raise DakitError(
                f"run: the recipe was loaded and checked already: give {' and '.join(wrong)} to load_recipe"
            )
    else:
        recipe = load_recipe(
            recipe, profile=profile, overrides=overrides, plugins=plugins, components=components, data=data
        )
    if not observers and not recipe.observers and in_notebook():
        observers = _progress(recipe, Path(out or recipe.folder))
    return pipeline.run(
        recipe, rows=rows, out=out, until=until, fold=fold, fresh=fresh, observers=observers, store=store
    )


def in_notebook() -> bool:
    """Whether the caller is a notebook's kernel, which shows what is displayed, and not a terminal."""
    shell = getattr(builtins, "get_ipython", None)
    return shell is not None and type(shell()).__name__ in ("ZMQInteractiveShell", "Shell")  # the other is Colab's


def _progress(recipe: Recipe, folder: Path) -> list[Observer]:
    """The usual display; none where the plugin that offers it is left out."""
    if not recipe.registry.called("observer", _SHOWN):
        return []
    return [build(recipe.registry.spec("observer", _SHOWN, {}), folder)]
