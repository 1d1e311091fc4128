"""The base of the screens over the board: they show the run, and the engine runs on."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from functools import partial

from textual.screen import Screen

from tputtui.errors import OthersError, TputError
from tputtui.frame import Frame
from tputtui.ui.screens.confirm import Confirm
from tputtui.ui.watched import Watched

__all__ = ["WatchingScreen"]


class WatchingScreen(Screen[None]):
    """Paints frames of `session`: when the screen has its size, and at each tick of the app."""

    def __init__(self, session: Watched) -> None:
        super().__init__()
        self._session = session

    def on_resize(self) -> None:
        """Paint anew once everything has its size."""
        self.call_after_refresh(self.tick)

    def tick(self) -> None:
        """Paint the latest frame."""
        self.show(self._session.latest)

    @abstractmethod
    def show(self, frame: Frame) -> None:
        """Paint `frame`; only cells that differ are written."""

    def attempt(self, act: Callable[..., object], *, shown_s: float = 3.0) -> bool:
        """Call `act`, show the sentence it returns, if any, and paint; or show why it failed.

        Where it would cost other people's requests something, ask, and call it with `anyway=True`.
        shown_s: how long the sentence is shown, in seconds. Returns whether `act` succeeded.
        """
        try:
            message = act()
        except OthersError as refusal:
            again = partial(self.attempt, partial(act, anyway=True), shown_s=shown_s)
            self.app.push_screen(Confirm.anyway(refusal, again))
            return False
        except TputError as refusal:
            self.refuse(refusal)
            return False
        if isinstance(message, str) and message:
            self.notify(message, timeout=shown_s)
        self._session.advance()
        self.tick()
        return True

    def refuse(self, refusal: TputError) -> None:
        """Show why something is not done, and what to do."""
        self.notify(refusal.hint, title=refusal.message, severity="warning", timeout=6)

    def action_leave(self) -> None:
        """Go back to the board; what is under way goes on."""
        self.dismiss()
