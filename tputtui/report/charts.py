"""Charts of a report as SVG: quantities over time with the marks of the run, and the frontier."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tputtui.measure.frontier import AXES_X, AXES_Y, Point, knee, pareto
from tputtui.measure.samples import Mark
from tputtui.report.content import ChartLine
from tputtui.text.format import clock

__all__ = ["frontier_svg", "time_svgs"]

# Okabe & Ito's colours, which the colour-blind can distinguish; dashes and markers help in print.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")
_DASHES = ("-", "--", ":", "-.")
_MARK = "#B07D00"
_MARK_LINES = 3
_MARK_WIDTH = 0.012
"""Width of a digit above the chart, as a share of the chart's width."""
_GREY = "#6b7280"
_X = next(axis for axis in AXES_X if axis.key == "e2e_p90")
_Y = AXES_Y[0]


def time_svgs(
    curves: Sequence[ChartLine], marks: Sequence[Mark], origin_s: float, length_s: float
) -> list[tuple[str, str]]:
    """(title, SVG) for every group of curves; marks are numbered rules."""
    groups: dict[str, list[ChartLine]] = {}
    for curve in curves:
        groups.setdefault(curve.group, []).append(curve)
    return [
        (title, _time_svg(title, group, marks, origin_s, length_s))
        for title, group in groups.items()
    ]


def _time_svg(
    title: str, curves: list[ChartLine], marks: Sequence[Mark], origin_s: float, length_s: float
) -> str:
    figure, axes = _figure(9.0, 2.1)
    for i, curve in enumerate(curves):
        axes.plot(
            curve.times_s, curve.values, _DASHES[i % 4], color=_COLOURS[i % 4], linewidth=1.3,
            label=curve.label,
        )  # fmt: skip
    top = max((float(np.nanmax(curve.values)) for curve in curves), default=1.0)
    axes.set_ylim(0, top * 1.12 if top > 0 else 1.0)
    axes.set_xlim(0, max(length_s, 1.0))
    lines = [-math.inf] * _MARK_LINES
    for number, mark in enumerate(marks, 1):
        at_s = mark.t_s - origin_s
        axes.axvline(at_s, color=_MARK, linewidth=0.8, alpha=0.8)
        line = _free_line(lines, at_s, max(length_s, 1.0) * _MARK_WIDTH * len(str(number)))
        if line is not None:
            axes.annotate(
                str(number), (at_s, 1.0), xycoords=("data", "axes fraction"), fontsize=7,
                xytext=(0, 8 * line), textcoords="offset points",
                color=_MARK, ha="center", va="bottom", annotation_clip=False,
            )  # fmt: skip
    axes.set_ylabel(curves[0].unit, fontsize=8, color=_GREY)
    axes.xaxis.set_major_formatter(lambda value, _: clock(value))
    if len(curves) > 1:
        # Beside the curves, never over them.
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=7, frameon=False)
    return _svg(figure, f"{title} over time")


def _free_line(taken: list[float], at_s: float, width_s: float) -> int | None:
    """The lowest line above the chart with room for a number at `at_s`; None where none has room.

    taken: for each line, up to when it is full; the entry of the chosen line is updated.
    """
    for line, until_s in enumerate(taken):
        if at_s - width_s / 2 > until_s:
            taken[line] = at_s + width_s / 2
            return line
    return None


def frontier_svg(points: Sequence[Point]) -> str:
    """Generated tokens/s against E2E p90, one point per setting; empty with fewer than two."""
    there = [point for point in points if math.isfinite(_X.value(point))]
    if len(there) < 2:
        return ""
    figure, axes = _figure(9.0, 3.2)
    front = pareto(there, _Y, _X, 0.01)
    axes.plot(
        [_X.value(point) for point in front], [_Y.value(point) for point in front], "-",
        color=_COLOURS[0], linewidth=1.0, alpha=0.6, label="best",
    )  # fmt: skip
    at_knee = knee(there)
    for point in there:
        marker = "D" if point is at_knee else "o" if point in front else "x"
        axes.plot(_X.value(point), _Y.value(point), marker, color=_COLOURS[0], markersize=6)
        name = f"{point.label} knee" if point is at_knee else point.label
        axes.annotate(
            name, (_X.value(point), _Y.value(point)), textcoords="offset points", xytext=(6, 4),
            fontsize=8, color=_GREY,
        )  # fmt: skip
    axes.set_xlabel(f"{_X.label}, s", fontsize=8, color=_GREY)
    axes.set_ylabel("generated tok/s", fontsize=8, color=_GREY)
    axes.set_xlim(left=0)
    axes.set_ylim(0, 1.1 * max(map(_Y.value, there)))
    return _svg(figure, "throughput against latency")


def _figure(width: float, height: float) -> tuple[Any, Any]:
    # Without pyplot: no state, no window system.
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasSVG(figure)
    axes = figure.subplots()
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color("#d1d5db")
    axes.tick_params(labelsize=8, colors=_GREY)
    axes.grid(axis="y", color="#eceef1", linewidth=0.8)
    axes.set_axisbelow(True)
    return figure, axes


def _svg(figure: Any, label: str) -> str:
    import matplotlib as mpl

    text = io.StringIO()
    # Text stays text, and the same run gives the same file.
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "tputtui"}):
        figure.savefig(text, format="svg", metadata={"Date": None, "Title": label})
    svg = text.getvalue()
    return svg[svg.index("<svg") :]
