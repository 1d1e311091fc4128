"""`tputtui` in a pseudo-terminal, as a person would run it: keys in, a screen out."""

from __future__ import annotations

import os
import re
import shlex
import time
from pathlib import Path

import pexpect
import pyte

BIN = Path(os.environ.get("VIRTUAL_ENV") or Path(os.sys.executable).parent.parent) / "bin"


class Terminal:
    """A shell that runs `command` between two `stty -g`, in `columns` x `rows`."""

    def __init__(self, arguments: str, cwd: Path, columns: int = 120, rows: int = 40) -> None:
        program = shlex.quote(str(Path(os.sys.executable).parent / "tputtui"))
        script = (
            f"echo before=$(stty -g); {program} {arguments}; code=$?; "
            "echo after=$(stty -g); echo exit=$code; jobs -p"
        )
        env = {
            name: value
            for name, value in os.environ.items()
            if name not in ("NO_COLOR", "COLUMNS", "LINES", "TEXTUAL")
        }
        env |= {
            "TERM": "xterm-256color",
            "XDG_STATE_HOME": str(cwd / "state"),
            "XDG_CONFIG_HOME": str(cwd / "config"),
        }
        self.raw = b""
        self.screen = pyte.Screen(columns, rows)
        self._stream = pyte.ByteStream(self.screen)
        self.child = pexpect.spawn(
            "/bin/bash", ["--norc", "-c", script], dimensions=(rows, columns), cwd=str(cwd), env=env
        )

    def read(self, seconds: float = 0.1) -> None:
        """Take in what has been written."""
        try:
            data = self.child.read_nonblocking(1 << 16, timeout=seconds)
        except pexpect.TIMEOUT:
            return
        except pexpect.EOF:
            time.sleep(0.01)
            return
        self.raw += data
        self._stream.feed(data)

    @property
    def text(self) -> str:
        """The screen as lines of text."""
        return "\n".join(line.rstrip() for line in self.screen.display)

    def until(self, pattern: str, seconds: float = 120.0) -> re.Match[str]:
        """Wait for `pattern` on the screen; fails with the screen as it is."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if match := re.search(pattern, self.text):
                return match
            self.read()
        raise AssertionError(f"no {pattern!r} within {seconds} s on:\n{self.text}")

    def press(self, keys: str) -> None:
        """Type."""
        self.child.send(keys)

    def ended(self, seconds: float = 60.0) -> str:
        """Wait for the shell to end; everything it has written since the program left."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and self.child.isalive():
            self.read()
        while True:
            length = len(self.raw)
            self.read()
            if len(self.raw) == length:
                break
        assert not self.child.isalive(), f"still running:\n{self.text}"
        return self.raw.rpartition(b"\x1b[?1049l")[2].decode(errors="replace")

    def restored(self) -> None:
        """The terminal is as it was: modes, alternate screen, mouse, cursor."""
        text = self.raw.decode(errors="replace")
        before = re.search(r"before=(\S+)", text)
        after = re.search(r"after=(\S+)", text)
        assert before, text[-2000:]
        assert after, text[-2000:]
        assert before[1] == after[1]
        for mode in ("1049", "1000", "1003", "1006", "2004"):
            assert self._last(mode, "h") <= self._last(mode, "l"), f"mode {mode} is left on"
        assert self.raw.rfind(b"\x1b[?25l") <= self.raw.rfind(b"\x1b[?25h"), "no cursor"

    def _last(self, mode: str, letter: str) -> int:
        return self.raw.rfind(f"\x1b[?{mode}{letter}".encode())
