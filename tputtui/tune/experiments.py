"""What turns things by itself: a sweep of the load, or an A/B of two settings. One at a time.

Front end's thread. It never gives orders: each call answers with what the session is to put on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from tputtui.frame import CompareState, Frame, SweepState
from tputtui.goals import Goal
from tputtui.knobs import Knobs
from tputtui.load.notation import describe_arrivals
from tputtui.load.workload import Workload
from tputtui.measure.recorder import Recorder
from tputtui.tune.comparing import Comparing
from tputtui.tune.sweeping import Sweeping
from tputtui.tune.turns import Setting

__all__ = ["Experiments", "Wish"]


class Wish(NamedTuple):
    """A setting to be put on; `text` goes on its mark.

    knobs: None leaves the limits as they are. fresh: from an empty engine, the load from its
    first request on.
    """

    text: str
    load: Workload
    knobs: Knobs | None = None
    fresh: bool = False


class Experiments:
    """Starts, follows and ends them; a new one breaks off the one before.

    before: the setting that will be put back; None while nothing is under way.
    sweep_state, compare_state: of the one under way, or the last one.
    """

    def __init__(self) -> None:
        self._sweeping: Sweeping | None = None
        self._comparing: Comparing | None = None
        self.before: Setting | None = None
        self.sweep_state: SweepState | None = None
        self.compare_state: CompareState | None = None

    @property
    def under_way(self) -> str:
        """Which of them is: "a sweep", "an A/B", or nothing."""
        return "a sweep" if self._sweeping else "an A/B" if self._comparing else ""

    def sweep(self, present: Setting, now_s: float) -> Wish:
        """Begin a sweep. Raises UsageError for a load without a level to sweep."""
        sweeping = Sweeping(present.load, now_s)
        self._sweeping, self.before, self.sweep_state = sweeping, present, sweeping.state
        first = sweeping.load
        assert first is not None
        return Wish(f"sweep: {describe_arrivals(first.arrivals)}", first)

    def compare(self, a: Knobs, present: Setting, goals: Sequence[Goal], now_s: float) -> Wish:
        """Begin an A/B of limits `a` against those of the present setting."""
        comparing = Comparing(a, present.knobs, present.load, goals, now_s)
        self._comparing, self.before, self.compare_state = comparing, present, comparing.state
        wish = self._leg(comparing)
        assert wish is not None
        return wish

    def follow(self, frame: Frame, recorder: Recorder) -> Wish | None:
        """Take in a frame; what is to be put on now, if anything."""
        if self.before is None:
            return None
        if not frame.serving:
            return self.stop("The engine stopped.")
        if self._comparing is not None:
            return self._follow_comparing(self._comparing, frame, recorder)
        return self._follow_sweeping(frame)

    def stop(self, why: str) -> Wish | None:
        """Break off what is under way; what is to be put back."""
        if self._sweeping is not None:
            self.sweep_state = self._sweeping.stop(why)
            return self._put_back("sweep stopped", self._sweeping.before)
        if self._comparing is not None:
            self.compare_state = self._comparing.stop(why)
            return self._put_back("A/B stopped")
        return None

    def forget(self) -> None:
        """What the last A/B found is about another setting now."""
        if self._comparing is None:
            self.compare_state = None

    def _follow_sweeping(self, frame: Frame) -> Wish | None:
        sweeping = self._sweeping
        if sweeping is None:
            return None
        wish = None
        if sweeping.follow(frame):
            load = sweeping.load
            if load is not None:
                wish = Wish(f"sweep: {describe_arrivals(load.arrivals)}", load)
            else:
                wish = self._put_back("sweep done", sweeping.before)
        self.sweep_state = sweeping.state
        return wish

    def _follow_comparing(
        self, comparing: Comparing, frame: Frame, recorder: Recorder
    ) -> Wish | None:
        wish = None
        if comparing.follow(frame, recorder):
            wish = self._leg(comparing) or self._put_back("A/B done")
        self.compare_state = comparing.state
        return wish

    def _leg(self, comparing: Comparing) -> Wish | None:
        leg = comparing.leg
        return Wish(leg.text, leg.workload, leg.knobs, fresh=True) if leg else None

    def _put_back(self, why: str, load: Workload | None = None) -> Wish | None:
        """Everything as it was; of a sweep, that is the load alone."""
        before, self.before = self.before, None
        fresh, self._sweeping, self._comparing = self._comparing is not None, None, None
        if before is None:
            return None
        if load is not None:
            return Wish(f"{why}: back to {describe_arrivals(load.arrivals)}", load)
        return Wish(why, before.load, before.knobs, fresh)
