"""What can be ordered of a host, wherever its engine runs, and how that engine stands.

Any thread may give an order; it is queued and carried out between two engine steps.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

from tputtui.engine.protocol import EngineFacts, State
from tputtui.errors import TputError
from tputtui.knobs import Knobs
from tputtui.load.workload import Workload
from tputtui.profile import EngineSpec

__all__ = ["Orders", "Status"]

Boot = tuple[EngineSpec, Mapping[str, int]]
"""What to boot, and the limits to start with by name; one left out stands as booted."""


@dataclass(frozen=True, slots=True)
class Status:
    """What the engine is doing; replaced whole, so that a reader never sees a mixture.

    stage: what a boot is doing. stages: those done, with their seconds.
    spec: what was booted. knobs: the limits in force; None before the first boot.
    failure: why it FAILED. refused: why the last boot failed, where the one before was gone back
    to. load_failure: why the load stopped by itself (a trace's bad line).
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


class Orders(ABC):
    """Gives orders to one engine and its load; `status` says how they stand.

    lag_s: how old what is recorded may be, in seconds, before it is known here.
    """

    status: Status
    lag_s = 0.0

    @abstractmethod
    def start(self) -> None:
        """Start the thread, or the process, that carries orders out."""

    @abstractmethod
    def close(self, timeout_s: float) -> bool:
        """Stop load, engine and thread; False if that took longer than `timeout_s`."""

    @abstractmethod
    def _order(self, name: str, *args: object) -> None:
        """Queue the order called `name`: the host's method `_name`."""

    def run_for(self, seconds: float) -> bool:
        """Let an engine in virtual time run for so long; False where it runs by itself."""
        return False

    def boot(self, spec: EngineSpec, knobs: Mapping[str, int], *, load: bool) -> None:
        """Boot an engine; `load` says whether to start the load at once."""
        self._order("boot", (spec, knobs), load)

    def boot_anew(self, boot: Boot, fallback: Boot) -> None:
        """Boot another engine in place of this one; `fallback` where it will not boot.

        What is in flight is aborted; a load that runs goes on with its next request.
        """
        self._order("boot_anew", boot, fallback)

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

    def begin_leg(self, knobs: Knobs, workload: Workload, text: str) -> None:
        """From an empty engine: limits, and `workload` from its first request on.

        What is in flight is aborted and the prefix cache emptied.
        """
        self._order("begin_leg", knobs, workload, text)

    def run_load(self) -> None:
        """Let requests arrive."""
        self._order("run_load")

    def pause_load(self) -> None:
        """Let no more requests arrive; those in flight are served to their end."""
        self._order("pause_load")

    def stop_load(self) -> None:
        """Abort what is in flight and go back to request 0."""
        self._order("stop_load")

    def pause(self) -> None:
        """Run no more steps; what is in flight stands still, what arrives queues up."""
        self._order("pause")

    def resume(self) -> None:
        """Run steps again."""
        self._order("resume")
