"""What watching costs: the bare vLLM loop against ours under the screen, on one engine.

    make overhead                      # 10 pairs at 200x50, then the screen's own cost at 80x24
    python benchmarks/overhead.py --pairs 200 --seconds 2     # to a percent: 20 minutes
    python benchmarks/overhead.py --isolate      # the engine in our process against one of its own
    python benchmarks/overhead.py -- shape:qwen3-8b --load 128      # something else than the demo

The `tputtui` command runs in a pseudo-terminal. Legs alternate in that one process, on that one
engine, with the same arguments, limits, seed and load (A B B A …): a bare leg takes our hooks off
the engine, stops the screen's timer and runs the least loop there is; a watched leg is the program
as it is. Two legs of one kind stand next to one another as often as two of both kinds; what those
differ by is what this machine can tell at all. Separate processes differ by ±10 % from one another
on a small machine, whichever loop they run, so they cannot show a cost of 1 %. Nothing else may
run meanwhile.

`--isolate` cannot alternate in one process: there each leg is a process of its own, in-process and
`--isolate` by turns (A B B A …), so that only many pairs show a difference of a few percent.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import math
import os
import pathlib
import platform
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tputtui.engine.orders import RunLoad, StopLoad, Woken

if TYPE_CHECKING:
    from tputtui.engine.host import Host
    from tputtui.session.session import Session
    from tputtui.ui.app import TputApp

SETTLE_S = 1.0  # of a leg, before it counts: the load has to fill the batch
LAG_PERIOD_S = 0.02


# -- inside the program ------------------------------------------------------------------------


def bare_loop(host: Host, seconds: float) -> dict[str, float]:
    """The least loop that serves the load; on the engine thread, between two of our turns."""
    from vllm.sampling_params import RequestOutputKind, SamplingParams

    from tputtui.load.generator import Generator

    ours: Any = host._engine
    engine, scheduler = ours._engine, ours._scheduler
    client = engine.engine_core
    hooks = [
        (owner, name, owner.__dict__.pop(name))
        for owner, name in (
            (scheduler, "schedule"), (scheduler, "update_from_output"), (client, "get_output"),
        )
    ]  # fmt: skip
    assert host.status.facts is not None
    generator = Generator(host._workload, host.status.facts.vocab_size)
    generator.resume(time.monotonic())
    in_flight: set[str] = set()

    def turn() -> None:
        for request in generator.due(time.monotonic(), len(in_flight), 2048):
            name = f"bare{request.number}"
            engine.add_request(
                request_id=name,
                prompt={"prompt_token_ids": request.token_ids().tolist()},
                params=SamplingParams(
                    max_tokens=request.output_tokens,
                    ignore_eos=True,
                    detokenize=False,
                    output_kind=RequestOutputKind.FINAL_ONLY,
                ),
            )
            in_flight.add(name)
        for output in engine.step():
            if output.finished:
                in_flight.discard(output.request_id)
                ids = output.outputs[0].token_ids
                number = int(output.request_id.removeprefix("bare"))
                generator.ended(number, time.monotonic(), len(ids), ids)

    def generated() -> float:
        metrics = engine.get_metrics()
        return float(sum(m.value for m in metrics if m.name == "vllm:generation_tokens"))

    start_s = time.monotonic()
    while time.monotonic() - start_s < SETTLE_S:
        turn()
    before, steps, began_s, cpu_s = generated(), 0, time.monotonic(), time.thread_time()
    while time.monotonic() - began_s < seconds:
        turn()
        steps += 1
    took_s, cpu_s = time.monotonic() - began_s, time.thread_time() - cpu_s
    found = {"tokens_per_s": (generated() - before) / took_s, "steps_per_s": steps / took_s}
    engine.abort_request(list(in_flight))
    for owner, name, hook in hooks:
        setattr(owner, name, hook)
    return found | {"engine_cpu_frac": cpu_s / took_s}


def program(out: pathlib.Path, seconds: float, pairs: int, isolate: bool, words: list[str]) -> None:
    """`tputtui` with `words`, with a probe on its event loop that leaves after the legs."""
    from multiprocessing.connection import Connection

    import psutil

    from tputtui import cli
    from tputtui.cli import run as cli_run
    from tputtui.engine.host import Host
    from tputtui.engine.isolated import process
    from tputtui.engine.protocol import State
    from tputtui.measure.samples import StepSample
    from tputtui.ui import app as app_module

    tokens_column = StepSample._fields.index("generated_tokens")
    told = [0]
    probed: dict[str, Any] = {}

    class CountingConnection(Connection):
        def recv_bytes(self, maxlength: int | None = None) -> bytes:
            data = super().recv_bytes(maxlength)
            told[0] += len(data)
            return data

    process.Connection = CountingConnection  # type: ignore[attr-defined]

    class Probe(app_module.TputApp):
        def on_ready(self) -> None:
            # Textual calls the base class's handler as well.
            self.first_frame_s = time.time() - float(os.environ["STARTED_S"])
            self.run_worker(self.measure())

        async def measure(self) -> None:
            boot = await self.lags(lambda: self.session.host.status.state is State.RUNNING)
            legs: list[dict[str, Any]] = []
            for pair in range(max(pairs, 1)):
                order = ("bare", "watched") if pair % 2 == 0 else ("watched", "bare")
                for kind in order if pairs else ("watched",):
                    leg = await (self.bare() if kind == "bare" else self.watched())
                    legs.append(leg | {"kind": kind})
            # The probe of the loop's lag wakes it fifty times a second: not while tokens count.
            await asyncio.sleep(SETTLE_S)
            end_s = time.monotonic() + 2 * seconds
            run = await self.lags(lambda: time.monotonic() >= end_s)
            probed.update(
                legs=legs,
                lag_run_s=quantiles(run),
                first_frame_s=self.first_frame_s,
                lag_boot_s=quantiles(boot),
            )
            self.action_leave()

        async def bare(self) -> dict[str, float]:
            self.session.steer.load.stop()
            ticks = [timer for timer in self._timers if timer._interval == app_module._TICK_S]
            for timer in ticks:
                timer.pause()
            done = threading.Event()
            found: dict[str, float] = {}
            host = self.session.host
            assert isinstance(host, Host)

            def run() -> None:
                found.update(bare_loop(host, seconds))
                done.set()

            # In an order's place: what the loop does meanwhile is this and nothing else.
            host._woken = run  # type: ignore[method-assign]
            host.order(Woken())
            await asyncio.to_thread(done.wait)
            for timer in ticks:
                timer.resume()
            return found

        async def watched(self) -> dict[str, Any]:
            self.session.host.order(StopLoad())
            self.session.host.order(RunLoad())
            await asyncio.sleep(SETTLE_S)
            pid = getattr(self.session.host, "pid", None)
            engine = psutil.Process(pid) if pid else None

            def engine_cpu() -> float:
                return sum(engine.cpu_times()[:2]) if engine else 0.0

            began_s, cpu_s, begin = time.monotonic(), time.thread_time(), time.time()
            all_s, engine_s, bytes_before = time.process_time(), engine_cpu(), told[0]
            await asyncio.sleep(seconds)
            took_s, cpu_s = time.monotonic() - began_s, time.thread_time() - cpu_s
            all_s, engine_s = time.process_time() - all_s, engine_cpu() - engine_s
            rows = self.session.recorder.steps.between(began_s)
            served_s = rows[-1, 0] - rows[0, 0]
            return {
                "tokens_per_s": rows[1:, tokens_column].sum() / served_s,
                "steps_per_s": (len(rows) - 1) / served_s,
                "ui_cpu_frac": cpu_s / took_s,
                "cpu_frac": all_s / took_s,
                "rss_bytes": psutil.Process().memory_info().rss,
                "engine_process_cpu_frac": engine_s / took_s,
                "told_bytes_per_s": (told[0] - bytes_before) / took_s,
                "window": [begin, time.time()],
            }

        async def lags(self, done: Callable[[], bool]) -> list[float]:
            found = []
            while not done():
                asked = time.monotonic()
                await asyncio.sleep(LAG_PERIOD_S)
                found.append(time.monotonic() - asked - LAG_PERIOD_S)
            return found

    app_module.TputApp = Probe  # type: ignore[misc]
    leave = cli_run._leave

    def write_and_leave(app: TputApp, session: Session, log_path: pathlib.Path) -> int:
        if probed:
            out.write_text(json.dumps(probed))
        return leave(app, session, log_path)

    cli_run._leave = write_and_leave
    sys.exit(cli.main([*words, *(["--isolate"] if isolate else [])]))


def quantiles(values: list[float]) -> dict[str, float]:
    ordered = sorted(values)

    def at(q: float) -> float:
        return ordered[min(len(ordered) - 1, int(q * len(ordered)))]

    return {"p50": at(0.5), "p99": at(0.99), "max": ordered[-1], "n": len(ordered)}


# -- outside: the terminal ----------------------------------------------------------------------


def run_program(
    pairs: int, seconds: float, size: tuple[int, int], given: list[str], isolate: bool = False
) -> dict[str, Any]:
    """Run the program in a pseudo-terminal of `size` (columns, rows); its legs and bytes.

    given: words of its command line.
    """
    import pexpect

    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder) / "result.json"
        env = os.environ | {
            "STARTED_S": repr(time.time()), "TERM": "xterm-256color", "COLORTERM": "truecolor",
            "XDG_STATE_HOME": folder,
        }  # fmt: skip
        for name in ("NO_COLOR", "COLUMNS", "LINES"):
            env.pop(name, None)
        words = [__file__, "--out", str(out), "--seconds", str(seconds), "--pairs", str(pairs)]
        words += [*(["--isolate"] if isolate else []), "--", *given]
        child = pexpect.spawn(sys.executable, words, dimensions=size[::-1], env=env, timeout=900)
        written: list[tuple[float, int]] = []
        tail = b""
        try:
            while True:
                chunk = child.read_nonblocking(1 << 16, timeout=900)
                written.append((time.time(), len(chunk)))
                tail = (tail + chunk)[-3000:]
        except pexpect.EOF:
            child.close()
        if not out.exists():
            raise SystemExit(f"{tail.decode(errors='replace')}\nno result ({child.exitstatus})")
        result: dict[str, Any] = json.loads(out.read_text())
    for leg in result["legs"]:
        if "window" in leg:
            begin, end = leg.pop("window")
            count = sum(n for at, n in written if begin <= at <= end)
            leg["bytes_per_s"] = count / (end - begin)
    return result


def key_to_paint(size: tuple[int, int], given: list[str], presses: int = 40) -> list[float]:
    """Seconds from a key to the limit it selects standing on the screen, under load."""
    import pexpect
    import pyte

    columns, rows = size
    screen = pyte.Screen(columns, rows)
    stream = pyte.ByteStream(screen)
    with tempfile.TemporaryDirectory() as folder:
        env = os.environ | {"TERM": "xterm-256color", "XDG_STATE_HOME": folder}
        program = str(pathlib.Path(sys.executable).parent / "tputtui")
        child = pexpect.spawn(program, given, dimensions=(rows, columns), env=env, timeout=120)

        def shown(what: str, seconds: float) -> float:
            there_s = time.monotonic()
            end_s = there_s + seconds
            while what not in "\n".join(screen.display):
                if time.monotonic() > end_s:
                    raise SystemExit("\n".join(screen.display) + f"\nno {what!r}")
                try:
                    chunk = child.read_nonblocking(1 << 16, timeout=0.002)
                except pexpect.TIMEOUT:
                    continue
                # What the emulator takes to read it is no part of ours.
                there_s = time.monotonic()
                stream.feed(chunk)
            return there_s

        shown("RUNNING", 120)
        shown("steady", 60)
        found = []
        for press in range(presses):
            down = press % 2 == 0
            # Not in step with the screen's own four paints a second.
            shown_s = time.monotonic() + 0.2 + 0.0131 * press
            while time.monotonic() < shown_s:
                with contextlib.suppress(pexpect.TIMEOUT):
                    stream.feed(child.read_nonblocking(1 << 16, timeout=0.01))
            began_s = time.monotonic()
            child.send("\x1b[B" if down else "\x1b[A")
            found.append(shown("▸ max_num_batched" if down else "▸ max_num_seqs", 10) - began_s)
        child.send("q")
        child.expect(pexpect.EOF)
        child.close()
    return found


BARE_APP = """
from textual.app import App
from textual.widgets import Static
class Bare(App):
    def compose(self):
        yield Static("bare app")
