"""The stream that paints the screen, and the helper that restores the terminal in any case.

    Textual's writer thread ── write ──▶ ScreenStream ──▶ the terminal
                                             │ "on", "off"
                                             ▼
                                       Restorer: a shell that outlives this process

From the bytes that pass through it, the stream knows whether the terminal is in the state of a full
screen (alternate screen, mouse and paste reports, no cursor). `leave` ends that state without
Textual's help and without waiting. If this process is killed or crashes, the restorer ends it: it
notices that its pipe closes.
"""

from __future__ import annotations

import contextlib
import io
import os
import select
import subprocess
import termios
import time
from typing import Any

__all__ = ["Restorer", "ScreenStream"]

_ENTER, _LEAVE = b"\x1b[?1049h", b"\x1b[?1049l"
_RESTORE = (
    # End an incomplete sequence; switch mouse, focus, paste and resize reports off, line wrap on,
    # kitty's keyboard protocol off; then restore the normal screen, its cursor and plain colours.
    "\x18\x1b[?1000l\x1b[?1003l\x1b[?1015l\x1b[?1016l\x1b[?1006l\x1b[?1004l\x1b[?2004l\x1b[?2048l"
    "\x1b[?2026l\x1b[?7h\x1b[<u\x1b[?1049l\x1b[?25h\x1b[0m"
)
_LOOK_S = 0.1
_HELPER_ENDS_S = 2.0
_HELPER = r"""
state=off
while read -r word; do state=$word; done
[ "$state" = on ] || exit 0
printf '%s\r\n%s\r\n' "$1" "$3"
stty "$2" <&1 || stty sane <&1
"""


class ScreenStream(io.FileIO):
    """The terminal of `descriptor`, and whether it shows a full screen (`on`).

    The terminal is opened anew in non-blocking mode, so that no write waits inside the kernel. The
    given descriptor is shared with the shell, which does not expect that mode.
    Writes after a hang-up are accepted and dropped: otherwise Textual's writer would die, and the
    screen would wait for it.
    """

    def __init__(self, descriptor: int, restorer: Restorer) -> None:
        try:
            opened = os.open(os.ttyname(descriptor), os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        except OSError:
            # The terminal has no name here (a container that got it from outside).
            opened = os.dup(descriptor)
        super().__init__(opened, "w")
        self.on = False
        self._silent = False
        self._tail = b""
        self._restorer = restorer

    def write(self, data: Any, /) -> int:
        """Write, and return how many bytes were taken."""
        view = memoryview(data).cast("B")
        taken = len(view)
        if self._silent:
            return taken
        if self.on and not self._tail and bytes(view[: len(_ENTER)]) == _ENTER:
            # `open_with` has entered the screen; entering again would lose the shell's cursor.
            view = view[len(_ENTER) :]
        # A sequence may be split over two writes.
        text = self._tail + bytes(view)
        entered, left = text.rfind(_ENTER), text.rfind(_LEAVE)
        self._tail = text[-len(_ENTER) + 1 :]
        if entered >= 0:
            self._switch(True)
        self._write_all(view)
        if left > entered and not self._silent:
            self._switch(False)
        return taken

    def open_with(self, words: str) -> None:
        """Enter the full screen, without a cursor, and show only `words` at its top."""
        self.write(_ENTER + f"\x1b[?25l\x1b[2J\x1b[H{words}".encode())
        self._tail = b""

    def leave(self, words: str = "", within_s: float = 2.0) -> bool:
        """End the full screen, write `words` after it, and drop all later writes; any thread.

        Output that the terminal has not read yet is dropped. Returns False if the terminal reads
        nothing for `within_s` seconds; then it still shows the screen.
        """
        self._silent = True
        data = memoryview((_RESTORE + words).encode())
        end_s = time.monotonic() + within_s
        with contextlib.suppress(OSError, ValueError):
            while data:
                data = data[self._write_some(data) :]
                if data and time.monotonic() > end_s:
                    break
                if data and not self._takes_more():
                    with contextlib.suppress(termios.error):
                        termios.tcflush(self.fileno(), termios.TCOFLUSH)
        if not data:
            self._switch(False)
        return not data

    def _write_all(self, data: memoryview) -> None:
        """Write all of `data`, unless the terminal is lost or left meanwhile."""
        with contextlib.suppress(OSError, ValueError):
            while data and not self._silent:
                data = data[self._write_some(data) :]
                if data:
                    self._takes_more()

    def _write_some(self, data: memoryview) -> int:
        try:
            return os.write(self.fileno(), data)
        except BlockingIOError:
            return 0

    def _takes_more(self) -> bool:
        """Wait a moment for the terminal; return whether it can take more."""
        return bool(select.select([], [self], [], _LOOK_S)[1])

    def _switch(self, on: bool) -> None:
        if self.on is not on:
            self.on = on
            self._restorer.tell(on)


class Restorer:
    """A shell that restores the terminal of `descriptor` if this process ends with its screen on.

    modes: the original modes of the terminal (`termios.tcgetattr`). words: printed after a restore.
    If no shell can be started, a killed process leaves its screen on the terminal.
    """

    def __init__(self, descriptor: int, modes: list[Any], words: str) -> None:
        self._shell: subprocess.Popen[bytes] | None = None
        with contextlib.suppress(OSError):
            self._shell = subprocess.Popen(
                ["/bin/sh", "-c", _HELPER, "tputtui-restorer", _RESTORE, _stty(modes), words],
                stdin=subprocess.PIPE,
                stdout=descriptor,
                stderr=subprocess.DEVNULL,
                # A session of its own: no hang-up and no Ctrl+C reaches the shell.
                start_new_session=True,
                bufsize=0,
            )
        if self._shell is not None:
            # Otherwise a fork of this process would keep the pipe open.
            os.register_at_fork(after_in_child=self._hang_up)

    def tell(self, on: bool) -> None:
        """Tell the shell whether the screen is on."""
        if self._shell is not None and self._shell.stdin is not None:
            with contextlib.suppress(OSError, ValueError):
                self._shell.stdin.write(b"on\n" if on else b"off\n")

    def close(self) -> None:
        """End the shell; the terminal needs no restoring any more."""
        if self._shell is None:
            return
        self.tell(False)
        self._hang_up()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._shell.wait(_HELPER_ENDS_S)

    def _hang_up(self) -> None:
        if self._shell is not None and self._shell.stdin is not None:
            with contextlib.suppress(OSError):
                self._shell.stdin.close()


def _stty(modes: list[Any]) -> str:
    """Terminal modes in the form that `stty` accepts."""
    input_, output, control, local, _, _, characters = modes
    flags = [f"{flag:x}" for flag in (input_, output, control, local)]
    codes = [f"{c if isinstance(c, int) else ord(c):x}" for c in characters]
    return ":".join([*flags, *codes])
