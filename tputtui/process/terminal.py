"""Owns the terminal: this program writes to it, all other code to the log. Main thread, at start.

vLLM, its C code and progress bars write to file descriptors 1 and 2. Before any of that is
imported, the terminal is duplicated for Textual, and 1 and 2 are pointed at the log file.

Every exit restores the terminal: `restore` in a normal end, `abandon` if the process must not wait
for anything, and the restorer (`screenstream`) if the process is killed.
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
    """Make a log file for this run; only the newest twenty are kept.

    Raises UsageError if the file cannot be made.
    """
    return fresh_file("logs", ".log", kept=_KEPT_LOGS)


class Terminal:
    """Holds the terminal while descriptors 1 and 2 point at the log.

    As a context manager it restores the terminal at the end, and Python prints to it again.
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
        # Textual writes to one of them and reads the size from the other.
        sys.__stdout__ = sys.__stderr__ = io.TextIOWrapper(  # type: ignore[misc]
            io.BufferedWriter(self._screen), encoding="utf-8", errors="replace"
        )
        # These handlers apply until Textual's loop installs its own.
        for number in _LEAVING:
            signal.signal(number, lambda got, _: self.abandon(128 + got))
        return self

    def __exit__(self, *_: object) -> None:
        self.restore()

    def paint(self, words: str) -> None:
        """Show a first line until the screen is ready; keys pressed meanwhile are kept."""
        assert self._screen is not None
        with contextlib.suppress(termios.error, OSError):
            modes = termios.tcgetattr(0)
            # Ctrl+C stays a signal, so it still ends the process at once.
            modes[3] &= ~(termios.ECHO | termios.ICANON)
            termios.tcsetattr(0, termios.TCSANOW, modes)
        self._screen.open_with(words)

    def hand_over(self) -> None:
        """Restore the original modes; Textual then sets its own. The screen stays on."""
        self._put_modes_back()

    def restore(self) -> None:
        """Restore the terminal, even if the screen is still on; safe to call twice.

        Afterwards Ctrl+C, SIGTERM and SIGHUP end the process at once.
        """
        with _undisturbed():
            if self._screen is not None and self._screen.on:
                self._screen.leave()
            # Dropping the file around the screen may close it.
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
        """Restore the terminal and end the process now, even if something hangs; any thread.

        words: printed last; not shown if the terminal reads nothing any more.
        """
        if self._screen is not None and (self._screen.on or words):
            self._screen.leave(f"{words}\r\n" if words else "")
        if self._restorer is not None:
            # The restorer could do no more; it would only wait for the same terminal.
            self._restorer.tell(False)
        self._put_modes_back()
        os._exit(code)

    def _put_modes_back(self) -> None:
        with contextlib.suppress(termios.error, OSError):
            termios.tcsetattr(0, termios.TCSANOW, self._modes)


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Block the signals that end the process meanwhile."""
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
    """Switch threads every millisecond, so that the engine thread waits less for the screen."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(0.001)
    try:
        yield
    finally:
        sys.setswitchinterval(before)
