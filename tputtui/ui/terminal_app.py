"""What all applications do with the terminal: themes, ways of leaving, Ctrl+Z. Main thread."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import queue
import select
import signal
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, ClassVar, TextIO

from textual import events
from textual._xterm_parser import XTermParser
from textual.app import App
from textual.binding import Binding, BindingType
from textual.drivers import linux_driver
from textual.drivers.linux_driver import LinuxDriver
from textual.message import Message
from textual.screen import Screen
from textual.theme import Theme

from tputtui.ui.theme import THEMES, VARIABLES
from tputtui.ui.typed_ahead import Followed, Typed, TypedAhead

__all__ = ["TerminalApp", "leave_out_typed"]

logger = logging.getLogger(__name__)

_AT_ONCE = ("ctrl+c", "ctrl+q")
_TYPED: tuple[type[Typed], ...] = (events.Key, events.Paste)
_CLICKS: tuple[type[Typed], ...] = (
    events.MouseDown,
    events.MouseUp,
    events.MouseScrollDown,
    events.MouseScrollUp,
)
_LEFT_OUT_CHARS = 200
_BACKLOG = 4
_LAST_WRITE_S = 2.0
_LOOK_S = 1.0
_HELD_UP_S = 10.0
"""How long a booting engine may hold Python up while the terminal goes on reading."""


class TerminalApp(App[None]):
    """Leaves on Ctrl+C and on the signals that mean it; stops on Ctrl+Z and goes on after `fg`.

    leave_now: called on a second Ctrl+C, on any thread; gives the terminal back and does not
    return.
    """

    TITLE = "tputtui"
    CSS_PATH = Path(__file__).with_name("tputtui.tcss")
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+c", "interrupt", "quit", show=False, priority=True, id="interrupt"),
        Binding("ctrl+q", "interrupt", "quit", show=False, priority=True),
    ]

    _only_own = False

    def __init__(self, theme: str = "dark", leave_now: Callable[[], None] | None = None) -> None:
        super().__init__(driver_class=_Driver)
        self.leave_now = leave_now
        self._leaving = False
        self._told_until_s: dict[tuple[str, str], float] = {}
        self._typed_ahead = TypedAhead(self, super().on_event)
        # While a screen is up, both are the log. Textual's own replacements have no descriptor,
        # and without one no process can be spawned: tensor parallel would not boot.
        self._capture_stdout, self._capture_stderr = sys.stdout, sys.stderr  # type: ignore[assignment]
        for own in THEMES:
            self.register_theme(own)
        self._only_own = True
        self.theme = theme
        self.animation_level = "none"

    @property
    def available_themes(self) -> dict[str, Theme]:
        """Those that were looked at on every screen, once they are registered."""
        known = super().available_themes
        return {own.name: known[own.name] for own in THEMES} if self._only_own else known

    def get_theme_variable_defaults(self) -> dict[str, str]:
        """Our own colour names, for themes that do not set them."""
        return VARIABLES

    def on_mount(self) -> None:
        """Leave on SIGTERM, SIGHUP and SIGINT."""
        loop = asyncio.get_running_loop()
        for name in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            loop.add_signal_handler(name, self.action_interrupt)
        # Under `nohup` no signal tells that the terminal is gone, and its input never waits again.
        self.set_interval(_LOOK_S, self._look_for_terminal)

    async def on_event(self, event: events.Event) -> None:
        """Let keys, what is pasted and clicks wait for what the ones before open; not Ctrl+C."""
        ahead = self._typed_ahead
        at_once = event.is_forwarded or (isinstance(event, events.Key) and event.key in _AT_ONCE)
        queued = _TYPED + _CLICKS if ahead.waiting else _TYPED
        if isinstance(event, queued) and not at_once:
            await ahead.typed(event)
        else:
            await super().on_event(event)

    def notify(self, message: str, *, timeout: float | None = None, **how: Any) -> None:
        """Show a message; one that still stands there is not shown again, as of a held key."""
        now_s, stands_s = time.monotonic(), timeout or self.NOTIFICATION_TIMEOUT
        told = (how.get("title", ""), message)
        if now_s >= self._told_until_s.get(told, -math.inf):
            self._told_until_s = {told: now_s + stands_s}
            super().notify(message, timeout=timeout, **how)

    def forget_typed(self) -> None:
        """See `leave_out_typed`."""
        if left_out := self._typed_ahead.forget():
            self.notify(f"Typed before that, and left out: {left_out[:_LEFT_OUT_CHARS]}",
                        severity="warning", markup=False)  # fmt: skip

    async def on_typed_ahead_followed(self, follower: Followed) -> None:
        """Go on with the next key."""
        await self._typed_ahead.followed(follower)

    def _look_for_terminal(self) -> None:
        driver = self._driver
        if isinstance(driver, _Driver) and not self._leaving and _hung_up(driver.fileno):
            logger.info("the terminal is gone")
            self.action_leave()

    def action_leave(self) -> None:
        """Leave; everything else is stopped once the terminal is given back."""
        self._leaving = True
        self.exit()

    def action_interrupt(self) -> None:
        """Ctrl+C, or a signal that means it: leave; a second time leaves at once."""
        if self._leaving and self.leave_now is not None:
            self.leave_now()
        self.action_leave()

    def woken(self) -> None:
        """Paint everything anew after the process was stopped (Ctrl+Z, SIGSTOP)."""
        self.screen.refresh(layout=True)

    @property
    def behind(self) -> bool:
        """Whether the terminal has not read the last paints yet: more would not show."""
        driver = self._driver
        return isinstance(driver, _Driver) and driver.backlog > _BACKLOG

    @property
    def looked_at(self) -> Screen[Any]:
        """The topmost screen that hides those below: what shows, with the dialogs over it."""
        stack = self.screen_stack
        return next((each for each in reversed(stack) if each.styles.background.a == 1), stack[0])

    @property
    def gone(self) -> bool:
        """Whether the terminal did not read the last output: it will show no message either."""
        driver = self._driver
        return isinstance(driver, _Driver) and driver.gone

    def _fatal_error(self) -> None:
        # Textual would print the locals of every stack frame, secrets included.
        logger.exception("the screen failed")
        self._close_messages_no_wait()


def leave_out_typed(app: App[Any]) -> None:
    """Drop what was typed before something was asked or refused, and say so.

    It was typed for what would have been there otherwise: an Enter would answer the question.
    """
    if isinstance(app, TerminalApp):
        app.forget_typed()


def _hung_up(descriptor: int) -> bool:
    """Whether whatever showed the terminal has closed it."""
    poll = select.poll()
    poll.register(descriptor, 0)
    try:
        return any(event & (select.POLLHUP | select.POLLERR) for _, event in poll.poll(0))
    except OSError:
        return True


def _writable(file: TextIO | None) -> bool:
    try:
        return file is not None and bool(select.select([], [file], [], 0)[1])
    except (OSError, ValueError):
        return False


class _Parser(XTermParser):
    """Textual's parser, for which Esc and a key in one read are that key with Alt.

    Nothing here is bound to Alt; and before all but letters and digits it drops the Esc.
    """

    def _sequence_to_key_events(self, sequence: str, alt: bool = False) -> Iterable[events.Key]:
        if alt:
            yield events.Key("escape", "\x1b")
        yield from super()._sequence_to_key_events(sequence)


class _Driver(LinuxDriver):
    """Textual's driver, with four differences.

    Textual takes every SIGCONT for the end of a Ctrl+Z: after a plain SIGSTOP a second thread would
    read the keys, and outlive the screen. And it waits for ever for a terminal that reads no more.

    A second Ctrl+C leaves from the thread that reads the keys, since the screen may hang; and Esc
    is a key of its own.
    """

    gone = False
    _away = False
    _interrupts = 0

    @property
    def backlog(self) -> int:
        """Writes that the terminal has not taken yet."""
        thread = self._writer_thread
        return thread._queue.qsize() if thread is not None else 0

    def close(self) -> None:
        """Write the last output, if the terminal reads it."""
        thread = self._writer_thread
        if thread is None:
            return
        with contextlib.suppress(queue.Full):
            thread._queue.put(None, timeout=_LAST_WRITE_S)
        thread.join(_LAST_WRITE_S)
        # A terminal that takes more is not gone: our thread is held up.
        end_s = time.monotonic() + _HELD_UP_S
        while thread.is_alive() and time.monotonic() < end_s and _writable(self._file):
            thread.join(_LAST_WRITE_S / 10)
        self.gone = thread.is_alive()

    def run_input_thread(self) -> None:
        """Read the terminal with our parser; input thread."""
        linux_driver.XTermParser = _Parser  # type: ignore[attr-defined]
        super().run_input_thread()

    def process_message(self, message: Message) -> None:
        """Pass a key on; input thread."""
        if isinstance(message, events.Key) and message.key == "ctrl+c":
            self._interrupts += 1
            app = self._app
            if self._interrupts > 1 and isinstance(app, TerminalApp) and app.leave_now is not None:
                app.leave_now()
        super().process_message(message)

    def suspend_application_mode(self) -> None:
        """Give the terminal to the shell."""
        super().suspend_application_mode()
        self._away = True

    def _sigcont_application(self, *words: object) -> None:
        if self._away:
            self._away = False
            super()._sigcont_application(*words)
        if isinstance(self._app, TerminalApp):
            self._app.call_later(self._app.woken)