Bare().run()
"""


def first_frames(runs: int) -> dict[str, list[float]]:
    """Seconds from the command to what it shows: by turns, a bare Textual app's words and ours."""
    import pexpect

    program = str(pathlib.Path(sys.executable).parent / "tputtui")
    found: dict[str, list[float]] = {"bare Textual app": [], "first paint": [], "the board": []}
    with tempfile.TemporaryDirectory() as folder:
        env = os.environ | {"TERM": "xterm-256color", "XDG_STATE_HOME": folder}
        for turn in range(2 * runs):
            bare = turn % 2 == 0
            words = [sys.executable, "-c", BARE_APP] if bare else [program]
            began_s = time.monotonic()
            child = pexpect.spawn(words[0], words[1:], dimensions=(40, 120), env=env, timeout=120)
            if bare:
                child.expect_exact("bare app")
                found["bare Textual app"].append(time.monotonic() - began_s)
                child.sendcontrol("q")
            else:
                child.expect_exact("starting")
                found["first paint"].append(time.monotonic() - began_s)
                child.expect_exact("help")
                found["the board"].append(time.monotonic() - began_s)
                child.send("q")
            child.expect(pexpect.EOF)
            child.close()
    return found


def report_first_frames(runs: int) -> None:
    print(f"{machine()}; {runs} starts each, by turns, 120x40")
    found = first_frames(runs)
    bare_s = statistics.median(found["bare Textual app"])
    for name, times in found.items():
        median_s = statistics.median(times)
        print(
            f"  {name:<18} {median_s * 1000:5.0f} ms ({min(times) * 1000:.0f}–"
            f"{max(times) * 1000:.0f})   {median_s / bare_s:.2f} × the bare app"
        )


