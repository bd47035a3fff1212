"""The errors that a user can cause, each ending in one clear message and exit code 2."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class DakitError(Exception):
    """A user's mistake or a fault of their machine: the message says what, where and what was expected."""


class RecipeError(DakitError):
    """Every problem found in a recipe, one line each (``file:line: key: what is wrong``)."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    """Name the nearest valid choice, or (up to 20 of) all of them when nothing is near.

    >>> did_you_mean("patchgam", ["patchgan", "pixelgan"])
    ', did you mean "patchgan"?'
    >>> did_you_mean("zzz", ["patchgan", "pixelgan"])
    '; there are: patchgan, pixelgan'
    """
    known = sorted(choices)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if near:
        return f', did you mean "{near[0]}"?'
    if not known:
        return "; there are none"
    more = f" and {len(known) - 20} more" if len(known) > 20 else ""
    return f"; there are: {', '.join(known[:20])}{more}"
