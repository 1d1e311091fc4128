"""What runs inside `vllm serve`: the board's limits and figures for an engine that production runs.

    VLLM_PLUGINS=tputtui vllm serve MODEL …

`core` lives in each engine process, `endpoint` in each front process. Nothing here runs unless
VLLM_PLUGINS names us, and nothing hooks into a step until somebody watches.
"""

from __future__ import annotations

import os

__all__ = ["NAME", "install"]

NAME = "tputtui"
_BOUNDS, _COPIED = "TPUTTUI_BOUNDS", "VLLM_RAY_EXTRA_ENV_VARS_TO_COPY"


def install() -> None:
    """Add our one question to vLLM's engine core; called in every process, more than once.

    vLLM calls every general plugin where VLLM_PLUGINS is not set. Then this does nothing.
    """
    if NAME not in os.environ.get("VLLM_PLUGINS", "").split(","):
        return
    from vllm.v1.engine.core import EngineCore

    from tputtui.engine.vllm.resolving import keep_boot_log
    from tputtui.plugin.core import answer

    EngineCore.tputtui = answer
    keep_boot_log()
    _tell_ray()
    from tputtui.plugin.local import install_socket, socket_needed

    if socket_needed():
        from vllm.v1.engine.core import EngineCoreProc

        install_socket(EngineCoreProc)


def _tell_ray() -> None:
    """Have the operator's bounds carried to engines that are Ray actors, on other machines too.

    vLLM copies what it knows, VLLM_… and what this variable names.
    """
    names = os.environ.get(_COPIED, "").split(",")
    if _BOUNDS not in names:
        os.environ[_COPIED] = ",".join([*filter(None, names), _BOUNDS])
