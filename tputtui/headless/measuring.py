"""Measures one setting and stops: warm up, settle, measure. Front end's thread, fed frames.

The load begins on an empty engine, in a closed loop with a burst of prefills. So two seconds in,
or once as many are in flight as there will be, the window is begun anew: it settles until all of
those have left, and only then are figures taken.
"""

from __future__ import annotations

from enum import StrEnum

from tputtui.engine.protocol import State
from tputtui.frame import Frame
from tputtui.load.workload import Recorded
from tputtui.session import Session

__all__ = ["Measuring", "Stage"]

_WARM_UP_S = 2.0
_BEGINS_WITHIN_S = 60.0
_UP = (State.RUNNING, State.DRAINING, State.READY, State.PAUSED)


class Stage(StrEnum):
    """How far it is."""

    BOOTING = "booting"
    WARMING = "warming up"
    SETTLING = "settling"
    MEASURING = "measuring"
    DONE = "done"
    FAILED = "failed"


class Measuring:
    """Brings `session`, which has been started, to figures over `duration_s` seconds.

    A trace that does not repeat is measured to its end at most. result: the frame with the
    figures; None before there are any. note: what was out of the ordinary.
    """

    def __init__(self, session: Session, duration_s: float) -> None:
        self._session = session
        self._duration_s = duration_s
        self._loaded_s: float | None = None
        self.stage = Stage.BOOTING
        self.result: Frame | None = None
        self.note = ""
        self.measured_s = 0.0

    @property
    def over(self) -> bool:
        """Whether there is nothing more to wait for."""
        return self.stage in (Stage.DONE, Stage.FAILED)

    def look(self) -> Frame:
        """Take a frame, and go on by what it shows."""
        frame = self._session.frame()
        status = frame.status
        if status.state is State.FAILED:
            self.stage = Stage.FAILED
        elif status.facts is not None and status.state in _UP:
            self._follow(frame)
        return frame

    def _follow(self, frame: Frame) -> None:
        if frame.status.load_failure is not None:
            self.note = str(frame.status.load_failure)
            self.stage = Stage.FAILED
            return
        now_s, running = frame.t_s, frame.status.state is State.RUNNING
        if self._loaded_s is None:
            if running:
                self._loaded_s, self.stage = now_s, Stage.WARMING
            return
        if self.stage is Stage.WARMING and now_s - self._loaded_s >= _WARM_UP_S:
            self._session.measure_anew()
            self.stage = Stage.SETTLING
            return
        window = frame.window
        ended = not running and self.stage in (Stage.SETTLING, Stage.MEASURING)
        if self.stage is Stage.SETTLING and window.settled and window.phase.quotable:
            self.stage = Stage.MEASURING
        if self.stage is Stage.MEASURING and window.phase.quotable:
            self.result = frame
            self.measured_s = window.end_s - window.since_s
            if self.measured_s >= self._duration_s:
                self.stage = Stage.DONE
        elif self.stage is Stage.MEASURING and running:
            # The load has moved on: what was measured is of another level.
            self.stage, self.result = Stage.SETTLING, None
        if ended and not self.over:
            self.stage = Stage.DONE
            trace = isinstance(frame.profile.load.arrivals, Recorded) or frame.profile.load.trace
            self.note = "the trace ended" if trace else "the load ended"
