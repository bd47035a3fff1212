"""The processes of one run on several GPUs or machines, as torchrun or ``accelerate launch`` starts them.

All of them run the same command on the same files. A stage that works ``together`` is run by all: each takes its
part of every batch and the gradients are averaged. Any other stage is run by the first while the others wait.
Only the first writes results, checkpoints of what all have alike, and messages. In a single process every
function here answers at once.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from dakit.errors import DakitError

if TYPE_CHECKING:
    from torch import Tensor

Items = TypeVar("Items", bound=Sequence[Any])

PATIENCE = timedelta(hours=6)
"""So long a process waits for another that lives: for the first one's evaluation or selection, say."""

_alone = False


def count() -> int:
    """How many processes work on what is being done now."""
    return 1 if _alone or "RANK" not in os.environ else int(os.environ.get("WORLD_SIZE", 1))


def rank() -> int:
    """The number of this process among them, from 0."""
    return int(os.environ["RANK"]) if count() > 1 else 0


def first() -> bool:
    """Whether this process is the one that writes."""
    return rank() == 0


@contextmanager
def alone() -> Iterator[None]:
    """What is done inside, the first process does by itself: :func:`count` is 1."""
    global _alone
    before, _alone = _alone, True
    try:
        yield
    finally:
        _alone = before


def join(*, cuda: bool) -> None:
    """Connect with the other processes, once: CUDA tensors travel by NCCL, all others by gloo.

    Raises:
        DakitError: more processes than GPUs were started on this machine.
    """
    import torch
    from torch import distributed

    if count() == 1 or distributed.is_initialized():
        return
    if cuda:
        here, there_are = int(os.environ.get("LOCAL_WORLD_SIZE", 1)), torch.cuda.device_count()
        if here > there_are:
            raise DakitError(
                f"{here} processes were started on this machine, but it has {there_are} GPUs; "
                "expected at most one process per GPU (or engine.device: cpu)"
            )
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)))
    with meeting():
        distributed.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo", timeout=PATIENCE)


def leave(*, well: bool = True) -> None:
    """Part from the other processes at the end, ``well`` or not; NCCL would then wait for those that are gone."""
    if count() == 1:
        return
    from torch import distributed

    if distributed.is_initialized() and (well or distributed.get_backend() == "gloo"):
        distributed.destroy_process_group()


def part(items: Items) -> Items:
    """The share of a batch or set that falls to this process: neighbours, in each as many or one more."""
    start, stop = (len(items) * (rank() + side) // count() for side in (0, 1))
    return items[start:stop]  # type: ignore[return-value]


def agree(*flags: bool) -> tuple[bool, ...]:
    """For each flag whether any process sets it; all wait here for one another."""
    if count() == 1:
        return flags
    import torch
    from torch import distributed

    votes = torch.tensor(flags, dtype=torch.uint8)
    with meeting():
        distributed.all_reduce(votes, distributed.ReduceOp.MAX)
    return tuple(map(bool, votes.tolist()))


def wait() -> None:
    """Go on when all have come here."""
    agree(False)


def mean(values: list[float]) -> list[float]:
    """Each value averaged over the processes."""
    if count() == 1:
        return values
    import torch
    from torch import distributed

    total = torch.tensor(values, dtype=torch.float64)
    with meeting():
        distributed.all_reduce(total)
    return (total / count()).tolist()


def told(tensor: Tensor, by: int = 0) -> Tensor:
    """The tensor of process ``by``, in all; the others give one of its type and number of dimensions."""
    if count() == 1:
        return tensor
    import torch
    from torch import distributed

    shape = torch.tensor(tensor.shape)
    with meeting():
        distributed.broadcast(shape, by)
        values = tensor.cpu().contiguous() if rank() == by else tensor.new_empty(shape.tolist(), device="cpu")
        distributed.broadcast(values, by)
    return values.to(tensor.device)


@contextmanager
def meeting() -> Iterator[None]:
    """Say it in plain words where processes cannot go on together.

    Raises:
        DakitError: another one ended, the connection did, or a network is of a kind that several cannot train.
    """
    try:
        yield
    except RuntimeError as error:
        if "Expected to have finished reduction" in str(error):
            raise DakitError(
                "a network has weights that the losses do not depend on, which several processes cannot train: "
                "freeze them (requires_grad_(False)) where the network is built, or train in one process"
            ) from error
        if not any(library in str(error) for library in ("gloo", "Gloo", "NCCL")):
            raise
        raise DakitError(
            "another process of this run has ended or cannot be reached; it says why, if it could. What was complete "
            f"is untouched, and the same command goes on from the last checkpoint ({str(error).split('. ')[0]})"
        ) from error
