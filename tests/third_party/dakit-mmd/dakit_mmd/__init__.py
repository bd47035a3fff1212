"""Maximum mean discrepancy for dakit: a transfer loss, and a stage that gives it source and target batches."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from dakit import hookimpl


@hookimpl
def dakit_transfer_losses() -> Mapping[str, Callable[..., Any]]:
    """The loss."""
    from dakit_mmd.loss import MMD

    return {"mmd": MMD}


@hookimpl
def dakit_stages() -> Mapping[str, Callable[..., Any]]:
    """The stage."""
    from dakit_mmd.stage import TrainAligned

    return {"train_aligned": TrainAligned}
