"""Tokens and requests per second, now and over the window. Pure."""

from __future__ import annotations

from operator import attrgetter

from tputtui.format import compact, percent, rate
from tputtui.frame import Frame
from tputtui.load.workload import OpenLoop
from tputtui.measure.history import History
from tputtui.ui.chart import chart
from tputtui.ui.rows import Row

__all__ = ["throughput"]


def throughput(frame: Frame, history: History, width: int, height: int) -> list[Row]:
    """Three rows of figures, then charts in what is left."""
    now, window = frame.now, frame.figures
    rows: list[Row] = [
        [
            ("generated ", "label"),
            (compact(now.generated_per_s), "value"),
            (" tok/s", "label"),
            (f"   window{compact(window.generated_per_s, 7)}", "text"),
        ],
        [
            ("prompt    ", "label"),
            (compact(now.prompt_computed_per_s), "value"),
            (" tok/s", "label"),
            (f"   window{compact(window.prompt_computed_per_s, 7)}", "text"),
            *_cached(frame),
        ],
        _requests(frame),
    ]
    left = height - len(rows)
    if left < 2:
        return rows
    prompt = left // 3 if left >= 9 else 0
    rows += chart(
        "generated tok/s", history, attrgetter("generated"), frame.marks, width, left - prompt
    )
    if prompt:
        rows += chart("prompt tok/s", history, attrgetter("prefill"), frame.marks, width, prompt)
    return rows


def _cached(frame: Frame) -> Row:
    if not frame.figures.prompt_cached_per_s:
        return []
    return [
        (f"  cached {compact(frame.figures.prompt_cached_per_s, 0)}", "muted"),
        (f" ({percent(frame.figures.cached_frac, 0)} hits)", "muted"),
    ]


def _requests(frame: Frame) -> Row:
    now, window = frame.now, frame.figures
    row: Row = [("requests  ", "label")]
    if not isinstance(frame.profile.load.arrivals, OpenLoop):
        return [
            *row,
            (rate(now.achieved_per_s), "value"),
            (" /s   ", "label"),
            (f"   window{rate(window.achieved_per_s, 7)}", "text"),
        ]
    row += [
        (rate(window.achieved_per_s), "value"),
        (" of", "label"),
        (rate(window.offered_per_s), "value"),
        (" /s", "label"),
    ]
    return [*row, (" saturated", "warn")] if window.saturated else [*row, (" offered", "label")]
