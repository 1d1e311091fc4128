"""What other processes cost the CPU engine, by how its threads wait for one another.

    make neighbours
    python benchmarks/neighbours.py --rounds 10 --busy 0 1 2

An engine a way, each in a process of its own with the demo's shape and load, all booted first. Then
by turns: each runs for a few seconds while the others stand still, with so many busy processes
beside it. Tokens/s, the median over the rounds; below it the share of what the same way does alone.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from tputtui.engine.orders import Pause, Resume, RunLoad

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

PASSIVE = {"KMP_BLOCKTIME": "0", "OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0"}
# What GNU's and Intel's libraries do unless they are told otherwise.
SPINNING = {"KMP_BLOCKTIME": "200", "GOMP_SPINCOUNT": "300000"}
WAYS: dict[str, dict[str, str]] = {
    "as tputtui does": {},
    "spinning": SPINNING,
    "passive": PASSIVE,
    "spinning briefly": {"KMP_BLOCKTIME": "0", "GOMP_SPINCOUNT": "1000"},
    "passive, not bound": PASSIVE | {"VLLM_CPU_OMP_THREADS_BIND": "nobind"},
    "spinning, a core reserved": SPINNING | {"VLLM_CPU_NUM_OF_RESERVED_CPU": "1"},
}
SETTLE_S = 1.0
BUSY = "while True: pass"


def serve() -> None:
    """The engine of one way: for each number of seconds on stdin, tokens/s on stdout."""
    from tputtui import profile
    from tputtui.engine.vllm.inproc import VllmEngine
    from tputtui.session.session import Session

    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    session = Session(VllmEngine, profile.load(ROOT / "profiles" / "demo.yaml"))
    session.start(load=False)
    while not session.host.status.facts:
        if session.host.status.failure:
            raise SystemExit(str(session.host.status.failure))
        time.sleep(0.1)
    print("up", file=answers, flush=True)
    for line in sys.stdin:
        # What is in flight stands still between turns, so that no turn is a burst of prefills.
        session.host.order(RunLoad())
        session.host.order(Resume())
        time.sleep(SETTLE_S)
        began_s, before = time.monotonic(), session.recorder.generated_tokens
        time.sleep(float(line))
        generated = session.recorder.generated_tokens - before
        per_s = generated / (time.monotonic() - began_s)
        session.host.order(Pause())
        print(f"{per_s:.1f}", file=answers, flush=True)
    session.close(20.0)


def start(environment: dict[str, str]) -> subprocess.Popen[str]:
    names = {name for way in WAYS.values() for name in way}
    env = {name: value for name, value in os.environ.items() if name not in names}
    return subprocess.Popen(
        [sys.executable, __file__, "--serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, env=env | environment, text=True, bufsize=1,
    )  # fmt: skip


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--seconds", type=float, default=4.0, help="a turn")
    options.add_argument("--busy", type=int, nargs="+", default=[0, 1, 2])
    options.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    options.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    asked = options.parse_args()
    if asked.serve:
        serve()
        return
    engines = {}
    for way in asked.ways:
        engines[way] = engine = start(WAYS[way])
        assert engine.stdout is not None
        if engine.stdout.readline() != "up\n":
            raise SystemExit(f"{way}: the engine did not boot")
        print(f"{way}: up", flush=True)
    found: dict[tuple[str, int], list[float]] = {}
    for turn in range(asked.rounds):
        for busy in asked.busy:
            beside = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(busy)]
            # There and back, so that a drift of the machine falls on all alike.
            for way in asked.ways[:: 1 if turn % 2 == 0 else -1]:
                engine = engines[way]
                assert engine.stdin is not None
                assert engine.stdout is not None
                engine.stdin.write(f"{asked.seconds}\n")
                found.setdefault((way, busy), []).append(float(engine.stdout.readline()))
            for process in beside:
                process.kill()
                process.wait()
    for engine in engines.values():
        assert engine.stdin is not None
        engine.stdin.close()
        engine.wait()
    print(f"\ntok/s, median of {asked.rounds} turns of {asked.seconds:g} s (lowest to highest)")
    print(f"{'busy processes beside it':<30}" + "".join(f"{busy:>24}" for busy in asked.busy))
    for way in asked.ways:
        cells = [found[way, busy] for busy in asked.busy]
        alone = statistics.median(cells[0])
        texts = [f"{statistics.median(c):,.0f} ({min(c):,.0f}–{max(c):,.0f})" for c in cells]
        print(f"{way:<30}" + "".join(f"{text:>24}" for text in texts))
        shares = [f"{statistics.median(c) / alone:.0%}" for c in cells]
        print(f"{'':<30}" + "".join(f"{share:>24}" for share in shares))


if __name__ == "__main__":
    main()
