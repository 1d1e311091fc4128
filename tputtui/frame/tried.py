"""Every setting tried in one run, its figures and how they compare. Front end's thread.

Receives one frame after another. A setting is limits, load and engine. A setting that is put on
again keeps its row, and is measured further. Each time that it is in force it is measured from the
moment it has settled, for a minute at most, or as long as was asked for: a row's figures must not
move while other rows are compared with it.

Table, diff, changes, frontier, report and profile all show these figures of a row. A verdict that
the figures no longer support is withdrawn.
"""

from __future__ import annotations

import math
from dataclasses import replace

from tputtui.engine.resolved import same_engine
from tputtui.errors import UsageError
from tputtui.frame import Frame, Tried
from tputtui.goals import Goal
from tputtui.knobs import Knobs
from tputtui.measure.recorder import Recorder
from tputtui.measure.splice import Spans, holds, series_of
from tputtui.measure.verdict import Difference, Verdict, differences
from tputtui.measure.window import SPAN_S, Phase
from tputtui.profile import EngineSpec

__all__ = ["TriedSettings", "between"]

_EVERY_S = 1.0
_ROUNDING_S = 1e-6
_SHORT_S = 2.0
"""A setting that is left again so soon, and was not measured, gets no row: a key was held down."""
_KEPT = 500
_COMPARED_ANEW = 8
"""Newest rows that are compared with the present one again while it is measured."""
_ANOTHER_LOAD = "another load: described, not judged"
_ANOTHER_BOOT = "across a boot: undecided, the machine may have drifted"
_NOT_STEADY = "not steady"
_NO_LONGER_SURE = "no change is within its interval again"


