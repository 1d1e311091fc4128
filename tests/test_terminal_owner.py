"""While the screen has the terminal, whatever anyone prints ends up in the log."""

import os
import sys
import textwrap

import pexpect

SCRIPT = """
import ctypes, logging, os, subprocess, sys, warnings
from pathlib import Path
from tputtui.terminal import Terminal
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


def test_only_the_screen_writes_to_the_terminal_and_the_log_has_the_rest(tmp_path):
    script, log = tmp_path / "script.py", tmp_path / "log"
    script.write_text(textwrap.dedent(SCRIPT))
    child = pexpect.spawn(
        sys.executable, [str(script), str(log)], dimensions=(24, 101), timeout=30,
        env=os.environ | {"TERM": "xterm"},
    )  # fmt: skip
    child.expect(pexpect.EOF)
    shown = child.before.decode().split("\r\n")
    assert [line for line in shown if line] == ["before", "screen of 101", "after"]
    kept = log.read_text()
    for word in ("print", "stderr", "fd 1", "fd 2", "C", "child", "vllm", "warning"):
        assert f"stray {word}" in kept, word
