"""Intervals of changes as bars around zero, all on one scale: ├──●──┤. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable

from tputtui.measure.verdict import Difference
from tputtui.ui.rows import Row

__all__ = ["interval_axis", "interval_bar", "interval_scale"]

_SCALES = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0)
"""Ends of the axis, as fractions: few, so that the bars seldom change their scale."""
_ZERO = "│"


def interval_scale(differences: Iterable[Difference]) -> float:
    """The end of an axis that holds the first change with its interval, and every other up to
    ±100 %: one row of ten times as much must not shrink all others to a dot."""
    ends: list[float] = []
    for place, row in enumerate(differences):
        if not place:
            ends += [row.change, row.low, row.high]
        elif abs(row.change) <= 1.0:
            ends.append(row.change)
    most = max((abs(end) for end in ends if math.isfinite(end)), default=0.0)
    return next((scale for scale in _SCALES if most <= scale), _SCALES[-1])


def interval_axis(scale: float, cells: int) -> str:
    """The labels over bars of `cells` cells: both ends and zero."""
    left, right = f"-{scale * 100:g} %", f"+{scale * 100:g} %"
    middle = cells // 2
    text = f"{left:<{middle}}0"
    return f"{text}{right:>{cells - len(text)}}"


def interval_bar(row: Difference, scale: float, cells: int, look: str) -> Row:
    """The change as ● and its interval as ├──┤; ◂ and ▸ where it goes on. `cells` is odd."""
    middle = cells // 2

    def place(value: float) -> int:
        return middle + round(max(-1.0, min(1.0, value / scale)) * middle)

    drawn: dict[int, str] = {}
    if not (math.isnan(row.low) or math.isnan(row.high)):
        start, end = place(row.low), place(row.high)
        for column in range(start, end + 1):
            drawn[column] = "┼" if column == middle else "─"
        drawn[start] = "◂" if row.low < -scale else "├"
        drawn[end] = "▸" if row.high > scale else "┤"
    if not math.isnan(row.change):
        at = place(row.change)
        beyond = abs(row.change) > scale
        drawn[at] = ("▸" if row.change > 0 else "◂") if beyond else "●"
    parts: Row = []
    for column in range(cells):
        cell, style = drawn.get(column), look
        if cell is None:
            cell, style = _ZERO if column == middle else " ", "muted"
        if parts and parts[-1][1] == style:
            parts[-1] = (parts[-1][0] + cell, style)
        else:
            parts.append((cell, style))
    return parts
