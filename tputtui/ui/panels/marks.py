"""The log of marks, newest first. Pure."""

from __future__ import annotations

from tputtui.frame import Frame
from tputtui.text.format import clock
from tputtui.ui.cursor import RULES
from tputtui.ui.rows import Row, shortened

__all__ = ["marks"]

_LOOKS = {"knob": "accent", "load": "text", "leg": "label", "guard": "warn"}


def marks(frame: Frame, width: int, height: int) -> list[Row]:
    """One row a mark, cut between words."""
    started_s = frame.t_s - frame.elapsed_s
    rows: list[Row] = []
    for mark in reversed(frame.marks[-height:] if height > 0 else ()):
        text = shortened(mark.text, max(1, width - 10))
        rows.append(
            [
                (f"{clock(mark.t_s - started_s):>7} ", "muted"),
                (f"{RULES.get(mark.kind, '│')} ", _LOOKS.get(mark.kind, "label")),
                (text, "text"),
            ]
        )
    return rows or [[("Change a limit: what you do is listed here.", "muted")]]
