"""What happens to a terminal: it goes away, changes its size, cannot do much. Nothing is left."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import PATIENCE_S
from tests.faults import PACED, fault
from tests.faults.test_boot import leaves
from tests.terminal import PROGRAM, Terminal, environment
from tests.test_record import Recorded

pytestmark = pytest.mark.pty


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A session log: a replay needs no engine, and has the same screen."""
    made = Recorded(tmp_path_factory.mktemp("log") / "run.jsonl.zst")
    made.run(10)
    made.session.steer.limits.set("max_num_seqs", 32)
    made.run(12)
    return made.end().journal.path


# -- it goes away --------------------------------------------------------------------------------


@pytest.mark.long
def test_stopped_pulled_about_and_cut_off_while_it_serves(tmp_path: Path) -> None:
    # With a GPU driver that answers nothing besides.
    terminal = Terminal("--load 16", tmp_path, env=PACED | fault("nvml-hangs"))
    terminal.until(r"▶ RUNNING")
    terminal.until(r"generated +[1-9]")
    terminal.until(r"GPU +the GPU driver does not answer")

    # Ctrl+Z gives the terminal back, and `fg` brings the screen back.
    terminal.press("\x1a")
    pid, end = terminal.pid, time.monotonic() + PATIENCE_S
    while state_of(pid) != "T":
        terminal.read()
        assert time.monotonic() < end, "it does not stop"
    terminal.read()
    terminal.screen_left()
    os.kill(pid, signal.SIGCONT)
    entered = terminal.raw.count(b"\x1b[?1049h")
    while terminal.raw.count(b"\x1b[?1049h") == entered and time.monotonic() < end:
        terminal.read()
    terminal.until(r"▶ RUNNING")
    terminal.until(r"the process was stopped, and goes on")

    # A storm of sizes, down to nothing and up to a wall of a screen; it ends on the last.
    for turn in range(150):
        terminal.resize(20 + turn * 37 % 300, 5 + turn * 13 % 90)
        terminal.read(0.01)
    terminal.resize(20, 5)
    terminal.until(r"shape:de?…")
    terminal.resize(500, 150)
    terminal.until(r"\? help +q quit")
    terminal.until(r"▶ RUNNING")
    terminal.resize(80, 24)
    terminal.until(r"▸ max_num_seqs")

    # ssh is cut: the terminal is gone, and so is everything of ours.
    os.close(terminal.child.child_fd)
    terminal.nothing_left()


def test_a_terminal_that_is_gone_is_noticed_without_a_signal(tmp_path: Path) -> None:
    """As under `nohup`, which lets no hangup through."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        terminal = Terminal("--load 16", tmp_path, env=PACED)
    finally:
        signal.signal(signal.SIGHUP, before)
    terminal.until(r"▶ RUNNING")
    os.close(terminal.child.child_fd)
    terminal.nothing_left()


def state_of(pid: int) -> str:
    """As `ps` has it; X for one that is no more."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0]
    except OSError:
        return "X"


def test_with_its_shell_killed_it_leaves_as_well(tmp_path: Path, log: Path) -> None:
    terminal = Terminal(f"replay {log}", tmp_path)
    terminal.until(r"REPLAY")
    os.kill(terminal.child.pid, signal.SIGKILL)
    terminal.nothing_left()


@pytest.mark.engine
def test_with_its_shell_killed_in_a_boot_it_leaves_as_well(tmp_path: Path) -> None:
    terminal = Terminal("", tmp_path)
    terminal.until(r"importing")
    os.kill(terminal.child.pid, signal.SIGKILL)
    terminal.nothing_left()


# -- every way out -------------------------------------------------------------------------------


@pytest.fixture(scope="class")
def busy() -> Iterator[None]:
    """As many processes that compute as there are cores, and one more."""
    words = [sys.executable, "-c", "while True: pass"]
    processes = [subprocess.Popen(words) for _ in range((os.cpu_count() or 1) + 1)]
    yield
    for process in processes:
        process.kill()
        process.wait()


