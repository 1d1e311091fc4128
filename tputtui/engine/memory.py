"""Giving an engine's memory back once it is gone. Engine thread."""

from __future__ import annotations

import contextlib
import ctypes
import gc

__all__ = ["give_back"]


def give_back() -> None:
    """Collect what is unreachable, and return the freed heap to the kernel.

    glibc keeps freed pages between those still in use: over thirty boots on the CPU they came to
    8 % of the process, and to none with `malloc_trim`. Other C libraries have no such call.
    """
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
