"""Keeps the kernels that vLLM's CPU platform has put in place from being put there again.

At every boot in a process vLLM (0.32) looks through all modules for kernels to replace. Drafting by
n-grams imports numba, whose llvmlite has an object that this search fails on: so every boot after
it would fail. Engine thread only.
"""

from __future__ import annotations

import sys

__all__ = ["keep_kernels"]


def keep_kernels() -> None:
    """Before a boot: replace no kernels if those of an earlier boot are in place."""
    dispatcher = sys.modules.get("vllm.triton_utils.dispatcher")
    platform = sys.modules.get("vllm.platforms.cpu")
    if dispatcher is None or platform is None or not getattr(dispatcher, "_registry", None):
        return
    platform.CpuPlatform.register_triton_kernel_overrides = staticmethod(lambda: None)
