"""The marks that the loop sets in one run. Engine thread."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from tputtui.knobs import Knobs, differing
from tputtui.measure.samples import Mark

__all__ = ["Marks"]

_ONE_CHANGE_S = 0.5
"""Changes that follow one another within this time, in s, count as one and share a mark."""


class Marks:
    """Appends marks to `marks`; clock: monotonic seconds."""

    def __init__(self, marks: deque[Mark], clock: Callable[[], float]) -> None:
        self._marks = marks
        self._clock = clock
        self._changed: tuple[Mark, Knobs, str] | None = None

    def add(self, kind: str, text: str) -> None:
        """Set a mark at the present time."""
        self._marks.append(Mark(self._clock(), kind, text))

    def change(self, before: Knobs, after: Knobs, why: str) -> None:
        """Mark a change of limits; changes that follow one another closely share one mark.

        why: prefix of the mark's text; changes with different prefixes have marks of their own.
        """
        now_s, changed = self._clock(), self._changed
        if changed and changed[2] == why and self._marks and self._marks[-1] is changed[0]:
            mark, first, _ = changed
            if now_s - mark.t_s < _ONE_CHANGE_S:
                self._marks.pop()
                before = first
        text = differing(before, after)
        if not text:
            return
        mark = Mark(now_s, "knob", f"{why}: {text}" if why else text)
        self._marks.append(mark)
        self._changed = (mark, before, why)
