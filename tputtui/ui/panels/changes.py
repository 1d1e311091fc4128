"""The effect of the last change, metric by metric, or the state of an A/B; then the marks. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from textwrap import wrap

from tputtui.experiments.tuner.outcome import limits_text
from tputtui.frame import CompareState, Frame, Tried, TunerState
from tputtui.measure.verdict import Difference
from tputtui.measure.window import SPAN_S, Phase
from tputtui.text.format import counted
from tputtui.ui.large import HEIGHT
from tputtui.ui.panels.marks import marks
from tputtui.ui.panels.verdicts import (
    HEAD,
    NEVER,
    OVER,
    Bars,
    difference_row,
    headline_rows,
)
from tputtui.ui.rows import Row, fitted, shortened

__all__ = ["changes", "changes_caption"]

_BY_COMPARING = (f"{NEVER[0]}, c runs an A/B", "undecided, c runs an A/B", "c: A/B")
_BY_NO_PAIR = ("undecided: more pairs will hardly decide it", *OVER)
_LEFT = 132
"""Cells for the differences where the marks stand beside them."""
_BESIDE = 180
_ROOMY = 7
"""Spare rows from which on the differences get a head, and an empty row below them."""
_TALL = 16
"""Rows from which on single answers that differ are told."""
_STEPS = (
    ("[ ]", "halve or double the limit at ▸, within one step of the engine; u takes it back"),
    ("l", "change the load; - + for a little less or more of it"),
    ("o", "set goals: how fast requests should be served"),
    ("c", "compare two settings by turns (A/B), where the machine is restless"),
    ("t", "let the tuner search for the best setting"),
)
_WAITING = {
    Phase.RAMPING: "Nothing is compared while the load ramps: its level is not constant.",
    Phase.DRAINING: "Nothing is compared while the load is held: it drains.",
    Phase.IDLE: "Nothing is compared while the engine is idle.",
}


def changes(frame: Frame, width: int, height: int) -> list[Row]:
    """Differences, the headline first, and the newest marks in the rows left: one at least.

    From 180 cells on, the marks stand beside the differences.

    Where not all differences fit: the headline, and the most telling others.
    """
    beside = width >= _BESIDE
    room = _LEFT - 2 if beside else width
    below = _quality(frame, room, height)
    left = height - len(below)
    if frame.tuner is not None and not frame.tuner.over:
        rows = _tuned(frame.tuner, room)
    elif frame.compare is not None:
        rows = _compared(frame.compare, room, left)
    else:
        rows = _last_change(frame, room, left if beside or below or left <= 1 else left - 1)
    rows += below
    if beside:
        return _beside(rows, marks(frame, width - _LEFT, height), height)
    if height - len(rows) >= _ROOMY:
        rows.append([])
    left = height - len(rows)
    return rows + (marks(frame, width, left) if left > 0 else [])


def changes_caption(frame: Frame, width: int) -> str:
    """What is compared with what, for the panel's title; as much of it as fits."""
    compare = frame.compare
    if compare is not None:
        pairs = counted(compare.pair, "pair")
        # The note of a running A/B begins with how far it is.
        caption = f"A/B over, {pairs}" if compare.done else f"A/B {compare.note.partition(':')[0]}"
        if compare.title != "A/B":
            caption = f"{compare.title}{' over' if compare.done else ''}"
        return _fitted([caption], width)
    if not frame.trials:
        return ""
    present, other = frame.trials[-1], _other(frame)
    if other is None:
        return _fitted(_listed(present.changed), width) if present.number > 1 else ""
    plain = f" · against {other.number}"
    pinned = [f"{plain} (baseline)"] if other.number == frame.baseline else []
    whats = _listed(present.differs(other))
    captions = [f"{what}{against}" for what in [*whats, ""] for against in (*pinned, plain)]
    captions = [caption.removeprefix(" · ") for caption in captions]
    if present.unjudged:
        captions = [
            f"{text} · {why}" for why in _shorter(present.unjudged) for text in captions[:1]
        ] + captions
    if frame.guard:
        captions.insert(0, f"{captions[0]} · guard {frame.guard}")
    return _fitted(captions, width)


