"""`tputtui` in a pseudo-terminal, as a person would run it: keys in, a screen out."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import struct
import subprocess
import sys
import termios
import time
import uuid
from fcntl import ioctl
from pathlib import Path

import pexpect
import psutil
import pyte

from tests import PATIENCE_S

MARK = "TPUTTUI_TEST_RUN"
PROGRAM = Path(sys.executable).parent / "tputtui"
MODES = ("1049", "1000", "1003", "1004", "1006", "1015", "2004", "2048")


class Terminal:
    """A shell that runs `command` between two `stty -g`, in `columns` x `rows`.

    env: put on top of ours; a value of None takes one away. before: shell words before it.
    """

    def __init__(
        self,
        arguments: str,
        cwd: Path,
        columns: int = 120,
        rows: int = 40,
        env: dict[str, str | None] | None = None,
        before: str = "",
    ) -> None:
        script = (
            f"{before}\nmodes=$(stty -g); echo before=$modes; "
            f"{shlex.quote(str(PROGRAM))} {arguments}; code=$?; "
            # Of one that was killed, another process gives the terminal back.
            "for _ in {1..600}; do "
            '[ $code -le 130 ] || [ "$(stty -g)" = "$modes" ] || sleep 0.1; done; '
            "echo after=$(stty -g); echo exit=$code; jobs -p"
        )
        self.raw = b""
        self.screen = pyte.Screen(columns, rows)
        self._stream = pyte.ByteStream(self.screen)
        self._mark = uuid.uuid4().hex
        self._shared = shared_memory()
        self.child = pexpect.spawn(
            "/bin/bash", ["--norc", "-c", script], dimensions=(rows, columns), cwd=str(cwd),
            env=environment(cwd, env) | {MARK: self._mark},
        )  # fmt: skip

    def read(self, seconds: float = 0.1) -> None:
        """Take in what has been written."""
        try:
            data = self.child.read_nonblocking(1 << 16, timeout=seconds)
        except pexpect.TIMEOUT:
            return
        except (pexpect.EOF, OSError):
            time.sleep(0.01)
            return
        self.raw += data
        self._stream.feed(data)

    @property
    def text(self) -> str:
        """The screen as lines of text."""
        return "\n".join(line.rstrip() for line in self.screen.display)

    @property
    def pid(self) -> int:
        """The process that the shell runs."""
        found = subprocess.run(
            ["ps", "-o", "pid=", "--ppid", str(self.child.pid)],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        return int(found.stdout.split()[0])

    def processes(self) -> list[int]:
        """Everything that this run has started and that still runs; zombies do not."""
        needle = f"{MARK}={self._mark}".encode()
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                state, _, _, session = (folder / "stat").read_text().rpartition(")")[2].split()[:4]
                # A process that gives itself a title (vLLM's workers) writes over its environment.
                ours = needle in (folder / "environ").read_bytes().split(b"\0")
            except OSError:
                continue
            if state != "Z" and (ours or int(session) == self.child.pid):
                found.append(int(folder.name))
        return found

    def until(self, pattern: str, seconds: float = PATIENCE_S) -> re.Match[str]:
        """Wait for `pattern` on the screen; fails with the screen as it is."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if match := re.search(pattern, self.text):
                return match
            length, over = len(self.raw), not self.child.isalive()
            self.read()
            if over and len(self.raw) == length:
                break
        raise AssertionError(f"no {pattern!r}, for up to {seconds} s, on:\n{self.text}")

    def press(self, keys: str) -> None:
        """Type."""
        self.child.send(keys)

    def save_as(self, name: str) -> None:
        """Save a profile of that name, by keys."""
        self.press("s")
        self.until(r"save profile")
        self.press(name)
        self.until(rf"│ +{re.escape(name)} +│")
        self.press("\r")
        self.until(r"Saved")

    def resize(self, columns: int, rows: int) -> None:
        """Make the terminal another size, as dragging its corner does."""
        ioctl(self.child.child_fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.screen.resize(rows, columns)

    def ended(self, seconds: float = PATIENCE_S) -> str:
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
        """The terminal is as it was: modes, alternate screen, mouse, cursor. Nothing is left."""
        text = self.raw.decode(errors="replace")
        before = re.search(r"before=(\S+)", text)
        after = re.search(r"after=(\S+)", text)
        assert before, text[-2000:]
        assert after, text[-2000:]
        assert before[1] == after[1]
        self.screen_left()
        self.nothing_left()

    def screen_left(self) -> None:
        """What was switched on by escape sequences is off again."""
        screen_left(self.raw)

    def nothing_left(self, seconds: float = PATIENCE_S) -> None:
        """No process of this run, and no segment of shared memory."""
        end = time.monotonic() + seconds
        while (left := self.processes()) and time.monotonic() < end:
            time.sleep(0.05)
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        assert not left, "processes are left"
        left_behind = left_since(self._shared)
        assert not left_behind, "shared memory is left"


def screen_left(written: bytes) -> None:
    """What was switched on by escape sequences in `written` is off again at its end."""

    def last(mode: str, letter: str) -> int:
        return written.rfind(f"\x1b[?{mode}{letter}".encode())

    for mode in MODES:
        assert last(mode, "h") <= last(mode, "l"), f"mode {mode} is left on"
    for mode in ("25", "7"):
        assert last(mode, "l") <= last(mode, "h"), f"mode {mode} is left off"
    pushed = len(re.findall(rb"\x1b\[>\d+u", written))
    assert pushed <= written.count(b"\x1b[<u"), "kitty's keyboard protocol is left on"


def environment(cwd: Path, changed: dict[str, str | None] | None = None) -> dict[str, str]:
    """The environment of a run in `cwd`, which keeps its state there."""
    env: dict[str, str | None] = {
        name: value
        for name, value in os.environ.items()
        if name not in ("NO_COLOR", "COLUMNS", "LINES", "TEXTUAL")
    }
    env |= {
        "TERM": "xterm-256color",
        "XDG_STATE_HOME": str(cwd / "state"),
        "XDG_CONFIG_HOME": str(cwd / "config"),
    }
    env |= changed or {}
    return {name: value for name, value in env.items() if value is not None}


def shared_memory() -> set[str]:
    """Segments of shared memory and semaphores that no other program on this machine has.

    Those of others come and go with them; what this process or one below it has is ours.
    """
    folder = Path("/dev/shm")
    there = {}
    for path in folder.glob("*"):
        with contextlib.suppress(OSError):  # gone meanwhile
            there[path.name] = path.stat().st_ino
    ours = {each.pid for each in psutil.Process().children(recursive=True)} | {os.getpid()}
    theirs: set[int] = set()
    for maps in Path("/proc").glob("[0-9]*/maps"):
        if int(maps.parent.name) not in ours:
            with contextlib.suppress(OSError):
                # By inode: glibc makes a semaphore under another name, which is what stands there.
                text = maps.read_text(errors="replace")
                theirs.update(map(int, re.findall(r" (\d+) +/dev/shm/", text)))
    return {name for name, inode in there.items() if inode not in theirs}


def left_since(before: set[str]) -> set[str]:
    """What there is beyond `before` and stays: what another program is just making becomes its."""
    left = shared_memory() - before
    if left:
        time.sleep(1.0)
        left &= shared_memory()
    return left