@pytest.mark.usefixtures("busy")
class TestWithNothingLeftOfEitherCore:
    @pytest.mark.parametrize(
        ("way", "codes"),
        [
            ("q", [0]),
            pytest.param("\x03", [0], marks=pytest.mark.long),
            # Twice: which of them is seen before it has left anyhow is a matter of luck.
            ("\x03\x03", [0, 130]),
            (signal.SIGTERM, [0]),
            pytest.param(signal.SIGHUP, [0], marks=pytest.mark.long),
            pytest.param(signal.SIGINT, [0], marks=pytest.mark.long),
            pytest.param(signal.SIGQUIT, [131], marks=pytest.mark.long),
            pytest.param(signal.SIGABRT, [134], marks=pytest.mark.long),
            pytest.param(signal.SIGSEGV, [139], marks=pytest.mark.long),
            (signal.SIGKILL, [137]),
        ],
    )
    def test_every_way_out_gives_the_terminal_back(
        self, tmp_path: Path, log: Path, way: str | signal.Signals, codes: list[int]
    ) -> None:
        terminal = Terminal(f"replay {log}", tmp_path, before="ulimit -c 0")
        terminal.until(r"REPLAY")
        if isinstance(way, str):
            terminal.press(way)
        else:
            os.kill(terminal.pid, way)
        left = terminal.ended()
        terminal.restored()
        assert int(re.search(r"exit=(\d+)", left)[1]) in codes
        assert ("it was killed, or it crashed" in left) is (codes[0] > 130)

    @pytest.mark.parametrize(
        ("command", "number"),
        [
            ("run", signal.SIGINT),
            ("replay", signal.SIGTERM),
            pytest.param("run", signal.SIGTERM, marks=pytest.mark.long),
            pytest.param("run", signal.SIGHUP, marks=pytest.mark.long),
            pytest.param("replay", signal.SIGINT, marks=pytest.mark.long),
            pytest.param("replay", signal.SIGHUP, marks=pytest.mark.long),
        ],
    )
    def test_a_signal_before_the_first_frame_leaves_the_terminal_as_it_was(
        self, tmp_path: Path, log: Path, command: str, number: signal.Signals
    ) -> None:
        terminal = Terminal(f"replay {log}" if command == "replay" else "", tmp_path, env=PACED)
        # The screen has been entered, and Textual's loop may not have the signals yet.
        while b"\x1b[?1049h" not in terminal.raw:
            terminal.read(0.001)
        os.kill(terminal.pid, number)
        terminal.ended()
        terminal.restored()

    def test_a_terminal_that_stopped_reading_is_left_by_ctrl_c_twice(
        self, tmp_path: Path, log: Path
    ) -> None:
        """Its buffer is full of frames; once it reads again, the last one is a way out."""
        terminal = Terminal(f"replay {log} --speed 64", tmp_path, columns=200, rows=50)
        terminal.until(r"REPLAY")
        terminal.press(" ")
        for turn in range(40):
            terminal.resize(199 + turn % 2, 50)
            time.sleep(0.05)
        pid = terminal.pid
        terminal.press("\x03\x03")
        end_s = time.monotonic() + PATIENCE_S
        while state_of(pid) not in "ZX" and time.monotonic() < end_s:
            time.sleep(0.05)
        terminal.ended()
        terminal.restored()


def test_an_argument_found_wrong_after_the_first_paint_is_a_sentence_on_the_terminal(
    tmp_path: Path,
) -> None:
    terminal = Terminal("--simulate no-such-gpu", tmp_path)
    left = terminal.ended()
    terminal.restored()
    assert "exit=2" in left


def test_what_is_painted_first_and_the_board_are_one_screen(tmp_path: Path) -> None:
    """Entered twice, the shell's cursor would be lost."""
    terminal = Terminal("--load 8", tmp_path, env=PACED)
    terminal.until(r"tputtui shape:demo +… starting")
    terminal.until(r"▶ RUNNING")
    terminal.press("q")
    terminal.ended()
    terminal.restored()
    assert terminal.raw.count(b"\x1b[?1049h") == terminal.raw.count(b"\x1b[?1049l") == 1


@pytest.mark.parametrize("command", ["replay", pytest.param("attach", marks=pytest.mark.long)])
def test_with_a_screen_that_hangs_ctrl_c_twice_leaves(
    tmp_path: Path, log: Path, command: str
) -> None:
    what = log if command == "replay" else "one=127.0.0.1:9"
    terminal = Terminal(f"{command} {what}", tmp_path, env=fault("screen-hangs"))
    terminal.until(r"REPLAY|one")
    # Its loop is asleep for ever from here on: it is the thread that reads the keys which leaves.
    terminal.press("?")
    terminal.press("\x03\x03")
    left = terminal.ended()
    terminal.restored()
    assert "exit=130" in left


