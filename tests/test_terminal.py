"""The installed program in a real terminal: boot, turn, save, leave; and every way of leaving."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import pytest

from tests.faults import PACED
from tests.terminal import Terminal
from tputtui import profile

pytestmark = [pytest.mark.pty, pytest.mark.engine]

ESCAPE = re.compile(r"\x1b\[[0-9;?<>=]*[a-zA-Z]")


def test_a_person_boots_turns_a_limit_saves_leaves_and_starts_from_what_was_saved(
    tmp_path: Path,
) -> None:
    terminal = Terminal("--load 48 --limit max_num_seqs=32", tmp_path)
    terminal.until(r"importing|loading|starting")
    terminal.until(r"▶ RUNNING")
    terminal.until(r"generated +[1-9][\d,]* tok/s")
    terminal.until(r"sequences +3[0-2] / +32")
    terminal.press("[")
    terminal.until(r"▸ max_num_seqs +16 / 256")
    terminal.until(r"sequences +1[4-6] / +16")
    terminal.until(r"16 / 256 .*in force *$|16 / 256 .*in force\n")
    terminal.until(r"max_num_seqs 32 → 16")
    terminal.until(r"latency · window")
    terminal.save_as("tuned.yaml")
    terminal.press("l")
    terminal.until(r"shared prefix +none")
    terminal.press("20/s")
    terminal.until(r"requests/s +0–20")
    terminal.press("\r")
    terminal.until(r"shape:demo +20/s")
    terminal.until(r"load 48 in flight → 20/s")
    terminal.press("f")
    terminal.until(r"generated tok/s against E2E p90")
    terminal.press("\x1b")
    terminal.until(r"▸ max_num_seqs")
    terminal.press("q")
    left = terminal.ended()
    terminal.restored()
    nothing_printed_reached(terminal, tmp_path)
    assert "exit=0" in left
    assert str(tmp_path / "tuned.yaml") in left.replace("\r\n", "")
    assert not ESCAPE.sub("", left).count("\x1b")
    assert len([line for line in left.splitlines() if line.strip()]) <= 12

    saved = profile.load(tmp_path / "tuned.yaml")
    assert saved.knobs["max_num_seqs"] == 16
    assert saved.evidence.tuned.figures["tokens_per_s"].value > 0

    # What is in force on a real engine is tested beside its limits (tests/engine).
    again = Terminal("--profile tuned.yaml", tmp_path, columns=80, rows=24, env=PACED)
    again.until(r"▸ max_num_seqs +16 / 256")
    again.until(r"generated +[1-9][\d,]* tok/s")
    again.press("\x03")
    assert "exit=0" in again.ended()
    again.restored()


def test_keys_that_come_all_at_once_wait_for_what_they_open(tmp_path: Path) -> None:
    terminal = Terminal("--load 48", tmp_path)
    terminal.until(r"▶ RUNNING")
    terminal.press(":max_num_seqs 16\rl20/s\rstuned.yaml\rf")
    terminal.until(r"w sweep")
    # Esc and a key in one read are two keys.
    terminal.press("\x1b:max\x1bh")
    terminal.until(r"settings tried")
    terminal.press("\x1b")
    terminal.until(r"▸ max_num_seqs +16 / 256")
    terminal.until(r"shape:demo +20/s")
    terminal.press("q")
    assert "exit=0" in terminal.ended()
    terminal.restored()
    assert profile.load(tmp_path / "tuned.yaml").knobs["max_num_seqs"] == 16


def nothing_printed_reached(terminal: Terminal, tmp_path: Path) -> None:
    """What the engine prints is in the log, and nothing of it on the screen."""
    seen = terminal.raw.decode(errors="replace")
    assert "\x1b[?1049h" in seen
    # Everything after the alternate screen was entered is ours: the log has the rest.
    (log,) = (tmp_path / "state" / "tputtui" / "logs").glob("*.log")
    text = log.read_text(errors="replace")
    assert "vllm" in text
    assert "Traceback" not in text
    assert "WARNING" not in seen.partition("\x1b[?1049h")[0]


@pytest.mark.parametrize(
    "name",
    ["SIGTERM", *(pytest.param(each, marks=pytest.mark.long) for each in ("SIGHUP", "SIGINT"))],
)
def test_signals_leave_as_q_does_even_while_importing(tmp_path: Path, name: str) -> None:
    terminal = Terminal("", tmp_path)
    terminal.until(r"importing")
    os.kill(terminal.pid, getattr(signal, name))
    left = terminal.ended()
    terminal.restored()
    assert "exit=0" in left
    assert "log" in left


def test_ctrl_c_twice_leaves_at_once(tmp_path: Path) -> None:
    terminal = Terminal("--load 8", tmp_path, env=PACED)
    terminal.until(r"▶ RUNNING")
    terminal.press("\x03\x03")
    left = terminal.ended()
    terminal.restored()
    assert "exit=130" in left or "exit=0" in left


def test_killed_under_load_the_terminal_is_given_back(tmp_path: Path) -> None:
    terminal = Terminal("--load 8", tmp_path, env=PACED)
    terminal.until(r"▶ RUNNING")
    os.kill(terminal.pid, signal.SIGKILL)
    left = terminal.ended()
    terminal.restored()
    assert "exit=137" in left
    assert "it was killed, or it crashed. Log: " in left


@pytest.mark.long
def test_an_engine_that_cannot_boot_says_why_on_a_screen_that_stays(tmp_path: Path) -> None:
    terminal = Terminal("shape:demo --kv-cache-memory-bytes 100000", tmp_path)
    terminal.until(r"✖")
    terminal.until(r"b boot again")
    terminal.press("q")
    left = terminal.ended()
    terminal.restored()
    assert "exit=3" in left
    assert "could not load shape:demo" in left


@pytest.mark.long
def test_a_flag_value_that_vllm_refuses_leaves_with_code_2(tmp_path: Path) -> None:
    terminal = Terminal("shape:demo --max-num-seqs lots", tmp_path)
    left = terminal.ended()
    terminal.restored()
    assert "exit=2" in left
    assert "max-num-seqs" in left
