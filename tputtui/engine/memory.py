"""When garbage is collected: not while importing, and once an engine is gone. Engine thread."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import sys
from collections.abc import Iterator

__all__ = ["give_back", "uncollected"]


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Imports in here make objects by the million and no garbage to speak of: collect none.

    Measured on 2 cores while vLLM was imported: collections held the interpreter up to 330 ms at a
    time, and so the screen, and took 1.2 s in all. What was made stays out of later ones.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if collecting:
            gc.enable()


def give_back() -> None:
    """Collect what is unreachable, and return what that frees to the GPU and to the kernel.

    vLLM empties torch's cache of GPU memory when its core shuts down, while we still refer to the
    engine, and not at all when a boot fails; the next boot counts what is free.

    glibc keeps freed pages between those still in use: over thirty boots on the CPU they came to
    8 % of the process, and to none with `malloc_trim`. Other C libraries have no such call.
    """
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        # After an error on the device every call raises it again.
        with contextlib.suppress(RuntimeError):
            torch.cuda.empty_cache()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
