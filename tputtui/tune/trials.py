"""Every setting tried in one run, with what it gave and how that compares. Front end's thread.

Fed one frame after another. A setting is measured from when it has settled, for a minute at most:
what stands beside a row must not slide away while other rows are compared with it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from tputtui.errors import UsageError
from tputtui.frame import Frame, Trial
from tputtui.knobs import Knobs
from tputtui.measure.recorder import Recorder
from tputtui.measure.series import series
from tputtui.measure.verdict import Difference, Judgement, differences
from tputtui.profile import EngineSpec

__all__ = ["Trials"]

_EVERY_S = 1.0
_MEASURED_S = 60.0
_SHORT_S = 2.0
"""A setting left again so soon, and never measured, is no row: a key was held down."""
_KEPT = 500


class Trials:
    """The rows, oldest first; the last one is the present setting."""

    def __init__(self) -> None:
        self._rows: list[Trial] = []
        self._count = 0
        self._setting: object = None
        self._looked_s = -math.inf
        self.baseline: int | None = None

    def all(self) -> tuple[Trial, ...]:
        """Every row."""
        return tuple(self._rows)

    def find(self, number: int) -> Trial:
        """The row of that number. Raises UsageError when there is none."""
        for row in self._rows:
            if row.number == number:
                return row
        raise UsageError(f"There is no row {number}.", "h lists what was tried.")

    def pin(self, number: int | None) -> None:
        """Compare with that row from now on; None compares with the row before again."""
        if number is not None:
            self.find(number)
        self.baseline = number
        self._rows = [self._compared(replace(row, differences=())) for row in self._rows]

    def note(self, text: str) -> None:
        """Write something beside the present setting."""
        if self._rows:
            self._rows[-1] = replace(self._rows[-1], note=text)

    def follow(self, frame: Frame, recorder: Recorder) -> None:
        """Take in a frame."""
        facts, spec = frame.status.facts, frame.status.spec
        if not frame.serving or frame.asked is None or facts is None or spec is None:
            return
        setting = (frame.asked, frame.profile.load, frame.profile.goals, spec)
        if setting != self._setting:
            self._begin(frame, spec)
            self._setting = setting
        if frame.t_s - self._looked_s >= _EVERY_S:
            self._looked_s = frame.t_s
            self._look(frame, recorder)

    def _begin(self, frame: Frame, spec: EngineSpec) -> None:
        assert frame.asked is not None
        assert frame.status.facts is not None
        last = self._rows[-1] if self._rows else None
        unmeasured = last is not None and last.series is None and not last.note
        if last is not None and unmeasured and frame.t_s - last.t_s < _SHORT_S:
            self._rows.pop()
        before = self._rows[-1] if self._rows else None
        self._count += 1
        self._looked_s = -math.inf
        row = Trial(
            number=self._count,
            t_s=frame.t_s,
            turned="start",
            knobs=frame.asked,
            load=frame.profile.load,
            engine=spec,
            booted=frame.status.facts.booted,
        )
        if before is not None:
            row = replace(row, turned=row.differs(before) or "the same again")
        self._rows.append(row)
        del self._rows[:-_KEPT]

    def _look(self, frame: Frame, recorder: Recorder) -> None:
        """Measure the present setting, and compare it."""
        window, row = frame.window, self._rows[-1]
        if row.series is not None and row.series.length_s >= _MEASURED_S - _EVERY_S:
            # What is whole stays, also when the same setting is let go on after a pause.
            return
        row = self._rows[-1] = replace(row, phase=window.phase)
        start_s, period_s = window.since_s, frame.wanted.period_s
        length_s = min(window.end_s - start_s, max(_MEASURED_S, 2 * period_s))
        if period_s > 0:
            length_s -= length_s % period_s
        if window.phase.quotable and length_s > 0:
            found = series(recorder, start_s, start_s + length_s, frame.profile.goals)
            self._rows[-1] = self._compared(replace(row, series=found))

    def _compared(self, row: Trial) -> Trial:
        """The row with its differences from what it is compared with."""
        other = self._other(row)
        if row.series is None or other is None or other.series is None:
            return replace(row, against=None, differences=())
        before = row.differences if other.number == row.against else ()
        seen = differences(other.series, row.series)
        return replace(row, against=other.number, differences=_latched(before, seen))

    def other(self, knobs: Knobs, engine: EngineSpec) -> Trial | None:
        """What an A/B of `knobs` is run against: the baseline, else the last other limits.

        None where there are none, or only of another engine.
        """
        others = [row for row in self._rows if row.knobs != knobs and row.engine == engine]
        pinned = [row for row in others if row.number == self.baseline]
        return next(iter(pinned or others[-1:]), None)

    def _other(self, row: Trial) -> Trial | None:
        """What it is compared with: the baseline, else the last one before that was measured."""
        measured = [other for other in self._rows if other.series is not None]
        pinned = [other for other in measured if other.number == self.baseline]
        if pinned and pinned[0].number != row.number:
            return pinned[0]
        return next((o for o in reversed(measured) if o.number < row.number), None)


def _latched(before: Sequence[Difference], now: Sequence[Difference]) -> tuple[Difference, ...]:
    """The differences now; a row that was clear stays so: its interval held at every look."""
    clear = {old.metric.key: old for old in before if old.judgement.clear}
    return tuple(
        clear[new.metric.key]
        if new.judgement is Judgement.OPEN and new.metric.key in clear
        else new
        for new in now
    )
