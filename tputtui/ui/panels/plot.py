"""Settings as lettered points between two axes, a dotted line through the best. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from tputtui.measure.frontier import Axis, Point
from tputtui.text.braille import nice_top
from tputtui.text.format import compact, rate, seconds
from tputtui.ui.rows import Row, spread

__all__ = ["look_of", "plot", "value_text"]

_LEFT = 8
"""Cells for the labels of the y axis."""
_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))


def plot(
    points: Sequence[Point], best: Sequence[Point], y: Axis, x: Axis, width: int, height: int
) -> list[Row]:
    """Letters at their places, a dotted line through the frontier, both axes from 0."""
    across, down = width - _LEFT, height - 2
    there = [p for p in points if not (math.isnan(x.value(p)) or math.isnan(y.value(p)))]
    top_y = nice_top(max((y.value(p) for p in there), default=0.0))
    top_x = nice_top(max((x.value(p) for p in there), default=0.0))
    cells: dict[tuple[int, int], tuple[str, str]] = {}
    dots: dict[tuple[int, int], int] = {}

    def place(point: Point) -> tuple[float, float]:
        column = min(x.value(point) / top_x * across, across - 0.5)
        return column, min((1 - y.value(point) / top_y) * down, down - 0.25)

    for start, end in pairwise(best):
        _line(dots, place(start), place(end))
    for cell, bits in dots.items():
        cells[cell] = (chr(0x2800 + bits), "chart")
    for point in there:
        column, line = (int(v) for v in place(point))
        for i, char in enumerate(point.label):
            cells[min(across - 1, column + i), line] = (char, look_of(point, best))
    caption = f"{y.label} {y.unit} against {x.label}"
    rows: list[Row] = [spread([(caption, "label")], [("a point is a setting", "muted")], width)]
    for line in range(down):
        at = top_y * (1 - line / max(1, down - 1))
        # Where a half or a quarter falls between two lines it has no label.
        labelled = line * (4 if down >= 13 else 2) % (down - 1) == 0
        label = _number(at) if labelled else ""
        row: Row = [(f"{label:>{_LEFT - 2}} ", "muted"), ("┤" if labelled else "│", "muted")]
        row += [cells.get((column, line), (" ", "text")) for column in range(across)]
        rows.append(_merged(row))
    marks = [value_text(x, top_x * part).strip() for part in (0.0, 0.5, 1.0)]
    middle = max(0, across // 2 - len(marks[0]) - len(marks[1]) // 2)
    left = f"{'':>{_LEFT}}{marks[0]}{'':>{middle}}{marks[1]}"
    rows.append(spread([(left, "muted")], [(marks[2], "muted")], width))
    if not there:
        rows[max(1, down // 2)] = [("  no window has been finished yet that has both", "muted")]
    return rows


def _line(
    dots: dict[tuple[int, int], int], start: tuple[float, float], end: tuple[float, float]
) -> None:
    """Braille dots from one place to another, both in cells."""
    steps = max(1, int(2 * abs(end[0] - start[0])), int(4 * abs(end[1] - start[1])))
    # Every other dot: a line that leads the eye and claims nothing in between.
    for step in range(0, steps + 1, 2):
        column = start[0] + (end[0] - start[0]) * step / steps
        row = start[1] + (end[1] - start[1]) * step / steps
        cell = int(column), int(row)
        dots[cell] = dots.get(cell, 0) | _DOTS[int(row % 1 * 4)][int(column % 1 * 2)]


def look_of(point: Point, best: Sequence[Point]) -> str:
    """The style of a point's letter: accent on the frontier, muted where it was not steady."""
    if not point.steady:
        return "muted"
    return "accent" if point in best else "text"


def _merged(row: Row) -> Row:
    merged: Row = []
    for text, style in row:
        if merged and merged[-1][1] == style:
            merged[-1] = (merged[-1][0] + text, style)
        else:
            merged.append((text, style))
    return merged


def value_text(axis: Axis, value: float) -> str:
    """A value on an axis, with its unit if that is time."""
    if axis.unit == "s":
        return seconds(value, 0)
    return rate(value, 0)


def _number(value: float) -> str:
    return compact(value, 0) if value >= 10 or value == 0 else f"{value:.3g}"