# -- inside ------------------------------------------------------------------------------------


def _quality(frame: Frame, width: int, height: int) -> list[Row]:
    """Whether answers are as before, in a row; where there is room, where they differ."""
    quality = frame.quality
    if quality is None or height < 2:
        return []
    head = "quality  "
    rows: list[Row] = [[(head, "accent"), (shortened(quality.note, width - len(head)), "text")]]
    if height >= _TALL:
        rows += [
            [(" " * len(head), "text"), (shortened(f"{where}, {each.text}", width - 9), "muted")]
            for where, each in quality.differences
        ]
    return rows


def _beside(left: list[Row], right: list[Row], height: int) -> list[Row]:
    """Two columns, with a line between them."""
    rows: list[Row] = []
    for y in range(height):
        row = fitted(left[y] if y < len(left) else [], _LEFT - 2)
        rows.append([*row, ("│ ", "muted"), *(right[y] if y < len(right) else [])])
    return rows


def _last_change(frame: Frame, width: int, height: int) -> list[Row]:
    """The present setting against the one it is compared with."""
    present = frame.trials[-1] if frame.trials else None
    if present is None or not present.differences:
        why = _waits_for(frame)
        # The first sentence alone, where both do not fit.
        said = why if len(why) <= width else shortened(why.partition(":")[0], width)
        return [[(said, "muted")], *(_first_steps(width) if _is_new(frame, height) else [])]
    other = _other(frame)
    length_s = present.series.length_s if present.series else 0.0
    # A setting is measured for a minute, or for two of the load's periods.
    left_s = max(SPAN_S, 2 * frame.wanted.period_s) - length_s
    comparable = (
        other is not None
        and present.same_engine(other)
        and other.load == present.load
        and other.knobs != present.knobs
    )
    facts = frame.status.facts
    # A board on live traffic has no load of its own to compare with.
    sends = facts is None or not facts.live
    beyond = _BY_COMPARING if comparable and sends else NEVER
    return _table(present.differences, width, height, left_s, beyond, present.foretold)


def _is_new(frame: Frame, height: int) -> bool:
    """Whether nothing has been changed yet, and there is room to say what can be."""
    return len(frame.trials) <= 1 and height >= len(_STEPS) + 3


def _first_steps(width: int) -> list[Row]:
    """What a person can do here, a row each."""
    return [[], *([(f"  {key:<6}", "accent"), (shortened(does, width - 8), "text")]
                  for key, does in _STEPS)]  # fmt: skip


def _tuned(tuner: TunerState, width: int) -> list[Row]:
    """What the tuner does, and its best so far; its own screen shows the rest."""
    head = "tuner  "
    doing = shortened(f"{tuner.phase} {tuner.note}", width - len(head))
    rows: list[Row] = [[(head, "accent"), (doing, "text")]]
    if (best := tuner.best_trial) is not None:
        met = "meets the goals" if tuner.holds else "misses a goal"
        text = f"best of {len(tuner.trials)} trials: {limits_text(best.knobs)}, {met} (t shows all)"
        rows.append([(" " * len(head), "text"), (shortened(text, width - len(head)), "muted")])
    return rows


def _compared(compare: CompareState, width: int, height: int) -> list[Row]:
    """How far a comparison is, or why it ended, then B against A."""
    head = f"{compare.title}  "
    indent = len(head)
    if compare.done:
        # The whole reason where there is room for it and for all differences.
        lines = wrap(compare.note, max(20, width - indent)) or [""]
        if len(lines) > max(1, height - 1 - len(compare.differences)):
            lines = [shortened(compare.note, width - indent)]
        rows: list[Row] = [[(head, "accent"), (lines[0], "text")]]
        rows += [[(f"{'':<{indent}}{line}", "text")] for line in lines[1:]]
    else:
        doing = compare.note.partition(": ")[2] or compare.note
        rows = [[(head, "accent"), (shortened(doing, width - indent), "text")]]
    if compare.named and height - len(rows) > len(compare.differences):
        rows.append([(" " * indent, "text"), (shortened(compare.named, width - indent), "muted")])
    if not any(math.isfinite(row.change) for row in compare.differences):
        return rows
    left = height - len(rows)
    if left > 0:
        left_s, beyond = (-math.inf, OVER) if compare.done else (math.inf, _BY_NO_PAIR)
        rows += _table(compare.differences, width, left, left_s, beyond)
    return rows


