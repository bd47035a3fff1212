"""What a training step frees, the next one takes again: it need not go back to the system in between."""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager

# The numbers of glibc's parameters (malloc.h) and where its own rule for both ends (mallopt(3)), in bytes.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_TRIM_DEFAULT, _MMAP_DEFAULT = 64 << 20, 32 << 20
_MOST = 2**31 - 1


@contextmanager
def kept() -> Iterator[None]:
    """While this is open freed memory stays with the process; then it goes back to the system.

    glibc returns every large block at once, and the system clears each of its pages when it is touched again: 3 to 4 %
    of a translator step's time on a CPU (``benchmarks/allocator.py``). Steps allocate the same blocks over and over, so
    a process holds little more than before (3 to 11 % at the sizes tried); work whose blocks differ would leave holes,
    hence only while this is open. Nothing happens with another C library, or where ``MALLOC_...`` or
    ``GLIBC_TUNABLES`` say what is wanted.
    """
    asked = any(name.startswith("MALLOC_") or name == "GLIBC_TUNABLES" for name in os.environ)
    if asked or platform.libc_ver()[0] != "glibc":
        yield
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(_MMAP_THRESHOLD, _MOST)
    libc.mallopt(_TRIM_THRESHOLD, _MOST)
    try:
        yield
    finally:
        libc.mallopt(_MMAP_THRESHOLD, _MMAP_DEFAULT)
        libc.mallopt(_TRIM_THRESHOLD, _TRIM_DEFAULT)
        libc.malloc_trim(0)
