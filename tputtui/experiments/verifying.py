"""A verify boot: the tuned values as what is booted, the same load, and what that changes.

Ceilings shape an engine: memory is profiled and CUDA graphs are captured for them. So one booted
with exactly the tuned values may differ from the one that they were tuned on. Front end's thread;
fed frames.
"""

from __future__ import annotations

import math
from enum import Enum

from tputtui.errors import TputError, UsageError
from tputtui.experiments.measuring import Measuring, Stage
from tputtui.frame import CompareState, Frame
from tputtui.frame.proof import compared, measured
from tputtui.knobs import Knobs
from tputtui.load.workload import Workload
from tputtui.measure.recorder import Recorder
from tputtui.measure.series import Series, series
from tputtui.measure.verdict import Difference, Judgement, once
from tputtui.measure.window import Phase
from tputtui.profile import EngineSpec
from tputtui.profile.evidence import Evidence

__all__ = ["Next", "Verifying", "check_real", "check_window", "is_measured", "waiting"]

_SHORTEST_S, _LONGEST_S = 10.0, 60.0


def check_real(simulated: str) -> None:
    """Raise UsageError where what is to be verified runs, as this says, on a simulated device."""
    if simulated:
        raise UsageError(
            "A simulation verifies nothing.",
            "Save the profile, and `tputtui verify --anew` it on the device it is for.",
        )


def check_window(frame: Frame) -> None:
    """Raise UsageError where the setting that stands will get no figures to compare with."""
    phase = frame.window.phase
    if not (phase.quotable or phase is Phase.SETTLING):
        raise UsageError(
            f"There is nothing to compare with: the window is {phase.value}.",
            "It needs a load that arrives and stands still; then v again.",
        )


def is_measured(frame: Frame) -> bool:
    """Whether the setting that stands has figures to compare with."""
    return frame.window.phase.quotable and frame.window.length_s >= _SHORTEST_S


def waiting(frame: Frame) -> CompareState:
    """How far it is while those figures are waited for."""
    doing = frame.window.turnover or f"measured for {frame.window.length_s:.0f} s"
    note = f"the setting is measured first: {doing}"
    return CompareState("", 0, note, False, (), "verify")


class Next(Enum):
    """What is to be done now."""

    NOTHING = "nothing"
    BEGIN = "begin"
    """Empty the engine, and begin the load with its first request."""
    ANEW = "anew"
    """Begin the window anew."""


class Verifying:
    """Compares `spec`, once it is up, with what `frame` says of the same values and load.

    refused: of a boot before this one, if it stands in the status still.
    evidence: both sets of figures and their difference, once it is over.
    Raises UsageError when the frame has no figures to compare with.
    """

    def __init__(
        self, frame: Frame, recorder: Recorder, spec: EngineSpec, refused: TputError | None
    ) -> None:
        tuned, window = measured(frame, recorder), frame.window
        if tuned is None:
            raise UsageError(f"Nothing to compare with: the window is {window.phase.value}.")
        self.spec = spec
        self.load = frame.profile.load
        self.knobs: Knobs | None = None
        self.evidence: Evidence | None = None
        self._tuned = tuned
        self._before = _series(frame, recorder)
        self._after: Series | None = None
        self._stale = refused
        self._measuring = Measuring(min(max(window.length_s, _SHORTEST_S), _LONGEST_S))
        self._begun = self._over = False
        self._note = "booting with exactly these values"
        self._differences: tuple[Difference, ...] = ()

    @property
    def over(self) -> bool:
        """Whether there is nothing more to wait for."""
        return self._over

    @property
    def state(self) -> CompareState:
        """How far it is."""
        return CompareState("", 0, self._note, self._over, self._differences, "verify")

    def stop(self, why: str) -> None:
        """Break it off, if it is not over."""
        if not self._over:
            self._end(f"Broken off. {why}")

    def is_of(self, engine: EngineSpec, knobs: Knobs | None, load: Workload) -> bool:
        """Whether what it found is about this setting."""
        return (engine, knobs, load) == (self.spec, self.knobs, self.load)

    def begun(self, order: int) -> None:
        """The load begins with its first request by the order of that number."""
        self._measuring.load = order

    def follow(self, frame: Frame, recorder: Recorder) -> Next:
        """Take in a frame; what is to be done now."""
        if self._over:
            return Next.NOTHING
        refused = frame.status.refused
        if refused is not None and refused is not self._stale:
            self._refused(refused)
            return Next.NOTHING
        if not self._begun:
            if frame.serving and frame.status.spec == self.spec:
                self._begun, self.knobs = True, frame.asked
                return Next.BEGIN
            return Next.NOTHING
        anew = self._measuring.follow(frame)
        stage = self._measuring.stage
        self._note = self._told(frame)
        if stage is Stage.MEASURING or stage is Stage.DONE:
            self._compare(recorder)
        if stage is Stage.FAILED:
            self._end(f"The engine failed: {self._measuring.note}")
        return Next.ANEW if anew else Next.NOTHING

    # -- inside ----------------------------------------------------------------------------

    def _told(self, frame: Frame) -> str:
        measuring = self._measuring
        if measuring.stage is Stage.MEASURING:
            return f"measuring, {measuring.measured_s:.0f} of {measuring.duration_s:.0f} s"
        if measuring.stage is Stage.SETTLING and frame.window.turnover:
            return f"settling: {frame.window.turnover}"
        return measuring.stage.value

    def _compare(self, recorder: Recorder) -> None:
        frame = self._measuring.result
        if frame is None:
            self._end("The load ended before anything could be measured.")
            return
        if self._measuring.stage is not Stage.DONE:
            return
        found = measured(frame, recorder)
        if found is None:
            self._end("Nothing could be measured.")
            return
        self._after = _series(frame, recorder)
        self._differences = once(self._before, self._after)
        self.evidence = compared(self._tuned, found)
        self._end(self._verdict())

    def _verdict(self) -> str:
        worse = [row for row in self._differences if row.judgement is Judgement.WORSE]
        better = [row for row in self._differences if row.judgement is Judgement.BETTER]
        if worse:
            names = ", ".join(f"{row.metric.label} {row.change:+.1%}" for row in worse)
            return (
                f"Booted with exactly these values it is worse: {names}, by more than this machine "
                "drifted meanwhile. s saves both figures."
            )
        if better:
            names = ", ".join(f"{row.metric.label} {row.change:+.1%}" for row in better)
            return f"Verified: booted with exactly these values, better in {names}. s saves it."
        return (
            "Verified: booted with exactly these values, no figure is apart from the tuned one by "
            f"more than this machine drifts{self._drift()}. s saves it."
        )

    def _drift(self) -> str:
        """By how much the headline drifted within either window, in words."""
        if not self._differences or self._after is None:
            return ""
        metric = self._differences[0].metric
        windows = (self._before.values.get(metric.key), self._after.values.get(metric.key))
        drift = max((each.drift for each in windows if each), default=math.nan)
        return f" ({metric.label} by {drift:.1%})" if math.isfinite(drift) else ""

    def _refused(self, refused: TputError) -> None:
        self._end(f"vLLM does not boot with exactly these values: {refused.message}")

    def _end(self, note: str) -> None:
        self._note, self._over = note, True


def _series(frame: Frame, recorder: Recorder) -> Series:
    window = frame.window
    return series(recorder, window.start_s, window.end_s, frame.profile.goals, every=True)
