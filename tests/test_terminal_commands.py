"""Commands besides the screen in a real terminal: live progress, a replay, a pipe that closes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults import PACED
from tests.terminal import Terminal
from tests.test_record import Recorded

pytestmark = pytest.mark.pty


def test_servers_are_watched_one_is_opened_and_the_screen_left(tmp_path: Path) -> None:
    from tests.served import FakeServer, Servers

    with Servers(FakeServer(), FakeServer(per_s=5000.0)) as servers:
        one, two = (address.url for address in servers.addresses)
        terminal = Terminal(f"attach one={one} two={two} gone=127.0.0.1:9", tmp_path)
        terminal.until(r"two .* 5,0\d\d|two .* 4,9\d\d")
        terminal.until(r"✖ down")
        terminal.until(r"servers 3  1 not counted")
        terminal.press("\x1b[B\r")
        terminal.until(r"tputtui two")
        terminal.until(r"bucketed")
        terminal.press("\x1b")
        terminal.until(r"servers 3")
        terminal.press("\x03")
        terminal.ended()
    terminal.restored()


@pytest.fixture
def log(tmp_path: Path) -> Path:
    made = Recorded(tmp_path / "run.jsonl.zst")
    made.run(10)
    made.session.steer.limits.set("max_num_seqs", 32)
    made.run(12)
    return made.end().journal.path


def test_a_replay_is_seen_moved_and_left(log: Path, tmp_path: Path) -> None:
    terminal = Terminal(f"replay {log.name} --at 0:12 --speed 0.25", tmp_path)
    terminal.until(r"REPLAY")
    terminal.until(r"64 / 256")
    terminal.press(".")
    terminal.until(r"┃ max_num_seqs 64 → 32")
    terminal.press("\x1b[C")
    terminal.until(r"32 / 256")
    terminal.press("h")
    terminal.until(r"settings tried 2")
    terminal.press("\x1b")
    terminal.until(r"throughput")
    terminal.press("q")
    left = terminal.ended()
    assert "exit=0" in left
    terminal.restored()


def test_a_replay_fits_a_small_terminal(log: Path, tmp_path: Path) -> None:
    terminal = Terminal(f"replay {log.name}", tmp_path, columns=80, rows=24)
    terminal.until(r"REPLAY")
    terminal.until(r"␣ play")
    terminal.press("\x03")
    assert "exit=0" in terminal.ended()
    terminal.restored()


def test_progress_is_one_live_line_and_stays_off_stdout_and_a_missed_goal_is_code_1(
    tmp_path: Path,
) -> None:
    command = "bench --load 24 --duration 8s --goal ttft_p50=1ms > out.txt"
    slow_boot = PACED | {"PACED_LONGEST_S": "0.6"}
    terminal = Terminal(command, tmp_path, columns=100, env=slow_boot)
    terminal.until(r"importing|loading")
    terminal.until(r"measuring \d+ of 8 s · [\d,]+ tok/s")
    left = terminal.ended()
    assert "exit=1" in left.replace("\x1b[?25h", "")
    assert "ttft_p50 missed" in left
    # The line is gone when it is over, and the cursor is back.
    assert not [line for line in terminal.screen.display if "measuring" in line]
    assert terminal.raw.rfind(b"\x1b[?25l") <= terminal.raw.rfind(b"\x1b[?25h")
    text = (tmp_path / "out.txt").read_text()
    assert re.search(r"^tokens/s +[\d,.]+", text, re.MULTILINE)
    assert "\x1b" not in text


def test_a_reader_that_has_had_enough_is_no_error(log: Path) -> None:
    code = f"{sys.executable} -m tputtui report {log} --format md | head -1"
    done = subprocess.run(["bash", "-c", f"set -o pipefail; {code}"], capture_output=True,
                          text=True, env=os.environ | {"PYTHONUNBUFFERED": "1"})  # fmt: skip
    assert done.stdout.startswith("# shape:demo")
    assert "Traceback" not in done.stderr
    assert done.returncode == 0
