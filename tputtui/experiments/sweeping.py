"""A sweep of the load on the running engine: level after level, each warmed up and measured.

Front end's thread; receives frames and returns the load to put on next. A level begins on an empty
engine, as a leg does: the queue of the level before must not enter its figures.
"""

from __future__ import annotations

import math

from tputtui.errors import UsageError
from tputtui.experiments.leg import LegWatch
from tputtui.experiments.sweep import Sweep
from tputtui.frame import Frame, SweepState
from tputtui.frame.points import MIN_REQUESTS, MIN_WINDOW_S, ended
from tputtui.load.notation import describe_all_arrivals
from tputtui.load.workload import ClosedLoop, Workload, at_level, constant, lead, level_of
from tputtui.measure.frontier import Point
from tputtui.measure.recorder import Recorder
from tputtui.measure.window import Phase

__all__ = ["Sweeping"]

_LONGEST_S = 90.0
"""A level that is not steady after so many seconds counts as it is."""


class Sweeping:
    """Sweeps `workload` up from an eighth of its load until saturation.

    All arrivals are swept together, those of classes in the same proportion.

    Raises UsageError for a load that has no level to sweep.
    """

    def __init__(self, workload: Workload, now_s: float) -> None:
        arrivals, level = lead(workload), level_of(lead(workload))
        if not constant(workload) or not isinstance(level, int | float):
            raise UsageError(
                "A sweep needs a constant load to start from.",
                "Give a number in flight or a rate (l edits the load).",
            )
        self.before = workload
        whole = isinstance(arrivals, ClosedLoop)
        name = self._named if workload.apart else None
        self._sweep = Sweep(max(level / 8, 1.0 if whole else 0.1), whole=whole, name=name)
        self._asked_s = now_s
        self._note = "starting"
        self._ended = False
        self._watch = LegWatch(now_s)
        self._left_s = _LONGEST_S

    @property
    def warm(self) -> bool:
        """Whether the present level is being measured, from `cut_s` on."""
        return self._watch.warm

    @property
    def cut_s(self) -> float:
        """When the measurement of the present level began; NaN before."""
        return self._watch.cut_s

    @property
    def broken(self) -> str:
        """Why the sweep gives no result, in a sentence; empty while it may."""
        return self._watch.broken

    @property
    def load(self) -> Workload | None:
        """The load that should run now; None when the sweep is over."""
        level = self._level()
        if level is None:
            return None
        return at_level(self.before, level)

    @property
    def state(self) -> SweepState:
        """How far the sweep is."""
        level, load = self._level(), self.load
        named = describe_all_arrivals(load) if load is not None else ""
        return SweepState(level, len(self._sweep.levels), self._note, named, self._left_s)

    def stop(self, note: str) -> SweepState:
        """End the sweep early, for the reason in `note`; its last state."""
        return SweepState(None, len(self._sweep.levels), note)

    def follow(self, frame: Frame, recorder: Recorder) -> bool:
        """Take in a frame of the load asked for; whether another load must start now."""
        level = self._level()
        if level is None:
            return False
        was_warm = self.warm
        self._left_s = max(0.0, _LONGEST_S - (frame.t_s - self._asked_s))
        self._watch.follow(frame, recorder)
        if self._watch.ended_s < math.inf:
            # Neither this level nor another one can be measured any more.
            self._ended, self._note = True, "The load ended: its trace is over."
            return True
        if not was_warm:
            # The frame's window is still the one before the level.
            self._note = self._watch.note
            return False
        point = self._measured(frame)
        late = frame.t_s - self._asked_s >= _LONGEST_S and frame.window.phase.quotable
        if point is None and not late:
            self._note = self._waiting(frame)
            return False
        if point is not None:
            figures = point.tokens_per_s, point.latency["e2e"].p50, point.saturated
        else:
            seen = frame.figures
            figures = seen.generated_per_s, frame.latencies.e2e.p50, seen.saturated
        tokens_per_s, e2e_s, saturated = figures
        self._sweep.tell(level, tokens_per_s, e2e_s, saturated and not self.before.closed)
        self._asked_s = frame.t_s
        self._watch = LegWatch(frame.t_s)
        self._left_s = _LONGEST_S
        self._note = self._sweep.reason if self._sweep.done else "starting"
        return True

    def _named(self, level: float) -> str:
        return describe_all_arrivals(at_level(self.before, level))

    def _measured(self, frame: Frame) -> Point | None:
        """The point of the level, once enough of this leg is in it."""
        row = frame.trials[-1] if frame.trials else None
        if row is None or row.load != self.load or not row.spans:
            return None
        start_s, end_s = row.spans[-1]
        if start_s < self.cut_s or end_s - start_s < MIN_WINDOW_S:
            return None
        return next((point for point in frame.points if point.trial == row.number), None)

    def _level(self) -> float | None:
        return None if self._ended else self._sweep.ask()

    def _waiting(self, frame: Frame) -> str:
        window = frame.window
        if window.phase is not Phase.STEADY and window.phase is not Phase.MEASURING:
            return window.phase.value
        if window.length_s < MIN_WINDOW_S:
            return f"measuring, {window.length_s:.0f} of {MIN_WINDOW_S:.0f} s"
        if (so_far := ended(frame)) < MIN_REQUESTS:
            return f"measuring, {so_far} of {MIN_REQUESTS} requests"
        return "measuring, until it is steady"
