"""A chart of one quantity per second, as rows of styled text. Pure.

It runs in from the right edge: the last column is now. A column is two seconds wide, so that it
moves every two seconds and stands still in between.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

from tputtui.measure.history import Bucket, History
from tputtui.measure.samples import Mark
from tputtui.text.braille import area, dotted, nice_top
from tputtui.text.format import clock, compact
from tputtui.ui.cursor import RULES, Page
from tputtui.ui.rows import Row, fitted, spread, width_of

__all__ = ["GUTTER", "chart", "page_of"]

Overlay = dict[int, tuple[str, str]]
"""Column to (character, style), in one line."""

_CURSOR = "║"
"""No mark is drawn with it, so the cursor differs from marks without colour."""
GUTTER = 8
"""Cells for the labels of the scale, in a chart of `_LABELLED` cells and more."""
_LABELLED = 44
_TIMED = 7
"""Rows of a plot from which on the last one tells the time."""
_FAR = 2.5
"""A limit this many times above everything seen would press the chart flat: it is only named."""


def page_of(history: History, width: int) -> tuple[Page, int]:
    """The seconds that a chart of `width` cells shows, and the cells in front of them."""
    gutter = GUTTER if width >= _LABELLED else 0
    return Page.of(history, width - gutter), gutter


def chart(
    title: str,
    history: History,
    pick: Callable[[Bucket], float],
    marks: Iterable[Mark],
    width: int,
    height: int,
    *,
    limit: Callable[[Bucket], float] | None = None,
    line: Callable[[Bucket], float] | None = None,
    top: float | None = None,
    label: Callable[[float], str] = lambda value: compact(value, 0),
    cursor: int | None = None,
    look: str = "chart",
    heat: Callable[[float], str] | None = None,
) -> list[Row]:
    """`height` rows of `width` cells: a caption with the newest value, then the area with a scale.

    pick: the quantity of one second. line: a second quantity, drawn as dots over the area. limit:
    drawn as a line; the scale covers it unless it is far above everything else.
    marks: drawn as rules: ┃ a limit, ╎ the load, │ the engine, ┊ a leg of an A/B, ┇ the guard.
    top: fixes the scale. cursor: a second of the run; the caption then reads its values.
    look: the style of the area. heat: the style of a column, by its value.
    """
    rows = height - 1
    if rows < 1 or width < 4:
        return []
    page, gutter = page_of(history, width)
    timed = rows > _TIMED and bool(gutter)
    rows -= timed
    oldest = _oldest(history)
    first, end = page.first - oldest, page.end - oldest
    buckets = [history.buckets[i] for i in range(max(0, first), max(0, end))]
    before = min(page.width * 2, max(0, -first))
    values = [pick(bucket) for bucket in buckets]
    lines_of = [line(bucket) for bucket in buckets] if line else []
    limits = [limit(bucket) for bucket in buckets] if limit else []
    scale = _scale((*values, *lines_of), limits) if top is None else top
    # The left half of a cell may lie before the run.
    empty = [math.nan] * before
    lines = area([*empty, *values], rows, scale)
    if lines_of:
        lines = dotted(lines, [*empty, *lines_of], scale)
    overlay: list[Overlay] = [{} for _ in lines]
    if heat is not None:
        _draw_heat(lines, overlay, values, before, heat, look)
    _draw_limit(lines, overlay, limits, scale, before)
    _draw_marks(overlay, marks, history, page)
    if cursor is not None:
        _draw_rule(overlay, page.column(cursor), _CURSOR, "value")
    readout = _read(history, page, cursor, (pick, line), limit, label, scale)
    ends: Row = [] if gutter or cursor is not None else [(f"  0–{label(scale)}", "muted")]
    drawn = [_caption(title, readout, ends, width)]
    for y, (text, over) in enumerate(zip(lines, overlay, strict=True)):
        head = [(_label(y, rows, scale, label), "muted")] if gutter else []
        drawn.append([*head, *_runs(text, over, look)])
    if timed:
        drawn.append(_times(page.width, gutter))
    return drawn


def _oldest(history: History) -> int:
    """The second of the oldest bucket."""
    return history.total - len(history.buckets)


def _scale(values: Sequence[float], limits: Sequence[float]) -> float:
    """A round number that covers the values, and the limits unless they are far above."""
    seen = max((value for value in values if math.isfinite(value)), default=0.0)
    bound = max((value for value in limits if math.isfinite(value)), default=0.0)
    return nice_top(max(seen, bound) if bound <= _FAR * seen or not seen else seen)


def _label(y: int, rows: int, scale: float, label: Callable[[float], str]) -> str:
    """The value at the upper edge of line `y`, where it is one that is read: top and middle."""
    if y == 0 or (rows % 2 == 0 and rows >= 4 and y == rows // 2):
        return f"{label(scale * (rows - y) / rows):>{GUTTER - 1}}┤"
    return f"{'0':>{GUTTER - 1}}┤" if y == rows - 1 and rows > 2 else f"{'│':>{GUTTER}}"


def _times(cells: int, gutter: int) -> Row:
    """How long ago the columns are; it never changes."""
    step_s = 30 if cells < 100 else 60
    text = [" "] * cells
    text[cells - 3 :] = "now"
    for ago_s in range(step_s, cells * 2, step_s):
        told = f"-{clock(ago_s)}"
        start = cells - ago_s // 2 - len(told) // 2
        if start >= 0 and start + len(told) < cells - 3:
            text[start : start + len(told)] = told
    return [(" " * gutter + "".join(text), "muted")]


def _read(
    history: History,
    page: Page,
    cursor: int | None,
    picks: tuple[Callable[[Bucket], float], Callable[[Bucket], float] | None],
    limit: Callable[[Bucket], float] | None,
    label: Callable[[float], str],
    scale: float,
) -> Row:
    """The newest values, or those at the cursor, with ◂ before the page; in cells that stay."""
    second = page.end - 1 if cursor is None else cursor
    at = second - _oldest(history)
    bucket = history.buckets[at] if 0 <= at < len(history.buckets) else None
    cells = len(label(scale))
    told = [label(pick(bucket) if bucket else math.nan).rjust(cells) for pick in picks if pick]
    row: Row = []
    if cursor is not None:
        row.append((f"{'◂ ' if second < page.first else ''}{clock(second)}  ", "muted"))
    row.append((" · ".join(told), "value"))
    bound = limit(bucket) if bucket and limit else math.nan
    if math.isfinite(bound) and (cursor is not None or bound > scale):
        row.append((f"  ▔ {label(bound)}{' ↑' if bound > scale else ''}", "limit"))
    return row


def _caption(title: str, readout: Row, ends: Row, width: int) -> Row:
    """The title and the values: without the ends of the scale, the title's end, or the limit."""
    values: Row = [part for part in readout if part[1] != "limit"]
    for told in ([*readout, *ends], readout, values):
        for name in (title, title.partition(" ")[0]):
            if len(name) + width_of(told) < width:
                return spread([(name, "label")], told, width)
    return fitted(values, width)


