"""The live limits: asked, in force, ceiling, draining; and what the selected one trades. Pure."""

from __future__ import annotations

import textwrap

from tputtui.format import bar
from tputtui.frame import Frame
from tputtui.knobs import KNOBS, Knob
from tputtui.ui.rows import Row

__all__ = ["limits", "limits_caption", "row_of"]


def limits(frame: Frame, selected: str, width: int, height: int) -> list[Row]:
    """A row a limit, then the selected one's trade in what is left."""
    rows = [_row(frame, knob, knob.name == selected, width) for knob in KNOBS]
    chosen = next(knob for knob in KNOBS if knob.name == selected)
    room = height - len(rows)
    if room > 0:
        lines = textwrap.wrap(chosen.trade, max(20, width - 4))
        rows += [[(f"  {line}", "muted")] for line in lines[:room]]
    return rows


def limits_caption(frame: Frame, width: int) -> str:
    """What binds now, for the panel's title: evidence and advice as far as they fit."""
    found = frame.binding
    if found is None:
        return ""
    caption = f"bound by {found.bound.value}"
    for more in (f": {found.evidence}", f" → {found.advice}"):
        if len(caption) + len(more) > width:
            break
        caption += more
    return caption


def row_of(y: int) -> str | None:
    """The limit shown in row `y` of the panel."""
    return KNOBS[y].name if 0 <= y < len(KNOBS) else None


def _row(frame: Frame, knob: Knob, selected: bool, width: int) -> Row:
    look = "accent" if selected else "label"
    row: Row = [(f"{'▸' if selected else ' '} {knob.name:<23}", look)]
    facts, knobs, asked = frame.status.facts, frame.status.knobs, frame.asked
    if facts is None or knobs is None or asked is None or not frame.serving:
        return [*row, ("      – / –", "muted")]
    value, ceiling, in_force = asked.get(knob.name), facts.ceilings.get(knob.name), knobs
    row += [
        (f"{value:>7,}", "value"),
        (f" / {ceiling:<7,}", "label"),
        (f"{knob.unit:<5}", "muted"),
    ]
    cells = min(24, width - 25 - 17 - 5 - 28)
    if cells >= 8:
        filled, empty = bar(value / ceiling, cells)
        row += [(filled, "accent" if selected else "label"), (empty, "muted"), ("  ", "text")]
    if in_force.get(knob.name) != value:
        return [*row, (f"asked, {in_force.get(knob.name):,} in force", "warn")]
    if knob.name == "max_num_seqs" and frame.draining_seqs:
        running = frame.accounting.running
        return [*row, (f"in force, draining {running:,} → {value:,}", "warn")]
    if knob.name == "max_num_batched_tokens" and value < frame.accounting.running:
        return [*row, (f"below {frame.accounting.running:,} running: starves", "warn")]
    return [*row, ("in force", "good")]
