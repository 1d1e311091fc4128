"""What torch.compile would keep of an engine that is gone. Engine thread."""

from __future__ import annotations

import sys

__all__ = ["forget_compiled"]

_WRAPPERS = "vllm.compilation.wrapper"


def forget_compiled() -> None:
    """Take back the hooks that compiled models have left with torch.

    vLLM (0.22 to 0.33) registers a method of every model it compiles and takes none back, so the
    weights, the KV cache and the CUDA graphs of an engine would stay for as long as the process
    does: on an H200 136 GB were left of 138, and no second engine booted.
    """
    frames = sys.modules.get("torch._dynamo.convert_frame")
    hooks = getattr(frames, "_bytecode_hooks", {})
    for number, hook in list(hooks.items()):
        if getattr(hook, "__module__", "") == _WRAPPERS:
            del hooks[number]
