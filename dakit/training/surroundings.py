"""What a process shares with its caller: generators, accelerate's state, flags of torch, filters of warnings.

A library that is called from a notebook leaves all of it as it was. Every door of dakit (``dakit.run``, a stage's
``run``, ``predict``, ...) stands in :func:`undisturbed`; what is inside may seed and set flags as it needs.
"""

from __future__ import annotations

import random
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

_ACCELERATE = ("PartialState", "AcceleratorState", "GradientState")


@contextmanager
def undisturbed() -> Iterator[None]:
    """What is done inside leaves the process as it was for whoever called; a context manager and a decorator.

    Put back, however the block ends, are the random generators of Python, NumPy and torch (also on a GPU), the state
    that all of accelerate shares (a caller's ``Accelerator`` still answers), cuDNN's flags, the precision of fp32
    arithmetic, torch's number of threads, and the filters of warnings. Blocks may stand in one another.

    Where CUDA was not in use before, its generators come out seeded as the CPU's was, which is what
    ``torch.manual_seed`` before the block meant for them.

    >>> torch.manual_seed(1).initial_seed()
    1
    >>> with undisturbed():
    ...     _ = torch.manual_seed(2)
    >>> torch.initial_seed()
    1
    """
    put_back = [_generators(), _accelerate(), _flags(), _fp32()]
    try:
        with warnings.catch_warnings():
            yield
    finally:
        for each in put_back:
            each()


def exact_fp32() -> None:
    """From now on fp32 arithmetic is fp32: no TF32 (10 bits of mantissa) in cuDNN's convolutions or matrix products.

    torch has an old and a new way to say it, and refuses to be asked in the old one where the new one was used.
    """
    for get, put, exact in _OLD:
        if _value(get) not in (exact, None):
            put(exact)
    for operation in _operations():
        if operation.fp32_precision not in ("ieee", "none"):
            operation.fp32_precision = "ieee"


def fresh_accelerate() -> None:
    """Let accelerate start anew; an ``Accelerator`` that is there keeps what it has."""
    for kind in _shared():
        kind._shared_state = {}


def _generators() -> Callable[[], None]:
    python, numpy, cpu, seed = random.getstate(), np.random.get_state(), torch.get_rng_state(), torch.initial_seed()
    in_use = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    cuda = torch.cuda.get_rng_state_all() if in_use else None
    mps = torch.mps.get_rng_state() if torch.backends.mps.is_available() else None

    def put_back() -> None:
        random.setstate(python)
        np.random.set_state(numpy)
        torch.set_rng_state(cpu)
        if mps is not None:
            torch.mps.set_rng_state(mps)
        if cuda is not None:
            torch.cuda.set_rng_state_all(cuda)
        else:
            torch.cuda.manual_seed_all(seed)  # remembered where CUDA is still not in use

    return put_back


def _shared() -> list[Any]:
    """Accelerate's classes whose instances share one state; none where it is not imported yet."""
    module = sys.modules.get("accelerate.state")
    return [] if module is None else [getattr(module, name) for name in _ACCELERATE]


def _accelerate() -> Callable[[], None]:
    before = {kind: kind._shared_state for kind in _shared()}
    fresh_accelerate()

    def put_back() -> None:
        for kind in _shared():
            kind._shared_state = before.get(kind, {})

    return put_back


def _flags() -> Callable[[], None]:
    cudnn, threads = torch.backends.cudnn, torch.get_num_threads()
    before = {name: getattr(cudnn, name) for name in ("enabled", "deterministic", "benchmark")}

    def put_back() -> None:
        for name, value in before.items():
            setattr(cudnn, name, value)
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)

    return put_back


def _cudnn_tf32(value: bool) -> None:
    torch.backends.cudnn.allow_tf32 = value


_OLD: tuple[tuple[Callable[[], Any], Callable[[Any], None], Any], ...] = (
    (lambda: torch.backends.cudnn.allow_tf32, _cudnn_tf32, False),
    (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision, "highest"),
)


def _operations() -> list[Any]:
    """What has a precision of its own; torch before 2.9 has the old way alone."""
    if not hasattr(torch.backends.cudnn, "conv"):
        return []
    owners = (
        (torch.backends.cudnn, ("conv", "rnn")),
        (torch.backends.cuda, ("matmul",)),
        (torch.backends.mkldnn, ("conv", "matmul", "rnn")),
    )
    return [getattr(owner, name) for owner, names in owners for name in names]


def _value(get: Callable[[], Any]) -> Any:
    """What the old way says; None where the new one was used: then that alone says how it is."""
    try:
        return get()
    except RuntimeError:
        return None


def _fp32() -> Callable[[], None]:
    old = [(get, put, _value(get)) for get, put, _ in _OLD]
    new = [(operation, operation.fp32_precision) for operation in _operations()]

    def put_back() -> None:
        for get, put, value in old:
            if value is not None and _value(get) != value:
                put(value)
        for operation, value in new:
            if operation.fp32_precision != value:
                operation.fp32_precision = value

    return put_back
