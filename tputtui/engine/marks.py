"""The marks of one run, as the loop sets them. Engine thread."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from tputtui.knobs import Knobs, differing
from tputtui.measure.samples import Mark

__all__ = ["Marks"]

_ONE_TURN_S = 0.5
"""Limits turned again within this time are one turn, and one mark."""


class Marks:
    """Appends to `marks`; clock: monotonic seconds."""

    def __init__(self, marks: deque[Mark], clock: Callable[[], float]) -> None:
        self._marks = marks
        self._clock = clock
        self._turned: tuple[Mark, Knobs, str] | None = None

    def add(self, kind: str, text: str) -> None:
        """Something happened now."""
        self._marks.append(Mark(self._clock(), kind, text))

    def turn(self, before: Knobs, after: Knobs, why: str) -> None:
        """Limits were turned; one mark for turns that follow one another closely.

        why: put before what changed; turns of another kind are apart.
        """
        now_s, turned = self._clock(), self._turned
        if turned and turned[2] == why and self._marks and self._marks[-1] is turned[0]:
            mark, first, _ = turned
            if now_s - mark.t_s < _ONE_TURN_S:
                self._marks.pop()
                before = first
        text = differing(before, after)
        if not text:
            return
        mark = Mark(now_s, "knob", f"{why}: {text}" if why else text)
        self._marks.append(mark)
        self._turned = (mark, before, why)
