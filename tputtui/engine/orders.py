"""What can be ordered of a host, wherever its engine runs, and how that engine stands.

Orders are values: the same ones lie in the host's mailbox and cross the pipe to a child. Any thread
may give one; it is queued and carried out between two engine steps.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, assert_never

from tputtui.engine.protocol import EngineFacts, State
from tputtui.errors import TputError
from tputtui.knobs import Knobs
from tputtui.load.workload import Workload
from tputtui.profile import EngineSpec

__all__ = [
    "BeginLeg",
    "Boot",
    "BootAnew",
    "Close",
    "HoldLoad",
    "LoadRun",
    "Order",
    "Orders",
    "Pause",
    "Preempt",
    "ResetPrefixCache",
    "Resume",
    "RunLoad",
    "SetLimits",
    "SetWorkload",
    "Start",
    "Status",
    "StopLoad",
    "Woken",
]


class Start(NamedTuple):
    """What to boot, and the limits to start with by name; one left out stands as booted."""

    spec: EngineSpec
    knobs: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Boot:
    """Boot an engine; `load` says whether to start the load at once."""

    start: Start
    load: bool


@dataclass(frozen=True, slots=True)
class BootAnew:
    """Boot another engine in place of this one; `fallback` where it will not boot.

    What is in flight is aborted; a load that runs goes on with its next request.
    """

    start: Start
    fallback: Start


@dataclass(frozen=True, slots=True)
class Woken:
    """This process was stopped, and goes on."""


@dataclass(frozen=True, slots=True)
class SetLimits:
    """Put limits in force before the next step. why: put before what changes, on the mark."""

    knobs: Knobs
    why: str = ""


@dataclass(frozen=True, slots=True)
class Preempt:
    """Put what runs above `max_num_seqs` back to the queue, instead of letting it drain."""


@dataclass(frozen=True, slots=True)
class ResetPrefixCache:
    """Empty the prefix cache."""


@dataclass(frozen=True, slots=True)
class SetWorkload:
    """Go on with another workload; `text` goes on the mark."""

    workload: Workload
    text: str


@dataclass(frozen=True, slots=True)
class BeginLeg:
    """From an empty engine: limits, and `workload` from its first request on.

    What is in flight is aborted and the prefix cache emptied.
    """

    knobs: Knobs
    workload: Workload
    text: str


@dataclass(frozen=True, slots=True)
class RunLoad:
    """Let requests arrive."""


@dataclass(frozen=True, slots=True)
class HoldLoad:
    """Let no more requests arrive; those in flight are served to their end."""


@dataclass(frozen=True, slots=True)
class StopLoad:
    """Abort what is in flight and go back to request 0."""


@dataclass(frozen=True, slots=True)
class Pause:
    """Run no more steps; what is in flight stands still, what arrives queues up."""


@dataclass(frozen=True, slots=True)
class Resume:
    """Run steps again."""


@dataclass(frozen=True, slots=True)
class Close:
    """Stop load, engine and whatever carries orders out: the last order."""


Order = (
    Boot | BootAnew | Woken | SetLimits | Preempt | ResetPrefixCache | SetWorkload | BeginLeg
    | RunLoad | HoldLoad | StopLoad | Pause | Resume | Close
)  # fmt: skip
"""Matched exhaustively by whoever carries them out."""


class LoadRun(NamedTuple):
    """A load that was put on, from when requests began to arrive.

    However short it was, it can be read off the status afterwards: nobody has to look meanwhile.
    number: of the order that put it on, 0 for none yet. began_s: when (engine clock).
    ended_s: when it ended by itself, with its trace; infinity while it has not.
    """

    number: int = 0
    began_s: float = -math.inf
    ended_s: float = math.inf

    @property
    def ended(self) -> bool:
        """Whether it has come to its end by itself."""
        return self.ended_s < math.inf


_NO_LOAD = LoadRun()


@dataclass(frozen=True, slots=True)
class Status:
    """What the engine is doing; replaced whole, so that a reader never sees a mixture.

    stage: what a boot is doing. stages: those done, with their seconds.
    spec: what was booted. knobs: the limits in force; None before the first boot.
    failure: why it FAILED. refused: why the last boot failed, where the one before was gone back
    to. load_failure: why the load stopped by itself (a trace's bad line).
    load_on: whether requests arrive (in a paused engine they queue up). load_run: the load that was
    put on last; where it is told here, `state` and `load_on` are as it made them, or as of later.
    carried_out: the number of the last order that has been carried out, a boot to its end. Orders
    with a higher number are still on their way: until then this says how things stood before them.
    """

    state: State
    since_s: float
    stage: str = ""
    stages: tuple[tuple[str, float], ...] = ()
    spec: EngineSpec | None = None
    facts: EngineFacts | None = None
    knobs: Knobs | None = None
    failure: TputError | None = None
    refused: TputError | None = None
    load_failure: TputError | None = None
    load_on: bool = False
    load_run: LoadRun = _NO_LOAD
    carried_out: int = 0


class Orders(ABC):
    """Gives orders to one engine and its load; `status` says how they stand.

    Orders are numbered from 1. What `status` says is always of a little while ago, so whoever
    decides by what is about to be asks `booting`, `load_wanted` and `pause_wanted`: they follow
    the orders that were given, until the status has caught up with them.
    lag_s: how old what is recorded may be, in seconds, before it is known here.
    """

    status: Status
    lag_s = 0.0

    def __init__(self) -> None:
        self._given = self._last_boot = 0
        self._load_ordered = self._pause_ordered = False

    @property
    def booting(self) -> bool:
        """Whether a boot has been ordered that has not come to its end, well or not."""
        return self.status.carried_out < self._last_boot

    @property
    def load_wanted(self) -> bool:
        """Whether requests arrive once all orders are carried out."""
        return self._load_ordered if self._on_their_way else self.status.load_on

    @property
    def pause_wanted(self) -> bool:
        """Whether the engine stands still once all orders are carried out."""
        if self._on_their_way:
            return self._pause_ordered
        return self.status.state is State.PAUSED

    @property
    def _on_their_way(self) -> bool:
        return self.status.carried_out < self._given

    @abstractmethod
    def start(self) -> None:
        """Start the thread, or the process, that carries orders out."""

    @abstractmethod
    def close(self, timeout_s: float) -> bool:
        """Stop load, engine and thread; False if that took longer than `timeout_s`."""

    @abstractmethod
    def _queue(self, number: int, order: Order) -> None:
        """Queue an order."""

    def order(self, order: Order) -> int:
        """Give an order; returns its number. Of `SetLimits` in a row the last one counts."""
        # Wanted so far, before the number is given.
        load, paused = self.load_wanted, self.pause_wanted
        self._given += 1
        match order:
            case Boot(load=load):
                paused, self._last_boot = False, self._given
            case BootAnew():
                paused, self._last_boot = False, self._given
            case BeginLeg() | RunLoad():
                load = True
            case HoldLoad() | StopLoad():
                load = False
            case Pause():
                paused = True
            case Resume():
                paused = False
            case Woken() | SetLimits() | Preempt() | ResetPrefixCache() | SetWorkload() | Close():
                pass
            case _:
                assert_never(order)
        self._load_ordered, self._pause_ordered = load, paused
        self._queue(self._given, order)
        return self._given

    def run_for(self, seconds: float) -> bool:
        """Let an engine in virtual time run for so long; False where it runs by itself."""
        return False

    def woken(self) -> bool:
        """This process was stopped and goes on; whether the engine stood still with it."""
        self.order(Woken())
        return True
