"""The throughput-latency frontier: every setting measured is a point with a letter. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tputtui.frame import Frame
from tputtui.knobs import shorthand
from tputtui.measure.frontier import AXES_X, AXES_Y, Axis, Point, knee, pareto
from tputtui.text.format import compact, counted
from tputtui.ui.panels.plot import look_of, marks_of, plot, value_text
from tputtui.ui.panels.standing import level_left
from tputtui.ui.rows import Row, shortened

__all__ = ["frontier", "goal_on"]

_NOISE = 0.01
"""Relative gain that is no more than equal windows differ by."""
_ALSO = ("requests_per_s", "ttft_p50", "tpot_p50")
"""Columns of the table besides the two axes, where there is room."""


def frontier(
    frame: Frame, y: Axis, x: Axis, width: int, height: int, chosen: str = ""
) -> list[Row]:
    """A line on the sweep, the plot, then as much of the table as fits: newest settings last.

    chosen: the letter of the point under the cursor; its row is in sight.
    """
    points = frame.points
    rows: list[Row] = [_status(frame, width)]
    best = pareto([point for point in points if point.steady], y, x, _NOISE)
    at_knee = knee([point for point in points if point.steady and not point.saturated])
    lines = min(len(points) + 1, max(4, height // 3))
    here = next((point for point in points if point.label == chosen), None)
    rows += plot(
        points, best, y, x, width, max(4, height - len(rows) - lines - 1),
        goal=goal_on(frame, x), chosen=here,
    )  # fmt: skip
    rows.append([])
    also = [axis for axis in (*AXES_Y, *AXES_X) if axis.key in _ALSO and axis not in (y, x)]
    axes = [y, x, *also] if width >= 110 else [y, x]
    return rows + _table(points, best, at_knee, axes, lines, here)


def goal_on(frame: Frame, x: Axis) -> float:
    """The tightest goal on the quantity of an axis, in its unit; NaN without one."""
    limits = [
        goal.limit_s
        for goal in frame.profile.goals
        if f"{goal.metric}_p{goal.percentile:g}" == x.key
    ]
    return min(limits, default=math.nan)


def _status(frame: Frame, width: int) -> Row:
    sweep = frame.sweep
    if sweep is None:
        return [("w steps the load up until saturation", "muted")]
    if sweep.level is None:
        told = counted(sweep.told, "level")
        head = "sweep over: "
        note = shortened(f"{told} · {sweep.note}", width - len(head))
        return [(head, "label"), (note, "text")]
    now = sweep.named or f"{sweep.level:g}"
    left = level_left(sweep)
    done = counted(sweep.told, "level")
    head = "sweep: "
    note = shortened(f"now {now}, {done} done · {sweep.note}", width - len(head) - len(left))
    return [(head, "accent"), (note, "text"), (left, "label")]


# -- the table -----------------------------------------------------------------------------------


def _table(
    points: Sequence[Point],
    best: Sequence[Point],
    at_knee: Point | None,
    axes: Sequence[Axis],
    lines: int,
    chosen: Point | None,
) -> list[Row]:
    marks = marks_of(points)
    # The newest settings, or a page with the chosen one.
    end = len(points)
    if chosen is not None:
        end = min(end, max(points.index(chosen) + 1, lines - 1))
    columns = "".join(f"{axis.label:>11}" for axis in axes)
    rows: list[Row] = [
        [(f"      {'seqs/tokens/length':<20}{'load':<16}{columns}{'n':>8}", "label")]
    ]
    for point in points[max(0, end - lines + 1) : end]:
        knobs = shorthand(point.knobs)
        rows.append(
            [
                ("▸" if point is chosen else " ", "accent"),
                (f"{marks[point.label][0]} ", marks[point.label][1]),
                (f"{point.label:>2} ", look_of(point, best)),
                (f"{knobs:<20.19}", "text"),
                (f"{shortened(point.load, 15):<16}", "text"),
                *((f"{value_text(axis, axis.value(point)):>11}", "value") for axis in axes),
                (compact(point.n, 8), "muted"),
                *_notes(point, best, at_knee),
            ]
        )
    return rows


def _notes(point: Point, best: Sequence[Point], at_knee: Point | None) -> Row:
    notes: Row = []
    if point is at_knee:
        notes.append(("  knee", "accent"))
    elif point in best:
        notes.append(("  best", "good"))
    if point.saturated:
        notes.append(("  saturated", "warn"))
    elif not point.steady:
        notes.append(("  not steady", "muted"))
    return notes
