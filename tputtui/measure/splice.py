"""Several stretches of a run as one: what a setting gave each time that it stood. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from tputtui.goals import Goal
from tputtui.measure.attainment import Goodput, goodput
from tputtui.measure.recorder import ENDED, Recorder, Table
from tputtui.measure.series import Series, series

__all__ = ["Spans", "goodput_of", "holds", "length_of", "series_of", "spliced", "view"]

Spans = tuple[tuple[float, float], ...]
"""Stretches of a run, (start, end) in seconds, in order of time and apart."""
_TABLES = ("steps", "gaps", "first_tokens", "ended", "issued")


def spliced(recorder: Recorder, spans: Spans) -> Recorder:
    """What was recorded in `spans`, one after the other, as a run of its own that begins at 0 s.

    A row belongs to the span with start < its time ≤ end. Only the times that rows are found by are
    moved, and when those that ended were due.
    """
    run = Recorder()
    for name in _TABLES:
        parts, before_s = [], 0.0
        for start_s, end_s in spans:
            rows = getattr(recorder, name).between(start_s, end_s).copy()
            after_s = before_s + (end_s - start_s)
            if name == "ended":
                rows[:, ENDED["due_s"]] += before_s - start_s
            # Rounding must carry no row across the end of its span.
            rows[:, 0] = np.clip(
                rows[:, 0] - start_s + before_s, np.nextafter(before_s, np.inf), after_s
            )
            parts.append(rows)
            before_s = after_s
        setattr(run, name, Table(np.concatenate(parts)))
    return run


def view(recorder: Recorder, spans: Spans) -> tuple[Recorder, float, float]:
    """A run in which the spans are one window, and that window: of one span nothing is copied."""
    if len(spans) == 1:
        return (recorder, *spans[0])
    return spliced(recorder, spans), 0.0, length_of(spans)


def series_of(
    recorder: Recorder, spans: Spans, goals: Sequence[Goal], *, every: bool = False
) -> Series:
    """What all of them gave, pooled; as `measure.series.series` gives it of one."""
    found = series(*view(recorder, spans), goals, every=every)
    return replace(found, start_s=spans[0][0])


def length_of(spans: Spans) -> float:
    """Seconds in all of them together."""
    return sum(end_s - start_s for start_s, end_s in spans)


def holds(recorder: Recorder, since_s: float) -> bool:
    """Whether every row later than `since_s` is still there: the rings keep the newest."""
    for name in _TABLES:
        rows = getattr(recorder, name)
        kept = rows.since(0, rows.count)
        if len(kept) < rows.count and not kept[0, 0] <= since_s:
            return False
    return True


def goodput_of(recorder: Recorder, spans: Spans, goals: Sequence[Goal]) -> Goodput:
    """How all of them kept the goals, pooled.

    Requests that were late at the end of a span and had not ended are counted of one span alone: in
    several, they end in none or in another.
    """
    run, start_s, end_s = view(recorder, spans)
    if run is not recorder:
        run.issued = Table(np.zeros((0, 1)))
    return goodput(run, goals, start_s, end_s)
