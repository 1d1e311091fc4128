"""Gives all orders of limits, load and boots to the engine thread. Front end's thread.

It checks nothing and remembers no changes. Each order starts the measuring window anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import msgspec

from tputtui.engine.host import Clock
from tputtui.engine.orders import (
    Ask,
    BeginLeg,
    Boot,
    BootAnew,
    HoldLoad,
    Orders,
    Pause,
    Preempt,
    ResetPrefixCache,
    Resume,
    RunLoad,
    SetLimits,
    SetWorkload,
    Start,
    Status,
    StopLoad,
)
from tputtui.engine.protocol import EngineFacts
from tputtui.errors import UsageError
from tputtui.experiments.setting import Setting
from tputtui.experiments.under_way import Warm, Wish
from tputtui.frame import SERVING
from tputtui.knobs import Knobs, differing, kept_limits
from tputtui.load.sections import difference
from tputtui.load.workload import Workload
from tputtui.profile import EngineSpec, EngineValue, Profile
from tputtui.quality.answers import Questions
from tputtui.session.asked import Asked

__all__ = ["Helm"]


class Windows(Protocol):
    """Starts the measuring window anew; times in seconds of the engine's clock."""

    def begin_anew(self, now_s: float, *, own: bool = False, warming: bool = False) -> None:
        """Something was changed. own: nothing was, the setting stays. warming: wait for `begin`."""

    def begin(self, at_s: float) -> None:
        """A leg is warm from `at_s` on."""


