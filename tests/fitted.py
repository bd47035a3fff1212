"""Features of a few classes, as a network's are: not negative, some always 0; and what is fitted on them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from dakit.interfaces import LabelledFeatures
from dakit.training.frozen import Head


def clusters(classes: int = 3, per_class: int = 12, seed: int = 0, dimensions: int = 20) -> tuple[Tensor, Tensor]:
    """Features float32 ``(N, D)`` and labels, of classes that overlap a little."""
    generator = np.random.default_rng(seed)
    means = np.random.default_rng(99).normal(size=(classes, dimensions))
    labels = np.arange(classes * per_class) % classes
    rows = np.maximum(means[labels] + generator.normal(size=(len(labels), dimensions)) + 0.5, 0)
    rows[:, 3] = 0
    return torch.from_numpy(rows).float(), torch.from_numpy(labels)


def known(rows: Tensor, labels: Tensor, extra: Tensor | None = None) -> LabelledFeatures:
    """Every image is its own group, and none of them extra unless it is said."""
    beside = torch.zeros(len(rows), dtype=torch.bool) if extra is None else extra
    return LabelledFeatures(rows, labels, [f"#{i}" for i in range(len(rows))], beside)


def logits(estimator: Any, rows: Tensor) -> np.ndarray:
    """float64 ``(B, K)``."""
    with torch.no_grad():
        return np.asarray(estimator.eval()(rows).double())


def reloaded(estimator: Any, fresh: Any, classes: int, folder: Path) -> Any:
    """A fresh one with the state of another, by way of a file."""
    state = Head(estimator, classes, torch.arange(classes)).state_dict()
    save_file({name: value.contiguous() for name, value in state.items()}, folder / "state.safetensors")
    head = Head(fresh, classes)
    head.load_state_dict(load_file(folder / "state.safetensors"))
    return head.eval()


def either_side(margins: np.ndarray) -> np.ndarray:
    """One margin of two classes as two logits; several as they are."""
    return np.stack([-margins / 2, margins / 2], 1) if margins.ndim == 1 else margins
