"""The frontier screen: settings against each other, with axes to choose and a sweep."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import Footer

from tputtui.frame import Frame
from tputtui.measure.frontier import AXES_X, AXES_Y
from tputtui.ui.canvas import Canvas
from tputtui.ui.panels.frontier import frontier
from tputtui.ui.screens.watching import WatchingScreen
from tputtui.ui.watched import Watched

__all__ = ["FrontierScreen"]

_FIRST_X = next(i for i, axis in enumerate(AXES_X) if axis.key == "e2e_p90")


class FrontierScreen(WatchingScreen):
    """Draws the session's points; the engine runs on."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,f,q", "leave", "back to the board", key_display="esc"),
        Binding("y", "next_y", "y axis"),
        Binding("x", "next_x", "x axis"),
        Binding("w", "sweep", "sweep, or stop it"),
        Binding("c", "clear", "clear the points"),
    ]

    def __init__(self, session: Watched) -> None:
        super().__init__(session)
        self._canvas = Canvas(" throughput against latency ", id="frontier")
        self._y, self._x = 0, _FIRST_X

    def compose(self) -> ComposeResult:
        """The plot and its table."""
        yield self._canvas
        yield Footer(show_command_palette=False, compact=True)

    def show(self, frame: Frame) -> None:
        """Paint `frame`; only cells that differ are written."""
        if self._canvas.size.area:
            y, x = AXES_Y[self._y], AXES_X[self._x]
            self._canvas.paint(frontier(frame, y, x, *self._canvas.size))

    def action_next_y(self) -> None:
        """Take the next quantity for the y axis."""
        self._y = (self._y + 1) % len(AXES_Y)
        self.tick()

    def action_next_x(self) -> None:
        """Take the next latency for the x axis."""
        self._x = (self._x + 1) % len(AXES_X)
        self.tick()

    def action_sweep(self) -> None:
        """Sweep the load, or stop the sweep."""
        sweep, steer = self._session.latest.sweep, self._session.steer
        stops = sweep is not None and sweep.level is not None
        self.attempt(steer.experiments.stop if stops else steer.experiments.sweep)

    def action_clear(self) -> None:
        """Forget the points."""
        self._session.clear_points()
        self._session.advance()
        self.tick()