class TriedSettings:
    """The rows, in the order in which they were last put on; the present setting is last."""

    def __init__(self, measured_s: float = SPAN_S) -> None:
        """measured_s: how long a setting is measured each time that it is in force."""
        self._measured_s = measured_s
        self._rows: list[Tried] = []
        self._count = 0
        self._setting: object = None
        self._goals: tuple[Goal, ...] = ()
        self._since_s = math.nan
        self._levels: dict[int, float] = {}
        self._before: dict[int, int] = {}
        """By the number of a row: the row measured last before that row was put on."""
        self._looked_s = -math.inf
        self.baseline: int | None = None

    def all(self) -> tuple[Tried, ...]:
        """Every row."""
        return tuple(self._rows)

    def find(self, number: int) -> Tried:
        """The row with that number. Raises UsageError when there is none."""
        for row in self._rows:
            if row.number == number:
                return row
        raise UsageError(f"There is no row {number}.", "h lists what was tried.")

    def pin(self, number: int | None, now_s: float) -> None:
        """Compare with that row from now on; None: each with the row before it again."""
        if number is not None:
            self.find(number)
        self.baseline = number
        self._rows = [self._compared(_unjudged_yet(row), now_s) for row in self._rows]

    def note(self, text: str) -> None:
        """Write `text` beside the present setting."""
        if self._rows:
            self._rows[-1] = replace(self._rows[-1], note=text)

    def look_anew(self) -> None:
        """Measure the present setting with the next frame, however soon that is."""
        self._looked_s = -math.inf

    def follow(self, frame: Frame, recorder: Recorder) -> None:
        """Take in a frame."""
        facts, spec = frame.status.facts, frame.status.spec
        if not frame.serving or frame.asked is None or facts is None or spec is None:
            return
        if frame.profile.judged != self._goals:
            self._goals = frame.profile.judged
            self._judge_anew(recorder, frame.t_s)
        setting = (frame.asked, frame.profile.load, spec, facts.resolved)
        if setting != self._setting:
            self._leave(recorder, frame.t_s)
            self._begin(frame, spec)
            self._setting = setting
        if frame.t_s - self._looked_s >= _EVERY_S:
            self._looked_s = frame.t_s
            self._look(frame, recorder)

    def other(self, knobs: Knobs, engine: EngineSpec) -> Tried | None:
        """The row that an A/B compares `knobs` with: the baseline, else the last other limits.

        None where no other limits were tried on this engine.
        """
        others = [row for row in self._rows if row.knobs != knobs and row.engine == engine]
        pinned = [row for row in others if row.number == self.baseline]
        return next(iter(pinned or others[-1:]), None)

    # -- inside ----------------------------------------------------------------------------

    def _begin(self, frame: Frame, spec: EngineSpec) -> None:
        """Put the row of this setting last: its earlier row, or a new one."""
        assert frame.asked is not None
        assert frame.status.facts is not None
        last = self._rows[-1] if self._rows else None
        unmeasured = last is not None and last.series is None and not last.note
        if last is not None and unmeasured and frame.t_s - last.t_s < _SHORT_S:
            self._rows.pop()
        self._looked_s = -math.inf
        self._since_s = math.nan
        before = self._rows[-1] if self._rows else None
        got = frame.status.facts.got
        row = next(
            (
                row
                for row in self._rows
                if (row.knobs, row.load) == (frame.asked, frame.profile.load)
                and same_engine(row.engine, row.got, spec, got)
            ),
            None,
        )
        if row is not None:
            self._rows.remove(row)
            row = replace(row, t_s=frame.t_s)
        else:
            self._count += 1
            row = Tried(
                number=self._count,
                t_s=frame.t_s,
                changed="start",
                knobs=frame.asked,
                load=frame.profile.load,
                engine=spec,
                booted=frame.status.facts.booted,
                got=got,
            )
        if before is not None and before.number != row.number:
            row = _foretold(replace(row, changed=row.differs(before)), before, frame)
        measured = [r.number for r in self._rows if r.series is not None]
        if measured:
            self._before[row.number] = measured[-1]
        self._rows.append(self._compared(_unjudged_yet(row), frame.t_s))
        del self._rows[:-_KEPT]

    def _leave(self, recorder: Recorder, now_s: float) -> None:
        """The present setting is left: compare rows with all that it gave, once more."""
        if self._rows:
            present = self._rows[-1].number
            self._rows = [
                self._compared(row, now_s) if row.against == present else row for row in self._rows
            ]

    def _look(self, frame: Frame, recorder: Recorder) -> None:
        """Measure the present setting, and compare it."""
        window, row = frame.window, self._rows[-1]
        if not window.phase.quotable:
            if row.series is None:
                self._rows[-1] = replace(row, phase=window.phase)
            return
        period_s = frame.wanted.period_s
        length_s = min(window.end_s - window.since_s, max(self._measured_s, 2 * period_s))
        if period_s > 0:
            length_s -= length_s % period_s
        if not length_s > 0:
            return
        spans = row.spans
        if window.since_s != self._since_s:
            spans = self._kept(row, frame, recorder)
            self._since_s = window.since_s
        elif spans and spans[-1][1] - spans[-1][0] >= self._measured_s - _ROUNDING_S:
            # The span has its full length.
            return
        else:
            spans = spans[:-1]
        spans = (*spans, (window.since_s, window.since_s + length_s))
        row = replace(
            row, phase=window.phase, spans=spans, series=series_of(recorder, spans, self._goals)
        )
        self._rows[-1] = self._compared(row, frame.t_s)
        for i in range(max(0, len(self._rows) - 1 - _COMPARED_ANEW), len(self._rows) - 1):
            if self._rows[i].against == row.number:
                self._rows[i] = self._compared(self._rows[i], frame.t_s)

    def _kept(self, row: Tried, frame: Frame, recorder: Recorder) -> Spans:
        """The earlier spans of a row that a new span adds to."""
        level = frame.wanted.level if frame.wanted.period_s == 0 else math.nan
        before, self._levels[row.number] = self._levels.get(row.number, math.nan), level
        if not (math.isnan(before) or math.isnan(level) or before == level):
            # Each step of a staircase of loads is a setting of its own.
            return ()
        kept = row.spans[:-1] if row.phase is Phase.DRIFTING else row.spans
        return tuple(span for span in kept if holds(recorder, span[0]))

    def _judge_anew(self, recorder: Recorder, now_s: float) -> None:
        """The goals have changed: judge the same spans by the new goals."""
        for i, row in enumerate(self._rows):
            if row.series is None:
                continue
            if holds(recorder, row.spans[0][0]):
                series = series_of(recorder, row.spans, self._goals)
            else:
                values = {k: v for k, v in row.series.values.items() if k != "goodput_per_s"}
                series = replace(row.series, values=values)
            self._rows[i] = replace(_unjudged_yet(row), series=series)
        self._rows = [self._compared(row, now_s) for row in self._rows]

    def _compared(self, row: Tried, now_s: float) -> Tried:
        """The row with its differences from the row that it is compared with."""
        other = self._other(row)
        if row.series is None or other is None or other.series is None:
            return replace(_unjudged_yet(row), against=None)
        if other.number != row.against:
            row = _unjudged_yet(row)
        seen, why = between(other, row)
        row = replace(row, against=other.number, differences=seen, unjudged=why)
        return _decided(row, now_s)

    def _other(self, row: Tried) -> Tried | None:
        """The row to compare with: the baseline, else the row measured last before this one."""
        measured = {other.number: other for other in self._rows if other.series is not None}
        if self.baseline in measured and self.baseline != row.number:
            return measured[self.baseline]
        return measured.get(self._before.get(row.number, 0))


