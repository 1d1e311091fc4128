"""Nothing but our own words reaches whoever called, to the last moment of the process.

Native libraries have things to say as they are torn down, after everything of ours has ended.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests import PATIENCE_S
from tests.terminal import PROGRAM, environment

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]

SCRIPT = """
import atexit, ctypes, importlib, os, sys
from pathlib import Path
cli = importlib.import_module("tputtui.cli.main")
from tputtui.process.redirect import Redirected

def run():
    redirected = Redirected(Path(sys.argv[1]))
    print("while it runs")
    redirected.restore()
    print("a figure")
    print("a sentence", file=sys.stderr)
    libc = ctypes.CDLL(None)
    atexit.register(libc.puts, b"a destructor")
    atexit.register(os.write, 2, b"a leak\\n")
    atexit.register(print, "a late print")
    return 3

cli.main = run
cli.program()
"""


def bench(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(PROGRAM), "bench", "shape:demo", *words, "--duration", "2s", "--quiet"],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, env=environment(cwd), cwd=cwd,
        timeout=PATIENCE_S,
    )  # fmt: skip


def test_what_was_imported_in_silence_leaves_in_silence(tmp_path: Path) -> None:
    """A misspelt flag: vLLM's parser was asked, and there is no log."""
    script = SCRIPT.replace("import Redirected", "import silent")
    for gone in ("redirected = Redirected(Path(sys.argv[1]))", "redirected.restore()"):
        script = script.replace(f"    {gone}\n", "")
    script = script.replace('    print("while', '    with silent(): print("while')
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False,
        env=dict(os.environ),
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (3, "a figure\n", "a sentence\n")


def test_what_is_said_after_us_is_the_logs(tmp_path: Path) -> None:
    log = tmp_path / "log"
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(log)], capture_output=True, text=True, check=False,
        env=dict(os.environ),
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (3, "a figure\n", "a sentence\n")
    for words in ("while it runs", "a destructor", "a leak", "a late print"):
        assert words in log.read_text()


@pytest.mark.long
def test_a_boot_that_fails_says_its_sentence_and_not_one_byte_more(tmp_path: Path) -> None:
    done = bench("--kv-cache-memory-bytes", "100000", cwd=tmp_path)
    assert done.returncode == 3
    told = re.fullmatch(r"tputtui: (vLLM could not load shape:demo: .+)\n +(.+)\n", done.stderr)
    assert told, done.stderr
    assert done.stdout == f"no figures: {told[1]} {told[2]}\n"
    # There was something to keep away.
    (log,) = (tmp_path / "state" / "tputtui" / "logs").glob("*.log")
    assert "nanobind: leaked" in log.read_text()


@pytest.mark.long
def test_a_model_that_torch_compiles_leaves_its_figures_and_not_one_byte_more(
    tmp_path: Path,
) -> None:
    done = bench("--no-enforce-eager", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"\nsession +\S+\.jsonl\.zst\n\Z", done.stdout)
    own = re.compile(r"| +value.*|[A-Za-z][\w:/ -]*? {2,}.*")
    assert [line for line in done.stdout.splitlines() if not own.fullmatch(line)] == []
