"""Measures one setting: warm up, settle, measure. Front end's thread; fed frames.

A load begins on an empty engine, in a closed loop with a burst of prefills. So two seconds in the
window is begun anew: it settles until all that was in flight then has left, and only from there on
are figures taken.
"""

from __future__ import annotations

from enum import StrEnum

from tputtui.engine.protocol import State
from tputtui.frame import SERVING, Frame

__all__ = ["Measuring", "Stage"]

_WARM_UP_S = 2.0


class Stage(StrEnum):
    """How far it is."""

    BOOTING = "booting"
    WARMING = "warming up"
    SETTLING = "settling"
    MEASURING = "measuring"
    DONE = "done"
    FAILED = "failed"


class Measuring:
    """Waits for figures over `duration_s` seconds.

    load: the number of the order that puts the load on; with 0 any load will do. One that is put
    on later is measured in its place.
    A load that ends before is measured until then. result: the newest frame with figures, None
    before there are any. measured_s: seconds measured. note: what was out of the ordinary.
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
        """Whether there is nothing more to wait for."""
        return self.stage in (Stage.DONE, Stage.FAILED)

    def follow(self, frame: Frame) -> bool:
        """Take in a frame; whether the window is to be begun anew now."""
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
            # It may have begun and ended since the last look. What is in flight still is no part
            # of it.
            self.stage, self.note = Stage.DONE, "the load ended"
            return False
        if self.stage is Stage.WARMING:
            if frame.t_s - run.began_s < _WARM_UP_S:
                return False
            self.stage = Stage.SETTLING
            return True
        window = frame.window
        if not (window.settled and window.phase.quotable):
            # Still, or again: a load that has moved on to another level.
            self.stage, self.result = Stage.SETTLING, None
            return False
        self.stage, self.result = Stage.MEASURING, frame
        self.measured_s = window.end_s - window.since_s
        if self.measured_s >= self.duration_s:
            self.stage = Stage.DONE
        return False
