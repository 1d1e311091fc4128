"""Stands guard after each turn, until the window that it opened is full. Front end's thread."""

from __future__ import annotations

import math

from tputtui.frame import Frame
from tputtui.measure.recorder import Recorder
from tputtui.measure.window import SPAN_S
from tputtui.session.guard import Guard

__all__ = ["Guarding"]

_LOOK_BACK_S = 10.0


class Guarding:
    """Watches turns with `guard`; None lets everything pass."""

    def __init__(self, guard: Guard | None) -> None:
        self.guard = guard
        self._since_s = math.nan
        self._standing = False

    @property
    def text(self) -> str:
        """What must not be broken, as it was written."""
        return self.guard.text if self.guard else ""

    def turned(self, recorder: Recorder, now_s: float) -> None:
        """Something is being turned now: stand guard, unless all was broken before that."""
        if self.guard is None:
            return
        # A setting left at once tells nothing of itself: what held before it still does.
        if not self._standing or now_s - self._since_s >= _LOOK_BACK_S:
            self._standing = not self.guard.broken(recorder, now_s - _LOOK_BACK_S, now_s)
        self._since_s = now_s

    def stand_down(self) -> None:
        """What stands now is not to be undone."""
        self._standing = False

    def follow(self, frame: Frame, recorder: Recorder) -> str:
        """What the last turn has broken, in a sentence; empty while it has not."""
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
