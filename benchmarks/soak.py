"""Half an hour on the real engine, turned all the while: memory flat, accounting exact.

    make soak                                 30 minutes on vLLM (CPU), then 10 million steps
    python benchmarks/soak.py --minutes 5 --steps 0
    python benchmarks/soak.py --minutes 0     the recorder alone, about ten minutes

On vLLM: the demo as the program runs it, engine thread and session log included, without a screen.
A plan repeats every two minutes: limits turned, loads changed, 1,000 turns in a second, preempting,
the prefix cache emptied, the engine paused, the load stopped, another engine booted. Every quarter
of a second a frame is looked at, and every request must be in exactly one place.

The recorder: our real loop, ledger, recorder and session on the deterministic engine (time is made
up, so that a step takes no waiting), looked at every 50 steps; memory is compared once the rings
and the history are full, and the cost of recording a step is CPU time of its own calls.
"""

from __future__ import annotations

import argparse
import gc
import logging
import os
import pathlib
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import psutil

from tputtui.engine.orders import Boot, Start

if TYPE_CHECKING:
    from tputtui.frame import Frame
    from tputtui.session.session import Session

LOOK_EVERY, TURN_EVERY, CHECK_EVERY = 50, 20_000, 250_000
AIM_US = 50.0
ROUND_S = 120.0
LOADS = (
    {"arrivals": "96"}, {"arrivals": "8/s"}, {"arrivals": "48"}, {"sessions": "turns=1-4 think=1s"},
    {"arrivals": "12/s for 6s, 2/s for 6s", "prefix": "share=0.5 tokens=64 groups=9"},
)  # fmt: skip


# -- the real engine -----------------------------------------------------------------------------


def on_vllm(minutes: float) -> None:
    """Soak the real engine. Raises SystemExit where something is off."""
    from tputtui import profile
    from tputtui.engine.vllm.inproc import VllmEngine
    from tputtui.hardware import HardwareSampler
    from tputtui.load.sections import from_texts
    from tputtui.process.redirect import Redirected
    from tputtui.session.session import Session

    folder = pathlib.Path(tempfile.mkdtemp())
    redirected = Redirected(folder / "log")
    logging.getLogger().setLevel(logging.WARNING)
    out = redirected.file(1)
    demo = profile.load(profile.shipped()["demo"])
    session = Session(
        VllmEngine, demo, hardware=HardwareSampler(), log_path=folder / "run.jsonl.zst"
    )
    session.start()
    process, seen = psutil.Process(), Watch(session)
    seen.until(lambda frame: frame.serving, 120)
    steer = session.steer

    def set_load(texts: dict[str, str]) -> bool:
        return steer.load.set(from_texts(demo.load, texts))

    def storm() -> None:
        for turn in range(1000):
            steer.limits.set("max_num_seqs", 8 + turn % 57)
            if turn % 10 == 0:
                time.sleep(0.01)

    plan: list[tuple[str, Callable[[], object]]] = [
        ("16 sequences", lambda: steer.limits.set("max_num_seqs", 16)),
        ("256 tokens a step", lambda: steer.limits.set("max_num_batched_tokens", 256)),
        *((f"load {texts}", lambda texts=texts: set_load(texts)) for texts in LOADS),
        ("1,000 turns", storm),
        ("4 sequences, now", lambda: (steer.limits.set("max_num_seqs", 4), steer.engine.preempt())),
        ("prefix cache", steer.engine.reset_prefix_cache),
        ("pause", steer.engine.toggle), ("go on", steer.engine.toggle),
        ("256 tokens long", lambda: steer.limits.set("max_model_len", 256)),
        ("stop", steer.load.stop), ("again", steer.load.toggle),
        ("undo", steer.undo), ("redo", steer.redo),
        ("boot", lambda: steer.engine.boot_with({"max_num_seqs": 128}, {"max_num_seqs": 64})),
    ]  # fmt: skip
    began_s, rounds, sizes = time.monotonic(), 0, []
    while time.monotonic() - began_s < minutes * 60:
        for _, act in plan:
            try:
                act()
            except Exception as refusal:
                if not hasattr(refusal, "hint"):
                    raise
            seen.look(ROUND_S / len(plan))
        seen.until(lambda frame: frame.serving, 120)
        rounds += 1
        gc.collect()
        sizes.append(process.memory_info().rss / 2**20)
        account = seen.last.accounting
        print(
            f"  {(time.monotonic() - began_s) / 60:5.1f} min  round {rounds}  "
            f"{sizes[-1]:8.1f} MiB  {account.issued:,} issued, {account.finished:,} finished  "
            f"{threading.active_count()} threads, {len(process.open_files())} files",
            file=out,
            flush=True,
        )
    steer.load.stop()
    seen.look(3)
    books = seen.last.accounting
    closed = session.close(60)
    log = folder / "run.jsonl.zst"
    took_s = time.monotonic() - began_s
    per_minute = os.path.getsize(log) / 1e6 / max(took_s / 60, 1e-9)
    # The recorder's rings fill up over the first minutes.
    from_s = min(len(sizes) - 1, 3)
    print(
        f"on vLLM: {took_s / 60:.1f} min, {rounds} rounds of {len(plan)} acts, "
        f"{seen.frames:,} frames, all balanced\n"
        f"requests: {books.issued:,} issued = {books.finished:,} finished + {books.cut:,} cut + "
        f"{books.aborted:,} aborted + {books.rejected:,} rejected + {books.failed:,} failed + "
        f"{books.in_flight:,} in flight\n"
        f"resident memory: {sizes[from_s]:.1f} MiB after round {from_s + 1}, {sizes[-1]:.1f} at "
        f"the end; session log {per_minute:.2f} MB/min; closed in time: {closed}",
        file=out,
        flush=True,
    )
    redirected.restore()
    if not books.balanced or books.in_flight or not closed:
        raise SystemExit("not everything is accounted for")


