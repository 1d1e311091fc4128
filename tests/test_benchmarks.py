"""Each benchmark, as small as it can be: it still runs, and says its figures."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

HERE = Path(__file__).parents[1]
LONG, ENGINE = pytest.mark.long, pytest.mark.engine
SMALLEST = {
    "verdicts": ("--runs 1 --only aa/*/base --only ab/2 --only goal/closed", "any row", ()),
    "outlooks": ("--seeds 1", "were off the measured range", ()),
    "tuner known": ("--seeds 1 --kind linear", "reached median time", (LONG,)),
    "loadgen": ("--requests 3000 --seconds 0.2 --no-engine", "lag p50", (LONG,)),
    "simulation cost": ("--seconds 1", "CPU, ms a step", (LONG, ENGINE)),
    "loop": ("--running 16 --queued 0 --steps 20", "16", (LONG, ENGINE)),
    "neighbours": ("--rounds 1 --seconds 1 --busy 0", "tok", (LONG, ENGINE)),
    "agreement throughput": (
        "--one-engine --pairs 2 --requests 16 --input 16 --output 8",
        "ours ÷ vLLM",
        (LONG, ENGINE),
    ),
    "overhead": ("--pairs 1 --seconds 1 --no-small --no-keys", "%", (LONG, ENGINE)),
    "watchers": ("--seconds 2", "CPU", (LONG, ENGINE)),
    "served": ("--rounds 1 --seconds 1 --changes 3", "p99", (LONG, ENGINE)),
    "soak": ("--minutes 0.2 --steps 20000", "steps", (LONG, ENGINE)),
}


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("name", "words", "said"),
    [
        pytest.param(name, words, said, marks=marks, id=name)
        for name, (words, said, marks) in SMALLEST.items()
    ],
)
def test_it_runs_and_says_its_figures(name: str, words: str, said: str) -> None:
    program, *part = name.split()
    # Not below pytest's: vLLM's sockets stand in it, whose paths may have 107 characters.
    with tempfile.TemporaryDirectory() as folder:
        run = subprocess.run(
            [sys.executable, str(HERE / "benchmarks" / f"{program}.py"), *part, *words.split()],
            cwd=HERE, env=os.environ | {"PYTHONPATH": str(HERE), "TMPDIR": folder},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr
    assert said in run.stdout


def test_none_is_left_out() -> None:
    programs = {path.stem for path in (HERE / "benchmarks").glob("*.py")}
    # A clock that others use.
    assert {name.split()[0] for name in SMALLEST} == programs - {"restless"}
