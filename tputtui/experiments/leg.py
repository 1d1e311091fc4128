"""One leg on the running engine: when it began, when it is warm, and whether its load ended.

Front end's thread; receives frames. A leg begins with an empty engine; in a closed loop that causes
a burst of prefills. A leg is warm once 3 s have passed and as many requests have ended as were in
flight at most. An overloaded engine never gets so far: it counts as warm after a while.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from tputtui.frame import Frame
from tputtui.knobs import Knobs
from tputtui.load.workload import Workload
from tputtui.measure.recorder import ENDED, Recorder
from tputtui.profile import EngineSpec

__all__ = ["LegWatch", "LiveLeg", "ended_between"]

_WARM_UP_S = 3.0
_BEGINS_WITHIN_S = 30.0


@dataclass(frozen=True, slots=True)
class LiveLeg:
    """A leg to put on: an empty engine with limits `knobs` and `workload` from its first request.

    text: for the mark. engine: the engine to boot for the leg; None or the running one: no boot.
    """

    knobs: Knobs
    workload: Workload
    text: str
    engine: EngineSpec | None = None


class LegWatch:
    """Watches the leg that was asked for at `asked_s`.

    earliest_s: seconds after the leg's beginning before which it is not measured. longest_s:
    seconds after which it counts as warm in any case.
    began_s: when the leg began, NaN before. cut_s: when measuring begins, NaN before. ended_s: when
    its load ended by itself, infinite before. note: what the leg waits for. broken: why the leg
    gives no result; empty while it may.
    """

    def __init__(self, asked_s: float, *, earliest_s: float = 0.0, longest_s: float = 30.0) -> None:
        self.began_s = math.nan
        self.cut_s = math.nan
        self.ended_s = math.inf
        self.note = "starting"
        self.broken = ""
        self._asked_s = asked_s
        self._earliest_s = max(_WARM_UP_S, earliest_s)
        self._longest_s = max(longest_s, earliest_s)
        self._most_in_flight = 0

    @property
    def warm(self) -> bool:
        """Whether the leg is being measured."""
        return not math.isnan(self.cut_s)

    def follow(self, frame: Frame, recorder: Recorder) -> None:
        """Take in a frame."""
        if math.isnan(self.began_s):
            self._look_for_its_mark(frame)
        if math.isnan(self.began_s):
            return
        status = frame.status
        if status.load_failure is not None:
            self.broken = f"The load stopped: {status.load_failure.message}"
        if status.load_run.began_s >= self.began_s:
            # When a trace has ended, the requests still in flight do not belong to the leg.
            self.ended_s = status.load_run.ended_s
        if not self.warm:
            self._warm_up(frame, recorder)

    def _look_for_its_mark(self, frame: Frame) -> None:
        """Set `began_s` from the mark that the host makes when it begins a leg."""
        at_s = [m.t_s for m in frame.marks if m.kind == "leg" and m.t_s >= self._asked_s]
        if at_s:
            self.began_s = at_s[-1]
        elif frame.t_s - self._asked_s > _BEGINS_WITHIN_S and frame.serving:
            self.broken = "The engine did not begin the leg."

    def _warm_up(self, frame: Frame, recorder: Recorder) -> None:
        """Set `cut_s` once the leg is warm."""
        self._most_in_flight = max(self._most_in_flight, frame.accounting.in_flight)
        waited_s = frame.t_s - self.began_s
        turned_over = ended_between(recorder, self.began_s, frame.t_s)
        most = self._most_in_flight
        self.note = f"warming up, {min(turned_over, most)} of {most} requests"
        whole = turned_over >= max(1, self._most_in_flight)
        if (whole and waited_s >= self._earliest_s) or waited_s >= self._longest_s:
            # Exactly where the other leg was cut, unless this frame comes more than 1 s late.
            late = whole and waited_s > self._earliest_s + 1.0
            self.cut_s = frame.t_s if late or not whole else self.began_s + self._earliest_s


def ended_between(recorder: Recorder, start_s: float, end_s: float) -> int:
    """Number of requests that finished, were cut or cancelled; aborted ones do not count."""
    ended = recorder.ended.between(start_s, end_s)
    left = ended[:, [ENDED["good"], ENDED["cut"], ENDED["cancelled"]]]
    return int(np.count_nonzero(left.sum(axis=1)))
