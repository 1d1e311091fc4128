"""How well a simulation predicts: calibrated on this machine, and from datasheets.

    make simulation                                  all three parts; about a quarter of an hour
    python benchmarks/simulation.py calibrated       the real engine here, and loads held out
    python benchmarks/simulation.py published        datasheets against figures others published
    python benchmarks/simulation.py cost             what simulating costs

calibrated  The demo on the CPU. Its calibration's loads and the held-out ones take turns, in a new
            order each time, since a shared machine is now faster and now slower: each load sees
            several of its moods. The calibration is fitted to its own loads only. Then the
            simulated engine gets the held-out loads, request for request, in virtual time. How far
            the passes of one load lie apart in reality says what this machine can tell.
            On a GPU, whose pace is its own, the held-out loads come after the calibration, on a
            larger model and an engine as users boot it. What was measured can be carried away
            (--to FILE) and compared elsewhere (--from FILE), with the GPU's datasheet as well
            (--device h200).
published   For pairs of a GPU and a model whose load is told whole. The published figures hold an
            HTTP server and a client, which the simulation has not, and their vLLM is an older one.
            Lengths that are told by their mean only are all taken as that.
cost        The same load with steps that take no time, and no cost model, against that with both.
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from tputtui.cli.calibrate import calibration_of
from tputtui.engine.host import Host
from tputtui.engine.orders import BeginLeg, Boot, HoldLoad, Start, StopLoad
from tputtui.engine.virtual import VirtualHost
from tputtui.engine.vllm.inproc import VllmEngine
from tputtui.engine.vllm.measured import MeasuredEngine
from tputtui.engine.vllm.simulated import SimulatedEngine
from tputtui.headless.calibrating import PASSES, Calibrating
from tputtui.knobs import Knobs
from tputtui.load.lengths import Fixed, LogNormal, Uniform
from tputtui.load.workload import ClosedLoop, Constant, Gamma, Poisson, Prefix, Sessions, Workload
from tputtui.measure.recorder import Recorder
from tputtui.measure.samples import STEP, Outcome, RequestSample
from tputtui.profile import EngineSpec
from tputtui.simulate.calibration import Calibration
from tputtui.simulate.clock import VirtualTime
from tputtui.simulate.simulation import Simulation, simulation_of

DEMO = EngineSpec("shape:demo")
LARGE = EngineSpec(
    "shape:qwen3-8b",
    {"max_num_seqs": 128, "max_num_batched_tokens": 4096, "max_model_len": 4096},
)
GPU_FASTER = 4.0
"""So much more arrives in a second of what a GPU serves."""
SETTLE_S, WINDOW_S = 2.0, 5.0
AIMS = {"tokens/s": 0.10, "TPOT p50": 0.10, "E2E p50": 0.10, "TTFT p99": 0.25}

SHORT, LONG = LogNormal(120, 0.6, 8, 900), LogNormal(400, 0.5, 16, 1500)
ANSWERS = LogNormal(32, 0.5, 4, 160)
HELD_OUT: dict[str, tuple[Workload, dict[str, int]]] = {
    "6 in flight, short": (Workload(ClosedLoop(6), SHORT, ANSWERS), {}),
    "24 in flight, short": (Workload(ClosedLoop(24), SHORT, ANSWERS), {}),
    "96 in flight, short": (Workload(ClosedLoop(96), SHORT, ANSWERS), {}),
    "3 in flight, long": (Workload(ClosedLoop(3), LONG, ANSWERS), {}),
    "12 in flight, long": (Workload(ClosedLoop(12), LONG, ANSWERS), {}),
    "40 in flight, long answers": (Workload(ClosedLoop(40), Fixed(40), Uniform(60, 120)), {}),
    "Poisson 4/s": (Workload(Poisson(4.0), SHORT, ANSWERS), {}),
    "Poisson 9/s": (Workload(Poisson(9.0), SHORT, ANSWERS), {}),
    "bursts, 6/s": (Workload(Gamma(6.0, 0.3), SHORT, ANSWERS), {}),
    "constant 3/s, long": (Workload(Constant(3.0), LONG, ANSWERS), {}),
    "64 in flight, max_num_seqs 12": (
        Workload(ClosedLoop(64), SHORT, ANSWERS), {"max_num_seqs": 12},
    ),
    "24 in flight, 192 step tokens": (
        Workload(ClosedLoop(24), SHORT, ANSWERS), {"max_num_batched_tokens": 192},
    ),
    "24 in flight, 512 shared by 80 %": (
        Workload(ClosedLoop(24), SHORT, ANSWERS, prefix=Prefix(0.8, tokens=512, groups=4)), {},
    ),
    "10 people talking": (
        Workload(ClosedLoop(10), SHORT, ANSWERS,
                 sessions=Sessions(turns=Uniform(2, 5), think_s=0.3)), {},
    ),
    "32 in flight, 200 blocks": (
        Workload(ClosedLoop(32), LONG, ANSWERS), {"num_gpu_blocks": 200},
    ),
}  # fmt: skip


# -- one load, wherever ------------------------------------------------------------------------


class Found(NamedTuple):
    """What was measured of a load: tokens in so many seconds, and each request's latencies."""

    tokens: float
    seconds: float
    ttft: list[float]
    tpot: list[float]
    e2e: list[float]

    def figures(self) -> dict[str, float]:
        def at(values: list[float], share: float) -> float:
            return float(np.quantile(values, share)) if values else math.nan

        return {
            "tokens/s": self.tokens / self.seconds,
            "TPOT p50": at(self.tpot, 0.5),
            "E2E p50": at(self.e2e, 0.5),
            "TTFT p99": at(self.ttft, 0.99),
        }


