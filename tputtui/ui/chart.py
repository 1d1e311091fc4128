"""A chart of one quantity per second, as rows of styled text. Pure.

It fills from left to right; when it is full, it moves left by a quarter. So every two seconds only
one column is painted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

from tputtui.measure.history import Bucket, History
from tputtui.measure.samples import Mark
from tputtui.text.braille import area, nice_top
from tputtui.text.format import clock, compact
from tputtui.ui.cursor import RULES, Page
from tputtui.ui.rows import Row, spread

__all__ = ["chart"]

Overlay = dict[int, tuple[str, str]]
"""Column to (character, style), in one line."""

_CURSOR = "║"
"""No mark is drawn with it, so the cursor differs from marks without colour."""


def chart(
    title: str,
    history: History,
    pick: Callable[[Bucket], float],
    marks: Iterable[Mark],
    width: int,
    height: int,
    *,
    limit: Callable[[Bucket], float] | None = None,
    top: float | None = None,
    label: Callable[[float], str] = lambda value: compact(value, 0),
    cursor: int | None = None,
) -> list[Row]:
    """`height` rows of `width` cells: a caption with the scale, then the area, oldest left.

    pick: the quantity of one second. limit: drawn as a line over the area; the scale covers it.
    marks: drawn as rules: ┃ a limit, ╎ the load, │ the engine, ┊ a leg of an A/B, ┇ the guard.
    top: fixes the scale. cursor: a second of the run; the caption then reads its values.
    """
    plot_height = height - 1
    if plot_height < 1 or width < 4:
        return []
    page = Page.of(history, width)
    buckets = list(history.buckets)[max(0, page.first - _oldest(history)) :]
    # A cell is two seconds: it is drawn once, when both have been measured.
    buckets = buckets[: len(buckets) // 2 * 2]
    values = [pick(bucket) for bucket in buckets]
    limits = [limit(bucket) for bucket in buckets] if limit else []
    seen = [value for value in (*values, *limits) if math.isfinite(value)]
    scale = top if top is not None else nice_top(max(seen, default=0.0))
    lines = [line.ljust(width) for line in area(values, plot_height, scale)]
    overlay: list[Overlay] = [{} for _ in lines]
    _draw_limit(lines, overlay, limits, scale)
    _draw_marks(overlay, marks, history, page)
    if cursor is None:
        readout = [(f"{clock(page.first)}–{clock(page.end)}  0–{label(scale)}", "muted")]
    else:
        _draw_rule(overlay, page.column(cursor), _CURSOR, "value")
        readout = _read(history, page, cursor, pick, limit, label, len(label(scale)))
    caption = spread([(title, "label")], readout, width)
    return [caption, *(_runs(line, over) for line, over in zip(lines, overlay, strict=True))]


def _oldest(history: History) -> int:
    """The second of the oldest bucket."""
    return history.total - len(history.buckets)


def _read(
    history: History,
    page: Page,
    second: int,
    pick: Callable[[Bucket], float],
    limit: Callable[[Bucket], float] | None,
    label: Callable[[float], str],
    cells: int,
) -> Row:
    """The values at `second`, with ◂ before the page; `cells` wide, to keep the time in place."""
    at = second - _oldest(history)
    bucket = history.buckets[at] if 0 <= at < len(history.buckets) else None
    value = pick(bucket) if bucket else math.nan
    row: Row = [
        (f"{'◂ ' if second < page.first else ''}{clock(second)}  ", "muted"),
        (label(value).rjust(cells), "value"),
    ]
    bound = limit(bucket) if bucket and limit else math.nan
    return [*row, (f"  ▔ {label(bound)}", "limit")] if math.isfinite(bound) else row


def _draw_limit(
    lines: list[str], overlay: list[Overlay], limits: list[float], scale: float
) -> None:
    height = len(lines)
    for column in range((len(limits) + 1) // 2):
        value = limits[column * 2]
        if not math.isfinite(value):
            continue
        row = min(height - 1, max(0, height - math.ceil(value / scale * height)))
        cell = lines[row][column]
        if cell in " ⠀":
            cell = "▔" if value / scale > (height - row - 0.5) / height else "▁"
        overlay[row][column] = (cell, "limit")


def _draw_marks(
    overlay: list[Overlay], marks: Iterable[Mark], history: History, page: Page
) -> None:
    for mark in marks:
        column = page.column(history.index(mark.t_s))
        _draw_rule(overlay, column, RULES.get(mark.kind, "│"), "mark")


def _draw_rule(overlay: list[Overlay], column: int | None, rule: str, style: str) -> None:
    if column is not None:
        for over in overlay:
            over[column] = (rule, style)


def _runs(line: str, over: Overlay) -> Row:
    """The line with `over` laid over it; neighbours of one style as one piece."""
    row: Row = []
    done = 0
    for column in sorted(over):
        if column > done:
            row.append((line[done:column], "chart"))
        cell, style = over[column]
        if row and row[-1][1] == style and column == done:
            row[-1] = (row[-1][0] + cell, style)
        else:
            row.append((cell, style))
        done = column + 1
    return [*row, (line[done:], "chart")] if done < len(line) else row