# -- it cannot do much ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "env",
    [
        pytest.param({"TERM": "xterm"}, marks=pytest.mark.long),
        {"TERM": "linux"},
        pytest.param({"TERM": "screen", "NO_COLOR": "1"}, marks=pytest.mark.long),
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    ],
    ids=lambda env: ",".join(f"{name}={value}" for name, value in env.items()),
)
def test_poor_terminals_and_locales_show_the_same_screen(
    tmp_path: Path, log: Path, env: dict[str, str]
) -> None:
    terminal = Terminal(f"replay {log}", tmp_path, env=env)
    terminal.until(r"REPLAY")
    terminal.until(r"▸ max_num_seqs +64 / 256")
    terminal.until(r"␣ play")
    terminal.press("q")
    leaves(terminal, 0)


@pytest.mark.parametrize("kind", ["dumb", None])
def test_a_terminal_that_cannot_show_a_screen_is_told(tmp_path: Path, kind: str | None) -> None:
    terminal = Terminal("", tmp_path, env={"TERM": kind})
    leaves(terminal, 2, "cannot show a screen", "Set TERM", "tputtui bench")


@pytest.mark.parametrize("size", [(20, 5), pytest.param((500, 150), marks=pytest.mark.long)])
def test_a_terminal_of_any_size(tmp_path: Path, log: Path, size: tuple[int, int]) -> None:
    terminal = Terminal(f"replay {log}", tmp_path, columns=size[0], rows=size[1])
    terminal.until(r"REPLAY")
    terminal.press("q")
    leaves(terminal, 0)


# -- descriptors that are closed -----------------------------------------------------------------


@pytest.mark.parametrize("closed", [">&-", "2>&-"])
def test_one_closed_stream_leaves_the_screen_on_the_other(
    tmp_path: Path, log: Path, closed: str
) -> None:
    terminal = Terminal(f"replay {log} {closed}", tmp_path)
    terminal.until(r"REPLAY")
    terminal.until(r"␣ play")
    terminal.press("q")
    leaves(terminal, 0)


@pytest.mark.parametrize("closed", ["<&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_without_a_terminal_it_ends_with_code_2(tmp_path: Path, closed: str) -> None:
    terminal = Terminal(closed, tmp_path)
    leaves(terminal, 2)


@pytest.mark.parametrize(
    "closed",
    [
        "<&- >&- 2>&-",
        *(pytest.param(each, marks=pytest.mark.long) for each in (">&-", "2>&-", "<&-")),
    ],
)
def test_commands_without_a_screen_go_on_with_streams_closed(
    tmp_path: Path, log: Path, closed: str
) -> None:
    words = f"{PROGRAM} report {log} -o page.md {closed}"
    done = subprocess.run(
        ["bash", "-c", words], capture_output=True, text=True, cwd=tmp_path,
        env=environment(tmp_path),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "page.md").read_text().startswith("# shape:demo")


# -- inside another ------------------------------------------------------------------------------


def in_multiplexer(program: str, log: Path, cwd: Path) -> tuple[str, ...]:
    command = f"{PROGRAM} replay {log}; echo exit=$?"
    if program == "tmux":
        return ("tmux", "-L", f"test{os.getpid()}", "-f", "/dev/null", "new", command + "; sleep 1")
    return ("screen", "-c", "/dev/null", "-S", f"test{os.getpid()}", "bash", "-c", command)


@pytest.mark.parametrize("program", ["tmux", "screen"])
def test_inside_a_multiplexer(tmp_path: Path, log: Path, program: str) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    import pexpect
    import pyte

    words = in_multiplexer(program, log, tmp_path)
    env = environment(tmp_path, {"TMUX": None, "STY": None, "SCREENDIR": str(tmp_path)})
    (tmp_path / "state").mkdir()
    tmp_path.chmod(0o700)
    child = pexpect.spawn(words[0], list(words[1:]), dimensions=(40, 120), env=env)
    screen = pyte.Screen(120, 40)
    stream = pyte.ByteStream(screen)

    def until(word: str) -> None:
        end = time.monotonic() + PATIENCE_S
        while word not in "\n".join(screen.display):
            assert time.monotonic() < end, "\n".join(screen.display)
            try:
                stream.feed(child.read_nonblocking(1 << 16, timeout=0.1))
            except pexpect.TIMEOUT:
                continue
            except pexpect.EOF:
                break

    until("REPLAY")
    until("max_num_seqs")
    child.send("q")
    until("exit=0")
    child.close(force=True)
