"""With the screen up, whatever anyone prints ends up in the log; when the terminal has gone."""

import os
import queue
import sys
import textwrap
import threading
from pathlib import Path

import pexpect
import pytest

from tests import PATIENCE_S
from tputtui.ui import terminal_app

SCRIPT = """
import ctypes, logging, os, subprocess, sys, warnings
from pathlib import Path
from tputtui.process.terminal import Terminal
log = Path(sys.argv[1])
print("before")
with Terminal(log):
    print("stray print")
    print("stray stderr", file=sys.stderr)
    os.write(1, b"stray fd 1\\n")
    os.write(2, b"stray fd 2\\n")
    libc = ctypes.CDLL(None)
    libc.puts(b"stray C")
    libc.fflush(None)
    subprocess.run(["echo", "stray child"])
    logging.getLogger("vllm.core").info("stray vllm")
    warnings.warn("stray warning")
    print(f"screen of {os.get_terminal_size(sys.__stdout__.fileno()).columns}",
          file=sys.__stderr__, flush=True)
print("after")
"""


def test_only_the_screen_writes_to_the_terminal_and_the_log_has_the_rest(tmp_path: Path) -> None:
    script, log = tmp_path / "script.py", tmp_path / "log"
    script.write_text(textwrap.dedent(SCRIPT))
    child = pexpect.spawn(
        sys.executable, [str(script), str(log)], dimensions=(24, 101), timeout=PATIENCE_S,
        env=os.environ | {"TERM": "xterm"},
    )  # fmt: skip
    child.expect(pexpect.EOF)
    shown = child.before.decode().split("\r\n")
    assert [line for line in shown if line] == ["before", "screen of 101", "after"]
    kept = log.read_text()
    for word in ("print", "stderr", "fd 1", "fd 2", "C", "child", "vllm", "warning"):
        assert f"stray {word}" in kept, word


class Writer(threading.Thread):
    """Textual's thread that writes to the terminal, with so many seconds still to go."""

    def __init__(self, seconds: float) -> None:
        super().__init__(daemon=True)
        self._queue: queue.Queue[str | None] = queue.Queue()
        self._over, self._seconds = threading.Event(), seconds

    def run(self) -> None:
        self._over.wait(self._seconds)


@pytest.mark.parametrize(("reads", "seconds"), [(True, 0.4), (False, 30.0)])
def test_a_terminal_has_gone_only_if_it_reads_no_more(
    monkeypatch: pytest.MonkeyPatch, reads: bool, seconds: float
) -> None:
    monkeypatch.setattr(terminal_app, "_LAST_WRITE_S", 0.1)
    reader, terminal = os.pipe()
    os.set_blocking(terminal, False)
    with open(reader), open(terminal, "w") as file:
        if not reads:
            os.write(terminal, bytes(1 << 20))
        driver, writer = object.__new__(terminal_app._Driver), Writer(seconds)
        driver._file, driver._writer_thread = file, writer  # type: ignore[assignment]
        writer.start()
        driver.close()
    assert driver.gone is not reads
    writer._over.set()
