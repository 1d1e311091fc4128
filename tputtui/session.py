"""One run: a hosted engine, its load, what was measured. The only thing a front end talks to.

Called on the front end's thread. Orders go to the engine thread and come into force between two
steps; `frame()` says how things stand, as one immutable picture.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path

from tputtui import profile
from tputtui.engine.host import Clock, Host, Status
from tputtui.engine.protocol import Engine, State
from tputtui.errors import KnobError, UsageError
from tputtui.frame import SERVING, Frame, evidence
from tputtui.hardware import HardwareSampler
from tputtui.knobs import KNOBS, Knobs, checked
from tputtui.load.notation import difference
from tputtui.load.workload import Workload
from tputtui.measure.history import History
from tputtui.measure.recorder import Recorder
from tputtui.measure.samples import Accounting, StepSample
from tputtui.measure.window import Settling, figures, latencies
from tputtui.profile import Profile

__all__ = ["Session"]

_NOW_S = 1.0
_KV_FRAC = StepSample._fields.index("kv_frac")
_LATENCIES_EVERY_S = 1.0


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
        self.history = History(clock())
        self._clock = clock
        self._started_s = clock()
        self._profile = profile
        self._asked: Knobs | None = None
        self._undo: list[tuple[Knobs, Workload]] = []
        self._settling = Settling(clock())
        self._hardware = hardware
        self._latencies = latencies(self.recorder, 0.0, 0.0)
        self._latencies_s = -math.inf
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
        self._remember(asked)
        self._ask(asked.with_value(name, value), f"{name} {old} → {value}")
        return True

    def set_workload(self, workload: Workload) -> bool:
        """Go on with another load; whether it differs."""
        old = self._profile.load
        if workload == old:
            return False
        self._remember(self._asked)
        self._load(workload, difference(old, workload))
        return True

    def undo(self) -> str:
        """Take back the last turn of a limit or of the load; what was done, in words.

        Raises UsageError when there is nothing to take back.
        """
        asked = self._limits()
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

    def toggle_load(self) -> str:
        """Start the load, or hold it; what was done, in words."""
        self._limits()
        self._turned()
        if self.host.status.state is State.RUNNING:
            self.host.pause_load()
            return "Load paused: requests in flight are served to their end."
        self.host.run_load()
        return "Load running."

    def stop_load(self) -> None:
        """Abort what is in flight and go back to the first request."""
        self._limits()
        self._turned()
        self.host.stop_load()

    # -- how things stand ------------------------------------------------------------------

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
        """How everything stands now."""
        now_s = self._clock()
        status, accounting = self.host.status, self.recorder.accounting
        self._follow(status, accounting, now_s)
        if not self.history.buckets and status.facts is None:
            self.history.begin(now_s)
        self.history.advance(self.recorder, now_s)
        knobs = status.knobs
        # A dead engine's figures stay as they were.
        until_s = status.since_s if status.state is State.FAILED else now_s
        left = accounting.issued - accounting.in_flight
        in_force = (
            knobs is not None and knobs == self._asked and accounting.running <= knobs.max_num_seqs
        )
        window = self._settling.window(until_s, left, in_force)
        if now_s - self._latencies_s >= _LATENCIES_EVERY_S:
            self._latencies = latencies(self.recorder, window.start_s, until_s)
            self._latencies_s = now_s
        last = self.recorder.steps.between(until_s - _NOW_S, until_s)
        return Frame(
            t_s=now_s,
            elapsed_s=now_s - self._started_s,
            status=status,
            profile=self._profile,
            asked=self._asked,
            accounting=accounting,
            generated_tokens=self.recorder.generated_tokens,
            now=figures(self.recorder, until_s - _NOW_S, until_s),
            window=window,
            figures=figures(self.recorder, window.start_s, until_s),
            latencies=self._latencies,
            kv_frac=float(last[-1, _KV_FRAC]) if len(last) and accounting.in_flight else 0.0,
            hardware=self._hardware.latest() if self._hardware else None,
            marks=tuple(self.recorder.marks),
        )

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
        return Profile(old.engine, old.load, asked, old.about, found)

    # -- inside ----------------------------------------------------------------------------

    def _limits(self) -> Knobs:
        status = self.host.status
        self._follow(status, self.recorder.accounting, self._clock())
        if self._asked is None or status.state not in SERVING:
            raise KnobError(
                f"The engine is {status.state.lower()}.", "Its limits can be turned once it is up."
            )
        return self._asked

    def _follow(self, status: Status, accounting: Accounting, now_s: float) -> None:
        """Take over the limits of an engine that has just come up."""
        if status is self._status_seen:
            return
        self._status_seen = status
        if self._asked is None and status.state in SERVING and status.knobs is not None:
            self._asked = status.knobs
            self._undo.clear()
            self._settling.change(now_s, 0, accounting.issued)

    def _remember(self, knobs: Knobs | None) -> None:
        if knobs is not None:
            self._undo.append((knobs, self._profile.load))
            del self._undo[:-1000]

    def _ask(self, knobs: Knobs, text: str) -> None:
        self._asked = knobs
        self._turned()
        self.host.set_knobs(knobs, text)

    def _load(self, workload: Workload, text: str) -> None:
        self._profile = Profile(
            self._profile.engine, workload, self._profile.knobs, self._profile.about
        )
        self._turned()
        self.host.set_workload(workload, text)

    def _turned(self) -> None:
        accounting = self.recorder.accounting
        left = accounting.issued - accounting.in_flight
        self._settling.change(self._clock(), accounting.in_flight, left)
        self._latencies_s = -math.inf


def _knob_difference(old: Knobs, new: Knobs) -> str:
    names = [knob.name for knob in KNOBS if old.get(knob.name) != new.get(knob.name)]
    return ", ".join(f"{name} {old.get(name)} → {new.get(name)}" for name in names)
