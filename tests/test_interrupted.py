"""Signals at a run without a screen, sent at the worst moments, in a process of its own."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys

import pytest

from tests import PATIENCE_S

_START = """
import io, os, signal, sys, threading
from tputtui.headless.running import Interrupted

def twice():
    os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGINT)
"""


def left(code: str, stderr: int = subprocess.PIPE) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", _START + code],
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        timeout=PATIENCE_S,
    )


def test_a_second_signal_inside_a_write_leaves_at_once() -> None:
    ended = left("""
class Raw(io.FileIO):
    def write(self, data):
        if data == b"a figure":
            twice()
        return super().write(data)

err = io.TextIOWrapper(io.BufferedWriter(Raw(2, "w")))
Interrupted(err)
err.write("a figure")
err.flush()
""")
    assert ended.returncode == 130
    assert ended.stderr == "\ntputtui: left at once\n"


def test_a_second_signal_leaves_where_nobody_reads() -> None:
    ours, full = os.pipe()
    os.set_blocking(full, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(full, b"." * 4096)
    os.set_blocking(full, True)
    ended = left("Interrupted(sys.stderr)\ntwice()\nthreading.Event().wait()", full)
    os.close(ours)
    os.close(full)
    assert ended.returncode == 130


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_one_signal_ends_the_wait_and_nothing_else(name: str) -> None:
    ended = left(f"""
interrupted = Interrupted(sys.stderr)
threading.Timer(0.1, os.kill, (os.getpid(), signal.{name})).start()
while not interrupted.wait(3600):
    raise SystemExit("waited in vain")
print("asked" if interrupted.asked else "not asked")
""")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "asked\n", "")


def test_signals_between_any_two_lines_take_no_lock() -> None:
    """What a handler does while it interrupts itself, or who waits, at every line of both."""
    ended = left("""
interrupted = Interrupted(sys.stderr)
seen = 0

def trace(frame, event, _):
    global seen
    if frame.f_code.co_filename.endswith("running.py") and event == "line":
        seen += 1
        interrupted.asked = False
        os.kill(os.getpid(), signal.SIGTERM)
    return trace

sys.settrace(trace)
for _ in range(20):
    interrupted.wait(0)
sys.settrace(None)
print(seen >= 40, interrupted.asked)
""")
    assert (ended.returncode, ended.stdout) == (0, "True True\n")
