"""A load before it is put on the engine: its arrivals, lengths and amounts. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import zip_longest

from tputtui.load.preview import LengthSpread, Preview
from tputtui.load.workload import ClosedLoop, Recorded
from tputtui.text.braille import area, nice_top
from tputtui.text.format import clock, compact, counted, percent, rate
from tputtui.ui.rows import Row, fitted, spread

__all__ = ["preview_rows", "preview_title"]

_GAP = 3
_UNDER = 3
_UNEVEN = 16
"""Lengths whose longest is this many times their median are drawn on a logarithmic axis."""


def preview_rows(
    preview: Preview, max_model_len: int | None, width: int, height: int, *, stale: bool = False
) -> list[Row]:
    """Three charts side by side with their figures beneath, and a row about the whole.

    stale: whether the text typed now is invalid; all rows are muted then.
    """
    each = max(8, (width - 2 * _GAP) // 3)
    plot = max(1, height - _UNDER - 2)
    columns = [
        _arrivals(preview, each, plot),
        _lengths("prompt tokens", preview.prompt, each, plot),
        _lengths("output tokens", preview.output, each, plot),
    ]
    rows = [
        [*fitted(left, each), (" " * _GAP, "text"), *fitted(middle, each), (" " * _GAP, "text"),
         *fitted(right, each)]
        for left, middle, right in zip_longest(*columns, fillvalue=Row())
    ]  # fmt: skip
    rows.append(_whole(preview, max_model_len))
    return [[(text, "muted") for text, _ in row] for row in rows] if stale else rows


def preview_title(preview: Preview, *, stale: bool = False) -> str:
    """The title; for a trace with its format and what its first records hold."""
    title = "preview of what was valid last" if stale else "preview"
    trace = preview.trace
    if trace is not None:
        timed = "with" if trace.timed else "without"
        read = f"{trace.records:,} records read, " if trace.records else ""
        kind = trace.format if trace.real else f"{trace.format} trace"
        bad = f", {counted(trace.skipped, 'line')} not usable" if trace.skipped else ""
        title += f" · {kind}: {read}{timed} times{bad}"
    if preview.part:
        title += f" · {preview.part}"
    return f" {title} "


def _arrivals(preview: Preview, width: int, height: int) -> list[Row]:
    levels = preview.levels(width * 2)
    top = nice_top(max(levels))
    return [
        spread([(_title(preview), "label")], [(f"0–{_short(top)}", "muted")], width),
        *_plot(levels, height, top),
        spread([("0:00", "muted")], [(clock(preview.horizon_s), "muted")], width),
        *_offered(preview, levels),
    ]


def _title(preview: Preview) -> str:
    load = preview.workload
    if isinstance(load.arrivals, ClosedLoop):
        return "people" if load.sessions else "in flight"
    if isinstance(load.arrivals, Recorded):
        return "recorded /s"
    return "conversations/s" if load.sessions else "requests/s"


def _offered(preview: Preview, levels: Sequence[float]) -> list[Row]:
    if isinstance(preview.workload.arrivals, ClosedLoop):
        return [
            [("peak   ", "label"), (compact(max(levels)), "value")],
            [("rate   ", "label"), ("as it is served", "muted")],
        ]
    offered = (("prompt ", preview.prompt_tokens_per_s), ("output ", preview.output_tokens_per_s))
    return [
        [(name, "label"), (compact(value), "value"), (" tok/s", "label")] for name, value in offered
    ]


def _lengths(title: str, lengths: LengthSpread, width: int, height: int) -> list[Row]:
    if not lengths.lengths:
        return [[(title, "label")], [("counted once in use", "muted")]]
    low, high = lengths.lengths[0], lengths.lengths[-1]
    uneven = high > _UNEVEN * lengths.lengths[len(lengths.lengths) // 2]
    top = nice_top(high * 1.02)
    count = width * 2
    if uneven:
        first = 10.0 ** math.floor(math.log10(low))
        grow = (top / first) ** (1 / count)
        edges = [first * grow**n for n in range(count + 1)]
    else:
        first = 0.0
        edges = [top * n / count for n in range(count + 1)]
    counts = lengths.counts(edges)
    axis = "log" if uneven else ""
    pad = width - len(_short(first)) - len(_short(top))
    return [
        [(title, "label")],
        *_plot(counts, height, max(counts)),
        [(f"{_short(first)}{axis:^{max(0, pad)}}{_short(top)}", "muted")],
        [("mean   ", "label"), (compact(lengths.mean), "value")],
        [("p95    ", "label"), (compact(lengths.p95), "value")],
    ]


def _plot(values: Sequence[float], height: int, top: float) -> list[Row]:
    return [[(line, "chart")] for line in area(values, height, top or 1.0)]


def _whole(preview: Preview, max_model_len: int | None) -> Row:
    clamped = preview.clamped_frac
    longest = f" at max_model_len {max_model_len:,}" if max_model_len else ""
    return [
        ("prefix hits up to", "label"),
        (percent(preview.hit_frac, 5), "value"),
        ("   clamped", "label"),
        (percent(clamped, 5), "warn" if clamped > 0 else "value"),
        (longest, "label"),
    ]


def _short(value: float) -> str:
    return compact(value, 0) if value >= 10 or value == int(value) else rate(value, 0)
