"""Where a second of the run is on a chart, and which marks are near it. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tputtui.measure.history import History
from tputtui.measure.samples import Mark
from tputtui.text.format import clock

__all__ = ["RULES", "Page", "Trail"]

RULES = {"knob": "┃", "load": "╎", "engine": "│", "leg": "┊", "guard": "┇"}
"""The rule a mark of each kind is drawn with."""

_REACH_S = 3
"""How far from a mark the cursor still reads it, in seconds: a column to either side."""


@dataclass(frozen=True, slots=True)
class Page:
    """The seconds that a chart shows: `width` cells of two seconds each, from `first` on."""

    first: int
    width: int

    @classmethod
    def of(cls, history: History, width: int) -> Page:
        """The page for the present: the newest two seconds that are over are its last cell.

        Its first cells may lie before the run began.
        """
        over = (history.total - history.first) % 2
        return cls(history.total - over - width * 2, width)

    @property
    def end(self) -> int:
        """One past the last second."""
        return self.first + self.width * 2

    def column(self, second: int) -> int | None:
        """The cell that shows `second`; None when the page does not."""
        return (second - self.first) // 2 if self.first <= second < self.end else None

    def second(self, column: int) -> int:
        """The first of the two seconds in a cell."""
        return self.first + column * 2


class Trail:
    """The marks of a run as stops for a cursor; marks of one second are one stop."""

    def __init__(self, marks: Iterable[Mark], history: History) -> None:
        self._stops: dict[int, list[Mark]] = {}
        for mark in sorted(marks, key=lambda mark: mark.t_s):
            self._stops.setdefault(history.index(mark.t_s), []).append(mark)

    def beside(self, second: int | None, direction: int) -> int | None:
        """The stop before (-1) or after (1) `second`, or `second` itself where there is none.

        From None, the newest stop; None where nothing has been marked.
        """
        if second is None:
            return max(self._stops, default=None)
        if direction < 0:
            return max((stop for stop in self._stops if stop < second), default=second)
        return min((stop for stop in self._stops if stop > second), default=second)

    def within(self, start: int, end: int) -> int | None:
        """The newest stop from `start` to before `end`: its rule is the one seen in a cell."""
        return max((stop for stop in self._stops if start <= stop < end), default=None)

    def near(self, second: int) -> int | None:
        """The stop read at `second`: the nearest, if it is at most a column away."""
        stop = min(self._stops, key=lambda stop: abs(stop - second), default=None)
        return None if stop is None or abs(stop - second) > _REACH_S else stop

    def caption(self, second: int, width: int) -> str:
        """The mark near `second` in a line: 0:42 ┃ max_num_seqs 64 → 32; empty without one.

        Cut in the middle to fit `width`: the limit stands first, and its new value last.
        """
        stop = self.near(second)
        if stop is None:
            return ""
        *others, mark = self._stops[stop]
        text = f"{clock(stop)} {RULES.get(mark.kind, '│')} {mark.text}"
        if others:
            text += f" (+{len(others)})"
        if len(text) <= width:
            return text
        tail = max(0, width - 1) * 2 // 5
        return text[: max(0, width - 1 - tail)] + "…"[:width] + text[len(text) - tail :]
