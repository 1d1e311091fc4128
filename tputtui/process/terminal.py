"""Who owns the terminal: we do, and everything else writes to the log. Main thread, at the start.

vLLM, its C code and progress bars write to file descriptors 1 and 2. Before any of that is
imported the terminal is duplicated for Textual, and 1 and 2 are pointed at the log file.

Every way out gives it back: `restore` where this process gets so far, `abandon` where it may wait
for nothing, and the restorer (`screenstream`) where it is killed.
"""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
import termios
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from tputtui.errors import UsageError
from tputtui.process.redirect import Redirected
from tputtui.process.screenstream import Restorer, ScreenStream
from tputtui.process.state import fresh_file
from tputtui.redact import redacted

__all__ = ["Terminal", "open_log"]

_KEPT_LOGS = 20
_LEAVING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_LAST_WORDS = "tputtui ended without a word: it was killed, or it crashed. Log: {}"


def open_log() -> Path:
    """A fresh log file for this run; the oldest beyond twenty are removed.

    Raises UsageError when it cannot be made.
    """
    return fresh_file("logs", ".log", kept=_KEPT_LOGS)


class Terminal:
    """Holds the terminal while descriptors 1 and 2 belong to the log.

    As a context manager: on leaving, the terminal is as before, and Python prints to it again.
    """

    def __init__(self, log_path: Path) -> None:
        if not (sys.stdin and sys.stdin.isatty() and (_isatty(1) or _isatty(2))):
            raise UsageError(
                "tputtui needs a terminal.",
                "Run it in one, or inside tmux or `ssh -t`; `tputtui bench` needs none.",
            )
        if os.environ.get("TERM", "dumb") in ("dumb", "unknown"):
            raise UsageError(
                f"A terminal of type {os.environ.get('TERM') or 'unknown'} cannot show a screen.",
                "Set TERM, to xterm-256color for most; `tputtui bench` needs no terminal.",
            )
        self._log_path = log_path
        self._redirected: Redirected | None = None
        self._screen: ScreenStream | None = None
        self._restorer: Restorer | None = None
        self._modes = termios.tcgetattr(0)
        self._streams = (sys.__stdout__, sys.__stderr__)

    def __enter__(self) -> Terminal:
        redirected = self._redirected = Redirected(self._log_path)
        out, err = redirected.kept
        terminal = out if os.isatty(out) else err
        words = redacted(_LAST_WORDS.format(self._log_path))
        self._restorer = Restorer(terminal, self._modes, words)
        self._screen = ScreenStream(terminal, self._restorer)
        # Textual writes to the one and asks the other for the size.
        sys.__stdout__ = sys.__stderr__ = io.TextIOWrapper(  # type: ignore[misc]
            io.BufferedWriter(self._screen), encoding="utf-8", errors="replace"
        )
        # Until Textual's loop takes these over.
        for number in _LEAVING:
            signal.signal(number, lambda got, _: self.abandon(128 + got))
        return self

    def __exit__(self, *_: object) -> None:
        self.restore()

    def paint(self, words: str) -> None:
        """Paint a first line, until there is more; keys pressed meanwhile are kept for later."""
        assert self._screen is not None
        with contextlib.suppress(termios.error, OSError):
            modes = termios.tcgetattr(0)
            # Ctrl+C is a signal still, and leaves at once.
            modes[3] &= ~(termios.ECHO | termios.ICANON)
            termios.tcsetattr(0, termios.TCSANOW, modes)
        self._screen.open_with(words)

    def hand_over(self) -> None:
        """The modes as they were, for whoever sets their own: the screen goes on with the rest."""
        self._put_modes_back()

    def restore(self) -> None:
        """Give the terminal back, whoever left the screen on; safe to call twice.

        From then on Ctrl+C, and what else asks to leave, ends the process at once.
        """
        with _undisturbed():
            if self._screen is not None and self._screen.on:
                self._screen.leave()
            # The file around the screen may be closed by that.
            sys.__stdout__, sys.__stderr__ = self._streams  # type: ignore[misc]
            self._put_modes_back()
            if self._redirected is not None:
                self._redirected.restore()
            if self._restorer is not None:
                self._restorer.close()
            if threading.current_thread() is threading.main_thread():
                for number in _LEAVING:
                    signal.signal(number, signal.SIG_DFL)

    def abandon(self, code: int, words: str = "") -> NoReturn:
        """Give the terminal back and end the process now, whatever hangs; any thread.

        words: the last there are, left out where the terminal reads nothing any more.
        """
        if self._screen is not None and (self._screen.on or words):
            self._screen.leave(f"{words}\r\n" if words else "")
        if self._restorer is not None:
            # All that can be done is done; it would only wait for the same terminal.
            self._restorer.tell(False)
        self._put_modes_back()
        os._exit(code)

    def _put_modes_back(self) -> None:
        with contextlib.suppress(termios.error, OSError):
            termios.tcsetattr(0, termios.TCSANOW, self._modes)


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """No signal that means to leave comes in between."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _LEAVING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _isatty(descriptor: int) -> bool:
    with contextlib.suppress(OSError):
        return os.isatty(descriptor)
    return False


@contextlib.contextmanager
def thrifty_switching() -> Iterator[None]:
    """Hand the GIL over every millisecond: the engine thread waits less for the screen."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(0.001)
    try:
        yield
    finally:
        sys.setswitchinterval(before)
