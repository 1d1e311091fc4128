"""Makes the pictures of the README and the pages: recordings of the program in a terminal.

    make screenshots
    python screenshots/make.py frontier-120x40 turning-120x40      some of them

Each starts `tputtui` in a pseudo-terminal, presses keys, waits for what the screen says, and takes
the screen as it is then (PNG), or all of it from a key on (GIF, at its own pace). Nothing is drawn
by hand: what is on the picture is what was measured. A picture takes one to six minutes. Needs
rsvg-convert (librsvg2-bin), the font DejaVu Sans Mono, and gifsicle for GIFs.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import math
import os
import random
import re
import secrets
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import draw
import pexpect
import pyte

HERE = Path(__file__).parent
PATIENCE_S = 600.0
H100 = re.search(r"^H100 := (.*)", (HERE.parent / "Makefile").read_text(), re.M)[1]
"""What `make demo-h100` starts."""
ESCAPE, ENTER, UP, DOWN, END = "\x1b", "\r", "\x1b[A", "\x1b[B", "\x1b[F"
DECIDED = r"(?s)6 changes.*(▲|▼|better|worse)"


class Recording:
    """`tputtui ARGUMENTS` in a terminal of `columns` x `rows`, with its state in `folder`."""

    def __init__(self, arguments: list[str], columns: int, rows: int, folder: Path) -> None:
        self.screen = pyte.Screen(columns, rows)
        self.taken: list[tuple[float, list[draw.Row]]] = []
        self.taking = False
        self._stream = pyte.ByteStream(self.screen)
        self._child = pexpect.spawn(
            sys.executable, ["-m", "tputtui", *arguments], dimensions=(rows, columns),
            cwd=str(folder), env=environment(folder) | {"TERM": "xterm-256color"},
        )  # fmt: skip

    @property
    def text(self) -> str:
        """The screen as lines of text."""
        return "\n".join(self.screen.display)

    def run(self, seconds: float) -> None:
        """Let it run for so long."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._read()

    def until(self, pattern: str, at_most_s: float = math.inf) -> None:
        """Let it run until `pattern` is on the screen, or for `at_most_s`."""
        begun = time.monotonic()
        while not re.search(pattern, self.text) and time.monotonic() - begun < at_most_s:
            if time.monotonic() - begun > PATIENCE_S or not self._child.isalive():
                raise SystemExit(f"no {pattern!r} on:\n{self.text}")
            self._read()

    def press(self, *keys: str) -> None:
        """Type `keys`, each alone."""
        for key in keys:
            self._child.send(key)
            self.run(0.5)

    def leave(self) -> None:
        """End the program as its person would."""
        self.taking = False
        self._child.send("\x03")
        self._child.expect(pexpect.EOF, timeout=60)
        self._child.close()

    def _read(self) -> None:
        with contextlib.suppress(pexpect.TIMEOUT):
            self._stream.feed(self._child.read_nonblocking(1 << 16, timeout=0.1))
            # What is painted at once comes in parts.
            with contextlib.suppress(pexpect.TIMEOUT):
                while True:
                    self._stream.feed(self._child.read_nonblocking(1 << 16, timeout=0.02))
        if self.taking:
            rows = draw.rows_of(self.screen)
            if not self.taken or self.taken[-1][1] != rows:
                self.taken.append((time.monotonic(), rows))


def environment(folder: Path) -> dict[str, str]:
    """A terminal with all colours, and none of the person's own settings."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in ("NO_COLOR", "COLUMNS", "LINES") and not name.startswith("TPUTTUI_")
    }
    return kept | {"COLORTERM": "truecolor", "XDG_STATE_HOME": str(folder / "state"),
                   "XDG_CONFIG_HOME": str(folder / "config")}  # fmt: skip


Doing = Callable[[Recording], None]


def verdict(key: str, before_s: float, after_s: float, at_most_s: float = math.inf) -> Doing:
    """Turn max_num_seqs by `key`, and wait for what that did.

    at_most_s: then the picture is taken with what is known.
    """

    def doing(run: Recording) -> None:
        run.until("RUNNING")
        run.run(before_s)
        run.press(key)
        run.until(DECIDED, at_most_s)
        run.run(after_s)

    return doing


def turning(run: Recording) -> None:
    """Take all from a moment before a limit is doubled until its verdicts."""
    run.until("RUNNING")
    run.run(25.0)
    run.taking = True
    run.run(2.5)
    run.press("]")
    run.until(DECIDED)
    run.run(4.0)


def edited(run: Recording) -> None:
    """Open the load editor and put a day, prefixes and conversations in."""
    run.until("RUNNING")
    run.run(5.0)
    run.press("l")
    run.run(1.0)
    run.press("0s=2, 40s=12, 80s=4/s every 120s")
    run.press(DOWN, DOWN, DOWN, DOWN, "share=0.8 tokens=128 groups=16 zipf=1")
    run.press(DOWN, "turns=1-6 think=5s")
    run.run(3.0)


def swept(run: Recording) -> None:
    """Sweep the load at two settings of the limits, and pick a point."""
    run.until("RUNNING")
    run.run(3.0)
    for key in ("]", UP):
        run.press("f", "w")
        run.until("sweep: now")
        run.until("sweep over")
        if key == "]":
            run.press(ESCAPE)
            run.run(1.0)
            run.press(key)
            run.run(3.0)
    run.press(UP)
    run.run(2.0)


def tuned(run: Recording) -> None:
    """Let the tuner search and confirm, once a few sizes of batch have been seen."""
    run.until("RUNNING")
    run.run(10.0)
    for key in "]]uu":
        run.press(key)
        run.run(6.0)
    run.press("t")
    run.run(1.0)
    run.press(ENTER)
    run.until(r"tuner +(a better setting was found|over)")
    run.run(1.0)


def watched(run: Recording) -> None:
    """Watch a server until its window is full."""
    run.until("● live")
    run.run(70.0)


def replayed(run: Recording) -> None:
    """Go to the end of the recorded run."""
    run.until("(?i)replay")
    run.run(1.0)
    run.press(END)
    run.run(2.0)


@contextlib.contextmanager
def recorded(folder: Path) -> Iterator[str]:
    """A run whose limit was turned, in the folder that `tputtui replay` looks into."""
    run = Recording(shlex.split(H100), 120, 40, folder)
    verdict("]", 25.0, 5.0)(run)
    run.leave()
    yield ""


@contextlib.contextmanager
def traffic(folder: Path) -> Iterator[str]:
    """vLLM's server with the plugin inside it, under the load of others; its address."""
    from tputtui.engine.flags import to_argv
    from tputtui.engine.models import resolve
    from tputtui.profile import load, shipped

    token = folder / "token"
    token.touch(0o600)
    token.write_text(secrets.token_urlsafe())
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"localhost:{probe.getsockname()[1]}"
    spec = resolve(load(shipped()["demo"]).engine)
    served = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", spec.model,
              "--host", "127.0.0.1",
              "--port", address.rpartition(":")[2],
              *to_argv({**spec.args, "max_num_seqs": 16})]  # fmt: skip
    inside = {"VLLM_PLUGINS": "tputtui", "TPUTTUI_CONTROL_TOKEN_FILE": str(token),
              "VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": "1"}  # fmt: skip
    with contextlib.ExitStack() as ends:
        server = ends.enter_context(started(served, folder, inside))
        while server.poll() is None:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"http://{address}/health", timeout=5).close()
                break
            time.sleep(0.5)
        ends.enter_context(asking(f"http://{address}/v1/completions"))
        yield address


