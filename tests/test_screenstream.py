"""The terminal is given back: from any state, by whoever is left, whatever else hangs."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
import termios
import textwrap
import threading
import time
import tty
from collections.abc import Iterator

import pytest

from tests import PATIENCE_S
from tests.terminal import screen_left
from tputtui.process.screenstream import Restorer, ScreenStream

ENTER = b"\x1b[?1049h\x1b[?1000h\x1b[?2004h\x1b[?7l\x1b[>25u\x1b[?25l"
LEAVE = b"\x1b[<u\x1b[?7h\x1b[?2004l\x1b[?1000l\x1b[?1049l\x1b[?25h"


class Told(Restorer):
    """A restorer that only remembers."""

    def __init__(self) -> None:
        self.told: list[bool] = []

    def tell(self, on: bool) -> None:
        self.told.append(on)


@pytest.fixture
def ends() -> Iterator[tuple[int, int]]:
    """Both ends of a pseudo-terminal: (ours, the program's)."""
    ours, theirs = pty.openpty()
    tty.setraw(theirs)
    yield ours, theirs
    for end in (ours, theirs):
        os.close(end)


def read_all(ours: int, until: bytes) -> bytes:
    data, end_s = b"", time.monotonic() + PATIENCE_S
    os.set_blocking(ours, False)
    while until not in data:
        assert time.monotonic() < end_s, data[-200:]
        try:
            data += os.read(ours, 1 << 16)
        except BlockingIOError:
            time.sleep(0.01)
    return data


def test_what_goes_through_says_whether_a_screen_is_on(ends: tuple[int, int]) -> None:
    ours, theirs = ends
    told = Told()
    with ScreenStream(theirs, told) as stream:
        stream.write(b"plain\r\n")
        assert (stream.on, told.told) == (False, [])
        # A sequence in two pieces counts as well.
        for piece in (ENTER[:5], ENTER[5:], b"a frame"):
            stream.write(piece)
        assert (stream.on, told.told) == (True, [True])
        stream.write(LEAVE + b"summary\r\n")
        assert (stream.on, told.told) == (False, [True, False])
        # Ctrl+Z and back within one piece: what comes last counts.
        stream.write(LEAVE + ENTER)
        assert stream.on
    assert b"a frame" in read_all(ours, b"summary")


def test_a_terminal_that_nobody_reads_is_left_all_the_same(ends: tuple[int, int]) -> None:
    ours, theirs = ends
    with ScreenStream(theirs, Told()) as stream:
        stream.write(ENTER)
        frames = threading.Thread(target=lambda: stream.write(b"\x1b[5;5Hx" * 100_000), daemon=True)
        frames.start()
        # The buffer is full, and the thread that paints is in the middle of a write.
        time.sleep(0.2)
        assert frames.is_alive()
        assert stream.leave("left at once\r\n", within_s=PATIENCE_S)
        assert not stream.on
        # What is painted from now on does not reach it.
        stream.write(b"late")
        frames.join(PATIENCE_S)
        data = read_all(ours, b"left at once\r\n")
    screen_left(data)
    assert b"late" not in data


def test_a_terminal_that_has_gone_keeps_nobody() -> None:
    ours, theirs = pty.openpty()
    with ScreenStream(theirs, Told()) as stream:
        stream.write(ENTER)
        os.close(ours)
        assert stream.write(b"a frame") == 7
        assert not stream.leave(within_s=PATIENCE_S)
    os.close(theirs)


SCRIPT = """
import os, pty, sys, termios, tty
from tputtui.process.screenstream import Restorer, ScreenStream
modes = termios.tcgetattr(0)
stream = ScreenStream(1, Restorer(1, modes, "killed; log: here"))
tty.setraw(0)
for piece in sys.argv[1:]:
    stream.write(bytes.fromhex(piece))
if os.fork() == 0:
    # Goes on after us, and must not keep the pipe open.
    os.setsid()
    os.closerange(0, 3), os.closerange(stream.fileno(), stream.fileno() + 1)
    import time
    time.sleep(30)
    os._exit(0)
os.kill(os.getpid(), {signal})
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT])
@pytest.mark.parametrize(
    ("pieces", "on"), [((ENTER, b"frame"), True), ((ENTER, LEAVE), False), ((), False)],
    ids=["screen on", "screen left", "before the screen"],
)  # fmt: skip
def test_a_process_that_is_killed_gives_the_terminal_back(
    number: signal.Signals, pieces: tuple[bytes, ...], on: bool
) -> None:
    ours, theirs = pty.openpty()
    before = termios.tcgetattr(theirs)
    script = textwrap.dedent(SCRIPT).replace("{signal}", str(int(number)))
    words = [piece.hex() for piece in pieces]
    subprocess.run(
        [sys.executable, "-c", script, *words], stdin=theirs, stdout=theirs, check=False,
        stderr=subprocess.DEVNULL, timeout=PATIENCE_S,
    )  # fmt: skip
    if on:
        screen_left(read_all(ours, b"killed; log: here\r\n"))
        end_s = time.monotonic() + PATIENCE_S
        while termios.tcgetattr(theirs) != before:
            assert time.monotonic() < end_s
            time.sleep(0.01)
    else:
        # Nobody writes: the restorer has gone once it holds the terminal no more.
        os.close(theirs)
        data = b""
        while True:
            try:
                data += os.read(ours, 1 << 16)
            except OSError:
                break
        assert not re.search(rb"killed|\x1b\[0m", data)
        theirs = -1
    os.close(ours)
    if theirs >= 0:
        os.close(theirs)


def test_without_a_shell_there_is_none_and_nothing_breaks(
    ends: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def nowhere(*_: object, **__: object) -> None:
        raise FileNotFoundError("/bin/sh")

    monkeypatch.setattr(subprocess, "Popen", nowhere)
    restorer = Restorer(ends[1], termios.tcgetattr(ends[1]), "")
    restorer.tell(True)
    restorer.close()
