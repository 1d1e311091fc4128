"""The frontier screen: settings against each other, with axes to choose and a sweep."""

from __future__ import annotations

import math
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import Footer

from tputtui.frame import Frame
from tputtui.measure.frontier import AXES_X, AXES_Y
from tputtui.ui.canvas import Canvas
from tputtui.ui.panels.frontier import frontier, goal_on
from tputtui.ui.screens.watching import WatchingScreen
from tputtui.ui.watched import Watched

__all__ = ["FrontierScreen"]

_FIRST_X = next(i for i, axis in enumerate(AXES_X) if axis.key == "e2e_p90")


def _first_axis(frame: Frame) -> int:
    """The latency of a goal, if every point has it; else E2E p90."""
    for place, axis in enumerate(AXES_X):
        measured = [not math.isnan(axis.value(point)) for point in frame.points]
        if measured and all(measured) and not math.isnan(goal_on(frame, axis)):
            return place
    return _FIRST_X


class FrontierScreen(WatchingScreen):
    """Draws the session's points; the engine runs on."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "move(-1)", "pick", key_display="↑↓"),
        Binding("down", "move(1)", "pick", show=False),
        Binding("enter", "jump", "put it on", key_display="⏎"),
        Binding("escape,f,q", "leave", "back", key_display="esc"),
        Binding("y", "next_y", "y axis"),
        Binding("x", "next_x", "x axis"),
        Binding("w", "sweep", "sweep, stop"),
        Binding("c", "clear", "clear"),
    ]

    def __init__(self, session: Watched) -> None:
        super().__init__(session)
        self._canvas = Canvas(" throughput against latency ", id="frontier")
        self._y, self._x = 0, _FIRST_X
        self._chosen = ""
        self._seen = False

    def compose(self) -> ComposeResult:
        """The plot and its table."""
        yield self._canvas
        yield Footer(show_command_palette=False, compact=True)

    def show(self, frame: Frame) -> None:
        """Paint `frame`; only cells that differ are written."""
        if self._canvas.size.area:
            if not self._seen:
                self._seen, self._x = True, _first_axis(frame)
            y, x = AXES_Y[self._y], AXES_X[self._x]
            self._canvas.paint(frontier(frame, y, x, *self._canvas.size, self._chosen))

    def action_move(self, direction: int) -> None:
        """Choose the point of the row before or after; first, the newest one."""
        letters = [point.label for point in self._session.latest.points]
        if self._chosen in letters:
            place = letters.index(self._chosen) + direction
            self._chosen = letters[max(0, min(len(letters) - 1, place))]
        elif letters:
            self._chosen = letters[-1]
        self.tick()

    def action_jump(self) -> None:
        """Put the setting of the chosen point on again."""
        points = self._session.latest.points
        trial = next((point.trial for point in points if point.label == self._chosen), 0)
        if trial:
            self.attempt(lambda: self._session.steer.jump(trial))

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
