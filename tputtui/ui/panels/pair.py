"""One setting tried, in a few lines, and two of them side by side. Pure."""

from __future__ import annotations

import math
from textwrap import wrap

from tputtui.frame import Tried
from tputtui.knobs import differing
from tputtui.load.sections import describe, difference
from tputtui.measure.verdict import Difference
from tputtui.profile import EngineSpec
from tputtui.profile.spelling import flag_of
from tputtui.ui.panels.verdicts import HEAD, OVER, difference_row
from tputtui.ui.rows import Row, shortened

__all__ = ["about", "pair"]


def about(trial: Tried, signs: str, width: int, started_s: float) -> list[Row]:
    """Three lines: the change, its headline, and what became of it or what it was tried on.

    signs: what the row is, in words. started_s: the engine's clock when the run began.
    """
    which = f"{trial.number} "
    first: Row = [
        (which, "value"),
        (shortened(trial.changed, width - len(which) - len(signs)), "text"),
    ]
    rows: list[Row] = [[*first, (signs, "accent")]]
    if trial.differences:
        against = f"against {trial.against}  "
        headline = difference_row(trial.differences[0], width - len(against), beyond=OVER)
        rows.append([(against, "muted"), *headline])
    elif trial.series is None:
        rows.append([(f"{trial.phase.value}: not measured", "muted")])
    else:
        rows.append([("measured; there was nothing to compare it with", "muted")])
    if became := "; ".join(filter(None, (trial.note, trial.course(started_s)))):
        look = "warn" if trial.note or trial.withdrawn else "muted"
        rows.append([(shortened(became, width), look)])
    else:
        on = f"{trial.engine.model} · {describe(trial.load)}"
        rows.append([(shortened(on, width), "muted")])
    return rows


def pair(
    old: Tried, new: Tried, differences: tuple[Difference, ...], width: int, height: int
) -> list[Row]:
    """What differs between two settings in limits, load and engine, and in figures.

    differences: of the figures, the headline first; empty where one of them was not measured.
    All of them are shown: the limits, load and engine are cut first where `height` is too small.
    """
    rows: list[Row] = []
    texts = {
        "limits": differing(old.knobs, new.knobs),
        "load": difference(old.load, new.load) if old.load != new.load else "",
        "engine": _between(old.engine, new.engine),
    }
    # Rows that remain beside the figures, their head, and the line of what is the same.
    room = max(1, (height - max(1, len(differences)) - 2) // max(1, sum(map(bool, texts.values()))))
    for name, text in texts.items():
        lines = wrap(text, max(20, width - 8))
        if len(lines) > room:
            lines = [*lines[: room - 1], shortened(" ".join(lines[room - 1 :]), width - 8)]
        for i, line in enumerate(lines):
            label = name if i == 0 else ""
            rows.append([(f"{label:<8}", "label"), (line, "text")])
    if same := ", ".join(name for name, text in texts.items() if not text):
        rows.append([(f"{'same':<8}", "label"), (same, "muted")])
    if not differences:
        missing = [trial.number for trial in (old, new) if trial.series is None]
        which = " and ".join(map(str, missing))
        return [*rows, [(f"{which}: not measured, nothing to compare", "muted")]]
    if width >= len(HEAD) + 8:
        rows.append([(HEAD, "label")])
    return rows + [difference_row(row, width, -math.inf, OVER) for row in differences]


# -- inside ------------------------------------------------------------------------------------


def _between(old: EngineSpec, new: EngineSpec) -> str:
    """What differs in the engines' arguments, as their flags."""
    differences = [f"{old.model} → {new.model}"] if old.model != new.model else []
    for name in sorted(old.args.keys() | new.args.keys()):
        if old.args.get(name) != new.args.get(name):
            flag = flag_of(name)
            before, after = (spec.args.get(name, "not given") for spec in (old, new))
            differences.append(f"{flag} {before} → {after}")
    return ", ".join(differences)