def machine() -> str:
    model = platform.processor() or platform.machine()
    info = pathlib.Path("/proc/cpuinfo")
    if info.exists():
        names = [ln for ln in info.read_text().splitlines() if ln.startswith("model name")]
        model = names[0].partition(":")[2].strip() if names else model
    return f"{os.cpu_count()} cores, {model}, Python {platform.python_version()}"


def interval(ratios: list[float]) -> str:
    """Mean of the ratios' logarithms as a ratio ± the half width of its 95 % t interval."""
    logs = [math.log(ratio) for ratio in ratios]
    n, mean = len(logs), math.exp(statistics.mean(logs))
    if n < 2:
        return f"{mean:.3f}"
    # Student's t, 97.5 %, for n - 1 degrees of freedom; an expansion in 1 / (n - 1) from 17 on.
    t = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23, 2.20, 2.18, 2.16, 2.14, 2.13)
    times = t[n - 2] if n - 2 < len(t) else 1.960 + 2.372 / (n - 1)
    return f"{mean:.3f} ± {mean * times * statistics.stdev(logs) / math.sqrt(n):.3f}"


def report_ratios(legs: list[tuple[str, float]]) -> None:
    """Neighbours among `legs` (kind, tokens/s), in the order they ran: A B B A A B B A …"""
    print("bare / watched tok/s, in the order they ran:")
    for begin in range(0, len(legs), 12):
        row = legs[begin : begin + 12]
        print("  " + " ".join(f"{kind[0]} {tokens_per_s:,.0f}" for kind, tokens_per_s in row))
    unlike, alike = [], []
    for at, ((kind, first), (other, second)) in enumerate(itertools.pairwise(legs)):
        if kind == other:
            alike.append(second / first)
        elif at % 2 == 0:
            unlike.append(second / first if other == "watched" else first / second)
    for name, ratios in (("watched ÷ bare", unlike), ("the second ÷ the first of a kind", alike)):
        if ratios:
            median = statistics.median(ratios)
            print(f"{name}: {interval(ratios)} (95 %), median {median:.3f}, {len(ratios)} pairs")


