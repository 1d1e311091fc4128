"""Garbage collection: none during imports, a full one after an engine is gone. Engine thread."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import sys
from collections.abc import Iterator

__all__ = ["give_back", "uncollected"]


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Switch garbage collection off for imports, which make millions of objects and no garbage.

    Measured on 2 cores while vLLM was imported: collections blocked the interpreter, and so the
    screen, for up to 330 ms at a time and 1.2 s in all. Later collections skip these objects.
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
    """Collect unreachable objects, and return the freed memory to the GPU and to the kernel.

    vLLM empties torch's cache of GPU memory when its core shuts down, while this program still
    refers to the engine, and it does not empty the cache when a boot fails. The next boot sizes
    its KV cache by the free memory.

    glibc keeps freed pages that lie between used ones: after thirty boots on the CPU they were 8 %
    of the process, and none with `malloc_trim`. Other C libraries have no such call.
    """
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        # After an error on the device every call raises that error again.
        with contextlib.suppress(RuntimeError):
            torch.cuda.empty_cache()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