def _table(
    differences: Sequence[Difference],
    width: int,
    height: int,
    left_s: float,
    beyond: Sequence[str],
    foretold: Mapping[str, float] | None = None,
) -> list[Row]:
    """The rows of a comparison. foretold: the changes that were predicted, by a metric's key."""
    predicted = foretold or {}
    bars = Bars.of(differences, width)
    if bars is not None and height >= len(differences) + HEIGHT - 1:
        first = differences[0]
        at_first = predicted.get(first.metric.key)
        rows = headline_rows(first, width, left_s, beyond, bars, at_first)
        spare = height - len(rows) - len(differences) + 1
        rows += [[]] if spare >= 3 else []
        # The headline has the axis over its own bar, if it has room for it.
        rows += [bars.head(axis=not _has_axis(rows))] if spare >= 1 else []
        airy = height - len(rows) >= 2 * len(differences)
        for row in differences[1:]:
            change = predicted.get(row.metric.key)
            rows.append(difference_row(row, width, left_s, beyond, bars, change))
            rows += [[]] if airy else []
        return rows
    head: list[Row] = []
    if height - len(differences) >= (_ROOMY if bars is None else 1):
        head = [bars.head()] if bars else [[(HEAD, "label")]] if width >= len(HEAD) + 8 else []
    shown = _most_telling(differences, height - len(head))
    return head + [
        difference_row(row, width, left_s, beyond, bars, predicted.get(row.metric.key))
        for row in shown
    ]


def _has_axis(headline: Sequence[Row]) -> bool:
    return len(headline) > 1 and any(style == "muted" for _, style in headline[1])


def _most_telling(differences: Sequence[Difference], most: int) -> list[Difference]:
    """The headline and the most telling others, `most` rows in all, in the order they came.

    Clear verdicts that differ from the headline's come first: they are what the change costs.
    """
    headline, *others = differences

    def rank(row: Difference) -> int:
        if row.judgement.clear:
            return 0 if row.judgement is not headline.judgement else 1
        return 3 if math.isnan(row.change) else 2

    kept = [id(row) for row in sorted(others, key=rank)[: max(0, most - 1)]]
    return [headline, *(row for row in others if id(row) in kept)]


def _waits_for(frame: Frame) -> str:
    """Why nothing is compared yet."""
    if not frame.trials:
        return "Once the engine serves, what a change does stands here."
    window, present = frame.window, frame.trials[-1]
    if window.phase in _WAITING:
        return _WAITING[window.phase]
    if not window.phase.quotable:
        return f"settling: {window.turnover}" if window.turnover else "settling"
    if len(frame.trials) == 1:
        return "Nothing to compare with yet: change a limit, and what that does stands here."
    if all(trial.series is None for trial in frame.trials[:-1]):
        return "Nothing to compare with yet: the settings before were left too soon."
    return f"measuring the first seconds of setting {present.number}"


def _other(frame: Frame) -> Tried | None:
    against = frame.trials[-1].against
    return next((trial for trial in frame.trials if trial.number == against), None)


def _listed(text: str) -> list[str]:
    """Ways to write a list of changes: all of it, then ever fewer and the number left out."""
    parts = text.split(", ")
    fewer = range(len(parts) - 1, 0, -1)
    return [text, *(f"{', '.join(parts[:kept])} +{len(parts) - kept}" for kept in fewer)]


def _shorter(why: str) -> list[str]:
    """Why nothing is judged, whole and as its first words."""
    return [why, why.partition(":")[0]]


def _fitted(texts: Sequence[str], width: int) -> str:
    """The first text that fits; empty where none does."""
    return next((text for text in texts if len(text) <= width), "")