def screen_cost(name: str, result: dict[str, Any]) -> None:
    legs = [leg for leg in result["legs"] if leg["kind"] == "watched"]

    def mid(key: str) -> float:
        return float(statistics.median(leg[key] for leg in legs))

    print(f"\n{name} ({len(legs)} legs, medians)")
    print(f"  UI thread        {mid('ui_cpu_frac') * 100:6.2f} % of a core")
    print(f"  terminal         {mid('bytes_per_s') / 1000:6.2f} kB/s")
    print(f"  first frame      {result['first_frame_s'] * 1000:6.0f} ms")
    for phase in ("boot", "run"):
        lag = result[f"lag_{phase}_s"]
        print(
            f"  loop lag, {phase:<5}  p50 {lag['p50'] * 1000:.1f}  p99 {lag['p99'] * 1000:.1f}"
            f"  max {lag['max'] * 1000:.1f} ms"
        )


def report(pairs: int, seconds: float, given: list[str], *, small: bool, keys: bool) -> None:
    print(f"{machine()}; {pairs} pairs of {seconds:.0f} s, {' '.join(given) or 'demo profile'}")
    wide = run_program(pairs, seconds, (200, 50), given)
    report_ratios([(leg["kind"], leg["tokens_per_s"]) for leg in wide["legs"]])
    screen_cost("screen at 200x50", wide)
    if small:
        screen_cost("screen at 80x24", run_program(0, 2 * seconds, (80, 24), given))
    if not keys:
        return
    for size in ((80, 24), (200, 50)):
        took = quantiles(key_to_paint(size, given))
        print(
            f"\nkey to paint at {size[0]}x{size[1]} (n {took['n']})  p50 {took['p50'] * 1000:.0f}"
            f"  p99 {took['p99'] * 1000:.0f}  max {took['max'] * 1000:.0f} ms"
        )


