"""dakit: image domain adaptation with limited labelled target data, as recipes of plugins.

>>> import dakit
>>> dakit.__version__.count(".")
2
"""

from __future__ import annotations

import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any

from dakit.hookspecs import hookimpl

if TYPE_CHECKING:
    from dakit.errors import DakitError as DakitError
    from dakit.errors import RecipeError as RecipeError
    from dakit.pipeline.door import run as run
    from dakit.recipe.load import load_recipe as load_recipe
    from dakit.results.runs import open_run as open_run

__version__ = "0.3.0"
__all__ = ["DakitError", "RecipeError", "hookimpl", "load_recipe", "open_run", "run"]

logging.getLogger("dakit").addHandler(logging.NullHandler())  # silent until the caller sets a log up

# torch costs seconds to import; `dakit --help` and a plugin's own import must not pay for it.
_LAZY = {
    "DakitError": "dakit.errors",
    "RecipeError": "dakit.errors",
    "load_recipe": "dakit.recipe.load",
    "open_run": "dakit.results.runs",
    "run": "dakit.pipeline.door",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'dakit' has no attribute {name!r}")
