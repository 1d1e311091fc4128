"""Who owns the terminal: we do, and everything else writes to the log. Main thread, at the start.

vLLM, its C code and progress bars write to file descriptors 1 and 2. Before any of that is
imported the terminal is duplicated for Textual, and 1 and 2 are pointed at the log file.
"""

from __future__ import annotations

import contextlib
import os
import sys
import termios
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from tputtui.errors import UsageError
from tputtui.redirect import Redirected
from tputtui.state import fresh_file

__all__ = ["Terminal", "open_log"]

_KEPT_LOGS = 20
_LEAVE_SCREEN = (
    # Mouse, focus, paste and resize reports off, lines wrap, kitty's keyboard protocol off; then
    # the screen of before, with its cursor and plain colours.
    "\x1b[?1000l\x1b[?1003l\x1b[?1015l\x1b[?1006l\x1b[?1004l\x1b[?2004l\x1b[?2048l\x1b[?7h\x1b[<u"
    "\x1b[?1049l\x1b[?25h\x1b[0m"
)


def open_log() -> Path:
    """A fresh log file for this run; the oldest beyond twenty are removed.

    Raises UsageError when it cannot be made.
    """
    return fresh_file("logs", ".log", kept=_KEPT_LOGS)


class Terminal:
    """Holds the terminal while descriptors 1 and 2 belong to the log.

    As a context manager: on leaving, 1 and 2 are the terminal again and its modes are as before.
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
        self._modes = termios.tcgetattr(0)
        self._streams = (sys.__stdout__, sys.__stderr__)

    def __enter__(self) -> Terminal:
        redirected = self._redirected = Redirected(self._log_path)
        # Textual writes to the one and asks the other for the size.
        file = redirected.file(1 if os.isatty(redirected.kept[0]) else 2, screen=True)
        sys.__stdout__ = sys.__stderr__ = file  # type: ignore[misc]
        return self

    def __exit__(self, *_: object) -> None:
        self.restore()

    def restore(self) -> None:
        """Give the terminal back; safe to call twice and when it has gone away."""
        sys.__stdout__, sys.__stderr__ = self._streams  # type: ignore[misc]
        if self._redirected is not None:
            self._redirected.restore()
        with contextlib.suppress(termios.error, OSError):
            termios.tcsetattr(0, termios.TCSANOW, self._modes)

    def abandon(self, code: int) -> NoReturn:
        """End the process without another word to a terminal that reads nothing any more."""
        with contextlib.suppress(termios.error, OSError):
            termios.tcsetattr(0, termios.TCSANOW, self._modes)
        os._exit(code)

    def force(self) -> None:
        """Leave the alternate screen and give the terminal back, without Textual's help."""
        if self._redirected is not None:
            out, err = self._redirected.kept
            screen = out if os.isatty(out) else err
            with contextlib.suppress(OSError):
                # A terminal that reads nothing must not keep us.
                os.set_blocking(screen, False)
                os.write(screen, _LEAVE_SCREEN.encode())
            with contextlib.suppress(OSError):
                os.set_blocking(screen, True)
        self.restore()


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
