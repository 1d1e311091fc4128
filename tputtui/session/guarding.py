"""Guards the setting after each change, until its window is full. Front end's thread."""

from __future__ import annotations

import math

from tputtui.frame import Frame
from tputtui.measure.recorder import Recorder
from tputtui.measure.window import SPAN_S
from tputtui.session.guard import Guard

__all__ = ["Guarding"]

_LOOK_BACK_S = 10.0


class Guarding:
    """Watches changes by `guard`; None lets everything pass."""

    def __init__(self, guard: Guard | None) -> None:
        self.guard = guard
        self._since_s = math.nan
        self._standing = False

    @property
    def text(self) -> str:
        """What must not be broken, as it was written; empty without a guard."""
        return self.guard.text if self.guard else ""

    def about_to_change(self, recorder: Recorder, now_s: float) -> None:
        """A change is made now: watch it, unless the rule was broken before it."""
        if self.guard is None:
            return
        # A setting that is left at once cannot be judged: the judgement before it still holds.
        if not self._standing or now_s - self._since_s >= _LOOK_BACK_S:
            self._standing = not self.guard.broken(recorder, now_s - _LOOK_BACK_S, now_s)
        self._since_s = now_s

    def stand_down(self) -> None:
        """Stop watching: the present setting must not be undone."""
        self._standing = False

    def follow(self, frame: Frame, recorder: Recorder) -> str:
        """What the last change has broken, in a sentence; empty for nothing."""
        if self.guard is None or not self._standing or not frame.serving:
            return ""
        window = frame.window
        if window.settled and window.length_s >= SPAN_S:
            self._standing = False
            return ""
        broken = self.guard.broken(recorder, self._since_s, frame.t_s)
        if broken:
            self._standing = False
        return broken
