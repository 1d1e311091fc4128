"""What the person changed, in order, for undo and redo. Pure."""

from __future__ import annotations

from tputtui.experiments.setting import Setting

__all__ = ["UndoStack"]

_ONE_CHANGE_S = 1.0
_KEPT = 1000


class UndoStack:
    """The settings before each change, and the settings that were undone.

    Repeated changes of the same limit within a second count as one change (a key held down).
    """

    def __init__(self) -> None:
        self._before: list[Setting] = []
        self._undone: list[Setting] = []
        self._last = ("", -_ONE_CHANGE_S)

    def made(self, before: Setting, what: str, now_s: float) -> None:
        """Remember a change of `what` (a limit's name, or "load"); `before`: the setting before."""
        self._undone.clear()
        name, at_s = self._last
        self._last = (what, now_s)
        if self._before and name == what and now_s - at_s < _ONE_CHANGE_S:
            return
        self._before.append(before)
        del self._before[:-_KEPT]

    def undo(self, present: Setting) -> Setting | None:
        """The setting before the last change; None when there is none."""
        self._last = ("", -_ONE_CHANGE_S)
        # A change that the person reversed by hand leaves nothing to undo.
        while self._before and self._before[-1] == present:
            self._before.pop()
        if not self._before:
            return None
        self._undone.append(present)
        return self._before.pop()

    def redo(self, present: Setting) -> Setting | None:
        """The setting undone last; None when there is none."""
        self._last = ("", -_ONE_CHANGE_S)
        if not self._undone:
            return None
        self._before.append(present)
        return self._undone.pop()

    def clear(self) -> None:
        """Drop everything: another engine is up."""
        self._before.clear()
        self._undone.clear()
