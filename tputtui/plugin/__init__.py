"""What runs inside `vllm serve`: the board's limits and figures for an engine that production runs.

    VLLM_PLUGINS=tputtui vllm serve MODEL …

`core` lives in each engine process, `endpoint` in each front process. Nothing here runs unless
VLLM_PLUGINS names us, and nothing hooks into a step until somebody watches.
"""

from __future__ import annotations

import os

__all__ = ["NAME", "install"]

NAME = "tputtui"


def install() -> None:
    """Add our one question to vLLM's engine core; called in every process, more than once.

    vLLM calls every general plugin where VLLM_PLUGINS is not set. Then this does nothing.
    """
    if NAME not in os.environ.get("VLLM_PLUGINS", "").split(","):
        return
    from vllm.v1.engine.core import EngineCore

    from tputtui.plugin.core import answer

    EngineCore.tputtui = answer
    from tputtui.plugin.local import install_socket, socket_needed

    if socket_needed():
        from vllm.v1.engine.core import EngineCoreProc

        install_socket(EngineCoreProc)
