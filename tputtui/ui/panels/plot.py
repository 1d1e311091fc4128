"""Settings as points between two axes, a line for each setting of the limits. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

from tputtui.measure.frontier import Axis, Point
from tputtui.text.braille import nice_top
from tputtui.text.format import compact, rate, seconds
from tputtui.ui.rows import Row, spread

__all__ = ["Marks", "look_of", "marks_of", "plot", "value_text"]

_LEFT = 8
"""Cells for the labels of the y axis."""
_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
_SIGNS = "●◆■▲○◇□△"
_LOOKS = ("chart", "wave", "fill", "calm", "accent")
_CHOSEN = "◉"

Marks = Mapping[str, tuple[str, str]]
"""The sign and the style of a point, by its letter: those of one setting of the limits agree."""
Cells = dict[tuple[int, int], tuple[str, str]]
"""(Column, line) to (character, style)."""


def marks_of(points: Sequence[Point]) -> Marks:
    """A sign and a style for each setting of the limits, in the order in which they came."""
    settings: list[Mapping[str, int]] = []
    marks = {}
    for point in points:
        if point.knobs not in settings:
            settings.append(point.knobs)
        place = settings.index(point.knobs)
        marks[point.label] = _SIGNS[place % len(_SIGNS)], _LOOKS[place % len(_LOOKS)]
    return marks


def plot(
    points: Sequence[Point],
    best: Sequence[Point],
    y: Axis,
    x: Axis,
    width: int,
    height: int,
    *,
    goal: float = math.nan,
    chosen: Point | None = None,
) -> list[Row]:
    """Signs and letters at their places, lines between points of one setting, axes from 0.

    goal: the highest value of `x` that meets the goals; the region up to it is shaded. chosen: the
    point under the cursor.
    """
    across, down = width - _LEFT, height - 2
    there = [p for p in points if not (math.isnan(x.value(p)) or math.isnan(y.value(p)))]
    top_y = nice_top(max((y.value(p) for p in there), default=0.0))
    top_x = nice_top(max((x.value(p) for p in there), default=0.0))
    marks, cells = marks_of(points), Cells()

    def place(point: Point) -> tuple[float, float]:
        column = min(x.value(point) / top_x * across, across - 0.5)
        return column, min((1 - y.value(point) / top_y) * down, down - 0.25)

    within = "" if math.isnan(goal) else _shade(cells, goal / top_x, across, down)
    for setting in _settings(there):
        dots: dict[tuple[int, int], int] = {}
        for start, end in pairwise(setting):
            _line(dots, place(start), place(end))
        for cell, bits in dots.items():
            cells[cell] = (chr(0x2800 + bits), marks[setting[0].label][1])
    # The cursor last: nothing hides it.
    for point in sorted(there, key=lambda point: point is chosen):
        column, line = (int(v) for v in place(point))
        sign, look = marks[point.label]
        if point is chosen:
            sign, look = _CHOSEN, "value"
        cells[column, line] = (sign, look if point.steady else "muted")
        for i, char in enumerate(point.label, 1):
            cells[min(across - 1, column + i), line] = (char, look_of(point, best))
    caption = f"{y.label} {y.unit} against {x.label}"
    right = f"░ within the goal, {within}" if within else "a point is a setting"
    rows: list[Row] = [spread([(caption, "label")], [(right, "muted")], width)]
    for line in range(down):
        at = top_y * (1 - line / max(1, down - 1))
        # Where a half or a quarter falls between two lines it has no label.
        labelled = line * (4 if down >= 13 else 2) % (down - 1) == 0
        label = _number(at) if labelled else ""
        row: Row = [(f"{label:>{_LEFT - 2}} ", "muted"), ("┤" if labelled else "│", "muted")]
        row += [cells.get((column, line), (" ", "text")) for column in range(across)]
        rows.append(_merged(row))
    rows.append(_x_axis(x, top_x, width, across))
    if not there:
        rows[max(1, down // 2)] = [("  no setting has both figures yet", "muted")]
    return rows


def _settings(points: Sequence[Point]) -> list[list[Point]]:
    """The points of each setting of the limits, by their loads."""
    lines: list[list[Point]] = []
    for point in points:
        line = next((line for line in lines if line[0].knobs == point.knobs), None)
        if line is None:
            lines.append([point])
        else:
            line.append(point)
    return [sorted(line, key=lambda point: point.level) for line in lines]


def _shade(cells: Cells, share: float, across: int, down: int) -> str:
    """Shade the columns up to `share` of the axis; whether all or a part, in a word."""
    end = round(min(1.0, share) * across)
    for column in range(end):
        for line in range(down):
            if (column + line) % 2 == 0:
                cells[column, line] = ("░", "muted")
    if share >= 1:
        return "all of it"
    for line in range(down):
        cells[end, line] = ("┊", "limit")
    return "left of ┊"


def _x_axis(x: Axis, top: float, width: int, across: int) -> Row:
    """Labels at the quarters of the axis, as far as they have room; it begins with a plain 0."""
    parts = (0.0, 0.25, 0.5, 0.75, 1.0) if across >= 60 else (0.0, 0.5, 1.0)
    text = [" "] * width
    for part in parts:
        told = value_text(x, top * part).strip() if part else "0"
        start = max(_LEFT, min(width - len(told), _LEFT + int(part * across) - len(told) // 2))
        text[start : start + len(told)] = told
    return [("".join(text), "muted")]


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
    """The style of a point's letter: bold on the frontier, muted where it was not steady."""
    if not point.steady:
        return "muted"
    return "value" if point in best else "text"


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
