"""Tokens and requests per second, now and over the window. Pure."""

from __future__ import annotations

import math
from operator import attrgetter

from tputtui.frame import Frame
from tputtui.load.workload import level_of
from tputtui.measure.history import History
from tputtui.text.format import compact, percent, rate
from tputtui.ui.chart import chart
from tputtui.ui.rows import Row

__all__ = ["throughput"]


def throughput(
    frame: Frame, history: History, width: int, height: int, *, cursor: int | None = None
) -> list[Row]:
    """Three rows of figures, then charts in what is left, read at second `cursor`."""
    now, window = frame.now, frame.figures
    # Figures that are not yet this setting's own are muted: to be watched, not quoted.
    sure = "text" if frame.window.phase.quotable else "muted"
    rows: list[Row] = [
        [
            ("generated ", "label"),
            (compact(now.generated_per_s), "value"),
            (" tok/s", "label"),
            (f"   window{compact(window.generated_per_s, 7)}", sure),
        ],
        [
            ("prompt    ", "label"),
            (compact(now.prompt_computed_per_s), "value"),
            (" tok/s", "label"),
            (f"   window{compact(window.prompt_computed_per_s, 7)}", sure),
            *_cached(frame),
        ],
        _requests(frame, sure),
        *_goodput(frame),
        *_costs(frame),
    ]
    left = height - len(rows)
    if left < 2:
        return rows
    prompt = left // 3 if left >= 9 else 0
    rows += chart(
        "generated tok/s",
        history,
        attrgetter("generated"),
        frame.marks,
        width,
        left - prompt,
        cursor=cursor,
    )
    if prompt:
        rows += chart(
            "prompt tok/s",
            history,
            attrgetter("prefill"),
            frame.marks,
            width,
            prompt,
            cursor=cursor,
        )
    return rows


def _cached(frame: Frame) -> Row:
    if not frame.figures.prompt_cached_per_s:
        return []
    return [
        (f"  +{compact(frame.figures.prompt_cached_per_s, 0)} cached", "muted"),
    ]


def _requests(frame: Frame, sure: str) -> Row:
    now, window, facts = frame.now, frame.figures, frame.status.facts
    row: Row = [("requests  ", "label")]
    live = facts is not None and facts.live
    if live or frame.profile.load.closed:
        return [
            *row,
            (rate(now.achieved_per_s), "value"),
            (" /s   ", "label"),
            (f"   window{rate(window.achieved_per_s, 7)}", sure),
            *([] if live else _wanted(frame, "")),
        ]
    row += [
        (rate(window.achieved_per_s), "value"),
        (" of", "label"),
        (rate(window.offered_per_s), "value"),
        (" /s", "label"),
    ]
    suffix = (" saturated", "warn") if window.saturated else (" offered", "label")
    return [*row, suffix, *_wanted(frame, "/s")]


def _wanted(frame: Frame, unit: str) -> Row:
    """The present level of a load that changes over time; empty for a constant load."""
    load = frame.profile.load
    # Levels of several arrivals have no unit in common.
    if load.apart or isinstance(level_of(load.arrivals), int | float):
        return []
    return [(f"  now {rate(frame.wanted.level, 0)}{unit} wanted", "muted")]


def _goodput(frame: Frame) -> list[Row]:
    if not frame.profile.judged:
        return []
    goodput = frame.goodput
    row: Row = [("goodput   ", "label")]
    if not frame.window.phase.quotable:
        return [[*row, (f"     – while {frame.window.phase.value}", "muted")]]
    return [
        [
            *row,
            (rate(goodput.per_s), "value"),
            (" /s ", "label"),
            (f"{percent(goodput.frac)} met ", "text"),
            (f"[{percent(goodput.low, 0).rstrip('%')}–{percent(goodput.high, 0)}]", "muted"),
        ]
    ]


def _costs(frame: Frame) -> list[Row]:
    parts: Row = []
    if not math.isnan(frame.cost_per_mtok):
        parts += [(rate(frame.cost_per_mtok), "value"), (" per million tok", "label")]
    if not math.isnan(frame.tokens_per_joule):
        parts += [(rate(frame.tokens_per_joule), "value"), (" tok/J", "label")]
    return [[("cost      ", "label"), *parts]] if parts else []
