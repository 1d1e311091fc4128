"""Faults while it runs: the engine's own, its workers', the driver's. Figures shown stay shown."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import pytest

from tests.faults import fault
from tests.faults.test_boot import leaves
from tests.terminal import Terminal

pytestmark = [pytest.mark.pty, pytest.mark.engine, pytest.mark.long]

RANKS: dict[str, str | None] = {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": "1"}
"""The environment for two ranks on two cores."""


def test_a_step_that_runs_out_of_memory_says_so_keeps_its_figures_and_boots_again(
    tmp_path: Path,
) -> None:
    terminal = Terminal("--load 24", tmp_path, rows=50, env=fault("allocation:250"))
    terminal.until(r"▶ RUNNING")
    terminal.until(r"✖ FAILED")
    terminal.until(r"allocate 1125899906842624 bytes")
    terminal.until(r"Memory ran out: boot with lower ceilings")
    # What was measured until then still stands there, and every request is accounted for.
    assert re.search(r"[1-9]\d* issued +[1-9]\d* finished", terminal.text)
    assert re.search(r"\b24 failed", terminal.text)
    assert re.search(r"window +[1-9]", terminal.text)
    terminal.save_as("kept.yaml")
    assert (tmp_path / "kept.yaml").is_file()
    terminal.press("b")
    # The fault is of one call: the second engine serves.
    terminal.until(r"▶ RUNNING")
    terminal.until(r"generated +[1-9]")
    terminal.press("q")
    leaves(terminal, 0, "kept.yaml")


def test_a_worker_that_is_killed_takes_the_engine_and_nothing_else(tmp_path: Path) -> None:
    words = "--tensor-parallel-size 2 --distributed-executor-backend mp --load 8"
    terminal = Terminal(words, tmp_path, rows=50, env=RANKS)
    terminal.until(r"▶ RUNNING")
    terminal.until(r"generated +[1-9]")
    workers = [pid for pid in terminal.processes() if "Worker" in name_of(pid)]
    assert len(workers) == 2
    os.kill(workers[1], signal.SIGKILL)
    terminal.until(r"✖ FAILED")
    terminal.until(r"Worker process 1 of the engine was killed \(SIGKILL\)")
    assert re.search(r"[1-9]\d* issued", terminal.text)
    terminal.press("q")
    leaves(terminal, 3)


def name_of(pid: int) -> str:
    with open(f"/proc/{pid}/cmdline", "rb") as file:
        return file.read().decode(errors="replace")
