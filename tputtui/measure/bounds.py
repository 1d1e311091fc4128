"""What can bind, and the record that something does. Pure data."""

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
    ADAPTERS = "LoRA adapters"
    CADENCE = "prefill cadence"
    LENGTH = "model length"
    ADMISSION = "admission"
    LOAD = "load"
    HOST = "host"
    POWER = "GPU power"
    THERMAL = "GPU heat"
    COMPUTE = "compute"
    MEMORY = "memory bandwidth"
    STEP = "step time"


@dataclass(frozen=True, slots=True)
class Binding:
    """What binds, and why."""

    bound: Bound
    share: float
    """Share of the busy time in which it bound (LOAD: of the whole time; LENGTH and ADMISSION:
    of the requests; HOST, COMPUTE, MEMORY: its part of a step)."""
    evidence: str
    """What was observed, in words."""
    advice: str
    """What to try next, in words."""
    engines: str = ""
    """For how many of several engines, in words: "2 of 4 engines"; empty for one alone."""


def raising(name: str, knobs: Knobs, ceilings: Knobs, called: str = "it") -> str:
    """How to raise a limit that binds, in words: live below its ceiling, otherwise by a boot."""
    now, ceiling = knobs.get(name), ceilings.get(name)
    if now < ceiling:
        return f"raise {called} to {min(ceiling, now * 2):,}"
    return f"boot with {knob(name).flag} {now * 2}"
