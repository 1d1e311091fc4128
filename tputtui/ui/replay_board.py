"""The board of a recorded run: the same panels, and keys for time in place of limits."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from textual.binding import Binding, BindingType

from tputtui.errors import UsageError
from tputtui.frame import Frame
from tputtui.record.replay import Replay
from tputtui.ui.board import Board
from tputtui.ui.canvas import Canvas
from tputtui.ui.log_tail import LogTail
from tputtui.ui.panels.timebar import timebar
from tputtui.ui.rows import Row

__all__ = ["ReplayBoard"]

_NOT_YET = "The run had not read the machine yet."
_NEVER = "The run recorded nothing of the machine."


class ReplayBoard(Board, inherit_bindings=False):
    """Header, panels, a bar of time, footer."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space", "play", "play", key_display="␣", id="replay.toggle",
                tooltip="Play or pause; at the end, play from the beginning"),
        Binding("plus,equals_sign", "speed(1)", "speed", key_display="+ -", id="replay.faster",
                tooltip="Faster, slower: a quarter up to 64 seconds of the run in one"),
        Binding("minus", "speed(-1)", "slower", show=False, id="replay.slower"),
        Binding("left", "skip(-10)", "10 s", key_display="←→", id="replay.back",
                tooltip="Ten seconds back, or on; with Shift a minute"),
        Binding("right", "skip(10)", "on", show=False, id="replay.on"),
        Binding("shift+left", "skip(-60)", "back", show=False, id="replay.minute_back"),
        Binding("shift+right", "skip(60)", "on", show=False, id="replay.minute_on"),
        Binding("full_stop", "mark(1)", "mark", key_display=", .", id="replay.next",
                tooltip="To the next mark (a change, a boot, a leg), or to the one before"),
        Binding("comma", "mark(-1)", "mark before", show=False, id="replay.previous"),
        Binding("home", "end(0)", "begin, end", show=False, key_display="Home End",
                id="replay.begin", tooltip="To the beginning, or to the end"),
        Binding("end", "end(1)", "end", show=False, id="replay.end"),
        Binding("s", "app.seek", "seek", id="replay.seek", tooltip="Type a time: 3:12"),
        Binding("up", "select(-1)", "limit", show=False, key_display="↑↓", id="limit.previous",
                tooltip="Choose a limit to read about"),
        Binding("down", "select(1)", "limit", show=False, id="limit.next"),
        Binding("t", "app.show_tuner", "tune", id="tuner",
                tooltip="What the tuner had tried by then"),
        Binding("h", "app.show_history", "tried", id="history",
                tooltip="The table of every setting tried"),
        Binding("f", "app.show_frontier", "plot", id="frontier",
                tooltip="Throughput against latency, a point for each setting"),
        *(Binding(str(n), f"zoom({n - 1})", "one panel", show=False, id=f"zoom.{n}",
                  key_display="1 … 6", tooltip="" if n > 1 else
                  "One panel over the whole screen; again or Esc brings the board back")
          for n in range(1, 7)),
        Binding("escape", "put_down", "no cursor", show=False, id="cursor.none"),
        Binding("ctrl+p", "app.command_palette", "commands", show=False, key_display="Ctrl+P",
                id="palette", tooltip="Themes and commands"),
        Binding("question_mark", "app.show_help", "help", key_display="?", id="help",
                tooltip="This page"),
        Binding("ctrl+z", "app.suspend_process", "suspend", show=False, key_display="Ctrl+Z",
                id="suspend", tooltip="Give the terminal back to the shell, until `fg`"),
        Binding("q", "app.leave", "quit", id="quit", tooltip="Leave; so does Ctrl+C"),
    ]  # fmt: skip
    KEYS: ClassVar[tuple[str, ...]] = (
        "replay.toggle", "replay.faster", "replay.back", "replay.next", "replay.seek", "tuner",
        "history", "frontier",
    )  # fmt: skip
    MORE_KEYS: ClassVar[tuple[str, ...]] = ("replay.begin", "limit.previous", "zoom.1", "palette")
    over = True

    def __init__(self, replay: Replay, tail: LogTail) -> None:
        super().__init__(replay, tail)
        self._replay = replay
        known = any(moment.kept["hardware"] for moment in replay.recording.moments)
        self.unread = _NOT_YET if known else _NEVER
        self._timebar = Canvas(id="timebar")
        self.beneath = (self._timebar,)

    def show(self, frame: Frame, *, everything: bool) -> None:
        """Paint `frame`, and its time in the bar."""
        super().show(frame, everything=everything)
        if self._timebar.size.area:
            self._timebar.paint([timebar(self._replay, self._timebar.size.width)])

    def _header(self, frame: Frame, width: int) -> list[Row]:
        badge = f"REPLAY {self._replay.recording.began[:16].replace('T', ' ')} UTC  "
        (row,) = super()._header(frame, max(1, width - len(badge)))
        return [[(badge, "warn"), *row]]

    # -- time ------------------------------------------------------------------------------

    def _move(self, act: Callable[[], object]) -> None:
        """Call `act` and paint, or notify why it failed."""
        try:
            act()
        except UsageError as refusal:
            self.app.notify(refusal.hint, title=refusal.message, severity="warning", timeout=4)
            return
        self.redraw()

    def action_play(self) -> None:
        """Play, or pause."""
        self._move(self._replay.toggle)

    def action_speed(self, direction: int) -> None:
        """Play faster or slower."""
        self._move(lambda: self._replay.change_speed(direction))

    def action_skip(self, seconds: int) -> None:
        """Go back or on by `seconds`."""
        self._move(lambda: self._replay.seek(self._replay.at_s + seconds))

    def action_mark(self, direction: int) -> None:
        """Go to the next mark, or to the one before."""
        self._move(lambda: self._replay.seek_mark(direction))

    def action_end(self, which: int) -> None:
        """Go to the beginning (0) or the end (1)."""
        self._move(lambda: self._replay.seek(which * self._replay.length_s))
