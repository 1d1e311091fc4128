"""Charts as text, for a report that is nothing but text. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from tputtui.measure.samples import Mark
from tputtui.report.content import ChartLine
from tputtui.text.braille import area, nice_top
from tputtui.text.format import clock

__all__ = ["text_charts"]

_WIDTH = 96
_HEIGHT = 4


def text_charts(
    curves: Sequence[ChartLine], marks: Sequence[Mark], origin_s: float, length_s: float
) -> list[str]:
    """Lines: every curve as a filled chart, and below it the numbers of the marks."""
    lines: list[str] = []
    ruler = _ruler(marks, origin_s, length_s)
    for curve in curves:
        columns = _columns(curve, length_s)
        seen = [value for value in columns if math.isfinite(value)]
        top = nice_top(max(seen, default=0.0))
        lines += [
            f"{curve.group}: {curve.label}, {curve.unit} (0 to {top:g})"
            if curve.group != curve.label
            else f"{curve.label}, {curve.unit} (0 to {top:g})",
            *(row.rstrip("⠀ ") for row in area(columns, _HEIGHT, top)),
            ruler,
            "",
        ]
    end = clock(length_s)
    lines.append(f"0:00{end:>{_WIDTH - 4}}")
    return lines


def _columns(curve: ChartLine, length_s: float) -> list[float]:
    """Two values for each cell: means of the samples that fall into its halves."""
    place = np.minimum((curve.times_s / max(length_s, 1e-9) * 2 * _WIDTH).astype(int), 191)
    known = ~np.isnan(curve.values)
    sums = np.bincount(place[known], weights=curve.values[known], minlength=2 * _WIDTH)
    counts = np.bincount(place[known], minlength=2 * _WIDTH)
    means = np.divide(sums, counts, out=np.full(2 * _WIDTH, np.nan), where=counts > 0)
    filled = means.copy()
    # In a run shorter than the chart is wide, some cells lie between two seconds.
    for i in range(1, len(filled)):
        if math.isnan(filled[i]) and i < place.max(initial=0):
            filled[i] = filled[i - 1]
    return [float(value) for value in filled]


def _ruler(marks: Sequence[Mark], origin_s: float, length_s: float) -> str:
    cells = ["─"] * _WIDTH
    for number, mark in enumerate(marks, 1):
        place = int((mark.t_s - origin_s) / max(length_s, 1e-9) * _WIDTH)
        label = str(number)
        start = max(0, min(_WIDTH - len(label), place))
        cells[start : start + len(label)] = label
    return "".join(cells)
