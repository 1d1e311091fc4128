"""A difference between two settings as text: figures of a fixed width, sign and word. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from tputtui.measure.series import Metric
from tputtui.measure.verdict import Difference, Verdict
from tputtui.text.format import MISSING, rate, seconds
from tputtui.ui.large import large
from tputtui.ui.panels.intervals import interval_axis, interval_bar, interval_scale
from tputtui.ui.panels.outlooks import foretold_text
from tputtui.ui.rows import Row, width_of

__all__ = ["HEAD", "NEVER", "OVER", "Bars", "difference_row", "figure", "headline_rows",
           "verdict_sign", "verdict_words"]  # fmt: skip

NEVER = ("undecided: waiting will not decide it", "undecided", "open")
"""Words for a row that waiting will not decide, the longest first."""
OVER = ("undecided", "open")
"""Words for a row that will not be measured any further, the longest first."""
_SIGNS = {
    Verdict.BETTER: ("▲", "good"),
    Verdict.WORSE: ("▼", "bad"),
    Verdict.SAME: ("=", "text"),
    Verdict.OPEN: ("?", "label"),
    Verdict.NOTHING: (MISSING, "muted"),
    Verdict.UNJUDGED: ("·", "label"),
}
_ROUND_S = (5, 10, 15, 20, 30, 40, 60, 90, *range(120, 660, 60), 900, 1200, 1800, 3600)
"""A forecast is rounded up to one of these: a number that counts down cannot be read."""

HEAD = f"{'before':>17}{'after':>10}{'change':>10} interval (95 %, all rows)"
"""Names the columns of rows of 72 cells and more."""
_WIDE = 72
_INTERVAL = 58
_PAIR = 43
_BARRED = 96
_ROOMY = 130
_FIGURES = 38
"""Cells of a row in front of its bar."""
_WORDS = 26
_MORE_WORDS = 42
_LARGE = 20


class Bars(NamedTuple):
    """Bars for the intervals of a table: the axis ends at ±`scale`; `cells` is odd."""

    scale: float
    cells: int

    @classmethod
    def of(cls, differences: Sequence[Difference], width: int) -> Bars | None:
        """Bars for a table of `width` cells; None where they have no room."""
        if width < _BARRED:
            return None
        cells = min(81, width - _FIGURES - (_WORDS if width < _ROOMY else _MORE_WORDS))
        return cls(interval_scale(differences), cells - 1 + cells % 2)

    def head(self, *, axis: bool = True) -> Row:
        """Names the columns; axis: and the ends of the axis."""
        columns = f"{'before':>17}{'after':>10}{'change':>10}  "
        ends = interval_axis(self.scale, self.cells) if axis else ""
        return [(columns, "label"), (ends, "muted")]


def headline_rows(
    row: Difference,
    width: int,
    left_s: float,
    beyond: Sequence[str],
    bars: Bars,
    predicted: float | None = None,
) -> list[Row]:
    """The headline in three rows: the change in large figures, the verdict, old → new, interval.

    predicted: as of `difference_row`.
    """
    digits = large(_percent(row.change))
    if digits is None:
        return [difference_row(row, width, left_s, beyond, bars, predicted)]
    look = _look(row)
    room = max(len(digits[0]), _LARGE)
    old, new = figure(row.metric, row.old, 0), figure(row.metric, row.new, 0)
    said = _words(row, left_s, beyond)[0]
    # The bar stands where those of the rows below do, and the axis over it.
    lines: list[Row] = [
        [(f"{row.metric.label}  ", "value"), (said, look)],
        [(f"{old} → ", "label"), (new, "value")],
        [
            (f"{_interval(row):<{_FIGURES - room - 3}}", "muted"),
            *interval_bar(row, bars.scale, bars.cells, look),
        ],
    ]
    foretold = foretold_text(predicted, width - room - 3 - width_of(lines[0]))
    lines[0] += [(foretold, "muted")] if foretold else []
    if (gap := _FIGURES - room - 3 - width_of(lines[1])) > 0:
        lines[1] += [(" " * gap, "text"), (interval_axis(bars.scale, bars.cells), "muted")]
    return [[(f"{part:<{room}}   ", look), *line] for part, line in zip(digits, lines, strict=True)]


def difference_row(
    row: Difference,
    width: int,
    left_s: float = math.inf,
    beyond: Sequence[str] = NEVER,
    bars: Bars | None = None,
    predicted: float | None = None,
) -> Row:
    """One metric: before → after, the change with its interval, what is known of it, in words.

    left_s: seconds that will still be measured at most. beyond: words for a verdict that would take
    longer, from the longest to one of six cells. The interval is left out below 58 cells, old and
    new below 43. bars: draws the interval as a bar in place of its ends. predicted: the change that
    was predicted, told where there is room for it.
    """
    metric = row.metric
    if width >= _WIDE:
        old, new = figure(metric, row.old, 7), figure(metric, row.new, 7)
        parts: Row = [
            (f"{metric.label:<10}", "label"),
            (f"{old} → ", "label"),
            (new, "value"),
            (f"  {_percent(row.change):>8} ", "text"),
        ]
        if bars is None:
            parts.append((f"{_interval(row):<16} ", "muted"))
        else:
            parts += [*interval_bar(row, bars.scale, bars.cells, _look(row)), ("  ", "text")]
    else:
        parts = [(f"{metric.label:<9}", "label")]
        if width >= _PAIR:
            parts.append((f"{_pair(row):>16}", "text"))
        parts.append((f" {_percent(row.change):>7} ", "value"))
        if width >= _INTERVAL:
            parts.append((f"{_interval(row):<16}", "muted"))
    room = width - sum(len(text) for text, _ in parts)
    words = _words(row, left_s, beyond)
    verdict = next((word for word in words if len(word) <= room), words[-1])
    foretold = foretold_text(predicted, room - len(verdict))
    return [*parts, (verdict, _look(row)), *([(foretold, "muted")] if foretold else [])]


def verdict_sign(row: Difference) -> tuple[str, str]:
    """A difference in nine cells, and its style: sign and change (▲  +9.7 %)."""
    if math.isnan(row.change):
        return MISSING, "muted"
    return f"{_SIGNS[row.judgement][0]} {_percent(row.change):>7}", _look(row)


def verdict_words(row: Difference) -> str:
    """What is known of a difference that will not be measured any further: ▲ better."""
    return _words(row, -math.inf, OVER)[0]


def figure(metric: Metric, value: float, width: int) -> str:
    """A metric's value, right-aligned: a rate, or seconds with their unit."""
    return seconds(value, width) if metric.unit == "s" else rate(value, width)


