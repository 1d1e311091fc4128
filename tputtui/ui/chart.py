"""A chart of one quantity per second, as rows of styled text. Pure.

It fills from left to right and stands still; when it is full it moves left by a quarter. So a
second costs a column, not a picture, and nothing moves that has not changed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

from tputtui.format import clock, compact
from tputtui.measure.history import Bucket, History
from tputtui.measure.samples import Mark
from tputtui.ui.braille import area, nice_top
from tputtui.ui.rows import Row, spread

__all__ = ["chart"]

_RULES = {"knob": "┃", "load": "╎", "engine": "│"}


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
) -> list[Row]:
    """`height` rows of `width` cells: a caption with the scale, then the area, oldest left.

    pick: the quantity of one second. limit: drawn as a line over it, and kept in the scale.
    marks: drawn as rules: ┃ a knob, ╎ the load, │ the engine. top: fixes the scale.
    """
    plot_height = height - 1
    if plot_height < 1 or width < 4:
        return []
    first, buckets = _page(history, width * 2)
    values = [pick(bucket) for bucket in buckets]
    limits = [limit(bucket) for bucket in buckets] if limit else []
    seen = [value for value in (*values, *limits) if math.isfinite(value)]
    scale = top if top is not None else nice_top(max(seen, default=0.0))
    rows = [list(line.ljust(width)) for line in area(values, plot_height, scale)]
    styles = [["chart"] * width for _ in rows]
    _draw_limit(rows, styles, limits, scale)
    _draw_marks(rows, styles, marks, history, first)
    caption = spread(
        [(title, "label")],
        [(f"{clock(first)}–{clock(first + width * 2)}  0–{label(scale)}", "muted")],
        width,
    )
    return [caption, *(_runs(cells, style) for cells, style in zip(rows, styles, strict=True))]


def _page(history: History, seconds: int) -> tuple[int, list[Bucket]]:
    """The first second shown, and the buckets from there on."""
    quarter = max(1, seconds // 4)
    over = history.total - history.first - seconds
    first = history.first + (math.ceil(over / quarter) * quarter if over > 0 else 0)
    kept = len(history.buckets)
    missing = first - (history.total - kept)
    buckets = list(history.buckets)[max(0, missing) :]
    return first, buckets


def _draw_limit(
    rows: list[list[str]], styles: list[list[str]], limits: list[float], scale: float
) -> None:
    height = len(rows)
    for column in range((len(limits) + 1) // 2):
        value = limits[column * 2]
        if not math.isfinite(value):
            continue
        row = min(height - 1, max(0, height - math.ceil(value / scale * height)))
        if rows[row][column] in " ⠀":
            rows[row][column] = "▔" if value / scale > (height - row - 0.5) / height else "▁"
        styles[row][column] = "limit"


def _draw_marks(
    rows: list[list[str]],
    styles: list[list[str]],
    marks: Iterable[Mark],
    history: History,
    first: int,
) -> None:
    for mark in marks:
        column = (history.index(mark.t_s) - first) // 2
        if not 0 <= column < len(rows[0]) or history.index(mark.t_s) < first:
            continue
        for row, style in zip(rows, styles, strict=True):
            row[column] = _RULES.get(mark.kind, "│")
            style[column] = "mark"


def _runs(cells: list[str], styles: list[str]) -> Row:
    """Neighbours of one style as one piece."""
    row: Row = []
    start = 0
    for end in range(1, len(cells) + 1):
        if end == len(cells) or styles[end] != styles[start]:
            row.append(("".join(cells[start:end]), styles[start]))
            start = end
    return row