class Watch:
    """Looks at a session four times a second; every frame must balance."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.frames = 0
        self.last = session.advance()

    def look(self, seconds: float) -> None:
        end_s = time.monotonic() + seconds
        while time.monotonic() < end_s:
            self.last = self._session.advance()
            self.frames += 1
            if not self.last.accounting.balanced:
                raise SystemExit(f"{self.last.accounting} does not balance")
            if self.last.status.failure:
                raise SystemExit(str(self.last.status.failure))
            time.sleep(0.25)

    def until(self, reached: Callable[[Frame], bool], at_most_s: float) -> None:
        end_s = time.monotonic() + at_most_s
        while not reached(self.last):
            if time.monotonic() > end_s:
                raise SystemExit(f"still {self.last.status.state} after {at_most_s:.0f} s")
            self.look(0.25)


# -- the recorder --------------------------------------------------------------------------------


def cost_us(steps: int = 20_000) -> float:
    """CPU µs that recording one step like the demo's takes: one request begins, one ends."""
    from tputtui.engine.ledger import Ledger
    from tputtui.engine.protocol import Ended
    from tputtui.load.prompts import Piece, Prompt, TokenSource
    from tputtui.load.request import RequestSpec
    from tputtui.measure.recorder import Recorder
    from tputtui.measure.samples import Outcome, StepSample

    recorder = Recorder()
    ledger = Ledger(recorder)
    prompt = Prompt(TokenSource(0, 8192), (Piece(120),), 120)
    specs = [RequestSpec(i, i * 0.02, prompt, 80, False) for i in range(steps)]
    ended = [Ended(i, i * 0.02 + 0.01, 80, i * 0.02, i * 0.02 + 0.005, 0, 0) for i in range(steps)]
    values: dict[str, Any] = dict.fromkeys(StepSample._fields, 1)
    samples = [StepSample(**values | {"end_s": i * 0.02}) for i in range(steps)]
    gaps = [(0.019, 60), (0.020, 3)]
    began_s = time.thread_time()
    for i in range(steps):
        now_s = i * 0.02
        ledger.issue(specs[i], now_s)
        ledger.first_tokens([(i, now_s)])
        ledger.leave(ended[i], Outcome.FINISHED)
        recorder.add_step(samples[i], gaps)
        recorder.accounting = ledger.accounting(64, 32)
    return (time.thread_time() - began_s) / steps * 1e6


def soak(steps: int) -> list[tuple[int, float]]:
    """(step, resident MiB) every quarter million steps. Raises where the accounting is off."""
    from tputtui.engine.fake import FakeEngine
    from tputtui.engine.host import Host
    from tputtui.load.sections import from_texts
    from tputtui.load.workload import ClosedLoop, Workload
    from tputtui.profile import EngineSpec, Profile
    from tputtui.session.session import Session
    from tputtui.simulate.clock import VirtualTime

    clock, process = VirtualTime(), psutil.Process()
    base = Workload(ClosedLoop(6), pairs=((40, 12, 1.0),))
    loads = [
        from_texts(base, texts)
        for texts in (
            {"arrivals": "12"}, {"arrivals": "40/s"}, {"sessions": "turns=1-4 think=0.1s"},
            {"arrivals": "60/s for 1s, 5 for 2s", "prefix": "share=0.5 tokens=16 groups=9"}, {},
        )
    ]  # fmt: skip
    session = Session(lambda: FakeEngine(clock), Profile(EngineSpec("shape:demo"), base), clock)
    host = session.host
    assert isinstance(host, Host)
    host.order(Boot(Start(EngineSpec("shape:demo"), {"max_num_seqs": 8}), load=True))
    found: list[tuple[int, float]] = []
    for step in range(1, steps + 1):
        wait_s = host.run_pass()
        if wait_s > 0:
            clock.advance(min(wait_s, 0.05))
        if step % LOOK_EVERY == 0:
            frame = session.advance()
            if not frame.accounting.balanced:
                raise SystemExit(f"step {step}: {frame.accounting} does not balance")
        if step % TURN_EVERY == 0:
            turn = step // TURN_EVERY
            session.steer.limits.set("max_num_seqs", 4 + turn % 7)
            session.steer.load.set(loads[turn % len(loads)])
        if step % CHECK_EVERY == 0 or step == steps:
            gc.collect()
            found.append((step, process.memory_info().rss / 2**20))
            if sys.stderr.isatty():
                print(f"  {step:>12,} steps  {found[-1][1]:7.1f} MiB", file=sys.stderr)
    if session.host.status.failure:
        raise SystemExit(str(session.host.status.failure))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=30.0, help="on vLLM (default 30)")
    parser.add_argument("--steps", type=int, default=10_000_000, help="of the recorder alone")
    options = parser.parse_args()
    if options.minutes:
        on_vllm(options.minutes)
    if not options.steps:
        return
    print(f"recording a step: {cost_us():.1f} µs CPU (aim: ≤ {AIM_US:.0f})")
    began_s = time.monotonic()
    found = soak(options.steps)
    # The rings hold 65,536 steps, the history an hour: by a quarter of the way all are full.
    full = [size for step, size in found if step >= options.steps / 4]
    print(
        f"{options.steps:,} steps in {time.monotonic() - began_s:.0f} s, accounting balanced in "
        f"every frame\nresident memory from a quarter of the way on: {full[0]:.1f} MiB at first, "
        f"{full[-1]:.1f} at the end, {min(full):.1f}–{max(full):.1f} between"
    )


if __name__ == "__main__":
    main()
