"""What a run would do, by the keys of its jobs, and what it made, by an observer."""

from __future__ import annotations

from collections import Counter
from typing import Any

from dakit.pipeline import run as pipeline

ROWS = ["s2t", "fine_tune", "attention", "att_gen", "cycleat"]


class Watch:
    """An observer that remembers which stages were made."""

    def __init__(self) -> None:
        self.made: list[str] = []
        self.messages: list[str] = []

    def message(self, text: str) -> None:
        self.messages.append(text)

    def stage_finished(self, stage: Any, seconds: float) -> None:
        self.made.append(stage.name)


def keys(recipe: Any, out: Any, **choice: Any) -> dict[str, str]:
    """The key of every stage of the first round of ``cycleat``."""
    choice = {"rows": ["cycleat"], "fold": 0, **choice}
    return {step.stage.name: step.key for step, _ in pipeline.plan(recipe, out=out, **choice)}


def changed(recipe: Any, other: Any, out: Any, **choice: Any) -> set[str]:
    """Whose keys differ."""
    one, two = keys(recipe, out, **choice), keys(other, out, **choice)
    assert set(one) == set(two)
    return {name for name in one if one[name] != two[name]}


def states(recipe: Any, out: Any, **choice: Any) -> Counter[str]:
    return Counter(state.split(":")[0] for _, state in pipeline.plan(recipe, out=out, **choice))
