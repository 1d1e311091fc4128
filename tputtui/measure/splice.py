"""Several stretches of a run as one window: all the times that a setting was in force. Pure."""

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
"""Stretches of a run, (start, end) in seconds of the engine clock: in order, without overlap."""
_TABLES = ("steps", "engine_steps", "gaps", "first_tokens", "ended", "issued")


def spliced(recorder: Recorder, spans: Spans) -> Recorder:
    """The rows recorded in `spans`, one span after the other, as a run that begins at 0 s.

    A row belongs to the span with start < its time ≤ end. Only the first column of each table (the
    time by which rows are selected) is moved, and the due time of requests that ended.
    """
    run = Recorder()
    run.labels = recorder.labels
    run.note_engines(recorder.engine_count(spans[-1][1]), -np.inf)
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
    """A run in which the spans are one window, and that window; a single span copies nothing."""
    if len(spans) == 1:
        return (recorder, *spans[0])
    return spliced(recorder, spans), 0.0, length_of(spans)


def series_of(
    recorder: Recorder, spans: Spans, goals: Sequence[Goal], *, every: bool = False
) -> Series:
    """The metrics over all spans together, as `measure.series.series` computes them for one."""
    pooled = series(*view(recorder, spans), goals, every=every)
    return replace(pooled, start_s=spans[0][0])


def length_of(spans: Spans) -> float:
    """Seconds in all spans together."""
    return sum(end_s - start_s for start_s, end_s in spans)


def holds(recorder: Recorder, since_s: float) -> bool:
    """Whether every row later than `since_s` is still there; the rings keep only the newest."""
    for name in _TABLES:
        rows = getattr(recorder, name)
        kept = rows.since(0, rows.count)
        if len(kept) < rows.count and not kept[0, 0] <= since_s:
            return False
    return True


def goodput_of(recorder: Recorder, spans: Spans, goals: Sequence[Goal]) -> Goodput:
    """How the requests of all spans together kept the goals.

    Requests in flight that are late at the end of a span count only where there is a single span.
    With several, such a request may end in another span, or in none.
    """
    run, start_s, end_s = view(recorder, spans)
    if run is not recorder:
        run.issued = Table(np.zeros((0, 3)))
    return goodput(run, goals, start_s, end_s)
