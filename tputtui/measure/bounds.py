"""What can bind, and the finding that something does. Pure data."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from tputtui.knobs import Knobs, knob

__all__ = ["Binding", "Bound", "raising"]


class Bound(StrEnum):
    """What binds."""

    SEQUENCES = "sequences"
    TOKENS = "tokens"
    KV = "KV cache"
    LENGTH = "model length"
    LOAD = "load"
    HOST = "host"
    POWER = "GPU power"
    THERMAL = "GPU heat"
    COMPUTE = "compute"
    MEMORY = "memory bandwidth"
    STEP = "step time"


@dataclass(frozen=True, slots=True)
class Binding:
    """What binds, and why: `evidence` says what was seen, `advice` what to try next.

    share: of the busy time in which it did (of the whole time for LOAD, of the requests for
    LENGTH); for HOST, COMPUTE and MEMORY, its part of a step.
    """

    bound: Bound
    share: float
    evidence: str
    advice: str


def raising(name: str, knobs: Knobs, ceilings: Knobs, called: str = "it") -> str:
    """How to raise a limit that binds, in words: live while it can, else by a boot."""
    now, ceiling = knobs.get(name), ceilings.get(name)
    if now < ceiling:
        return f"raise {called} to {min(ceiling, now * 2):,}"
    return f"boot with {knob(name).flag} {now * 2}"
