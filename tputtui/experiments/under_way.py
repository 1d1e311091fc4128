"""The experiment under way: a sweep of the load, an A/B or the tuner, one at a time.

Front end's thread. It never gives orders: each call returns the setting that the session must put
on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from tputtui.engine.orders import Status
from tputtui.errors import TputError, UsageError
from tputtui.experiments.comparing import Comparing, Side
from tputtui.experiments.setting import Setting
from tputtui.experiments.sweeping import Sweeping
from tputtui.experiments.tuner.plan import Plan
from tputtui.experiments.tuner.tuning import Tuning
from tputtui.frame import CompareState, Frame, SweepState, TunerState
from tputtui.goals import Goal
from tputtui.knobs import Knobs
from tputtui.load.notation import describe_all_arrivals
from tputtui.load.workload import Workload
from tputtui.measure.recorder import Recorder
from tputtui.predict.foresight import Foresight
from tputtui.profile import EngineSpec

__all__ = ["Experiments", "Warm", "Wish"]


class Wish(NamedTuple):
    """A setting that an experiment wants to be put on."""

    text: str
    """For the mark."""
    load: Workload
    knobs: Knobs | None = None
    """None leaves the limits as they are."""
    fresh: bool = False
    """Whether to begin with an empty engine and the first request of the load."""
    warming: bool = False
    """Whether the first part is not measured: the window waits for `Warm`."""
    engine: EngineSpec | None = None
    """The engine to boot; None or the running one: no boot."""
    booted: Knobs | None = None
    """The limits as booted, from which those in `knobs` were changed."""


class Warm(NamedTuple):
    """The leg that was put on last is warm: its window begins at `at_s`."""

    at_s: float


class Experiments:
    """Starts, moves on and ends experiments; a new one ends the one before.

    foresight: predicts for the tuner.
    before: the setting that will be put back; None while no experiment is under way.
    sweep_state, compare_state, tuner_state: of the experiment under way, or the last one.
    """

    def __init__(self, foresight: Foresight) -> None:
        self._foresight = foresight
        self._sweeping: Sweeping | None = None
        self._comparing: Comparing | None = None
        self._tuning: Tuning | None = None
        self._tuned: Tuning | None = None
        self._engine: EngineSpec | None = None
        self._booted: Knobs | None = None
        self._awaited: EngineSpec | None = None
        self._refused: TputError | None = None
        self.before: Setting | None = None
        self.sweep_state: SweepState | None = None
        self.compare_state: CompareState | None = None
        self.tuner_state: TunerState | None = None

    @property
    def under_way(self) -> str:
        """The experiment under way: "a sweep", "an A/B", "the tuner", or empty."""
        if self._tuning:
            return "the tuner"
        return "a sweep" if self._sweeping else "an A/B" if self._comparing else ""

    @property
    def legs(self) -> bool:
        """Whether the experiment under way puts on legs: these are not settings of the person."""
        return self._comparing is not None or self._tuning is not None

    @property
    def tuned(self) -> tuple[EngineSpec, Setting] | None:
        """Engine and setting that the tuner offers; None when there is nothing to take."""
        return self._tuned.offer if self._tuned else None

    def sweep(self, present: Setting, now_s: float) -> Wish:
        """Begin a sweep. Raises UsageError for a load without a level to sweep."""
        sweeping = Sweeping(present.load, now_s)
        self._sweeping, self.before, self.sweep_state = sweeping, present, sweeping.state
        first = sweeping.load
        assert first is not None
        return _level(first)

    def compare(self, a: Knobs, present: Setting, goals: Sequence[Goal], now_s: float) -> Wish:
        """Begin an A/B of limits `a` against those of the present setting."""
        comparing = Comparing(Side(a), Side(present.knobs), present.load, goals, now_s)
        self._comparing, self.before, self.compare_state = comparing, present, comparing.state
        wish = self._leg(comparing)
        assert wish is not None
        return wish

    def tune(
        self,
        plan: Plan,
        present: Setting,
        status: Status,
        goals: Sequence[Goal],
        now_s: float,
    ) -> Wish:
        """Start the tuner from the present setting, on an engine that is up.

        Raises UsageError or KnobError for a plan that cannot be carried out.
        """
        assert status.spec is not None
        assert status.facts is not None
        tuning = Tuning(plan, present, status.spec, status.facts, goals, now_s, self._foresight)
        self._tuning = self._tuned = tuning
        self.before, self._engine, self._booted = present, status.spec, status.facts.booted
        self.tuner_state = tuning.state
        wish = self._leg(tuning, status)
        assert wish is not None
        return wish

    def finish(self, now_s: float) -> str:
        """End the tuner's search; what it does instead. Raises UsageError without a tuner."""
        if self._tuning is None:
            raise UsageError("The tuner is not under way.")
        return self._tuning.finish(now_s)

    def follow(self, frame: Frame, recorder: Recorder) -> Wish | Warm | None:
        """Take in a frame; what must be put on now, None for nothing."""
        if self.before is None:
            return None
        if self._awaited is not None:
            return self._follow_boot(frame)
        if not frame.serving:
            return self.stop("The engine stopped.")
        if self._tuning is not None:
            return self._follow_tuning(self._tuning, frame, recorder)
        if self._comparing is not None:
            return self._follow_comparing(self._comparing, frame, recorder)
        return self._follow_sweeping(frame, recorder)

    def stop(self, why: str) -> Wish | None:
        """End the experiment under way early; the setting to put back."""
        if self._sweeping is not None:
            self.sweep_state = self._sweeping.stop(why)
            return self._put_back("sweep stopped", self._sweeping.before)
        if self._comparing is not None:
            self.compare_state = self._comparing.stop(why)
            return self._put_back("A/B stopped")
        if self._tuning is not None:
            self._tuning.stop(why)
            self.tuner_state = self._tuning.state
            return self._put_back("tuner stopped")
        return None

    def forget(self) -> None:
        """Drop the last A/B's result: another setting is in force now."""
        if self._comparing is None:
            self.compare_state = None

    def _follow_sweeping(self, frame: Frame, recorder: Recorder) -> Wish | Warm | None:
        sweeping = self._sweeping
        if sweeping is None:
            return None
        was_warm = sweeping.warm
        wish: Wish | Warm | None = None
        if sweeping.follow(frame, recorder):
            load = sweeping.load
            wish = _level(load) if load else self._put_back("sweep done", sweeping.before)
        elif sweeping.broken:
            return self.stop(sweeping.broken)
        elif sweeping.warm and not was_warm:
            wish = Warm(sweeping.cut_s)
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

    def _follow_tuning(self, tuning: Tuning, frame: Frame, recorder: Recorder) -> Wish | None:
        wish = None
        if tuning.follow(frame, recorder):
            wish = self._leg(tuning, frame.status) or self._put_back("tuner done")
        self.tuner_state = tuning.state
        return wish

    def _follow_boot(self, frame: Frame) -> Wish | None:
        """Wait for the engine that the tuner's leg needs."""
        tuning, status = self._tuning, frame.status
        if tuning is None or status.failure is not None:
            self._awaited = None
            return self.stop("The engine stopped.")
        refused = status.refused if status.refused is not self._refused else None
        if not frame.serving or status.facts is None:
            return None
        if refused is not None:
            tuning.refused(refused, frame.t_s)
        elif status.spec == self._awaited:
            tuning.booted(status.facts, frame.t_s)
        else:
            return None
        self._awaited = None
        wish = self._leg(tuning, status) or self._put_back("tuner done")
        self.tuner_state = tuning.state
        return wish

    def _leg(self, legs: Comparing | Tuning, status: Status | None = None) -> Wish | None:
        leg = legs.leg
        if leg is None:
            return None
        if status is None or leg.engine is None or leg.engine == status.spec:
            return Wish(leg.text, leg.workload, leg.knobs, fresh=True)
        self._awaited, self._refused = leg.engine, status.refused
        return Wish(leg.text, leg.workload, leg.knobs, engine=leg.engine, booted=self._booted)

    def _put_back(self, why: str, load: Workload | None = None) -> Wish | None:
        """The setting before the experiment; `load` alone after a sweep."""
        before, self.before = self.before, None
        fresh, engine = self.legs, self._engine
        self._sweeping = self._comparing = self._tuning = None
        self._engine = self._awaited = None
        if before is None:
            return None
        if load is not None:
            return Wish(f"{why}: back to {describe_all_arrivals(load)}", load, fresh=True)
        return Wish(why, before.load, before.knobs, fresh, engine=engine, booted=self._booted)


def _level(load: Workload) -> Wish:
    """The wish for a level of a sweep: the present limits, from an empty engine."""
    text = f"sweep: {describe_all_arrivals(load)}"
    return Wish(text, load, fresh=True, warming=True)
