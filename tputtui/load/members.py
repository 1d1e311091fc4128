"""The parts of a load that arrive by themselves: its own, and classes with own arrivals. Pure."""

from __future__ import annotations

from zlib import crc32

import msgspec

from tputtui.load.lengths import Fixed
from tputtui.load.workload import ClosedLoop, TrafficClass, Workload

__all__ = ["OWN", "members_of"]

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


def _alone(load: Workload, kind: TrafficClass) -> Workload:
    """The load of one class with arrivals of its own."""
    assert kind.arrivals is not None
    label = TrafficClass(kind.name, 1.0, priority=kind.priority, adapter=kind.adapter)
    alone = msgspec.structs.replace(
        load,
        arrivals=kind.arrivals,
        classes=(label,),
        seed=(load.seed + (crc32(kind.name.encode()) + 1 << 24)) & _LARGEST_SEED,
    )
    if kind.prompt is None:
        return alone
    return msgspec.structs.replace(
        alone, prompt=kind.prompt, output=kind.output, pairs=None, trace=None, requests=None
    )
