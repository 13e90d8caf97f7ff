"""Keeping freed memory: what a step gives back, the next one need not ask the system for."""

from __future__ import annotations

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of glibc's malloc.h


def keep_freed_memory() -> bool:
    """Let this process keep memory that is freed, for the next to need it; whether that could be arranged.

    A step on a CPU frees some hundred megabytes. glibc hands them back to the system, and the next step gets them page
    by page, each a fault and a page of zeros: 10 to 30 % of the time of a MobileNetV3. This turns that off, for the
    whole process and for good, as ``MALLOC_TRIM_THRESHOLD_`` and ``MALLOC_MMAP_MAX_`` would from outside: so the
    library never does it by itself, and the command does. Only Linux with glibc has it; nothing happens elsewhere.

    >>> keep_freed_memory() in (True, False)
    True
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(M_TRIM_THRESHOLD, 2**31 - 1) and mallopt(M_MMAP_MAX, 0))
