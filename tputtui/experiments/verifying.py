"""A verify boot: boots an engine with exactly the tuned values and measures the same load again.

Ceilings shape an engine: vLLM profiles memory and captures CUDA graphs for them. So an engine
booted with exactly the tuned values may perform differently from the engine on which they were
tuned. Front end's thread; receives frames.
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
from tputtui.measure.verdict import Difference, Verdict, once
from tputtui.measure.window import Phase
from tputtui.profile import EngineSpec
from tputtui.profile.answering import changes_answers
from tputtui.profile.evidence import Evidence, Measured

__all__ = ["Next", "Verifying", "check_real", "check_window", "is_measured", "waiting"]

_SHORTEST_S, _LONGEST_S = 10.0, 60.0


def check_real(simulated: str) -> None:
    """Raise UsageError on a simulated device: `simulated` names it, and is empty on a real one."""
    if simulated:
        raise UsageError(
            "A simulation verifies nothing.",
            "Save the profile, and `tputtui verify --anew` it on the device it is for.",
        )


def check_window(frame: Frame) -> None:
    """Raise UsageError where the present setting will not get figures to compare with."""
    phase = frame.window.phase
    if not (phase.quotable or phase is Phase.SETTLING):
        raise UsageError(
            f"There is nothing to compare with: the window is {phase.value}.",
            "It needs a steady load; then press v again.",
        )


def is_measured(frame: Frame) -> bool:
    """Whether the present setting has figures to compare with."""
    return frame.window.phase.quotable and frame.window.length_s >= _SHORTEST_S


def waiting(frame: Frame) -> CompareState:
    """The state while the verify boot waits for the figures of the present setting."""
    doing = frame.window.turnover or f"measured for {frame.window.length_s:.0f} s"
    note = f"the setting is measured first: {doing}"
    return CompareState("", 0, note, False, (), "verify")


class Next(Enum):
    """What the session must do now."""

    NOTHING = "nothing"
    BEGIN = "begin"
    """Empty the engine, and start the load with its first request."""
    ANEW = "anew"
    """Start the window anew."""


class Verifying:
    """Compares engine `spec`, once it is up, with the figures of `frame`.

    Values and load are the same as in `frame`.
    refused: the error of an earlier boot that the status still contains; None for none.
    evidence: both sets of figures and their difference, once the comparison is over.
    Raises UsageError when the frame has no figures to compare with.
    """

    title = "verify"
    served = False
    """Whether vLLM's own server is booted."""

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
        self._changes = changes_answers(frame.profile)
        self._before = _series(frame, recorder)
        self._after: Series | None = None
        self._stale = refused
        self._measuring = Measuring(min(max(window.length_s, _SHORTEST_S), _LONGEST_S))
        self._begun = self._over = False
        self._note = "booting with exactly these values"
        self._differences: tuple[Difference, ...] = ()

    @property
    def over(self) -> bool:
        """Whether the comparison is over."""
        return self._over

    @property
    def state(self) -> CompareState:
        """How far the comparison is."""
        left_s = math.nan
        if self._measuring.stage is Stage.MEASURING and not self._over:
            left_s = max(0.0, self._measuring.duration_s - self._measuring.measured_s)
        return CompareState(
            "", 0, self._note, self._over, self._differences, self.title, left_s=left_s
        )

    def stop(self, why: str) -> None:
        """End the comparison early, if it is not over."""
        if not self._over:
            self._end(f"Stopped early. {why}")

    def is_of(self, engine: EngineSpec, knobs: Knobs | None, load: Workload) -> bool:
        """Whether the result is about this setting."""
        return (engine, knobs, load) == (self.spec, self.knobs, self.load)

    def begun(self, order: int) -> None:
        """The order with the number `order` starts the load with its first request."""
        self._measuring.load = order

    def follow(self, frame: Frame, recorder: Recorder) -> Next:
        """Take in a frame; what the session must do now."""
        if self._over:
            return Next.NOTHING
        refused = frame.status.refused
        if refused is not None and refused is not self._stale:
            self._refused(refused)
            return Next.NOTHING
        if not self._begun:
            status = frame.status
            if frame.serving and (status.spec, status.served) == (self.spec, self.served):
                self._begun, self.knobs = True, frame.asked
                return Next.BEGIN
            return Next.NOTHING
        anew = self._measuring.follow(frame)
        stage = self._measuring.stage
        self._note = self._progress(frame)
        if stage is Stage.MEASURING or stage is Stage.DONE:
            self._compare(recorder)
        if stage is Stage.FAILED:
            self._end(f"The engine failed: {self._measuring.note}")
        return Next.ANEW if anew else Next.NOTHING

    # -- inside ----------------------------------------------------------------------------

    def _progress(self, frame: Frame) -> str:
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
        verified = measured(frame, recorder)
        if verified is None:
            self._end("Nothing could be measured.")
            return
        self._after = _series(frame, recorder)
        self._differences = once(self._before, self._after)
        self._conclude(verified)

    def _conclude(self, again: Measured) -> None:
        """Say what came of it. again: the figures of the engine that was booted."""
        self.evidence = compared(self._tuned, again, self._changes)
        self._end(self._verdict())

    def _verdict(self) -> str:
        worse = [row for row in self._differences if row.judgement is Verdict.WORSE]
        better = [row for row in self._differences if row.judgement is Verdict.BETTER]
        if worse:
            names = ", ".join(f"{row.metric.label} {row.change:+.1%}" for row in worse)
            return (
                f"Booted with exactly these values it is worse: {names}, by more than this machine "
                "drifted meanwhile. s saves both figures."
            )
        called, more = "Verified", ""
        if self._changes:
            called = "Not called verified"
            more = (
                f" {', '.join(self._changes)} may change answers: `tputtui verify --quality` "
                "compares them."
            )
        if better:
            names = ", ".join(f"{row.metric.label} {row.change:+.1%}" for row in better)
            found = f"better in {names}"
        else:
            found = (
                "no figure differs from the tuned one by more than this machine "
                f"drifts{self._drift()}"
            )
        return f"{called}: booted with exactly these values, {found}.{more} s saves it."

    def _drift(self) -> str:
        """The larger drift of the headline within the two windows, in words; empty if unknown."""
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
    return series(recorder, window.start_s, window.end_s, frame.profile.judged, every=True)
