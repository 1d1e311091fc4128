"""What the load costs, and how late it is: µs a request, and the lag from due to submitted.

    make loadgen                      generator, then dispatch on a stand-in and on the demo engine
    python benchmarks/loadgen.py --no-engine

Cost is CPU time of the thread, so that another process on the machine does not count. *spec* is
what the loop does for every request; *tokens* is making its prompt as a NumPy array, which
happens once, when the request is submitted. Real prompts are rendered on another thread; what the
engine thread does for them is to take them.

Dispatch runs our real loop (`engine.host`) in real time at a given rate of Poisson arrivals. The
stand-in engine answers every request within a step that takes as long as is asked and keeps the
thread away from the GIL, as a GPU step does; the lag is read from the request log. Between two
steps nothing can be sent: a lag of at most one step is what is left of coordinated omission, and
latencies count from *due*, so that even that is in the figures.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from tputtui.engine.protocol import Counts, Ended, Engine, EngineFacts, Report, StepReport
    from tputtui.knobs import Knobs
    from tputtui.load.request import RequestSpec
    from tputtui.profile import EngineSpec

SHAPES = {
    "demo: lognormal lengths, Poisson": {"arrivals": "5000/s"},
    "shared prefixes": {"prefix": "share=0.8 tokens=128 groups=16 zipf=1"},
    "gamma arrivals, Zipf lengths": {
        "arrivals": "gamma(0.5):5000/s", "prompt": "zipf:1.2[1-2048]",
    },
    "joint pairs on an exponential ramp": {
        "arrivals": "100..5000/s over 60s exp", "pairs": "100/50=3,800/100=1",
    },
    "conversations": {"sessions": "turns=1-6 think=0s"},
}  # fmt: skip
AIM_US, AIM_REAL_US, AIM_RATE = 20.0, 50.0, 5000.0
REAL_REQUESTS = 3000
KV_TOKENS, BLOCK = 10**6, 16  # of the stand-in


def cost_of(texts: dict[str, str], tokens: bool, requests: int) -> float:
    """CPU µs a request."""
    from tputtui.load.generator import Generator
    from tputtui.load.sections import from_texts
    from tputtui.profile import DEFAULT_WORKLOAD

    generator = Generator(from_texts(DEFAULT_WORKLOAD, {"arrivals": "5000/s"} | texts), 8192)
    generator.resume(0.0)
    count, now_s, spent_s = 0, 0.0, 0.0
    while count < requests:
        now_s += 0.02
        began_s = time.thread_time()
        specs = generator.due(now_s, 0, 4096)
        if tokens:
            for spec in specs:
                spec.token_ids()
        for spec in specs:
            generator.ended(spec.number, now_s, spec.output_tokens, ())
        spent_s += time.thread_time() - began_s
        count += len(specs)
    return spent_s / count * 1e6


def cost_of_real(requests: int) -> tuple[float, float, float]:
    """CPU µs a real request on the engine thread; µs to render one; its mean length in tokens.

    The made-up batch file that ships, over and over; rendering has a thread of its own.
    """
    import msgspec

    from tputtui import profile
    from tputtui.load.generator import Generator
    from tputtui.load.workload import Poisson

    load = profile.load(profile.shipped()["replay"]).load
    generator = Generator(msgspec.structs.replace(load, arrivals=Poisson(5000.0)), 8192)
    generator.resume(0.0)
    count, now_s, spent_s = 0, 0.0, 0.0
    while count < requests:
        now_s += 0.02
        began_s = time.thread_time()
        specs = generator.due(now_s, 0, 4096)
        for spec in specs:
            spec.ids()
            generator.ended(spec.number, now_s, spec.output_tokens, ())
        spent_s += time.thread_time() - began_s
        count += len(specs)
        # Until some more are rendered.
        time.sleep(0.05)
    counts = generator.counts
    assert counts is not None
    generator.close()
    return spent_s / count * 1e6, counts.render_mean_s * 1e6, counts.mean_tokens


class StandIn:
    """An engine whose every step takes `step_s` and ends every request it was given."""

    def __init__(self, step_s: float) -> None:
        self._step_s = step_s
        self._waiting: list[tuple[int, list[int], int]] = []

    def boot(self, spec: EngineSpec, report: Report) -> EngineFacts:
        from tputtui.engine.protocol import EngineFacts
        from tputtui.knobs import Knobs

        knobs = Knobs(1024, 8192, 4096)
        return EngineFacts("stand-in", "none", "none", knobs, KV_TOKENS, BLOCK, 8192, 0.0, knobs)

    def submit(self, request: RequestSpec) -> None:
        self._waiting.append((request.number, request.token_ids().tolist(), request.output_tokens))

    def step(self) -> StepReport:
        from tputtui.engine.protocol import Ended, StepReport
        from tputtui.measure.samples import StepSample

        began_s = time.monotonic()
        time.sleep(self._step_s)
        end_s, batch = time.monotonic(), self._waiting
        self._waiting = []
        ended = [Ended(n, end_s, out, began_s, end_s, 0, 0) for n, _, out in batch]
        values: dict[str, Any] = dict.fromkeys(StepSample._fields, 0) | {
            "end_s": end_s, "duration_s": end_s - began_s, "running": len(batch),
            "generated_tokens": len(batch), "max_num_seqs": 1024, "max_num_batched_tokens": 8192,
        }  # fmt: skip
        return StepReport(StepSample(**values), [(e.number, end_s) for e in ended], [], ended)

    def apply(self, knobs: Knobs, *, anyway: bool = False) -> list[Ended]:
        return []

    def end(self, numbers: Iterable[int]) -> list[Ended]:
        return []

    def counts(self) -> Counts:
        from tputtui.engine.protocol import Counts

        return Counts(0, len(self._waiting), KV_TOKENS // BLOCK)

    def set_paused(self, paused: bool, *, anyway: bool = False) -> None:
        """Nothing to do: it runs no step that it is not asked for."""

    def preempt(self, *, anyway: bool = False) -> int:
        return 0

    def reset_prefix_cache(self, *, anyway: bool = False) -> int | None:
        return None

    def shutdown(self) -> None: ...


def dispatch(
    make_engine: Callable[[], Engine], rate: float, seconds: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(lags from due to submitted, step durations), in seconds, at `rate` Poisson arrivals/s."""
    from tputtui import profile
    from tputtui.load.sections import from_texts
    from tputtui.measure.samples import StepSample
    from tputtui.session.session import Session

    demo = profile.load(profile.shipped()["demo"])
    load = from_texts(demo.load, {"arrivals": f"{rate}/s"})
    session = Session(make_engine, profile.Profile(demo.engine, load))
    session.start()
    while not session.recorder.accounting.finished:
        if session.host.status.failure:
            raise SystemExit(str(session.host.status.failure))
        time.sleep(0.05)
    time.sleep(2.0)
    began_s = time.monotonic()
    time.sleep(seconds)
    log = [s for s in list(session.recorder.request_log) if s.due_s >= began_s]
    steps = session.recorder.steps.between(began_s)
    durations = steps[:, StepSample._fields.index("duration_s")].copy()
    session.close(20.0)
    return np.array([s.submitted_s - s.due_s for s in log]), durations