# -- inside ------------------------------------------------------------------------------------


def _percent(change: float) -> str:
    """A change in seven cells at most: +9.7 %, -41.0 %, +240 %; ×12 from tenfold on."""
    if math.isnan(change):
        return MISSING
    if math.isinf(change):
        return "from 0"
    return _points(change) + ("" if change >= 9.995 else " %")


def _points(change: float) -> str:
    """A change in percent, without the percent sign; five cells at most."""
    if math.isinf(change):
        return "∞"
    if change >= 9.995:
        times = 1 + change
        return f"×{times:.0f}" if times < 9_999.5 else "×10k+"
    if abs(change) >= 0.9995:
        return f"{change * 100:+.0f}"
    # No minus before a zero.
    return f"{round(change * 100, 1) + 0.0:+.1f}"


def _interval(row: Difference) -> str:
    if math.isnan(row.low) or math.isnan(row.high):
        return ""
    if row.low <= -0.9995 and math.isinf(row.high):
        return "[any change]"
    return f"[{_points(row.low)} … {_points(row.high)}]"


def _pair(row: Difference) -> str:
    """Old → new, the unit once where both have it."""
    old, new = figure(row.metric, row.old, 0), figure(row.metric, row.new, 0)
    number, _, unit = old.partition(" ")
    return f"{number if new.endswith(f' {unit}') else old} → {new}"


def _look(row: Difference) -> str:
    return "muted" if math.isnan(row.change) else _SIGNS[row.judgement][1]


def _words(row: Difference, left_s: float, beyond: Sequence[str]) -> list[str]:
    """The verdict in words, from the longest way to one of eight cells."""
    sign, known = _SIGNS[row.judgement][0], row.judgement.value
    if row.judgement is Verdict.SAME:
        return [f"{sign} {known}, within 2 %", f"{sign} {known}", f"{sign} same"]
    if row.judgement is Verdict.NOTHING:
        return [f"{sign} {known}: none in both", f"{sign} {known}", f"{sign} none"]
    if row.judgement is not Verdict.OPEN:
        return [f"{sign} {known}"]
    if math.isnan(row.old) or math.isnan(row.new):
        return [f"{MISSING} not measured in both", f"{MISSING} not measured", f"{MISSING} none"]
    if math.isnan(row.needs_s):
        return [f"{sign} {known}", f"{sign} open"]
    if row.needs_s <= left_s and math.isfinite(row.needs_s):
        soon = _soon(row.needs_s)
        return [
            f"{sign} {known} (needs ~{soon} more)",
            f"{sign} needs ~{soon} more",
            f"{sign} ~{soon}" if len(soon) < 6 else f"{sign} {soon}",
        ]
    return [f"{sign} {words}" for words in beyond]


def _soon(needs_s: float) -> str:
    rounded = next((step for step in _ROUND_S if needs_s <= step), _ROUND_S[-1])
    return f"{rounded} s" if rounded < 120 else f"{rounded // 60} min"
