"""Collects one point for every setting that was measured: the throughput-latency frontier.

Front end's thread; receives one frame after another. A point covers the same spans of time as its
row of the history, so that both show the same figures.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from tputtui.frame import Frame, Tried
from tputtui.goals import Goal
from tputtui.knobs import kept_limits
from tputtui.load.notation import describe_all_arrivals
from tputtui.measure.frontier import Point, letter
from tputtui.measure.recorder import Recorder
from tputtui.measure.splice import Spans, goodput_of, holds, length_of, view
from tputtui.measure.window import Figures, Latencies, Phase, figures, latencies

__all__ = ["Points"]

MIN_REQUESTS = 30
MIN_WINDOW_S = 10.0
_KEPT = 200


def ended(frame: Frame) -> int:
    """Requests that finished in the window."""
    return _finished(frame.figures, frame.window.length_s)


class Points:
    """The points of one run, in the order of their letters."""

    def __init__(self) -> None:
        self._points: dict[tuple[int, float], Point] = {}
        self._spans: dict[tuple[int, float], Spans] = {}
        self._goals: tuple[Goal, ...] = ()
        self._letters: dict[tuple[int, float], str] = {}
        self._seen: Tried | None = None

    def all(self) -> tuple[Point, ...]:
        """Every point, in the order of their letters."""
        return tuple(
            sorted(self._points.values(), key=lambda point: (len(point.label), point.label))
        )

    def clear(self) -> None:
        """Drop every point; the present setting gets one again while it is measured."""
        self._points.clear()
        self._spans.clear()
        self._letters.clear()

    def follow(
        self, frame: Frame, recorder: Recorder, row: Tried | None = None, *, swept: bool
    ) -> None:
        """Take in a frame, and the history's row of the present setting.

        swept: whether a sweep puts the setting on.
        """
        if frame.profile.judged != self._goals:
            self._goals = frame.profile.judged
            self._judge_anew(recorder)
        if row is None or row is self._seen or not row.spans:
            return
        self._seen = row
        length_s = length_of(row.spans)
        window = view(recorder, row.spans)
        pooled = figures(*window)
        # Each step of a staircase of loads is a setting of its own.
        level = frame.wanted.level if frame.wanted.period_s == 0 else math.nan
        key = (row.number, -1.0 if math.isnan(level) else float(f"{level:g}"))
        known = self._points.get(key)
        if not _counts(row.phase, pooled, length_s):
            if known is not None:
                # The row has grown since, and its window no longer counts.
                del self._points[key], self._spans[key]
            return
        swept = swept if known is None else known.swept
        label = self._letters.setdefault(key, letter(len(self._letters)))
        point = _point(frame, row, pooled, latencies(*window), label, swept=swept)
        per_s = _goodput_per_s(recorder, row.spans, self._goals)
        self._points[key] = replace(point, goodput_per_s=per_s)
        self._spans[key] = row.spans
        for oldest in list(self._points)[:-_KEPT]:
            del self._points[oldest], self._spans[oldest]

    def _judge_anew(self, recorder: Recorder) -> None:
        """The goals have changed: judge the same spans by the new goals."""
        for key, spans in self._spans.items():
            per_s = math.nan
            if holds(recorder, spans[0][0]):
                per_s = _goodput_per_s(recorder, spans, self._goals)
            self._points[key] = replace(self._points[key], goodput_per_s=per_s)


def _counts(phase: Phase, pooled: Figures, length_s: float) -> bool:
    """Whether a window gets a point: it is long enough, has enough requests, and is steady.

    A saturated window counts as well: its throughput is valid, and its latencies show how long the
    queue has grown.
    """
    whole = phase is Phase.STEADY or (phase is Phase.DRIFTING and pooled.saturated)
    return whole and length_s >= MIN_WINDOW_S and _finished(pooled, length_s) >= MIN_REQUESTS


def _finished(pooled: Figures, length_s: float) -> int:
    rate = pooled.achieved_per_s
    return 0 if math.isnan(rate) else round(rate * length_s)


def _point(
    frame: Frame, row: Tried, pooled: Figures, waits: Latencies, label: str, *, swept: bool
) -> Point:
    length_s = length_of(row.spans)
    return Point(
        label=label,
        knobs=kept_limits(row.knobs, row.booted),
        load=describe_all_arrivals(row.load),
        level=frame.wanted.level,
        tokens_per_s=pooled.generated_per_s,
        requests_per_s=pooled.achieved_per_s,
        latency={"ttft": waits.ttft, "tpot": waits.tpot, "e2e": waits.e2e},
        n=_finished(pooled, length_s),
        window_s=length_s,
        offered_per_s=pooled.offered_per_s,
        tokens_per_joule=frame.tokens_per_joule,
        cost_per_mtok=frame.cost_per_mtok,
        saturated=pooled.saturated,
        steady=row.phase is Phase.STEADY,
        swept=swept,
        trial=row.number,
    )


def _goodput_per_s(recorder: Recorder, spans: Spans, goals: Sequence[Goal]) -> float:
    """Requests that met every goal, per second; NaN without goals."""
    return goodput_of(recorder, spans, goals).per_s if goals else math.nan
