"""Histograms of latencies: requests over a logarithmic axis, with the goal. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tputtui.goals import Goal
from tputtui.measure.histogram import PER_DECADE, Histogram
from tputtui.text.braille import area
from tputtui.text.format import compact, seconds
from tputtui.ui.rows import Row, spread

__all__ = ["histogram_rows"]

_MARGIN = 2
"""Empty bins to either side, so that an edge is seen as one."""


def histogram_rows(
    shape: Histogram, goals: Sequence[Goal], width: int, height: int, look: str = "chart"
) -> list[Row]:
    """A caption, the area, and an axis with its ends and middle; `height` rows of `width` cells."""
    rows = height - 2
    if rows < 1 or width < 20:
        return []
    counts = [0] * _MARGIN + list(shape.counts) + [0] * _MARGIN
    first, bins = shape.first - _MARGIN, len(counts)
    dots = width * 2
    lines = area([counts[dot * bins // dots] for dot in range(dots)], rows, max(counts))
    title = f"{shape.name.upper()}, requests"
    caption: Row = [(f"{compact(shape.n, 0)} newest of the window", "muted")]
    column = None
    if goals:
        tightest = min(goals, key=lambda goal: goal.limit_s)
        at = (math.log10(tightest.limit_s) * PER_DECADE - first) / bins
        column = int(at * width) if 0 <= at < 1 else None
        caption = [(f"│ p{tightest.percentile:g} ≤ {seconds(tightest.limit_s, 0)}", "limit")]
    drawn = [spread([(title, "label")], caption, width)]
    for line in lines:
        if column is None:
            drawn.append([(line, look)])
        else:
            drawn.append([(line[:column], look), ("│", "limit"), (line[column + 1 :], look)])
    ends = [seconds(Histogram.edge(first + bins * part), 0) for part in (0.0, 0.5, 1.0)]
    middle = max(1, width // 2 - len(ends[0]) - len(ends[1]) // 2)
    left = f"{ends[0]}{'':>{middle}}{ends[1]}"
    return [*drawn, spread([(left, "muted")], [(ends[2], "muted")], width)]
