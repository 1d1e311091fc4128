"""The orders that a host takes, wherever its engine runs, and the status of that engine.

Orders are values: the same ones lie in the host's mailbox and cross the pipe to a child. Any thread
may give an order; it is queued and carried out between two engine steps.
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
from tputtui.quality.answers import Answered, Questions

__all__ = [
    "Ask",
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
    """What to boot, and the first limits by name; other limits keep their value from the boot.

    served: vLLM's own server, where the host can boot either.
    """

    spec: EngineSpec
    knobs: Mapping[str, int]
    served: bool = False


@dataclass(frozen=True, slots=True)
class Boot:
    """Boot an engine; `load` says whether to start the load at once."""

    start: Start
    load: bool


@dataclass(frozen=True, slots=True)
class BootAnew:
    """Boot another engine in place of this one; boot `fallback` if it fails.

    Requests in flight are aborted; a load that is on goes on with its next request.
    """

    start: Start
    fallback: Start


@dataclass(frozen=True, slots=True)
class Woken:
    """Note that this process was suspended and runs again."""


@dataclass(frozen=True, slots=True)
class SetLimits:
    """Put limits in force before the next step. why: prefix of the mark's text.

    anyway, here and below: also where it costs requests of other people something.
    """

    knobs: Knobs
    why: str = ""
    anyway: bool = False


@dataclass(frozen=True, slots=True)
class Preempt:
    """Move running requests above `max_num_seqs` back to the queue instead of letting them end."""

    anyway: bool = False


@dataclass(frozen=True, slots=True)
class ResetPrefixCache:
    """Empty the prefix cache."""

    anyway: bool = False


@dataclass(frozen=True, slots=True)
class SetWorkload:
    """Go on with another workload. text: of the mark."""

    workload: Workload
    text: str


@dataclass(frozen=True, slots=True)
class BeginLeg:
    """Start a leg on an empty engine: put `knobs` in force, start `workload` at its first request.

    Requests in flight are aborted, and the prefix cache is emptied. text: of the mark.
    """

    knobs: Knobs
    workload: Workload
    text: str


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask questions beside whatever is in flight; `Status.answered` has the answers to all of them.

    The engine must stay the same meanwhile: a boot drops what was not answered.
    """

    questions: Questions


@dataclass(frozen=True, slots=True)
class RunLoad:
    """Let requests arrive."""


@dataclass(frozen=True, slots=True)
class HoldLoad:
    """Let no more requests arrive; requests in flight are served to their end."""


@dataclass(frozen=True, slots=True)
class StopLoad:
    """Abort the requests in flight and go back to request 0."""


@dataclass(frozen=True, slots=True)
class Pause:
    """Run no more steps: requests in flight stand still, arriving ones queue up."""

    anyway: bool = False


@dataclass(frozen=True, slots=True)
class Resume:
    """Run steps again."""


@dataclass(frozen=True, slots=True)
class Close:
    """Stop the load, the engine and its thread or process. The last order."""


Order = (
    Boot | BootAnew | Woken | SetLimits | Preempt | ResetPrefixCache | SetWorkload | BeginLeg
    | Ask | RunLoad | HoldLoad | StopLoad | Pause | Resume | Close
)  # fmt: skip
"""Every `match` that carries orders out covers all of them; mypy checks this."""


class LoadRun(NamedTuple):
    """The load that was started last.

    The status keeps it, so a reader learns of a load however short it was.
    number: of the order that started it, 0 before any. began_s: when requests began to arrive
    (engine clock). ended_s: when it ended by itself, with its trace; infinity if it has not.
    """

    number: int = 0
    began_s: float = -math.inf
    ended_s: float = math.inf

    @property
    def ended(self) -> bool:
        """Whether it ended by itself."""
        return self.ended_s < math.inf


_NO_LOAD = LoadRun()


@dataclass(frozen=True, slots=True)
class Status:
    """What the engine is doing. Replaced as a whole, so a reader never sees a mixture."""

    state: State
    since_s: float
    """When this state or stage began, in s on the engine clock."""
    stage: str = ""
    """What a boot is doing; empty outside a boot."""
    stages: tuple[tuple[str, float], ...] = ()
    """Finished stages of the boot, each with its seconds."""
    spec: EngineSpec | None = None
    """What was booted; None before the first boot."""
    served: bool = False
    """Whether that was vLLM's own server by an order of its own."""
    facts: EngineFacts | None = None
    """Properties of the booted engine; None before the first boot."""
    knobs: Knobs | None = None
    """The limits in force; None before the first boot."""
    failure: TputError | None = None
    """Why the engine FAILED; None if it has not."""
    refused: TputError | None = None
    """Why the last boot failed, if the engine before it was booted again; else None."""
    load_failure: TputError | None = None
    """Why the load stopped by itself (a trace's bad line); None if it has not."""
    refused_knobs: Knobs | None = None
    """The limits of the last order, if the engine refused them; `knobs` are in force then."""
    answered: Answered | None = None
    """The answers to the questions that were asked last, by this engine; None without any."""
    load_on: bool = False
    """Whether requests arrive (in a paused engine they queue up)."""
    load_run: LoadRun = _NO_LOAD
    """The load that was started last; `state` and `load_on` are never older than it."""
    carried_out: int = 0
    """Number of the last order carried out, a boot to its end. Orders with a higher number are
    still under way, and this status is from before them."""


class Orders(ABC):
    """Gives orders to one engine and its load; `status` holds their state.

    Orders are numbered from 1. `status` is always a little old. A caller that needs the state after
    all orders reads `booting`, `load_wanted` and `pause_wanted`: they follow the orders given until
    the status has caught up.
    lag_s: how far recorder and status may lag behind the engine, in s.
    """

    status: Status
    lag_s = 0.0

    def __init__(self) -> None:
        self._given = self._last_boot = 0
        self._load_ordered = self._pause_ordered = False

    @property
    def booting(self) -> bool:
        """Whether an ordered boot has neither succeeded nor failed yet."""
        return self.status.carried_out < self._last_boot

    @property
    def load_wanted(self) -> bool:
        """Whether requests arrive once all orders are carried out."""
        return self._load_ordered if self._on_their_way else self.status.load_on

    @property
    def pause_wanted(self) -> bool:
        """Whether the engine is paused once all orders are carried out."""
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
        """Give an order; return its number. Of consecutive `SetLimits` only the last one counts."""
        # Read both before the order gets its number: they depend on the last number given.
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
            case Woken() | SetLimits() | Preempt() | ResetPrefixCache() | SetWorkload():
                pass
            case Ask() | Close():
                pass
            case _:
                assert_never(order)
        self._load_ordered, self._pause_ordered = load, paused
        self._queue(self._given, order)
        return self._given

    def run_for(self, seconds: float) -> bool:
        """Let an engine in virtual time run for `seconds`; False if it runs in real time."""
        return False

    def woken(self) -> bool:
        """Note that this process was suspended and runs again; whether the engine was, too."""
        self.order(Woken())
        return True
