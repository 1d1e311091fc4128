"""Frees what torch.compile keeps of an engine that is gone. Engine thread."""

from __future__ import annotations

import sys

__all__ = ["forget_compiled"]

_WRAPPERS = "vllm.compilation.wrapper"


def forget_compiled() -> None:
    """Remove the hooks that compiled models have registered with torch.

    vLLM (0.22 to 0.33) registers a method of every model that it compiles and removes none. So the
    weights, the KV cache and the CUDA graphs of an engine would stay until the process ends: on an
    H200 136 GB of 138 stayed in use, and no second engine booted.
    """
    frames = sys.modules.get("torch._dynamo.convert_frame")
    hooks = getattr(frames, "_bytecode_hooks", {})
    for number, hook in list(hooks.items()):
        if getattr(hook, "__module__", "") == _WRAPPERS:
            del hooks[number]