@contextlib.contextmanager
def asking(url: str) -> Iterator[None]:
    """24 people who each send a request, and the next when it is answered."""
    over = threading.Event()

    def ask(seed: int) -> None:
        drawn = random.Random(seed)
        while not over.is_set():
            prompt = [drawn.randrange(5, 200) for _ in range(drawn.randrange(40, 200))]
            body = {"model": "shape:demo", "prompt": prompt, "max_tokens": drawn.randrange(40, 120),
                    "ignore_eos": True}  # fmt: skip
            asked = urllib.request.Request(
                url, json.dumps(body).encode(), {"Content-Type": "application/json"}
            )
            with contextlib.suppress(OSError, http.client.HTTPException):
                urllib.request.urlopen(asked, timeout=60).close()

    people = [threading.Thread(target=ask, args=(n,), daemon=True) for n in range(24)]
    for each in people:
        each.start()
    try:
        yield
    finally:
        over.set()


@contextlib.contextmanager
def started(words: list[str], folder: Path, more: dict[str, str]) -> Iterator[subprocess.Popen]:
    """A program beside the one that is recorded; ended with all that it started."""
    quiet = subprocess.DEVNULL
    program = subprocess.Popen(words, stdin=quiet, stdout=quiet, stderr=quiet, cwd=folder,
                               env=environment(folder) | more, start_new_session=True)  # fmt: skip
    try:
        yield program
    finally:
        program.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            program.wait(30)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(program.pid, signal.SIGKILL)


class Picture(NamedTuple):
    """How a picture comes about. around: what runs meanwhile; its text replaces URL."""

    arguments: str
    doing: Doing
    around: Callable[[Path], contextlib.AbstractContextManager[str]] = contextlib.nullcontext


GOALS = "--goal ttft_p90=600ms,tpot_p90=12ms"
PICTURES = {
    "h100-120x40": Picture(H100, verdict("]", 25.0, 6.0)),
    "h100-200x50": Picture(H100, verdict("]", 60.0, 6.0)),
    "demo-120x40": Picture("", verdict("[", 30.0, 5.0, 60.0)),
    "load-120x40": Picture(H100, edited),
    "frontier-120x40": Picture(H100, swept),
    "tuner-120x40": Picture(f"{H100} {GOALS}", tuned),
    "replay-120x40": Picture("replay", replayed, recorded),
    "attach-120x40": Picture("attach URL", watched, traffic),
    "live-120x40": Picture("attach URL --control-token-file token",
                           verdict("[", 30.0, 8.0, 90.0), traffic),
    "turning-120x40": Picture(H100, turning),
}  # fmt: skip


def main() -> None:
    for name in sys.argv[1:] or PICTURES:
        how = PICTURES[name]
        columns, rows = (int(part) for part in name.rpartition("-")[2].split("x"))
        with tempfile.TemporaryDirectory() as place, how.around(Path(place)) as url:
            arguments = shlex.split(how.arguments.replace("URL", str(url)))
            run = Recording(arguments, columns, rows, Path(place))
            how.doing(run)
            if "✖ FAILED" in run.text:
                raise SystemExit(f"It failed:\n{run.text}")
            if run.taken:
                path = HERE / f"{name}.gif"
                draw.gif(run.taken, path)
            else:
                path = HERE / f"{name}.png"
                draw.png(draw.rows_of(run.screen), path)
            run.leave()
        print(path.name, f"{path.stat().st_size:,} bytes", flush=True)


if __name__ == "__main__":
    main()
