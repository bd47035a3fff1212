"""SIGTERM and Ctrl-C: the step under way is finished and a checkpoint written; a second signal stops at once."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_asked: int | None = None
_stepping = False


class Stopped(BaseException):
    """A signal asked to stop, and all that can be gone on from is on disk.

    Not an ``Exception``, so that nothing which handles faults takes it for one.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__(signal.Signals(number).name)


def stop_if_asked() -> None:
    """Raise :class:`Stopped` where a signal came while steps were under way."""
    if _asked is not None:
        raise Stopped(_asked)


def asked_to_stop() -> bool:
    """Whether a signal came while steps were under way."""
    return _asked is not None


@contextmanager
def stepping() -> Iterator[None]:
    """While this is open a signal waits until the block looks at :func:`asked_to_stop`; elsewhere it stops at once."""
    global _stepping
    _stepping = True
    try:
        yield
    finally:
        _stepping = False
    stop_if_asked()


@contextmanager
def signals() -> Iterator[None]:
    """Turn SIGTERM and SIGINT into :class:`Stopped` while the block runs; call it in the main thread."""
    global _asked
    before = {number: signal.signal(number, _handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        _asked = None
        for number, handler in before.items():
            signal.signal(number, handler)


def _handle(number: int, frame: FrameType | None) -> None:
    global _asked
    _asked = number
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, signal.SIG_DFL)  # the second kills, in the midst of anything; a checkpoint is on disk
    if not _stepping:
        raise Stopped(number)
    name = signal.Signals(number).name
    os.write(2, f"\ndakit: {name}: stopping after this step and a checkpoint; once more to stop at once\n".encode())