def pooled(passes: list[Found]) -> Found:
    tokens, seconds, *latencies = zip(*passes, strict=True)
    return Found(sum(tokens), sum(seconds), *(list(chain(*each)) for each in latencies))


def apart(passes: list[Found]) -> float:
    """How far a load's own passes lie apart: the greatest TPOT p50 of one ÷ the least, - 1."""
    each = [found.figures()["TPOT p50"] for found in passes]
    return max(each) / min(each) - 1


def window(host: Any, recorder: Recorder, go_on: Any, clock: Any) -> Found:
    """The load that has just been put on, once it has settled."""
    go_on(SETTLE_S)
    began_s = clock()
    go_on(WINDOW_S)
    end_s = clock()
    steps = recorder.steps.between(began_s)
    ended = [
        r for r in recorder.request_log if r.end_s >= began_s and r.outcome is Outcome.FINISHED
    ]
    host.order(StopLoad())
    host.run_pass()
    return Found(
        float(steps[:, STEP["generated_tokens"]].sum()),
        end_s - began_s,
        known(request.ttft_s for request in ended),
        known(request.tpot_s for request in ended),
        known(request.e2e_s for request in ended),
    )


def known(values: Iterable[float]) -> list[float]:
    return [value for value in values if not math.isnan(value)]


def boot(host: Any, spec: EngineSpec, *, load: bool = False) -> None:
    host.order(Boot(Start(spec, {}), load=load))
    host.run_pass()
    if host.status.failure:
        raise host.status.failure


def put_on(host: Any, name: str, again: int, faster: float) -> None:
    workload, limits = HELD_OUT[name]
    if isinstance(workload.arrivals, Poisson | Gamma | Constant):
        rate = workload.arrivals.rate
        assert isinstance(rate, float | int)
        arrivals = msgspec.structs.replace(workload.arrivals, rate=faster * rate)
        workload = msgspec.structs.replace(workload, arrivals=arrivals)
    knobs: Knobs = host.status.facts.booted.overridden(limits)
    seed = 100 * list(HELD_OUT).index(name) + again
    host.order(BeginLeg(knobs, msgspec.structs.replace(workload, seed=seed), name))


