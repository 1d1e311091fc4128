"""The parts of a load that arrive by themselves: its own, and classes with own arrivals. Pure."""

from __future__ import annotations

from typing import Any
from zlib import crc32

import msgspec

from tputtui.load.lengths import Fixed
from tputtui.load.workload import ClosedLoop, TrafficClass, Workload

__all__ = ["OWN", "members_of", "sending"]

OWN = ""
"""The name of the part that has the load's own arrivals."""
_LARGEST_SEED = 2**63 - 1


def members_of(load: Workload) -> dict[str, Workload]:
    """The load of each part by the name of its class; the load's own comes first, as OWN.

    A class takes from the load what it has not of its own. Its seed is its own too, else two
    classes would send the same prompts; so its prompts share no prefix with those of other parts.
    The load's own part sends nothing where every class has arrivals of its own.
    """
    if not load.apart:
        return {OWN: load}
    own = Workload(ClosedLoop(0), Fixed(1), Fixed(1), seed=load.seed)
    if not load.only_apart:
        shared = tuple(each for each in load.classes or () if each.share is not None)
        own = msgspec.structs.replace(load, classes=shared or None)
    return {OWN: own, **{each.name: _alone(load, each) for each in load.apart}}


def sending(load: Workload) -> dict[str, Workload]:
    """The load of each part that sends anything, as `members_of` has them."""
    loads = members_of(load)
    if load.only_apart:
        del loads[OWN]
    return loads


def _alone(load: Workload, kind: TrafficClass) -> Workload:
    """The load of one class with arrivals of its own."""
    assert kind.arrivals is not None
    own: dict[str, Any] = {}
    if kind.brings or kind.prompt is not None:
        own = {"prompt": kind.prompt, "output": kind.output, "pairs": None,
               "trace": kind.trace, "requests": kind.requests}  # fmt: skip
    if kind.brings:
        own |= {"prefix": None, "sessions": None}
    label = TrafficClass(kind.name, 1.0, priority=kind.priority, adapter=kind.adapter)
    return msgspec.structs.replace(
        load,
        arrivals=kind.arrivals,
        classes=(label,),
        seed=(load.seed + (crc32(kind.name.encode()) + 1 << 24)) & _LARGEST_SEED,
        **own,
    )
