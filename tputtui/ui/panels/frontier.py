"""The throughput-latency frontier: every setting measured is a lettered point. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from tputtui.braille import nice_top
from tputtui.format import compact, rate, seconds
from tputtui.frame import Frame
from tputtui.knobs import shorthand
from tputtui.measure.frontier import AXES_X, AXES_Y, Axis, Point, knee, pareto
from tputtui.ui.rows import Row, spread

__all__ = ["frontier"]

_LEFT = 8
"""Cells for the labels of the y axis."""
_NOISE = 0.01
"""A gain upwards that is less is within what equal windows differ by."""
_ALSO = ("requests_per_s", "ttft_p50", "tpot_p50")
"""Columns of the table besides the two axes, where there is room."""
_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))


def frontier(frame: Frame, y: Axis, x: Axis, width: int, height: int) -> list[Row]:
    """A line on the sweep, the plot, then as much of the table as fits: newest settings last."""
    points = frame.points
    rows: list[Row] = [_status(frame)]
    best = pareto([point for point in points if point.steady], y, x, _NOISE)
    turn = knee([point for point in points if point.steady and not point.saturated])
    lines = min(len(points) + 1, max(4, height // 3))
    rows += _plot(points, best, y, x, width, max(4, height - len(rows) - lines - 1))
    rows.append([])
    also = [axis for axis in (*AXES_Y, *AXES_X) if axis.key in _ALSO and axis not in (y, x)]
    axes = [y, x, *also] if width >= 110 else [y, x]
    return rows + _table(points, best, turn, axes, lines)


def _status(frame: Frame) -> Row:
    sweep = frame.sweep
    if sweep is None:
        return [("w steps the load up until saturation", "muted")]
    if sweep.level is None:
        return [("sweep over ", "label"), (f"{sweep.told} levels · {sweep.note}", "text")]
    return [
        ("sweeping ", "accent"),
        (f"level {sweep.level:g}, {sweep.told} measured · {sweep.note}", "text"),
    ]


# -- the plot ------------------------------------------------------------------------------------


def _plot(
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
            cells[min(across - 1, column + i), line] = (char, _look(point, best))
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
    marks = [_value(x, top_x * part).strip() for part in (0.0, 0.5, 1.0)]
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


def _look(point: Point, best: Sequence[Point]) -> str:
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


# -- the table -----------------------------------------------------------------------------------


def _table(
    points: Sequence[Point],
    best: Sequence[Point],
    turn: Point | None,
    axes: Sequence[Axis],
    lines: int,
) -> list[Row]:
    columns = "".join(f"{axis.label:>11}" for axis in axes)
    rows: list[Row] = [[(f"    {'seqs/tokens/length':<20}{'load':<16}{columns}{'n':>8}", "label")]]
    for point in points[max(0, len(points) - lines + 1) :]:
        knobs = shorthand(point.knobs)
        rows.append(
            [
                (f"{point.label:>2}  ", _look(point, best)),
                (f"{knobs:<20.19}", "text"),
                (f"{point.load:<16.15}", "text"),
                *((f"{_value(axis, axis.value(point)):>11}", "value") for axis in axes),
                (compact(point.n, 8), "muted"),
                *_notes(point, best, turn),
            ]
        )
    return rows


def _notes(point: Point, best: Sequence[Point], turn: Point | None) -> Row:
    notes: Row = []
    if point is turn:
        notes.append(("  knee", "accent"))
    elif point in best:
        notes.append(("  best", "good"))
    if point.saturated:
        notes.append(("  saturated", "warn"))
    elif not point.steady:
        notes.append(("  not steady", "muted"))
    return notes


def _value(axis: Axis, value: float) -> str:
    if axis.unit == "s":
        return seconds(value, 0)
    return rate(value, 0)


def _number(value: float) -> str:
    return compact(value, 0) if value >= 10 or value == 0 else f"{value:.3g}"
