"""The application that replays a recorded run. Main thread."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable

from textual.app import SystemCommand
from textual.screen import Screen

from tputtui.errors import UsageError
from tputtui.record.replay import Replay
from tputtui.text.format import clock
from tputtui.ui.keys import listed_of
from tputtui.ui.log_tail import LogTail
from tputtui.ui.replay_board import ReplayBoard
from tputtui.ui.screens.dialog import Dialog
from tputtui.ui.screens.frontier import FrontierScreen
from tputtui.ui.screens.help import HelpScreen
from tputtui.ui.screens.history import HistoryScreen
from tputtui.ui.screens.tuner import TunerScreen
from tputtui.ui.screens.watching import WatchingScreen
from tputtui.ui.terminal_app import TerminalApp

__all__ = ["ReplayApp"]

_TICK_S = 0.25
_NOTE_S = 12
_TIME = re.compile(r"(?:(?:(\d+):)?(\d{1,3}):)?(\d+(?:\.\d+)?)s?")


class ReplayApp(TerminalApp):
    """The board of one recorded run. note: said once, as it opens."""

    def __init__(
        self,
        replay: Replay,
        *,
        theme: str = "dark",
        leave_now: Callable[[], None] | None = None,
        note: str = "",
    ) -> None:
        super().__init__(theme, leave_now)
        self.replay = replay
        self._note = note
        self._board = ReplayBoard(replay, LogTail(None))

    def get_default_screen(self) -> Screen[None]:
        """The board."""
        return self._board

    def on_ready(self) -> None:
        """The first frame is out: now paint four times a second."""
        self._board.redraw()
        self.set_interval(_TICK_S, self._tick)
        if self._note:
            self.notify(self._note, timeout=_NOTE_S)

    def _tick(self) -> None:
        if not self.is_running:
            return
        self.replay.advance()
        if self.behind:
            return
        screen = self.looked_at
        if isinstance(screen, ReplayBoard | WatchingScreen):
            screen.tick()

    def action_seek(self) -> None:
        """Ask for a time to go to."""

        def use(texts: list[str]) -> None:
            at_s = seconds_of(texts[0])
            if at_s > math.ceil(self.replay.length_s):
                raise UsageError(f"The run ends at {clock(self.replay.length_s)}.")
            self.replay.seek(at_s)
            self._board.redraw()

        hint = f"Up to {clock(self.replay.length_s)}; 3:12, 1:02:03 or 90s."
        self.push_screen(Dialog("seek", [("", clock(self.replay.at_s))], hint, use))

    def action_show_history(self) -> None:
        """Open the table of all settings tried."""
        self.push_screen(HistoryScreen(self.replay))

    def action_show_tuner(self) -> None:
        """Show the tuner as it stood at this time of the run."""
        self.push_screen(TunerScreen(self.replay, None))

    def action_show_frontier(self) -> None:
        """Plot the settings against each other."""
        self.push_screen(FrontierScreen(self.replay))

    def action_show_help(self) -> None:
        """Show keys and meanings."""
        self.push_screen(HelpScreen(listed_of(ReplayBoard.BINDINGS)))

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """Everything that has a key, and the themes."""
        yield SystemCommand("Seek", "To a time of the run", self.action_seek)
        yield SystemCommand("Settings tried", "Sort, diff", self.action_show_history)
        yield SystemCommand("Tuner", "What it had tried", self.action_show_tuner)
        yield SystemCommand("Frontier", "Settings against each other", self.action_show_frontier)
        yield SystemCommand("Help", "Keys and meanings", self.action_show_help)
        yield SystemCommand("Theme", "Dark, light, the terminal's own", self.action_change_theme)
        yield SystemCommand("Quit", "Leave", self.action_leave)


def seconds_of(text: str) -> float:
    """A time of the run as typed: 3:12, 1:02:03, 90, 90s. Raises UsageError."""
    match = _TIME.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"{text.strip()!r} is not a time.", "Write 3:12, 1:02:03 or 90s.")
    hours, minutes, seconds = match.groups()
    if (hours and int(minutes) > 59) or (minutes and float(seconds) >= 60):
        raise UsageError(f"{text.strip()!r} is not a time: minutes and seconds go up to 59.")
    return int(hours or 0) * 3600 + int(minutes or 0) * 60 + float(seconds)