def report_isolated(pairs: int, seconds: float, given: list[str]) -> None:
    """The program as it is against `--isolate`, one process after the other."""
    what = " ".join(given) or "demo profile"
    print(f"{machine()}; {pairs} pairs of {seconds:.0f} s, {what}, 200x50")
    print("pair   in process tok/s   isolated tok/s   ratio   steps/s in process, isolated")
    found: dict[bool, list[dict[str, Any]]] = {False: [], True: []}
    for pair in range(pairs):
        for isolate in (False, True) if pair % 2 == 0 else (True, False):
            found[isolate] += run_program(0, seconds, (200, 50), given, isolate)["legs"]
        a, b = found[False][-1], found[True][-1]
        print(
            f"{pair + 1:>4} {a['tokens_per_s']:>18,.0f} {b['tokens_per_s']:>16,.0f}"
            f" {b['tokens_per_s'] / a['tokens_per_s']:>7.3f}"
            f"   {a['steps_per_s']:.1f}, {b['steps_per_s']:.1f}",
            flush=True,
        )
    legs = zip(found[False], found[True], strict=True)
    ratios = [b["tokens_per_s"] / a["tokens_per_s"] for a, b in legs]
    print(
        f"isolated ÷ in process: {interval(ratios)} (95 %), median {statistics.median(ratios):.3f}"
    )
    for name, isolate in (("in process", False), ("isolated", True)):

        def mid(key: str, legs: list[dict[str, Any]] = found[isolate]) -> float:
            return float(statistics.median(leg[key] for leg in legs))

        print(f"\n{name} (medians)")
        print(f"  our process      {mid('cpu_frac') * 100:6.2f} % of a core")
        print(f"  its UI thread    {mid('ui_cpu_frac') * 100:6.2f} % of a core")
        print(f"  resident memory  {mid('rss_bytes') / 1e6:6.0f} MB")
        if isolate:
            print(f"  engine's process {mid('engine_process_cpu_frac') * 100:6.2f} % of a core")
            print(f"  pipe             {mid('told_bytes_per_s') / 1000:6.2f} kB/s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--no-small", action="store_true", help="leave 80x24 out")
    parser.add_argument("--no-keys", action="store_true", help="leave key to paint out")
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument(
        "--isolate", action="store_true", help="compare the engine in process with --isolate"
    )
    parser.add_argument(
        "--first-frames", type=int, metavar="N", help="only how soon the screen is there, N starts"
    )
    parser.add_argument("--out", type=pathlib.Path, help=argparse.SUPPRESS)
    parser.add_argument("given", nargs="*", metavar="-- WORDS", help="of tputtui's command line")
    options = parser.parse_args()
    given, seconds, pairs = options.given, options.seconds, options.pairs
    if options.out:
        program(options.out, seconds, pairs, options.isolate, given)
    elif options.first_frames:
        report_first_frames(options.first_frames)
    elif options.isolate:
        report_isolated(pairs, seconds, given)
    else:
        report_first_frames(min(max(pairs, 3), 10))
        report(pairs, seconds, given, small=not options.no_small, keys=not options.no_keys)


if __name__ == "__main__":
    main()
