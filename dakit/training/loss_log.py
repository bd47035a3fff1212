"""What a training logs: every value, averaged over some steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

History = dict[str, list[float]]


class LossLog:
    """Means of the logged values since the last line, about 200 lines in a training.

    Attributes:
        history: every value's means, and in "step" after how many steps each line was written.
    """

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.line_every = max(1, steps // 200)
        self.history: History = {}
        self._sums: dict[str, float] = {}
        self._count = 0

    def add(self, done: int, values: Mapping[str, float]) -> None:
        """Take the values of the step that makes it ``done`` steps."""
        self._count += 1
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
        if done % self.line_every == 0 or done == self.steps:
            self.history.setdefault("step", []).append(done)
            for name, total in self._sums.items():
                self.history.setdefault(name, []).append(total / self._count)
            self._sums, self._count = {}, 0

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"history": self.history, "window": self._sums, "count": self._count}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take it back."""
        self.history, self._sums, self._count = state["history"], state["window"], state["count"]
