"""What watching costs: the bare vLLM loop against the same loop under the screen.

    make overhead                      # 5 pairs at 200x50, then the screen's own cost at 80x24
    python benchmarks/overhead.py --pairs 8 --seconds 20

Each leg is a process of its own; bare and watched legs alternate (A B B A …), with the same engine
arguments, seed and load. The watched leg is the `tputtui` command in a pseudo-terminal. Nothing
else may run meanwhile: the CPU backend's threads spin, and any other process slows a step.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import pathlib
import platform
import statistics
import sys
import tempfile
import time

SETTLE_S = 6.0
LAG_PERIOD_S = 0.02


# -- legs (each in a process of its own) -----------------------------------------------------


def bare(out: pathlib.Path, seconds: float) -> None:
    """The least loop that serves the demo profile's load: add what is due, step."""
    from tputtui import profile
    from tputtui.engine.models import resolve
    from tputtui.engine.vllm_args import parse_arguments, prepare
    from tputtui.load.generator import Generator

    demo = profile.load(profile.shipped()["demo"])
    prepare(demo.engine)
    from vllm.sampling_params import RequestOutputKind, SamplingParams
    from vllm.usage.usage_lib import UsageContext
    from vllm.v1.engine.llm_engine import LLMEngine

    arguments = parse_arguments(resolve(demo.engine))
    engine = LLMEngine.from_engine_args(arguments, usage_context=UsageContext.OPENAI_API_SERVER)
    scheduler = engine.engine_core.engine_core.scheduler
    scheduler.max_num_active_reqs = demo.knobs["max_num_seqs"]
    generator = Generator(demo.load, engine.vllm_config.model_config.get_vocab_size())
    generator.resume(time.monotonic())
    in_flight = 0

    def turn() -> None:
        nonlocal in_flight
        now_s = time.monotonic()
        for request in generator.due(now_s, in_flight, 2048):
            engine.add_request(
                request_id=f"t{request.number}",
                prompt={"prompt_token_ids": request.prompt_token_ids},
                params=SamplingParams(
                    max_tokens=request.output_tokens,
                    ignore_eos=True,
                    detokenize=False,
                    output_kind=RequestOutputKind.FINAL_ONLY,
                ),
            )
            in_flight += 1
        for output in engine.step():
            if output.finished:
                in_flight -= 1
                generator.freed(time.monotonic())

    def generated() -> float:
        return sum(
            metric.value
            for metric in engine.get_metrics()
            if metric.name == "vllm:generation_tokens"
        )

    start_s = time.monotonic()
    while time.monotonic() - start_s < SETTLE_S:
        turn()
    began_s, before, steps = time.monotonic(), generated(), 0
    while time.monotonic() - began_s < seconds:
        turn()
        steps += 1
    took_s = time.monotonic() - began_s
    result = {"tokens_per_s": (generated() - before) / took_s, "steps_per_s": steps / took_s}
    out.write_text(json.dumps(result))
    os._exit(0)


def watched(out: pathlib.Path, seconds: float) -> None:
    """`tputtui`, with a probe on its event loop that leaves after the window."""
    import asyncio

    from tputtui.engine.protocol import State
    from tputtui.ui import app as app_module

    class Probe(app_module.TputApp):
        def on_ready(self) -> None:
            # Textual calls the base class's handler as well.
            self.first_frame_s = time.time() - float(os.environ["STARTED_S"])
            self.run_worker(self.measure())

        async def measure(self) -> None:
            boot = await self.lags(lambda: self.session.host.status.state is State.RUNNING)
            end_s = time.monotonic() + SETTLE_S
            await self.lags(lambda: time.monotonic() >= end_s)
            recorder = self.session.recorder
            wall, cpu = time.monotonic(), time.thread_time()
            tokens, steps, begin = recorder.generated_tokens, recorder.steps.count, time.time()
            end_s = wall + seconds
            run = await self.lags(lambda: time.monotonic() >= end_s)
            took_s = time.monotonic() - wall
            result = {
                "tokens_per_s": (recorder.generated_tokens - tokens) / took_s,
                "steps_per_s": (recorder.steps.count - steps) / took_s,
                "ui_cpu_frac": (time.thread_time() - cpu) / took_s,
                "first_frame_s": self.first_frame_s,
                "window": [begin, time.time()],
                "lag_boot_s": quantiles(boot),
                "lag_run_s": quantiles(run),
            }
            self.session.probe = result
            self.action_leave()

        async def lags(self, done) -> list[float]:
            found = []
            while not done():
                asked = time.monotonic()
                await asyncio.sleep(LAG_PERIOD_S)
                found.append(time.monotonic() - asked - LAG_PERIOD_S)
            return found

    app_module.TputApp = Probe
    from tputtui import cli

    leave = cli._leave

    def write_and_leave(app, session, log_path) -> int:
        if hasattr(session, "probe"):
            out.write_text(json.dumps(session.probe))
        return leave(app, session, log_path)

    cli._leave = write_and_leave
    sys.exit(cli.main([]))