def _draw_limit(
    lines: list[str], overlay: list[Overlay], limits: list[float], scale: float, before: int
) -> None:
    height = len(lines)
    for column in range(before // 2, (before + len(limits)) // 2):
        value = limits[max(0, column * 2 - before)]
        if not math.isfinite(value) or value > scale:
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


def _draw_heat(
    lines: list[str],
    overlay: list[Overlay],
    values: Sequence[float],
    before: int,
    heat: Callable[[float], str],
    look: str,
) -> None:
    for column in range(before // 2, (before + len(values)) // 2):
        pair = values[max(0, column * 2 - before) : column * 2 - before + 2]
        style = heat(max((value for value in pair if not math.isnan(value)), default=0.0))
        if style == look:
            continue
        for line, over in zip(lines, overlay, strict=True):
            if line[column] not in " ⠀":
                over[column] = (line[column], style)


def _runs(line: str, over: Overlay, look: str) -> Row:
    """The line with `over` laid over it; neighbours of one style as one piece."""
    row: Row = []
    done = 0
    for column in sorted(over):
        if column > done:
            row.append((line[done:column], look))
        cell, style = over[column]
        if row and row[-1][1] == style and column == done:
            row[-1] = (row[-1][0] + cell, style)
        else:
            row.append((cell, style))
        done = column + 1
    return [*row, (line[done:], look)] if done < len(line) else row
