"""What the screens over the board have in common: they look at the run, and the engine goes on."""

from __future__ import annotations

from abc import abstractmethod

from textual.screen import Screen

from tputtui.frame import Frame
from tputtui.ui.watched import Watched

__all__ = ["WatchingScreen"]


class WatchingScreen(Screen[None]):
    """Paints frames of `session`: when it has its size, and at each tick of the app."""

    def __init__(self, session: Watched) -> None:
        super().__init__()
        self._session = session

    def on_resize(self) -> None:
        """Paint anew once everything has its size."""
        self.call_after_refresh(self.tick)

    def tick(self) -> None:
        """Take a frame and paint it."""
        self.show(self._session.frame())

    @abstractmethod
    def show(self, frame: Frame) -> None:
        """Paint `frame`; only cells that differ are written."""

    def action_leave(self) -> None:
        """Back to the board; what is under way goes on."""
        self.dismiss()
