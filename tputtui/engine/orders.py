"""What can be ordered of a host, wherever its engine runs, and how that engine stands.

Any thread may give an order; it is queued and carried out between two engine steps.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from tputtui.engine.protocol import EngineFacts, State
from tputtui.errors import TputError
from tputtui.knobs import Knobs
from tputtui.load.workload import Workload
from tputtui.profile import EngineSpec

__all__ = ["LoadRun", "Orders", "Status"]

Boot = tuple[EngineSpec, Mapping[str, int]]
"""What to boot, and the limits to start with by name; one left out stands as booted."""


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
    def _queue(self, number: int, name: str, args: tuple[object, ...]) -> None:
        """Queue the order called `name`: the host's method `_name`."""

    def _order(self, name: str, *args: object, load: bool | None = None,
               paused: bool | None = None, boots: bool = False) -> None:  # fmt: skip
        """Number an order and queue it; load, paused: what it makes of them, None for as it was."""
        self._load_ordered = self.load_wanted if load is None else load
        self._pause_ordered = self.pause_wanted if paused is None else paused
        self._given += 1
        if boots:
            self._last_boot = self._given
        self._queue(self._given, name, args)

    def run_for(self, seconds: float) -> bool:
        """Let an engine in virtual time run for so long; False where it runs by itself."""
        return False

    def boot(self, spec: EngineSpec, knobs: Mapping[str, int], *, load: bool) -> None:
        """Boot an engine; `load` says whether to start the load at once."""
        self._order("boot", (spec, knobs), load, load=load, paused=False, boots=True)

    def boot_anew(self, boot: Boot, fallback: Boot) -> None:
        """Boot another engine in place of this one; `fallback` where it will not boot.

        What is in flight is aborted; a load that runs goes on with its next request.
        """
        self._order("boot_anew", boot, fallback, paused=False, boots=True)

    def woken(self) -> bool:
        """This process was stopped and goes on; whether the engine stood still with it."""
        self._order("woken")
        return True

    def set_knobs(self, knobs: Knobs, why: str = "") -> None:
        """Put limits in force before the next step. Of several in a row the last one counts.

        why: put before what changes, on the mark.
        """
        self._order("set_knobs", knobs, why)

    def preempt(self) -> None:
        """Put what runs above `max_num_seqs` back to the queue, instead of letting it drain."""
        self._order("preempt")

    def reset_prefix_cache(self) -> None:
        """Empty the prefix cache."""
        self._order("reset_prefix_cache")

    def set_workload(self, workload: Workload, text: str) -> None:
        """Go on with another workload; `text` goes on the mark."""
        self._order("set_workload", workload, text)

    def begin_leg(self, knobs: Knobs, workload: Workload, text: str) -> int:
        """From an empty engine: limits, and `workload` from its first request on.

        What is in flight is aborted and the prefix cache emptied. Returns the order's number.
        """
        self._order("begin_leg", knobs, workload, text, load=True)
        return self._given

    def run_load(self) -> None:
        """Let requests arrive."""
        self._order("run_load", load=True)

    def pause_load(self) -> None:
        """Let no more requests arrive; those in flight are served to their end."""
        self._order("pause_load", load=False)

    def stop_load(self) -> None:
        """Abort what is in flight and go back to request 0."""
        self._order("stop_load", load=False)

    def pause(self) -> None:
        """Run no more steps; what is in flight stands still, what arrives queues up."""
        self._order("pause", paused=True)

    def resume(self) -> None:
        """Run steps again."""
        self._order("resume", paused=False)
