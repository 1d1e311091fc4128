"""Which of the board's keys this engine refuses, whatever its state; they are not offered. Pure."""

from __future__ import annotations

from tputtui.engine.target import is_server
from tputtui.frame import Frame

__all__ = ["refused_here"]

_BOOTS = frozenset({"verify", "verify.served"})
_SENDS = frozenset(
    {"load.toggle", "load.less", "load.edit", "load.stop", "compare", "tuner"}
)  # fmt: skip


def refused_here(frame: Frame) -> frozenset[str]:
    """Names of bindings of the board that only ever answer that they cannot be had here.

    A simulation verifies nothing, a server is not booted from here, and a board that watches live
    traffic sends no requests. Pressed all the same, such a key says why.
    """
    facts = frame.status.facts
    if facts is None:
        return frozenset()
    refused: set[str] = set()
    if facts.simulated or facts.live or is_server(frame.profile.engine.model):
        refused |= _BOOTS
    if facts.served:
        refused.add("verify.served")
    if facts.live:
        refused |= _SENDS
    if not facts.pausable:
        refused.add("engine.pause")
    return frozenset(refused)
