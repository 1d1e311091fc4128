"""The table of settings tried: its columns, and their cells. Pure.

Every text is as wide as its column, so that nothing moves; `rank` is what a column is sorted by.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from textwrap import shorten

from tputtui.frame import Frame, Tried
from tputtui.knobs import kept_limits, shorthand
from tputtui.load.notation import describe_all_arrivals
from tputtui.load.workload import lead, level_of
from tputtui.measure.series import METRICS
from tputtui.measure.window import Phase
from tputtui.text.format import MISSING, clock, compact
from tputtui.ui.panels.verdicts import figure, verdict_sign
from tputtui.ui.rows import Row, spread

__all__ = ["Column", "Entry", "columns", "entries", "signs", "title", "widened"]

_NOW, _BASELINE, _MARKED = "●", "◆", "Δ"
_LEGEND = f"{_NOW} now  {_BASELINE} baseline  {_MARKED} to diff  ↻ another engine "
_METRICS = {metric.key: metric for metric in METRICS}


Rank = tuple[float, ...] | None


@dataclass(frozen=True, slots=True)
class Column:
    """One column. `label`: one or two lines. width: cells, the gap to the left among them.

    gap: cells in front of left-aligned text; 0 for a column with right-aligned text.
    """

    key: str
    label: str
    width: int
    gap: int = 0

    @property
    def room(self) -> int:
        """Cells for its text."""
        return self.width - (self.gap or 1)

    def padded(self, text: str) -> str:
        """`text` in its place, as wide as the column."""
        if self.gap:
            return f"{'':>{self.gap}}{text:<{self.width - self.gap}}"
        return f"{text:>{self.width}}"


@dataclass(frozen=True, slots=True)
class Entry:
    """Text, style and rank of a cell; a cell with rank None is last in any order."""

    text: str
    look: str
    rank: Rank


_NUMBER = Column("number", "#", 4)
_WHICH = Column("signs", "", 4, gap=1)
_TIME = Column("time", "time", 7)
_SETTING = Column("setting", "setting\nseqs/tok/len", 13, gap=1)
_LOAD = Column("load", "load", 12, gap=1)
_WINDOW = Column("window", "win\ns", 4)
_N = Column("n", "n", 6)
_TOKENS = Column("tokens_per_s", "tok/s", 7)
_GOODPUT = Column("goodput_per_s", "good\nput", 7)
_LATENCIES = tuple(
    Column(f"{name}_{share}", f"{name.upper()}\n{share}", 8)
    for name in ("ttft", "tpot")
    for share in ("p50", "p90")
)
_PHASE = Column("phase", "phase", 11, gap=1)
_VERDICT = Column("verdict", "verdict", 11, gap=2)
_NOTE = Column("note", "what was changed", 32, gap=2)

_MOST = {"setting": 30, "load": 24, "verdict": 18}
"""Cells that columns of text grow to before there is a column for notes."""


def columns(width: int, goals: bool) -> tuple[Column, ...]:
    """The columns that fit in `width` cells: all of them from 118 on; goodput with goals."""
    goodput = (_GOODPUT,) if goals else ()
    chosen = [_NUMBER, _WHICH, _TIME, _SETTING, _LOAD, _WINDOW, _N, _TOKENS, *goodput,
              *_LATENCIES, _PHASE, _VERDICT]  # fmt: skip
    if sum(column.width for column in chosen) > width:
        # With goals their column is worth more than the load, which seldom changes.
        load = () if goals else (_LOAD,)
        chosen = [_NUMBER, _WHICH, _SETTING, *load, _TOKENS, *goodput,
                  *_LATENCIES[1::2], _VERDICT]  # fmt: skip
    chosen, slack = widened(chosen, width, _MOST)
    if slack >= _NOTE.width + len(chosen):
        chosen = [replace(c, width=c.width + 1, gap=c.gap and c.gap + 1) for c in chosen]
        slack -= len(chosen)
    if slack >= _NOTE.width:
        chosen.append(replace(_NOTE, width=slack))
    return tuple(chosen)


def entries(
    trial: Tried, shown: Sequence[Column], *, started_s: float, engine: int, signs: str
) -> dict[str, Entry]:
    """The cell of every column that is shown, by the column's key.

    started_s: the engine's clock when the run began. engine: which of the engines it ran on,
    from 1. signs: what the row is (the present one, the baseline, marked).
    """
    made = {}
    for column in shown:
        text, look, rank = _entry(trial, column, started_s, engine, signs)
        if len(text) > column.room:
            text = shorten(text, column.room, placeholder=" …")
        made[column.key] = Entry(column.padded(text), look, rank)
    return made


def widened(
    chosen: Sequence[Column], width: int, most: Mapping[str, int]
) -> tuple[list[Column], int]:
    """`chosen`, widened up to `most` cells by key as far as `width` allows; and the cells left."""
    slack, made = width - sum(column.width for column in chosen), []
    for column in chosen:
        more = max(0, min(slack, most.get(column.key, 0) - column.width))
        made.append(replace(column, width=column.width + more))
        slack -= more
    return made, slack


def signs(frame: Frame, number: int, marked: Collection[int | None]) -> str:
    """Signs for what a row is: the present one, the baseline, marked to be compared."""
    return (
        (_NOW if number == frame.trials[-1].number else "")
        + (_BASELINE if number == frame.baseline else "")
        + (_MARKED if number in marked else "")
    )


def title(frame: Frame, marked: int | None, width: int) -> Row:
    """The line above the table: how many rows, what the next key does, what the signs mean."""
    left: Row = [(" settings tried ", "accent"), (str(len(frame.trials)), "value")]
    if marked is not None:
        left.append((f"  {marked} marked: d on another row shows both", "text"))
    elif frame.guard and width >= 110:
        left.append((f"  guard {frame.guard}", "muted"))
    return spread(left, [(_LEGEND, "muted")], width)


# -- inside ------------------------------------------------------------------------------------


def _entry(
    trial: Tried, column: Column, started_s: float, engine: int, signs: str
) -> tuple[str, str, Rank]:
    """Text, style and rank of one cell."""
    series, knobs = trial.series, trial.knobs
    match column.key:
        case "number":
            return str(trial.number), "label", (trial.number,)
        case "signs":
            return signs, "accent", (-len(signs),)
        case "time":
            return clock(trial.t_s - started_s), "muted", (trial.t_s,)
        case "setting":
            other = f" ↻{engine}" if engine > 1 else ""
            room = column.width - column.gap
            text = _setting(kept_limits(knobs, trial.booted), room - len(other)) + other
            if len(text) > room:
                text = text.replace(" ↻", "↻")
            main = (knobs.max_num_seqs, knobs.max_num_batched_tokens, knobs.max_model_len)
            return text, "text", (engine, *main)
        case "load":
            level = level_of(lead(trial.load))
            rank = (float(level),) if isinstance(level, int | float) else None
            text = describe_all_arrivals(trial.load)
            if len(text) > column.width - column.gap:
                text = text.replace(" in flight", " in fl.")
            return text, "text", rank
        case "window":
            text = compact(series.length_s, 0) if series else MISSING
            return text, "muted", (series.length_s,) if series else None
        case "n":
            return (
                compact(series.n, 5) if series else MISSING,
                "muted",
                (series.n,) if series else None,
            )
        case "phase":
            look = "text" if trial.phase is Phase.STEADY else "muted"
            return trial.phase.value, look, (list(Phase).index(trial.phase),)
        case "verdict":
            if not trial.differences:
                return MISSING, "muted", None
            headline = trial.differences[0]
            known = not math.isnan(headline.change)
            text, look = verdict_sign(headline)
            if len(against := f"{text}  vs {trial.against}") <= column.width - column.gap:
                text = against
            return text, look, (headline.change,) if known else None
        case "note":
            return trial.note or trial.changed, "warn" if trial.note else "muted", (trial.number,)
    value = trial.value(column.key)
    look = "text" if trial.phase.quotable else "muted"
    return figure(_METRICS[column.key], value, 0), look, None if math.isnan(value) else (value,)


def _setting(values: Mapping[str, int], room: int) -> str:
    """Limits in few cells: 64/2048/2048 +1 (another one is changed); 256/8k/128k if need be."""
    text = shorthand(values)
    if len(text) <= room:
        return text
    main, *others = text.split(", ")
    also = f" +{len(others)}" if others else ""
    if len(main) + len(also) > room:
        main = "/".join(_k(part) for part in main.split("/"))
    return main + also


def _k(number: str) -> str:
    value = int(number)
    return f"{value // 1024}k" if value and value % 1024 == 0 else number
