"""Freed memory that stays with the process while a run goes on.

glibc gives a large block back to the system as soon as it is freed. A training step frees all of its activations and
asks for as much again in the next: the system then finds, clears and maps each page anew (`benchmarks/heap.py`).
Blocks of more than 32 MiB still go back: where they were kept, the D x D matrices of a closed form left holes that
nothing else filled (`benchmarks/observe.py`: a peak of 4.0 matrices in place of 3.2).
"""

import ctypes
import os
import platform
from functools import cache

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3  # malloc.h
LARGEST = 32 << 20  # bytes of a block that may be kept; glibc takes no more
KEPT = 1 << 30  # bytes at the end of the heap that may lie idle
AHEAD = 64 << 20  # bytes that the heap grows by, at least
USERS = ("MALLOC_MMAP_MAX_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_", "GLIBC_TUNABLES")


@cache
def keep() -> bool:
    """Let this process keep up to a GiB of what it frees.

    False, and nothing changes, without glibc or where the user has set one of its variables.
    """
    if platform.libc_ver()[0] != "glibc" or any(name in os.environ for name in USERS):
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return all([mallopt(_MMAP_THRESHOLD, LARGEST), mallopt(_TRIM_THRESHOLD, KEPT), mallopt(_TOP_PAD, AHEAD)])