class Helm:
    """Gives orders to `host`, keeps what was ordered in `asked`, and starts `windows` anew.

    engines: how many engines have come up so far.
    """

    def __init__(self, host: Orders, asked: Asked, clock: Clock, windows: Windows) -> None:
        self._host = host
        self._asked = asked
        self._clock = clock
        self._windows = windows
        self.engines = 0
        self._serves = False

    @property
    def status(self) -> Status:
        """What the engine thread last published."""
        return self._host.status

    @property
    def limits(self) -> Knobs:
        """The limits last asked for. Raises KnobError while no engine is up."""
        self.notice()
        return self._asked.limits(self._host.status)

    @property
    def facts(self) -> EngineFacts:
        """The facts of the engine that is up. Raises KnobError while none is."""
        self.notice()
        return self._asked.facts(self._host.status)

    def check_up(self) -> None:
        """Raise KnobError while no engine is up."""
        self.notice()
        self._asked.limits(self._host.status)

    @property
    def asked(self) -> Knobs | None:
        """The limits last asked for; None while no engine is up."""
        return self._asked.knobs

    @property
    def load(self) -> Workload:
        """The load last asked for."""
        return self._asked.profile.load

    @property
    def engine(self) -> EngineSpec:
        """The engine that was booted, or is being booted."""
        return self._asked.profile.engine

    @property
    def present(self) -> Setting:
        """The limits and load last asked for. Raises KnobError while no engine is up."""
        return Setting(self.limits, self.load)

    @property
    def profile(self) -> Profile:
        """The engine, limits, load and goals last asked for."""
        asked = self._asked
        return msgspec.structs.replace(asked.profile, knobs=asked.kept(self._host.status))

    @property
    def serves(self) -> bool:
        """Whether vLLM's own server is up by an order of its own, or being booted."""
        return self._serves if self._host.booting else self._host.status.served

    def notice(self) -> None:
        """Take over an engine that has just come up, and start its first window."""
        if self._asked.follow(self._host.status):
            self.engines += 1
            self.changed()

    def limits_with(self, setting: Setting, name: str, value: int | str) -> Knobs:
        """The limits of `setting` with one changed.

        Raises KnobError when the value is out of bounds or no engine is up, CeilingError when it
        needs a boot with a higher ceiling.
        """
        return self._asked.with_limit(self._host.status, setting.knobs, name, value)

    def changed(self) -> None:
        """Something has been changed: start the window anew."""
        self._windows.begin_anew(self._clock())

    def measure_anew(self) -> None:
        """Start the window anew, although nothing has been changed."""
        self._windows.begin_anew(self._clock(), own=True)

    def ask(self, knobs: Knobs, why: str = "", *, anyway: bool = False) -> None:
        """Order limits; the mark shows `why` before what changes.

        anyway: here and below, also where it costs requests of other people something.
        """
        self._asked.knobs = knobs
        self.changed()
        self._host.order(SetLimits(knobs, why, anyway))

    def put_load(self, workload: Workload, text: str) -> None:
        """Order another load; the mark shows `text`."""
        self._asked.with_load(workload)
        self.changed()
        self._host.order(SetWorkload(workload, text))

    def put_on(self, setting: Setting, why: str) -> str:
        """Order the limits and load of `setting` where they differ; what changes, in words."""
        changes = []
        if text := differing(self.limits, setting.knobs):
            self.ask(setting.knobs, why)
            changes.append(text)
        if setting.load != self.load:
            text = difference(self.load, setting.load)
            self.put_load(setting.load, f"{why}: {text}")
            changes.append(text)
        return ", ".join(changes)

    def grant(self, wish: Wish | Warm | None) -> None:
        """Order what an experiment wants; None: nothing."""
        if wish is None:
            return
        if isinstance(wish, Warm):
            self._windows.begin(wish.at_s)
            return
        if wish.engine is not None and wish.engine != self.engine:
            if wish.load != self.load:
                self.put_load(wish.load, wish.text)
            kept = kept_limits(wish.knobs, wish.booted) if wish.knobs and wish.booted else {}
            self.boot(wish.engine.args, kept, only=True)
            return
        if wish.fresh and self._host.status.state in SERVING:
            knobs = wish.knobs or self.limits
            self._asked.knobs = knobs
            self._asked.with_load(wish.load)
            self._windows.begin_anew(self._clock(), warming=wish.warming)
            self._host.order(BeginLeg(knobs, wish.load, wish.text))
            return
        if wish.fresh and wish.knobs:
            # No engine is up: the next boot begins with these limits.
            self._asked.knobs = wish.knobs
        if wish.load != self.load:
            self.put_load(wish.load, wish.text)

    def preempt(self, over: int, *, anyway: bool = False) -> str:
        """Preempt the `over` sequences that run above the limit; what was done, in words.

        They go back to the queue. Raises UsageError when there are none.
        """
        if not over:
            raise UsageError("Nothing to preempt.", "No more sequences run than max_num_seqs.")
        self.changed()
        self._host.order(Preempt(anyway))
        return f"{over} preempted: they wait, and compute their KV cache again."

    def reset_prefix_cache(self, *, anyway: bool = False) -> str:
        """Empty the prefix cache; what was done, in words."""
        self.changed()
        self._host.order(ResetPrefixCache(anyway))
        return "Prefix cache emptied; what ran computes its KV cache again."

    @property
    def paused(self) -> bool:
        """Whether the engine is paused once all orders are carried out."""
        return self._host.pause_wanted

    def toggle_engine(self, *, anyway: bool = False) -> str:
        """Pause the engine between two steps, or resume it; what was done, in words.

        Raises UsageError for a server that cannot be paused from here.
        """
        if not self.facts.pausable:
            raise UsageError("A server cannot be paused from here.", "Space holds the load.")
        self.changed()
        if self._host.pause_wanted:
            self._host.order(Resume())
            return "The engine goes on."
        self._host.order(Pause(anyway))
        return "Engine paused: what is in flight stands still, what arrives queues up."

    def toggle_load(self) -> str:
        """Start the load, or hold it; what was done, in words."""
        self.changed()
        if self._host.load_wanted:
            self._host.order(HoldLoad())
            return "Load paused: requests in flight are served to their end."
        self._host.order(RunLoad())
        return "Load running."

    def run_load(self) -> int:
        """Start the load, unless it runs already; the number of the order, 0 for none."""
        return 0 if self._host.load_wanted else self._host.order(RunLoad())

    def stop_load(self) -> int:
        """Abort what is in flight and go back to the first request; the number of the order."""
        self.changed()
        return self._host.order(StopLoad())

    def restart(self, text: str) -> int:
        """Restart the load from its first request on an empty engine; the number of the order."""
        self.changed()
        return self._host.order(BeginLeg(self.limits, self.load, text))

    def question(self, questions: Questions, *, cold: bool) -> int:
        """Ask questions beside what is in flight; the number of the order.

        cold: empty the prefix cache first.
        """
        self.measure_anew()
        if cold:
            self._host.order(ResetPrefixCache())
        return self._host.order(Ask(questions))

    def boot(
        self,
        args: Mapping[str, EngineValue],
        knobs: Mapping[str, int],
        *,
        only: bool,
        served: bool = False,
    ) -> None:
        """Boot another engine in place of this one; if it does not boot, boot this one again.

        knobs: limits to start with. only: whether the other limits begin as booted; otherwise they
        keep the values that they have now. served: vLLM's own server instead.
        """
        status = self._host.status
        kept = {} if only else self._asked.kept(status)
        start, fallback = self._asked.boot(status, args, {**kept, **knobs})
        self.changed()
        self._serves = served
        self._host.order(BootAnew(start._replace(served=served), fallback))

    def boot_again(self) -> None:
        """Boot the same engine anew, with the limits last asked for."""
        self._host.order(Boot(Start(self.engine, self._asked.kept(self._host.status)), load=True))
        self._asked.knobs = None

    def boot_cost(self, in_flight: int) -> str:
        """What another boot costs with `in_flight` requests in the engine, in a sentence."""
        facts = self.facts
        but = " but for its imports" if facts.once_s >= 1 else ""
        return (
            f"The load pauses for about {facts.again_s:.0f} s, as long as the last boot took{but}"
            f"{_aborted(in_flight)}."
        )

    def server_cost(self, in_flight: int) -> str:
        """The same where vLLM's own server is booted in place of this engine, and then that."""
        return (
            "The load pauses until vLLM's server is up, a process that imports everything anew "
            f"(tens of seconds){_aborted(in_flight)}."
        )


def _aborted(in_flight: int) -> str:
    return f"; the {in_flight:,} requests in flight are aborted" if in_flight else ""