def between(old: Tried, new: Tried) -> tuple[tuple[Difference, ...], str]:
    """The differences of `new` from `old`, and why they are not judged; empty where they are.

    There are no differences where one of the two was not measured.
    """
    if old.series is None or new.series is None:
        return (), ""
    seen, why = differences(old.series, new.series), _unjudged(old, new)
    if why:
        seen = tuple(replace(each, judgement=_described(each), needs_s=math.nan) for each in seen)
    return seen, why


def _unjudged(old: Tried, new: Tried) -> str:
    """Why a difference is shown without a judgement; empty where it is judged.

    Another load explains a difference by itself. During the minutes of a boot the machine can drift
    by as much as the settings differ. A window with a trend has no single value.
    """
    if old.load != new.load:
        return _ANOTHER_LOAD
    if not new.same_engine(old):
        return _ANOTHER_BOOT
    if new.phase is Phase.DRIFTING:
        return _NOT_STEADY
    return f"{old.number} was not steady" if old.phase is Phase.DRIFTING else ""


def _described(row: Difference) -> Verdict:
    known = row.judgement is not Verdict.NOTHING and not math.isnan(row.change)
    return Verdict.UNJUDGED if known else row.judgement


def _foretold(row: Tried, before: Tried, frame: Frame) -> Tried:
    """The row with what was shown of it while `before` was in force."""
    alone = row.load == before.load and row.engine == before.engine
    shown = next((each for each in frame.outlooks if alone and each.knobs == row.knobs), None)
    figures = shown.figures if shown else {}
    return replace(
        row,
        predicted={key: figure.change for key, figure in figures.items()},
        predicted_from=before.number if figures else None,
    )


def _unjudged_yet(row: Tried) -> Tried:
    return replace(
        row, differences=(), unjudged="", decided_s=math.nan, withdrawn_s=math.nan, withdrawn=""
    )


def _decided(row: Tried, now_s: float) -> Tried:
    """The row with the time its headline was decided, and the time and reason of a withdrawal."""
    clear = row.differences[0].judgement.clear
    stands = not math.isnan(row.decided_s) and math.isnan(row.withdrawn_s)
    if clear and not stands:
        return replace(row, decided_s=now_s, withdrawn_s=math.nan, withdrawn="")
    if stands and not clear:
        return replace(row, withdrawn_s=now_s, withdrawn=row.unjudged or _NO_LONGER_SURE)
    return row
