"""Which engine a run is of: a vLLM in this process, or a server that runs elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tputtui.engine.protocol import Engine
    from tputtui.profile import EngineSpec

__all__ = ["engine_of", "host_of"]


def engine_of(spec: EngineSpec) -> Callable[[], Engine]:
    """What builds a cold engine. Raises UsageError for a server that cannot be named so."""
    from tputtui.engine.target import is_server, target_of

    if is_server(spec.model):
        from tputtui.engine.served import ServedEngine

        return partial(ServedEngine, *target_of(spec))
    from tputtui.engine.vllm_inproc import VllmEngine

    return VllmEngine


def host_of(spec: EngineSpec, *, isolate: bool) -> Any:
    """Where its loop runs; a server is apart as it is."""
    from tputtui.engine.host import Host
    from tputtui.engine.isolated import IsolatedHost
    from tputtui.engine.target import is_server

    return IsolatedHost if isolate and not is_server(spec.model) else Host
