"""The log of marks, newest first. Pure."""

from __future__ import annotations

from tputtui.format import clock
from tputtui.frame import Frame
from tputtui.ui.rows import Row

__all__ = ["marks"]

_SIGNS = {"knob": ("┃", "accent"), "load": ("╎", "text"), "engine": ("│", "label")}


def marks(frame: Frame, width: int, height: int) -> list[Row]:
    """One row a mark."""
    started_s = frame.t_s - frame.elapsed_s
    rows: list[Row] = []
    for mark in reversed(frame.marks[-height:] if height > 0 else ()):
        sign, look = _SIGNS.get(mark.kind, ("│", "label"))
        rows.append(
            [
                (f"{clock(mark.t_s - started_s):>7} ", "muted"),
                (f"{sign} ", look),
                (mark.text, "text"),
            ]
        )
    return rows or [[("Turn a limit: what you do is listed here.", "muted")]]
