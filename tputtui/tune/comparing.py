"""Two settings compared on the running engine: one leg after another, each warmed up and measured.

Front end's thread; fed frames, answers with the leg to put on next.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from tputtui.engine.protocol import State
from tputtui.frame import CompareState, Frame
from tputtui.goals import Goal
from tputtui.knobs import Knobs
from tputtui.load.workload import Workload
from tputtui.measure.recorder import ENDED, Recorder
from tputtui.measure.series import rows, series
from tputtui.tune.compare import Comparison, Leg

__all__ = ["Comparing", "LiveLeg"]

_WARM_UP_S = 3.0
_LONGEST_WARM_UP_S = 30.0
_MEASURED_S = 10.0
_REQUESTS = 30
_LONGEST_MEASURED_S = 60.0
_SHORTEST_S = 2.0
"""A load that ends within a leg must have left so much to measure."""
_BEGINS_WITHIN_S = 30.0
_OVER = (State.DRAINING, State.READY)


@dataclass(frozen=True, slots=True)
class LiveLeg:
    """A leg to put on: from an empty engine, `knobs`, and `workload` from its first request."""

    knobs: Knobs
    workload: Workload
    text: str


class Comparing:
    """Compares limits `a` and `b` under `workload`, by its goals where there are any.

    A leg begins with an empty engine, and so, in a closed loop, with a burst of prefills. It is
    measured once as many requests have ended as were in flight at most, and 3 s have passed (30 s
    are enough in any case: an overloaded engine never gets so far). The first leg of a pair is
    measured for 10 s, or until 30 requests have ended, for a minute at most; the second for as
    long, and from no earlier on. Of a load that repeats, whole periods are measured.
    """

    def __init__(
        self, a: Knobs, b: Knobs, workload: Workload, goals: Sequence[Goal], now_s: float
    ) -> None:
        self._sides = {"A": a, "B": b}
        self._workload = workload
        self._goals = tuple(goals)
        self._comparison = Comparison(rows(bool(goals)))
        self._broken = ""
        self._second = False
        self._earliest_cut_s = self._length_s = 0.0
        self._began_s = self._cut_s = math.nan
        self._ended_s = math.inf
        self._next_leg(now_s)

    @property
    def leg(self) -> LiveLeg | None:
        """The leg to be on now; None when the comparison is over."""
        leg = self._leg()
        if leg is None:
            return None
        # Never the seed the load had before: its requests may be known to a cache.
        seed = (self._workload.seed + 1 + leg.pair) % 2**63
        workload = msgspec.structs.replace(self._workload, seed=seed)
        return LiveLeg(self._sides[leg.side], workload, f"{leg.side}, pair {leg.pair + 1}")

    @property
    def state(self) -> CompareState:
        """How far it is."""
        leg = self._leg()
        if leg is None:
            note = self._broken or self._comparison.reason
            return CompareState("", self._comparison.pairs, note, True, self._comparison.result)
        note = f"{self._comparison.progress}: {leg.side} {self._note}"
        return CompareState(leg.side, leg.pair, note, False, self._comparison.result)

    def stop(self, note: str) -> CompareState:
        """Its last state, when it is broken off."""
        self._broken = note
        return self.state

    def follow(self, frame: Frame, recorder: Recorder) -> bool:
        """Take in a frame of the leg asked for; whether another leg is to be put on now."""
        leg = self._leg()
        if leg is None:
            return False
        if not self._began(frame):
            return self._leg() is None
        status = frame.status
        if status.state in _OVER and status.since_s > self._began_s:
            # A trace has come to its end; what is in flight still is no part of the leg.
            self._ended_s = min(self._ended_s, status.since_s)
        over = self._ended_s < math.inf
        if math.isnan(self._cut_s):
            self._warm_up(frame, recorder)
        now_s = min(frame.t_s, self._ended_s)
        if over and not now_s - self._cut_s >= _SHORTEST_S:
            self._broken = "The load ended before a leg was measured."
            return True
        if math.isnan(self._cut_s):
            return False
        end_s = self._end_s(frame, recorder, now_s)
        if now_s < end_s and not over:
            done_s, whole_s = now_s - self._cut_s, end_s - self._cut_s
            self._note = f"measuring, {max(0.0, done_s):.0f} of {whole_s:.0f} s"
            return False
        self._tell(leg, recorder, min(end_s, now_s), frame.t_s)
        return True

    # -- inside ----------------------------------------------------------------------------

    def _leg(self) -> Leg | None:
        return None if self._broken else self._comparison.ask()

    def _next_leg(self, now_s: float) -> None:
        self._asked_s = now_s
        self._began_s = math.nan
        self._cut_s = math.nan
        self._ended_s = math.inf
        self._most_in_flight = 0
        self._note = "starting"

    def _began(self, frame: Frame) -> bool:
        """Whether the leg is on: the host sets a mark when it begins one."""
        if math.isnan(self._began_s):
            at_s = [m.t_s for m in frame.marks if m.kind == "trial" and m.t_s >= self._asked_s]
            if at_s:
                self._began_s = at_s[-1]
            elif frame.t_s - self._asked_s > _BEGINS_WITHIN_S and frame.serving:
                self._broken = "The engine did not begin the leg."
        return not math.isnan(self._began_s)

    def _warm_up(self, frame: Frame, recorder: Recorder) -> None:
        """Set the cut once the leg is warm."""
        self._most_in_flight = max(self._most_in_flight, frame.accounting.in_flight)
        waited_s = frame.t_s - self._began_s
        turned_over = _ended(recorder, self._began_s, frame.t_s)
        self._note = f"warming up, {turned_over} of {self._most_in_flight} requests"
        whole = turned_over >= max(1, self._most_in_flight)
        earliest_s = max(_WARM_UP_S, self._earliest_cut_s)
        if (whole and waited_s >= earliest_s) or waited_s >= max(_LONGEST_WARM_UP_S, earliest_s):
            # Where the other leg was cut, if a frame has only just gone by.
            late = whole and waited_s > earliest_s + 1.0
            self._cut_s = frame.t_s if late or not whole else self._began_s + earliest_s

    def _end_s(self, frame: Frame, recorder: Recorder, now_s: float) -> float:
        """When the measured part ends, as far as can be told."""
        start_s, elapsed_s = self._cut_s, now_s - self._cut_s
        if self._second:
            return start_s + self._length_s
        length_s = max(_MEASURED_S, self._length_s)
        if _ended(recorder, start_s, start_s + length_s) < _REQUESTS:
            enough = _ended(recorder, start_s, now_s) >= _REQUESTS
            reached_s = elapsed_s if enough else elapsed_s + 1.0
            length_s = max(length_s, min(reached_s, _LONGEST_MEASURED_S))
        period_s = frame.wanted.period_s
        if period_s > 0:
            length_s = period_s * math.ceil(length_s / period_s - 1e-9)
        return start_s + length_s

    def _tell(self, leg: Leg, recorder: Recorder, end_s: float, now_s: float) -> None:
        found = series(recorder, self._cut_s, end_s, self._goals)
        # A rate of none has no logarithm: half an event stands in for it.
        values = {
            key: batched.value if batched.value > 0 else batched.floor
            for key, batched in found.values.items()
        }
        self._length_s = found.length_s
        self._earliest_cut_s = 0.0 if self._second else self._cut_s - self._began_s
        self._second = not self._second
        self._comparison.tell(leg, values, took_s=now_s - self._asked_s)
        self._next_leg(now_s)


def _ended(recorder: Recorder, start_s: float, end_s: float) -> int:
    """Requests that ran to their end, aborted ones left out."""
    ended = recorder.ended.between(start_s, end_s)
    return int(np.count_nonzero(ended[:, ENDED["good"]] + ended[:, ENDED["cut"]]))
