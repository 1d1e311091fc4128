"""One run: a hosted engine, its load, what was measured. The only thing a front end talks to.

Called on the front end's thread. Orders go to the engine thread and come into force between two
steps; `frame()` says how things stand, as one immutable picture.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec

from tputtui import profile
from tputtui.engine.host import Clock, Host, Status
from tputtui.engine.protocol import Engine, State
from tputtui.errors import KnobError, UsageError
from tputtui.frame import SERVING, Frame, SweepState, evidence
from tputtui.goals import Goal
from tputtui.hardware import HardwareSampler
from tputtui.knobs import KNOBS, Knobs, checked
from tputtui.load.notation import describe_arrivals
from tputtui.load.sections import difference
from tputtui.load.source import check_trace
from tputtui.load.workload import Workload
from tputtui.measure.history import History
from tputtui.measure.recorder import Recorder
from tputtui.observer import Observer
from tputtui.profile import Profile, tokenizer_of
from tputtui.tune.points import Points
from tputtui.tune.sweeping import Sweeping

__all__ = ["Session"]


class Session:
    """Starts, steers and closes one run.

    make_engine: builds a cold engine. clock: the engine's clock, monotonic seconds.
    """

    def __init__(
        self,
        make_engine: Callable[[], Engine],
        profile: Profile,
        clock: Clock = time.monotonic,
        hardware: HardwareSampler | None = None,
    ) -> None:
        self.recorder = Recorder()
        self.host = Host(make_engine, self.recorder, profile.load, clock)
        self._clock = clock
        self._observer = Observer(self.recorder, clock())
        self._profile = profile
        self._asked: Knobs | None = None
        self._undo: list[tuple[Knobs, Workload]] = []
        self._hardware = hardware
        self._points = Points()
        self._sweeping: Sweeping | None = None
        self._sweep_state: SweepState | None = None
        self._status_seen: Status | None = None

    # -- life ------------------------------------------------------------------------------

    def start(self, *, load: bool = True) -> None:
        """Start the engine thread and the samplers, and boot."""
        if self._hardware is not None:
            self._hardware.start()
        self.host.boot(self._profile.engine, self._profile.knobs, load=load)
        self.host.start()

    def boot_again(self) -> None:
        """Boot the same engine anew, with the limits as they were asked for last."""
        knobs = self._asked.as_dict() if self._asked else self._profile.knobs
        self._asked = None
        self.host.boot(self._profile.engine, knobs, load=True)

    def close(self, timeout_s: float) -> bool:
        """Stop everything; False if the engine thread did not end in time."""
        if self._hardware is not None:
            self._hardware.stop(min(timeout_s, 1.0))
        return self.host.close(timeout_s)

    # -- limits and load -------------------------------------------------------------------

    def set_knob(self, name: str, value: int) -> bool:
        """Ask for a limit, in force by the next step; whether it differs from the last asked.

        Raises KnobError when it is out of bounds or the engine is not up.
        """
        asked = self._limits()
        facts = self.host.status.facts
        assert facts is not None
        value = checked(name, value, facts.ceilings)
        old = asked.get(name)
        if value == old:
            return False
        self._break_off_sweep("A limit was turned.", restore=True)
        self._remember(asked)
        self._ask(asked.with_value(name, value), f"{name} {old} → {value}")
        return True

    def set_workload(self, workload: Workload) -> bool:
        """Go on with another load; whether it differs.

        Raises UsageError when its trace cannot be opened.
        """
        old = self._profile.load
        if workload == old:
            return False
        if workload.trace != old.trace or workload.arrivals != old.arrivals:
            check_trace(workload, tokenizer_of(self._profile.engine))
        self._break_off_sweep("The load was turned.", restore=False)
        self._remember(self._asked)
        self._load(workload, difference(old, workload))
        return True

    def undo(self) -> str:
        """Take back the last turn of a limit or of the load; what was done, in words.

        Raises UsageError when there is nothing to take back.
        """
        asked = self._limits()
        self._break_off_sweep("Undone.", restore=True)
        if not self._undo:
            raise UsageError("Nothing to undo.", "Limits and load stand as they were started.")
        knobs, load = self._undo.pop()
        said = []
        if knobs != asked:
            text = _knob_difference(asked, knobs)
            self._ask(knobs, f"undo: {text}")
            said.append(text)
        if load != self._profile.load:
            text = difference(self._profile.load, load)
            self._load(load, f"undo: {text}")
            said.append(text)
        return ", ".join(said)

    def set_goals(self, goals: tuple[Goal, ...]) -> None:
        """Judge by other goals from now on."""
        self._profile = msgspec.structs.replace(self._profile, goals=goals)
        self._observer.judge_anew()

    def sweep(self) -> None:
        """Step the load up from an eighth until saturation, a point a level; then restore it.

        Raises UsageError for a load without a constant level, KnobError while no engine is up.
        """
        self._limits()
        self._break_off_sweep("Started again.", restore=True)
        sweeping = Sweeping(self._profile.load, self._clock())
        load = sweeping.load
        assert load is not None
        if self.host.status.state is not State.RUNNING:
            self.host.run_load()
        self._load(load, f"sweep: {describe_arrivals(load.arrivals)}")
        self._sweeping, self._sweep_state = sweeping, sweeping.state

    def clear_points(self) -> None:
        """Forget what was measured at other settings."""
        self._points.clear()

    def stop_sweep(self) -> None:
        """Break a sweep off and restore the load; its points stay."""
        self._break_off_sweep("Stopped.", restore=True)

    def toggle_load(self) -> str:
        """Start the load, or hold it; what was done, in words."""
        self._limits()
        self._break_off_sweep("The load was held.", restore=True)
        self._turned()
        if self.host.status.state is State.RUNNING:
            self.host.pause_load()
            return "Load paused: requests in flight are served to their end."
        self.host.run_load()
        return "Load running."

    def stop_load(self) -> None:
        """Abort what is in flight and go back to the first request."""
        self._limits()
        self._break_off_sweep("The load was stopped.", restore=True)
        self._turned()
        self.host.stop_load()

    # -- how things stand ------------------------------------------------------------------

    @property
    def history(self) -> History:
        """The run second by second, for charts."""
        return self._observer.history

    @property
    def goals(self) -> tuple[Goal, ...]:
        """The goals in force."""
        return self._profile.goals

    @property
    def workload(self) -> Workload:
        """The load last asked for."""
        return self._profile.load

    @property
    def model(self) -> str:
        """MODEL as it was given."""
        return self._profile.engine.model

    def asked(self, name: str) -> int:
        """A limit as last asked for. Raises KnobError while the engine is not up."""
        return self._limits().get(name)

    def ceilings(self) -> Knobs:
        """What the engine booted with. Raises KnobError while it is not up."""
        self._limits()
        facts = self.host.status.facts
        assert facts is not None
        return facts.ceilings

    def frame(self) -> Frame:
        """How everything stands now. Looking is also what moves a sweep on."""
        now_s, status = self._clock(), self.host.status
        self._follow(status)
        hardware = self._hardware.latest() if self._hardware else None
        seen = self._observer.frame(now_s, status, self._profile, self._asked, hardware)
        self._points.follow(seen, swept=self._sweeping is not None)
        self._move_sweep(seen)
        return replace(seen, points=self._points.all(), sweep=self._sweep_state)

    def save(self, path: Path, *, overwrite: bool = False) -> Path:
        """Write limits, load and figures as they stand to a profile; returns its path.

        Raises ProfileError when the file exists or cannot be written.
        """
        return profile.save(self.snapshot(), path, overwrite=overwrite)

    def snapshot(self) -> Profile:
        """The profile that `save` writes."""
        frame = self.frame()
        asked = self._asked.as_dict() if self._asked else self._profile.knobs
        old = self._profile
        found = evidence(frame) if frame.asked else {}
        if self._sweeping is not None:
            # What the window holds is a level of the sweep, not this load.
            old = msgspec.structs.replace(old, load=self._sweeping.before)
            found = {"state": "tuned live; no figures, a sweep was under way"}
        return msgspec.structs.replace(old, knobs=asked, evidence=found)

    # -- inside ----------------------------------------------------------------------------

    def _limits(self) -> Knobs:
        status = self.host.status
        self._follow(status)
        if self._asked is None or status.state not in SERVING:
            raise KnobError(
                f"The engine is {status.state.lower()}.", "Its limits can be turned once it is up."
            )
        return self._asked

    def _follow(self, status: Status) -> None:
        """Take over the limits of an engine that has just come up."""
        if status is self._status_seen:
            return
        self._status_seen = status
        if self._asked is None and status.state in SERVING and status.knobs is not None:
            self._asked = status.knobs
            self._undo.clear()
            self._turned()

    def _remember(self, knobs: Knobs | None) -> None:
        if knobs is not None:
            self._undo.append((knobs, self._profile.load))
            del self._undo[:-1000]

    def _ask(self, knobs: Knobs, text: str) -> None:
        self._asked = knobs
        self._turned()
        self.host.set_knobs(knobs, text)

    def _load(self, workload: Workload, text: str) -> None:
        self._profile = msgspec.structs.replace(self._profile, load=workload, evidence={})
        self._turned()
        self.host.set_workload(workload, text)

    def _turned(self) -> None:
        self._observer.turned(self._clock())

    def _move_sweep(self, frame: Frame) -> None:
        sweeping = self._sweeping
        if sweeping is None:
            return
        if not frame.serving:
            self._break_off_sweep("The engine stopped.", restore=True)
            return
        if sweeping.follow(frame):
            load = sweeping.load
            if load is not None:
                self._load(load, f"sweep: {describe_arrivals(load.arrivals)}")
            else:
                self._sweeping = None
                self._restore(sweeping, "sweep done")
        self._sweep_state = sweeping.state

    def _break_off_sweep(self, why: str, *, restore: bool) -> None:
        sweeping, self._sweeping = self._sweeping, None
        if sweeping is None:
            return
        self._sweep_state = sweeping.stop(why)
        if restore:
            self._restore(sweeping, "sweep stopped")

    def _restore(self, sweeping: Sweeping, why: str) -> None:
        if sweeping.before != self._profile.load:
            text = f"{why}: back to {describe_arrivals(sweeping.before.arrivals)}"
            self._load(sweeping.before, text)


def _knob_difference(old: Knobs, new: Knobs) -> str:
    names = [knob.name for knob in KNOBS if old.get(knob.name) != new.get(knob.name)]
    return ", ".join(f"{name} {old.get(name)} → {new.get(name)}" for name in names)
