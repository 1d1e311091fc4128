"""A sweep of the load on the running engine: one level after another, each warm and measured.

Front end's thread; fed frames, answers with the load to put on next. A level begins on an empty
engine, as a leg does: what the level before left queued up is no part of its figures.
"""

from __future__ import annotations

import math

import msgspec

from tputtui.errors import UsageError
from tputtui.experiments.leg import LegWatch
from tputtui.experiments.sweep import Sweep
from tputtui.frame import Frame, SweepState
from tputtui.frame.points import MIN_REQUESTS, MIN_WINDOW_S, ended
from tputtui.load.workload import ClosedLoop, Recorded, Workload, level_of, with_level
from tputtui.measure.frontier import Point
from tputtui.measure.recorder import Recorder
from tputtui.measure.window import Phase

__all__ = ["Sweeping"]

_LONGEST_S = 90.0
"""A level that will not settle or steady down by then is taken as it is."""


class Sweeping:
    """Sweeps `workload` up from an eighth of its load until saturation.

    Raises UsageError for a load that has no level to sweep.
    """

    def __init__(self, workload: Workload, now_s: float) -> None:
        arrivals, level = workload.arrivals, level_of(workload.arrivals)
        if isinstance(arrivals, Recorded) or not isinstance(level, int | float):
            raise UsageError(
                "A sweep needs a constant load to start from.",
                "Give a number in flight or a rate (l edits the load).",
            )
        self.before = workload
        self._whole = isinstance(arrivals, ClosedLoop)
        self._sweep = Sweep(max(level / 8, 1.0 if self._whole else 0.1), whole=self._whole)
        self._asked_s = now_s
        self._note = "starting"
        self._ended = False
        self._watch = LegWatch(now_s)

    @property
    def warm(self) -> bool:
        """Whether the present level is being measured, from `cut_s` on."""
        return self._watch.warm

    @property
    def cut_s(self) -> float:
        """Since when; NaN while it is not."""
        return self._watch.cut_s

    @property
    def broken(self) -> str:
        """Why nothing comes of the sweep, in a sentence; empty while something may."""
        return self._watch.broken

    @property
    def load(self) -> Workload | None:
        """The load to be on now; None when the sweep is over."""
        level = self._level()
        if level is None:
            return None
        arrivals = with_level(self.before.arrivals, level)
        return msgspec.structs.replace(self.before, arrivals=arrivals)

    @property
    def state(self) -> SweepState:
        """How far it is."""
        return SweepState(self._level(), len(self._sweep.levels), self._note)

    def stop(self, note: str) -> SweepState:
        """Its last state, when it is broken off."""
        return SweepState(None, len(self._sweep.levels), note)

    def follow(self, frame: Frame, recorder: Recorder) -> bool:
        """Take in a frame of the load asked for; whether another load is to be put on now."""
        level = self._level()
        if level is None:
            return False
        was_warm = self.warm
        self._watch.follow(frame, recorder)
        if self._watch.ended_s < math.inf:
            # Nothing would ever be measured of this level, nor of another one.
            self._ended, self._note = True, "The load ended: its trace is over."
            return True
        if not was_warm:
            # The frame's own window is still that of before.
            self._note = self._watch.note
            return False
        point = self._measured(frame)
        late = frame.t_s - self._asked_s >= _LONGEST_S and frame.window.phase.quotable
        if point is None and not late:
            self._note = self._waiting(frame)
            return False
        if point is not None:
            found = point.tokens_per_s, point.latency["e2e"].p50, point.saturated
        else:
            seen = frame.figures
            found = seen.generated_per_s, frame.latencies.e2e.p50, seen.saturated
        tokens_per_s, e2e_s, saturated = found
        self._sweep.tell(level, tokens_per_s, e2e_s, saturated and not self._whole)
        self._asked_s = frame.t_s
        self._watch = LegWatch(frame.t_s)
        self._note = self._sweep.reason if self._sweep.done else "starting"
        return True

    def _measured(self, frame: Frame) -> Point | None:
        """The level's point, once this leg is long enough in it."""
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