def report(title: str, lags: NDArray[np.float64], steps: NDArray[np.float64]) -> None:
    lag, step = (np.percentile(values, [50, 99]) * 1e3 for values in (lags, steps))
    print(
        f"{title:<44} n {len(lags):>6,}  lag p50 {lag[0]:6.2f}  p99 {lag[1]:6.2f} ms"
        f"   step p50 {step[0]:6.2f}  p99 {step[1]:6.2f} ms   ratio {lag[1] / step[1]:.2f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--requests", type=int, default=50_000)
    parser.add_argument("--seconds", type=float, default=3.0, help="of dispatching, each")
    parser.add_argument("--no-engine", action="store_true", help="leave the vLLM engine out")
    options = parser.parse_args()
    print(f"cost of a request, CPU µs, {options.requests:,} requests each (aim: ≤ {AIM_US:.0f})")
    for name, texts in SHAPES.items():
        spec, tokens = (cost_of(texts, made, options.requests) for made in (False, True))
        print(f"  {name:<40} spec {spec:5.1f}   with its tokens {tokens:5.1f}")
    cost, render, length = cost_of_real(min(options.requests, REAL_REQUESTS))
    print(
        f"  {'real prompts, rendered beside':<40} with its tokens {cost:5.1f} "
        f"(aim: ≤ {AIM_REAL_US:.0f})   {length:.0f} tokens, rendered in {render:,.0f} µs each"
    )
    print("\ndispatch (aim: p99 lag ≤ one step)")
    for step_ms in (5, 20, 50):
        lags, steps = dispatch(partial(StandIn, step_ms / 1e3), AIM_RATE, options.seconds)
        report(f"  stand-in, {AIM_RATE:,.0f}/s, steps of {step_ms} ms", lags, steps)
    if not options.no_engine:
        from tputtui.engine.vllm.inproc import VllmEngine

        for rate in (10, 30):
            lags, steps = dispatch(VllmEngine, rate, max(20.0, options.seconds))
            report(f"  vLLM, demo shape, {rate}/s", lags, steps)


if __name__ == "__main__":
    main()
