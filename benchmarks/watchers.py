"""What watching costs, ours beside other terminal dashboards for vLLM, in one run.

    make watchers
    python benchmarks/watchers.py --seconds 60

`tputtui --metrics-port` runs the demo in a pseudo-terminal and serves vLLM's own metrics beside
ours; the others (from PyPI, each in an environment of its own under .versions/) watch that, in
pseudo-terminals of the same size, at the intervals they come with. CPU is time spent, not time
passed, so that they may run beside one another. Of ours, the UI thread is counted there; then, with
the engine in a process of its own (--isolate), all of ours that is not the engine.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

import pexpect
import psutil

ROOT = Path(__file__).resolve().parent.parent
OTHERS = {"vllmstat": "0.9.1", "vllmpytop": "0.3.0", "nvitop": "1.7.2"}
SIZES = ((80, 24), (200, 50))
SETTLE_S = 8.0


class Watched:
    """A program in a pseudo-terminal, read all the time; its process and what it wrote."""

    def __init__(self, words: list[str], size: tuple[int, int], folder: str) -> None:
        env = os.environ | {
            "TERM": "xterm-256color", "COLORTERM": "truecolor", "XDG_STATE_HOME": folder,
        }  # fmt: skip
        self.began_s = time.monotonic()
        self.first_s: float | None = None
        self.written = 0
        self.running = False
        self.tail = b""
        self._child = pexpect.spawn(words[0], words[1:], dimensions=size[::-1], env=env)
        self.process = psutil.Process(self._child.pid)
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        with contextlib.suppress(pexpect.EOF, OSError):
            while True:
                data = self._child.read_nonblocking(1 << 16, timeout=None)
                self.written += len(data)
                self.tail = (self.tail + data)[-4000:]
                self.running = self.running or b"RUNNING" in self.tail
                # Modes come first; a frame is more.
                if self.first_s is None and self.written > 1000:
                    self.first_s = time.monotonic() - self.began_s

    @property
    def alive(self) -> bool:
        return self.process.is_running() and self.process.status() != psutil.STATUS_ZOMBIE

    def cpu_s(self, *, main_thread: bool = False) -> float:
        if main_thread:
            (own,) = (t for t in self.process.threads() if t.id == self.process.pid)
            return own.user_time + own.system_time
        return sum(self.process.cpu_times()[:2])

    def end(self) -> None:
        with contextlib.suppress(OSError):
            self._child.send("q")
        until_s = time.monotonic() + 15
        while self.alive and time.monotonic() < until_s:
            time.sleep(0.1)
        self._child.close(force=True)


def installed(name: str, version: str) -> str:
    """The program `name` in an environment of its own; made the first time."""
    folder = ROOT / ".versions" / "watchers" / f"{name}-{version}"
    program = folder / "bin" / name
    if not program.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "-q", f"{name}=={version}"]
        subprocess.run(pip, check=True)
    return str(program)


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def until_served(port: int, ours: Watched) -> None:
    """Wait until vLLM's own metrics tell of requests."""
    end_s = time.monotonic() + 120
    while time.monotonic() < end_s and ours.alive:
        with contextlib.suppress(OSError):
            text = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics").read().decode()
            if "vllm:num_requests_running" in text:
                return
        time.sleep(0.5)
    raise SystemExit(ours.tail.decode(errors="replace") + "\nno metrics")


def side_by_side(size: tuple[int, int], seconds: float, programs: dict[str, str]) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    program = str(Path(sys.executable).parent / "tputtui")
    print(
        f"\n{size[0]}x{size[1]}            CPU, % of a core   terminal kB/s   first bytes   RSS MB"
    )
    with tempfile.TemporaryDirectory() as folder:
        ours = Watched([program, "--metrics-port", str(port)], size, folder)
        until_served(port, ours)
        others = {}
        for name, path in programs.items():
            words = [path] if name == "nvitop" else [path, "--url", url, "--no-gpu"]
            others[name] = Watched(words, size, folder)
        time.sleep(SETTLE_S)
        rows = {"tputtui, UI thread": (ours, True)}
        rows |= {name: (watched, False) for name, watched in others.items() if watched.alive}
        measure(rows, seconds)
        for name, watched in others.items():
            if not watched.alive:
                said = watched.tail.decode(errors="replace").strip().splitlines()
                print(f"  {name:<19} did not run: {said[0] if said else 'it said nothing'}")
        for watched in (*others.values(), ours):
            watched.end()
        apart = Watched([program, "--isolate"], size, folder)
        end_s = time.monotonic() + 120
        while not apart.running and apart.alive and time.monotonic() < end_s:
            time.sleep(0.5)
        time.sleep(SETTLE_S)
        measure({"tputtui, all but engine": (apart, False)}, seconds)
        apart.end()


def measure(rows: dict[str, tuple[Watched, bool]], seconds: float) -> None:
    before = {
        name: (watched.cpu_s(main_thread=main), watched.written, time.monotonic())
        for name, (watched, main) in rows.items()
    }
    sizes: dict[str, list[int]] = {name: [] for name in rows}
    until_s = time.monotonic() + seconds
    while time.monotonic() < until_s:
        for name, (watched, _) in rows.items():
            sizes[name].append(watched.process.memory_info().rss)
        time.sleep(1)
    for name, (watched, main) in rows.items():
        cpu_s, written, began_s = before[name]
        took_s = time.monotonic() - began_s
        used = (watched.cpu_s(main_thread=main) - cpu_s) / took_s * 100
        rate = (watched.written - written) / took_s / 1000
        first = f"{watched.first_s * 1000:.0f} ms" if watched.first_s else "–"
        # With the engine in the same process its memory is not the screen's.
        size = "–" if main else f"{statistics.median(sizes[name]) / 1e6:.0f}"
        print(f"  {name:<24} {used:>8.2f} {rate:>17.2f} {first:>13} {size:>8}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=30.0)
    options = parser.parse_args()
    programs = {name: installed(name, version) for name, version in OTHERS.items()}
    print(f"{os.cpu_count()} cores, demo profile, {options.seconds:.0f} s each")
    for size in SIZES:
        side_by_side(size, options.seconds, programs)


if __name__ == "__main__":
    main()