# -- calibrated here ---------------------------------------------------------------------------


class Reality(NamedTuple):
    """A calibration, and the held-out loads as the real engine served them."""

    spec: EngineSpec
    calibration: Calibration
    faster: float
    passes: dict[str, list[Found]]


def measured(passes: int) -> Reality:
    import torch

    on_gpu = torch.cuda.is_available()
    spec, faster = (LARGE, GPU_FASTER) if on_gpu else (DEMO, 1.0)
    calibrating = Calibrating(MeasuredEngine(), 2.0 if on_gpu else 4.0, lambda: False)
    facts = calibrating.boot(spec.overridden(None, {"async_scheduling": False}))
    orders, among = random.Random(1), range(len(calibrating.loads))
    turns: list[tuple[int, int | str]] = [(n, what) for n in range(PASSES) for what in among]
    held_out = [(again, name) for again in range(passes) for name in HELD_OUT]
    if not on_gpu:
        turns.extend(held_out)
    turns.sort(key=lambda turn: (turn[0], orders.random()))
    rows = []
    found: dict[str, list[Found]] = {name: [] for name in HELD_OUT}

    def hold_out(host: Any, recorder: Recorder, again: int, name: str) -> None:
        def go_on(seconds: float) -> None:
            until_s = time.monotonic() + seconds
            while time.monotonic() < until_s:
                if (wait_s := host.run_pass()) > 0:
                    time.sleep(min(wait_s, max(0.0, until_s - time.monotonic())))

        put_on(host, name, again, faster)
        found[name].append(window(host, recorder, go_on, time.monotonic))

    for number, (again, what) in enumerate(turns):
        if isinstance(what, int):
            rows += calibrating.under(what)
        else:
            hold_out(calibrating.host, calibrating.recorder, again, what)
        print(f"\r{number + 1} of {len(turns)}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    calibrating.close()
    calibration = calibration_of(spec, facts, rows, calibrating.loads)
    if on_gpu:
        recorder = Recorder()
        nothing = Workload(ClosedLoop(0), Fixed(1), Fixed(1))
        host = Host(VllmEngine, recorder, nothing, time.monotonic)
        boot(host, spec)
        for again, name in held_out:
            hold_out(host, recorder, again, name)
        host.close(0.0)
        host.run_pass()
    return Reality(spec, calibration, faster, found)


def predicted(real: Reality, simulation: Simulation) -> dict[str, list[Found]]:
    """The held-out loads as the simulated engine serves them."""
    clock = VirtualTime()
    recorder, nothing = Recorder(), Workload(ClosedLoop(0), Fixed(1), Fixed(1))
    host = VirtualHost(lambda: SimulatedEngine(simulation, clock), recorder, nothing, clock)
    boot(host, real.spec)
    found: dict[str, list[Found]] = {name: [] for name in HELD_OUT}
    for again in range(max(map(len, real.passes.values()))):
        for name in HELD_OUT:
            put_on(host, name, again, real.faster)
            found[name].append(window(host, recorder, host.run_for, clock))
    host.close(10.0)
    return found


def calibrated(options: argparse.Namespace) -> None:
    if options.carried:
        real = msgspec.json.decode(options.carried.read_bytes(), type=Reality)
    else:
        real = measured(options.passes)
    calibration = real.calibration
    if options.to:
        options.to.write_bytes(msgspec.json.encode(real))
        return
    print(f"{real.spec.model} on {calibration.device}, vLLM {calibration.vllm}: "
          f"calibrated ±{calibration.error_frac:.0%} by its own residuals")  # fmt: skip
    _compared(real, Simulation(calibration=calibration))
    if options.device:
        print(f"\nthe same, from the datasheet of {options.device}")
        _compared(real, simulation_of(options.device))


def _compared(real: Reality, simulation: Simulation) -> None:
    began_s = time.monotonic()
    ours = predicted(real, simulation)
    simulated_s = time.monotonic() - began_s
    spent_s = sum(found.seconds + SETTLE_S for passes in real.passes.values() for found in passes)
    print(f"{spent_s:.0f} s of load, simulated in {simulated_s:.0f} s\n")
    print(f"{'load, not among those of the calibration':<42}"
          + "".join(f"{name:>28}" for name in AIMS) + "   passes apart")  # fmt: skip
    off: dict[str, list[float]] = {name: [] for name in AIMS}
    for load, there in real.passes.items():
        line = f"{load:<42}"
        seen, said = pooled(there).figures(), pooled(ours[load]).figures()
        for name in AIMS:
            off[name].append(said[name] / seen[name] - 1)
            line += (
                f"{_told(name, seen[name]):>10}{_told(name, said[name]):>10}{off[name][-1]:>+8.0%}"
            )
        print(f"{line}{apart(there):>15.0%}")
    print(f"\n{'':<42}" + "".join(f"{'measured, simulated, off':>28}" for _ in AIMS))
    for name, aim in AIMS.items():
        within = sum(abs(each) <= aim for each in off[name])
        print(f"{name}: within {aim:.0%} in {within} of {len(off[name])} loads; "
              f"median {statistics.median(map(abs, off[name])):.1%}, "
              f"worst {max(off[name], key=abs):+.0%}")  # fmt: skip


def _told(name: str, value: float) -> str:
    return f"{value:,.0f}" if name == "tokens/s" else f"{value * 1e3:,.0f} ms"


# -- datasheets against what was published -----------------------------------------------------


class Published(NamedTuple):
    """What someone measured. in_flight 0: all at once. tpot_ms: its mean, ttft_ms likewise."""

    device: str
    model: str
    requests: int
    in_flight: int
    prompt: int
    output: int
    out_per_s: float
    tpot_ms: float
    ttft_ms: float
    args: dict[str, Any]
    source: str


_STACK = "gpustack/gpustack, docs/performance-lab"
_V11 = {"gpu_memory_utilization": 0.9, "enable_prefix_caching": False}
PUBLISHED = (
    *(Published("h100", "qwen3-8b", 100, n, 233, 221, out, tpot, ttft, _V11,
                f"{_STACK}/qwen3-8b/h100-latency.md (vLLM 0.11.0, ShareGPT)")
      for n, out, tpot, ttft in ((1, 132.86, 7.28, 59), (2, 257.19, 7.37, 64),
                                 (4, 496.88, 7.38, 64), (8, 917.28, 7.71, 75))),
    Published("h100", "qwen3-14b", 500, 0, 3996, 200, 438.56, 132.45, 112_717, _V11,
              f"{_STACK}/qwen3-14b/h100.md (vLLM 0.11.0)"),
    Published("h100", "qwen3-14b", 500, 0, 1996, 100, 505.51, 206.51, 50_716, _V11,
              f"{_STACK}/qwen3-14b/h100.md (vLLM 0.11.0)"),
    Published("a100", "qwen3-14b", 500, 0, 3996, 200, 245.13, 254.61, 197_625, _V11,
              f"{_STACK}/qwen3-14b/a100.md (vLLM 0.11.0; which A100 is not told)"),
    Published("a100", "qwen3-14b", 500, 0, 1996, 100, 284.64, 301.73, 86_908, _V11,
              f"{_STACK}/qwen3-14b/a100.md (vLLM 0.11.0; which A100 is not told)"),
    Published("h100", "qwen3-4b", 1500, 80, 512, 128, 5344, 10.17, 597,
              {"gpu_memory_utilization": 0.85, "max_model_len": 8192},
              "vllm-project/vllm, pull request 38479 (main of April 2026)"),
    Published("h100", "llama-3.1-8b", 1000, 0, 215, 198, 9534.13, math.nan, 3564,
              {"gpu_memory_utilization": 0.9, "enable_prefix_caching": False,
               "max_model_len": 16384},
              "vllm-project/vllm, pull request 14431 (March 2025, ShareGPT)"),
    Published("mi300x", "qwen3-8b", 100, 32, 1024, 1024, 2701.39, 9.42, 645, {},
              "vllm-project/recipes, pull request 431 (Qwen3Guard-Gen-8B, the same architecture)"),
    Published("rtx4090", "qwen3-8b", 1000, 0, 217, 202, 3869.3 * 202 / 419, 63.45, 15_386,
              {**_V11, "max_model_len": 8192},
              f"{_STACK}/references/the-impact-of-quantization… (vLLM 0.9.2, ShareGPT)"),
)  # fmt: skip

_QWEN3: dict[str, Any] = {
    "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "head_dim": 128,
    "num_key_value_heads": 8, "vocab_size": 151_936, "max_position_embeddings": 40_960,
    "hidden_act": "silu", "rms_norm_eps": 1e-6, "rope_theta": 1_000_000, "torch_dtype": "bfloat16",
    "attention_bias": False, "tie_word_embeddings": False,
}  # fmt: skip
CONFIGS = {
    "qwen3-4b": _QWEN3 | {"hidden_size": 2560, "intermediate_size": 9728, "num_hidden_layers": 36,
                          "num_attention_heads": 32, "tie_word_embeddings": True},
    "qwen3-14b": _QWEN3 | {"hidden_size": 5120, "intermediate_size": 17_408,
                           "num_hidden_layers": 40, "num_attention_heads": 40},
}  # fmt: skip
"""Dimensions as their makers publish them; the other models come with tputtui."""


def model_of(name: str, folder: Path) -> str:
    if name not in CONFIGS:
        return f"shape:{name}"
    there = folder / name
    there.mkdir(exist_ok=True)
    (there / "config.json").write_text(json.dumps(CONFIGS[name]))
    return str(there)


def served(entry: Published, folder: Path) -> dict[str, float]:
    """The same requests on the simulated device, from the first due to the last token."""
    clock, recorder = VirtualTime(), Recorder()
    spec = EngineSpec(model_of(entry.model, folder), dict(entry.args))
    load = Workload(ClosedLoop(entry.in_flight or entry.requests), Fixed(entry.prompt),
                    Fixed(entry.output))  # fmt: skip
    simulation = simulation_of(entry.device)
    host = VirtualHost(lambda: SimulatedEngine(simulation, clock), recorder, load, clock)
    boot(host, spec, load=True)
    began_s = clock() - 1e-9
    ended: list[RequestSample] = []
    while len(ended) < entry.requests:
        host.run_pass()
        if recorder.accounting.issued >= entry.requests:
            host.order(HoldLoad())
        ended = list(recorder.request_log)
    assert host.status.facts is not None
    tokens_held = host.status.facts.kv_tokens
    first_s = min(request.due_s for request in ended)
    took_s = max(request.end_s for request in ended) - min(first_s, began_s)
    host.close(10.0)
    return {
        "out_per_s": sum(request.output_tokens for request in ended) / took_s,
        "tpot_ms": 1e3 * statistics.fmean(request.tpot_s for request in ended),
        "ttft_ms": 1e3 * statistics.fmean(request.ttft_s for request in ended),
        "kv_tokens": tokens_held,
    }


def published(_: argparse.Namespace) -> None:
    print("published, simulated (datasheet roofline), off:")
    print(f"{'device, model, load':<44}{'out tok/s':>26}{'mean TPOT, ms':>26}{'mean TTFT, ms':>30}")
    off: dict[str, list[float]] = {"out_per_s": [], "tpot_ms": [], "ttft_ms": []}
    with tempfile.TemporaryDirectory() as folder:
        for entry in PUBLISHED:
            ours = served(entry, Path(folder))
            many = (
                f"{entry.in_flight} in flight" if entry.in_flight else f"{entry.requests} at once"
            )
            line = f"{entry.device} {entry.model} {entry.prompt}/{entry.output}, {many}"
            line = f"{line:<44}"
            for name, width in (("out_per_s", 9), ("tpot_ms", 9), ("ttft_ms", 11)):
                theirs = getattr(entry, name)
                if math.isnan(theirs):
                    line += f"{'':>{2 * width + 8}}"
                    continue
                off[name].append(ours[name] / theirs - 1)
                line += f"{theirs:>{width},.1f}{ours[name]:>{width},.1f}{off[name][-1]:>+8.0%}"
            print(f"{line}\n    {entry.source}", flush=True)
    for name, errors in off.items():
        print(f"{name}: median {statistics.median(map(abs, errors)):.0%} off, "
              f"worst {max(errors, key=abs):+.0%}")  # fmt: skip


# -- what simulating costs ---------------------------------------------------------------------


def cost(options: argparse.Namespace) -> None:
    """Steps/s of wall and of CPU time at several batch sizes, with and without the cost model."""
    import tputtui.engine.vllm.simulated as simulated

    print(f"{'running':>8}{'steps/s':>10}{'CPU, ms a step':>16}{'of that ours':>14}")
    for running in (16, 64, 256):
        clock, recorder = VirtualTime(), Recorder()
        load = Workload(ClosedLoop(running), Fixed(64), Uniform(100, 300))
        engine = partial(SimulatedEngine, simulation_of("h100"), clock)
        host = VirtualHost(engine, recorder, load, clock)
        boot(host, EngineSpec("shape:llama-3.1-8b", {"max_model_len": 8192}), load=True)
        host.run_for(2.0)
        spent = _timed(simulated, host._engine)
        steps, cpu_s, wall_s = recorder.steps.count, time.process_time(), time.monotonic()
        while time.monotonic() - wall_s < options.seconds:
            host.run_for(0.5)
        steps = recorder.steps.count - steps
        cpu_s, wall_s = time.process_time() - cpu_s, time.monotonic() - wall_s
        print(f"{running:>8}{steps / wall_s:>10.0f}{1e3 * cpu_s / steps:>16.2f}"
              f"{spent[0] / cpu_s:>14.1%}", flush=True)  # fmt: skip
        host.close(10.0)


def _timed(simulated: Any, engine: Any) -> list[float]:
    """Seconds in the executor and the cost model, from now on."""
    spent = [0.0]
    executor = engine._engine.engine_core.engine_core.model_executor

    def wrap(owner: Any, name: str) -> None:
        inner = getattr(owner, name)

        def timed(*args: Any, **kwargs: Any) -> Any:
            began_s = time.perf_counter()
            try:
                return inner(*args, **kwargs)
            finally:
                spent[0] += time.perf_counter() - began_s

        setattr(owner, name, timed)

    wrap(executor, "execute_model")
    wrap(executor, "sample_tokens")
    wrap(simulated, "work_of")
    return spent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("part", nargs="*", help="calibrated, published, cost; all without")
    parser.add_argument("--passes", type=int, default=3, help="of each held-out load")
    parser.add_argument("--seconds", type=float, default=10.0, help="for each batch size of cost")
    parser.add_argument("--to", type=Path, metavar="FILE", help="calibrated: measure only")
    parser.add_argument("--from", dest="carried", type=Path, metavar="FILE",
                        help="calibrated: what was measured elsewhere")  # fmt: skip
    parser.add_argument("--device", help="calibrated: compare its datasheet as well")
    options = parser.parse_args()
    print(f"{datetime.date.today()}")
    parts = {"calibrated": calibrated, "published": published, "cost": cost}
    for name in options.part or parts:
        print(f"\n{name}\n")
        parts[name](options)


if __name__ == "__main__":
    main()