def quantiles(values: list[float]) -> dict[str, float]:
    ordered = sorted(values)
    at = lambda q: ordered[min(len(ordered) - 1, int(q * len(ordered)))]  # noqa: E731
    return {"p50": at(0.5), "p99": at(0.99), "max": ordered[-1], "n": len(ordered)}


# -- the run -----------------------------------------------------------------------------------


def leg(kind: str, seconds: float, size: tuple[int, int]) -> dict:
    """Run one leg in a pseudo-terminal of `size` (columns, rows); its result."""
    import pexpect

    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder) / "result.json"
        env = os.environ | {
            "STARTED_S": repr(time.time()), "TERM": "xterm-256color", "COLORTERM": "truecolor",
            "XDG_STATE_HOME": folder,
        }  # fmt: skip
        for name in ("NO_COLOR", "COLUMNS", "LINES"):
            env.pop(name, None)
        child = pexpect.spawn(
            sys.executable,
            [__file__, "--leg", kind, "--out", str(out), "--seconds", str(seconds)],
            dimensions=size[::-1],
            env=env,
            timeout=300,
        )
        written: list[tuple[float, int]] = []
        chunks: list[bytes] = []
        try:
            while True:
                chunk = child.read_nonblocking(1 << 16, timeout=300)
                written.append((time.time(), len(chunk)))
                chunks.append(chunk)
        except pexpect.EOF:
            child.close()
        if not out.exists():
            tail = b"".join(chunks)[-3000:].decode(errors="replace")
            raise SystemExit(f"{tail}\nthe {kind} leg left no result ({child.exitstatus})")
        result = json.loads(out.read_text())
    if "window" in result:
        begin, end = result.pop("window")
        count = sum(n for at, n in written if begin <= at <= end)
        result["bytes_per_s"] = count / (end - begin)
    return result


def machine() -> str:
    model = platform.processor() or platform.machine()
    info = pathlib.Path("/proc/cpuinfo")
    if info.exists():
        names = [ln for ln in info.read_text().splitlines() if ln.startswith("model name")]
        model = names[0].partition(":")[2].strip() if names else model
    return f"{os.cpu_count()} cores, {model}, Python {platform.python_version()}"


def interval(ratios: list[float]) -> str:
    """Mean ± the half width of its 95 % t interval."""
    n = len(ratios)
    if n < 2:
        return f"{ratios[0]:.3f}"
    t95 = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78, 6: 2.57, 7: 2.45, 8: 2.36, 9: 2.31, 10: 2.26}
    half = t95.get(n, 2.2) * statistics.stdev(ratios) / math.sqrt(n)
    return f"{statistics.mean(ratios):.3f} ± {half:.3f}"


def screen_cost(name: str, legs: list[dict]) -> None:
    mid = lambda pick: statistics.median(pick(each) for each in legs)  # noqa: E731
    print(f"\n{name} ({len(legs)} legs, medians)")
    print(f"  UI thread          {mid(lambda r: r['ui_cpu_frac']) * 100:6.2f} % of a core")
    print(f"  terminal           {mid(lambda r: r['bytes_per_s']) / 1000:6.2f} kB/s")
    print(f"  first frame        {mid(lambda r: r['first_frame_s']) * 1000:6.0f} ms")
    for phase in ("boot", "run"):
        lag = lambda q, phase=phase: mid(lambda r: r[f"lag_{phase}_s"][q]) * 1000  # noqa: E731
        print(
            f"  loop lag, {phase:<5}    p50 {lag('p50'):.1f}  p99 {lag('p99'):.1f}"
            f"  max {lag('max'):.1f} ms"
        )


def run(pairs: int, seconds: float, small: int) -> None:
    print(f"{machine()}; {pairs} pairs of {seconds:.0f} s, demo profile, load {os.getloadavg()[0]}")
    print("pair   bare tok/s   watched tok/s   ratio   steps/s bare, watched")
    ratios, wide = [], []
    for pair in range(pairs):
        order = ("bare", "watched") if pair % 2 == 0 else ("watched", "bare")
        found = {kind: leg(kind, seconds, (200, 50)) for kind in order}
        a, b = found["bare"], found["watched"]
        wide.append(b)
        ratios.append(b["tokens_per_s"] / a["tokens_per_s"])
        print(
            f"{pair + 1:>4} {a['tokens_per_s']:>12,.0f} {b['tokens_per_s']:>15,.0f} "
            f"{ratios[-1]:>7.3f}   {a['steps_per_s']:.1f}, {b['steps_per_s']:.1f}",
            flush=True,
        )
    if ratios:
        print(f"watched ÷ bare: {interval(ratios)} (95 %), median {statistics.median(ratios):.3f}")
        screen_cost("screen at 200x50", wide)
    if small:
        screen_cost("screen at 80x24", [leg("watched", seconds, (80, 24)) for _ in range(small)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--small", type=int, default=1, help="watched legs at 80x24")
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--leg", choices=("bare", "watched"), help=argparse.SUPPRESS)
    parser.add_argument("--out", type=pathlib.Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.leg == "bare":
        bare(options.out, options.seconds)
    elif options.leg == "watched":
        watched(options.out, options.seconds)
    else:
        run(options.pairs, options.seconds, options.small)


if __name__ == "__main__":
    main()
