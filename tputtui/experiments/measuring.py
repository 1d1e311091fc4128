"""Measures one setting: warm up, settle, measure. Front end's thread; receives frames.

A load begins on an empty engine; in a closed loop that causes a burst of prefills. So the window is
started anew after two seconds: it settles until all requests then in flight have left, and figures
count only from there on.
"""

from __future__ import annotations

from enum import StrEnum

from tputtui.engine.protocol import State
from tputtui.frame import SERVING, Frame

__all__ = ["Measuring", "Stage"]

_WARM_UP_S = 2.0


class Stage(StrEnum):
    """How far the measurement is."""

    BOOTING = "booting"
    WARMING = "warming up"
    SETTLING = "settling"
    MEASURING = "measuring"
    DONE = "done"
    FAILED = "failed"


class Measuring:
    """Waits for figures over `duration_s` seconds.

    load: the number of the order that starts the load; 0 accepts any load. A load that starts later
    is measured instead. A load that ends earlier is measured until its end.
    result: the newest frame with figures, None before there are any. measured_s: seconds measured.
    note: why it ended early or failed; empty otherwise.
    """

    def __init__(self, duration_s: float, load: int = 0) -> None:
        self.duration_s = duration_s
        self.load = load
        self.stage = Stage.BOOTING
        self.result: Frame | None = None
        self.note = ""
        self.measured_s = 0.0
        self._followed = 0

    @property
    def over(self) -> bool:
        """Whether the measurement is over."""
        return self.stage in (Stage.DONE, Stage.FAILED)

    def follow(self, frame: Frame) -> bool:
        """Take in a frame; whether the window must be started anew now."""
        status = frame.status
        if status.state is State.FAILED or status.load_failure is not None:
            failure = status.failure or status.load_failure
            self.stage, self.note = Stage.FAILED, str(failure)
        elif status.facts is not None and status.state in SERVING and not self.over:
            return self._go_on(frame)
        return False

    def _go_on(self, frame: Frame) -> bool:
        run = frame.status.load_run
        if run.number < max(1, self.load):
            return False
        if run.number != self._followed:
            self._followed, self.stage, self.result = run.number, Stage.WARMING, None
        if frame.status.state is not State.RUNNING:
            # The load may have begun and ended since the last frame. Requests that are still in
            # flight are not measured.
            self.stage, self.note = Stage.DONE, "the load ended"
            return False
        if self.stage is Stage.WARMING:
            if frame.t_s - run.began_s < _WARM_UP_S:
                return False
            self.stage = Stage.SETTLING
            return True
        window = frame.window
        if not (window.settled and window.phase.quotable):
            # Not settled yet, or no longer: the load has moved on to another level.
            self.stage, self.result = Stage.SETTLING, None
            return False
        self.stage, self.result = Stage.MEASURING, frame
        self.measured_s = window.end_s - window.since_s
        if self.measured_s >= self.duration_s:
            self.stage = Stage.DONE
        return False
