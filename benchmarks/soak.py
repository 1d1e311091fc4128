"""The recorder over millions of steps: memory flat, cost of a step, accounting exact.

    make soak                        10 million steps, about ten minutes
    python benchmarks/soak.py --steps 1000000

Our real loop, ledger, recorder and session on the deterministic engine (no vLLM; time is made up,
so that a step takes no waiting), with limits and load turned on the way and a front end that
looks every 50 steps. Memory is the process's resident set, after the rings and the history are
full; the cost of recording is CPU time spent in the ledger's and recorder's own calls, timed on
the side over steps like the demo's.
"""

from __future__ import annotations

import argparse
import gc
import sys
import time

import psutil

LOOK_EVERY, TURN_EVERY, CHECK_EVERY = 50, 20_000, 250_000
AIM_US = 50.0


def cost_us(steps: int = 20_000) -> float:
    """CPU µs that recording one step like the demo's takes: one request begins, one ends."""
    from tputtui.engine.ledger import Ledger
    from tputtui.engine.protocol import Ended
    from tputtui.load.generator import RequestSpec
    from tputtui.load.prompts import Piece, Prompt, TokenSource
    from tputtui.measure.recorder import Recorder
    from tputtui.measure.samples import StepSample

    recorder = Recorder()
    ledger = Ledger(recorder)
    prompt = Prompt(TokenSource(0, 8192), (Piece(120),), 120)
    specs = [RequestSpec(i, i * 0.02, prompt, 80, False) for i in range(steps)]
    ended = [Ended(i, i * 0.02 + 0.01, 80, i * 0.02, i * 0.02 + 0.005, 0, 0) for i in range(steps)]
    values = dict.fromkeys(StepSample._fields, 1)
    samples = [StepSample(**values | {"end_s": i * 0.02}) for i in range(steps)]
    gaps = [(0.019, 60), (0.020, 3)]
    began_s = time.thread_time()
    for i in range(steps):
        now_s = i * 0.02
        ledger.issue(specs[i], now_s)
        ledger.first_tokens([(i, now_s)])
        ledger.leave(ended[i])
        recorder.add_step(samples[i], gaps)
        recorder.accounting = ledger.accounting(64, 32)
    return (time.thread_time() - began_s) / steps * 1e6


def soak(steps: int) -> list[tuple[int, float]]:
    """(step, resident MiB) every quarter million steps. Raises where the accounting is off."""
    from tputtui.engine.fake import FakeClock, FakeEngine
    from tputtui.load.sections import from_texts
    from tputtui.load.workload import ClosedLoop, Workload
    from tputtui.profile import EngineSpec, Profile
    from tputtui.session import Session

    clock, process = FakeClock(), psutil.Process()
    base = Workload(ClosedLoop(6), pairs=((40, 12, 1.0),))
    loads = [
        from_texts(base, texts)
        for texts in (
            {"arrivals": "12"}, {"arrivals": "40/s"}, {"sessions": "turns=1-4 think=0.1s"},
            {"arrivals": "60/s for 1s, 5 for 2s", "prefix": "share=0.5 tokens=16 groups=9"}, {},
        )
    ]  # fmt: skip
    session = Session(lambda: FakeEngine(clock), Profile(EngineSpec("shape:demo"), base), clock)
    session.host.boot(EngineSpec("shape:demo"), {"max_num_seqs": 8}, load=True)
    found: list[tuple[int, float]] = []
    for step in range(1, steps + 1):
        wait_s = session.host.turn()
        if wait_s > 0:
            clock.advance(min(wait_s, 0.05))
        if step % LOOK_EVERY == 0:
            frame = session.frame()
            if not frame.accounting.balanced:
                raise SystemExit(f"step {step}: {frame.accounting} does not balance")
        if step % TURN_EVERY == 0:
            turn = step // TURN_EVERY
            session.steer.set_knob("max_num_seqs", 4 + turn % 7)
            session.steer.set_workload(loads[turn % len(loads)])
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
    parser.add_argument("--steps", type=int, default=10_000_000)
    options = parser.parse_args()
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
