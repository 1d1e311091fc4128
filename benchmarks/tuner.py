"""How soon the tuner finds a good setting, and how good it is.

    make tuner                                   both parts; the real one takes about an hour
    python benchmarks/tuner.py known --seeds 20  where the best setting is known
    python benchmarks/tuner.py real --seeds 10   the real engine against a restart for each trial

known  The deterministic engine in virtual time, made as restless as a shared machine (restless.py):
       in each seed another model (costs of a step, a sequence, a prefill token), other lengths,
       loads and goals. What a setting truly gives is the mean of several times its trial's length,
       under other noise of the same kind; seeds in which it is a toss-up whether a setting that may
       be the best meets its goals have no known best, and are passed over. Regret: 1 - (true
       goodput of what the search settled on ÷ that of the best). The search at random gets as long
       as the model's took, with every trial measured whole, and settles on the best that it saw.
       And: when the best so far came to be, and stayed, one that truly gives at least 95 % of the
       best, against the exhaustive grid with a start for each setting (`--start` seconds; what
       `real` times on this machine is about 20).
real   The demo on the CPU. First every setting of the grid, measured whole; then the tuner, once a
       seed. What a setting gives is the mean of all its trials that were measured whole, by their
       lengths. When did the tuner's best so far come to be, and stay, one that gives at least 95 %
       of the best of all? A restart for each trial costs the same measuring and a start of vLLM's
       server (timed here for some settings, until it answers); a grid, that times its settings. The
       search at random is drawn from the grid's own trials: how long they take, in any order,
       until a good one is among them.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import random
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping
from typing import NamedTuple

import msgspec
from restless import SLOWER, Restless

from tputtui import profile
from tputtui.engine.fake import FakeEngine
from tputtui.engine.flags import to_argv
from tputtui.engine.host import Host
from tputtui.engine.models import resolve
from tputtui.engine.orders import Boot, Start
from tputtui.experiments.tuner.plan import Plan
from tputtui.frame import SERVING, Frame, TunerState, TunerTrial
from tputtui.goals import Goal, describe_goals, parse_goals
from tputtui.load.workload import ClosedLoop, Workload
from tputtui.measure.attainment import wilson
from tputtui.profile import EngineSpec, Profile
from tputtui.session.session import Session
from tputtui.simulate.clock import VirtualTime

GOOD = 0.95
PASSES, _EARLY = 10, 3
NEAR = math.log(1.02)
"""A latency within 2 % of its limit is the same as the limit, as everywhere in verdicts."""
EDGE = math.log(1.05)
VARY = "max_num_seqs=4,8,16,32,64,128,256,max_num_batched_tokens=128,256,512,1024,2048"


# -- where the best is known -------------------------------------------------------------------


class World:
    """One seed's engine, load and goals."""

    def __init__(self, seed: int) -> None:
        draw = random.Random(seed)
        self.seed = seed
        self.step_s = draw.uniform(0.003, 0.010)
        self.decode_s = draw.uniform(0.00005, 0.0003)
        self.prefill_s = draw.uniform(4e-6, 24e-6)
        prompt, output = draw.choice((40, 120, 300)), draw.choice((12, 24, 48))
        lengths = (
            (prompt // 2, output // 2, 0.3),
            (prompt, output, 0.4),
            (2 * prompt, output, 0.3),
        )
        in_flight = draw.choice((24, 48, 96))
        self.load = Workload(ClosedLoop(in_flight), pairs=lengths, seed=seed)
        # A limit that some settings keep and others do not.
        tpot_s = SLOWER * (self.step_s + self.decode_s * in_flight * draw.uniform(0.2, 0.9))
        ttft_s = draw.uniform(0.5, 4.0)
        self.goals = (Goal("ttft", 90, round(ttft_s, 2)), Goal("tpot", 90, round(tpot_s, 4)))

    def session(self, noise: int) -> Virtual:
        return Virtual(self, noise)


class Engine(FakeEngine):
    """The deterministic engine with the costs of a world."""

    def __init__(self, clock: Restless, world: World) -> None:
        super().__init__(clock)  # type: ignore[arg-type]
        self.STEP_S, self.DECODE_S = world.step_s, world.decode_s
        self.PREFILL_S = world.prefill_s


class Virtual:
    """A session on the engine of a world, turned by hand."""

    def __init__(self, world: World, noise: int) -> None:
        self.clock = VirtualTime()
        restless = Restless(self.clock, noise, 0.02, 5.0)
        self.session = Session(
            lambda: Engine(restless, world),
            Profile(EngineSpec("shape:demo"), world.load, {}, goals=world.goals),
            self.clock,
        )
        host = self.session.host
        assert isinstance(host, Host)
        self._host = host
        host.order(Boot(Start(EngineSpec("shape:demo"), {}), load=True))
        self.run(1.0)

    def run(self, seconds: float) -> None:
        until_s, look_s = self.clock() + seconds, self.clock()
        while self.clock() < until_s:
            wait_s = self._host.run_pass()
            if wait_s > 0:
                self.clock.advance(min(wait_s, 0.05))
            if self.clock() >= look_s:
                self.session.advance()
                look_s = self.clock() + 0.5

    def tune(self, plan: Plan, most_s: float = math.inf) -> Searched:
        """Tune until the search is over, or `most_s` have passed; the confirmation left out."""
        began_s = self.clock()
        times: list[tuple[tuple[int, ...], float]] = []
        self.session.steer.experiments.tune(plan)
        while True:
            self.run(1.0)
            state = self.session.advance().tuner
            assert state is not None
            spent_s = self.clock() - began_s
            if len(state.trials) > len(times):
                trial = state.best_trial
                assert trial is not None
                times.append((setting(trial.knobs), spent_s))
            if state.phase != "searching" or spent_s >= most_s:
                return Searched(state, times)


class Searched(NamedTuple):
    """A search that is over: (best setting so far, seconds) after each of its trials."""

    state: TunerState
    times: list[tuple[tuple[int, ...], float]]

    def reached_s(self, good: set[tuple[int, ...]]) -> float:
        """When the best so far came to be one of `good`, and stayed so; infinite if never."""
        at = len(self.times)
        while at and self.times[at - 1][0] in good:
            at -= 1
        return self.times[at][1] if at < len(self.times) else math.inf


def truth(world: World) -> tuple[dict[tuple[int, ...], float], bool, float]:
    """The goodput each setting truly gives, 0 where it misses a goal; whether that is all clear;
    seconds that measuring every setting whole took.

    It is not where a setting that could be the best lies at a goal's limit: whether it meets the
    goals is then a toss-up, in this window and in the next.
    """
    found: dict[tuple[int, ...], list[TunerTrial]] = {}
    for number in range(PASSES):
        virtual = world.session(10_000 + 100 * world.seed + number)
        grid = virtual.tune(Plan(vary=VARY, search="grid", budget_s=1e6))
        for trial in grid.state.trials:
            found.setdefault(setting(trial.knobs), []).append(trial)
        if number == 1 and not any(t.miss <= NEAR for ts in found.values() for t in ts):
            return dict.fromkeys(found, 0.0), True, math.nan
        if number + 1 in (_EARLY, PASSES):
            # Half-way a seed is passed over only where it surely is a toss-up.
            gave, clear = judged_true(found, EDGE if number + 1 == PASSES else EDGE / 2)
            if not clear:
                break
    return gave, clear, grid.times[-1][1]


def judged_true(
    found: dict[tuple[int, ...], list[TunerTrial]], edge: float
) -> tuple[dict[tuple[int, ...], float], bool]:
    """What each setting gives by its trials, and whether none that may be the best lies within
    `edge` of a goal's limit."""
    miss = {s: statistics.fmean(t.miss for t in trials) for s, trials in found.items()}
    value = {s: statistics.fmean(t.value for t in trials) for s, trials in found.items()}
    gave = {s: value[s] if miss[s] <= NEAR else 0.0 for s in found}
    best = max(gave.values())
    return gave, all(abs(miss[s]) >= edge or value[s] < GOOD * best for s in found)


def setting(knobs: Mapping[str, int]) -> tuple[int, ...]:
    return tuple(knobs.values())


def known(options: argparse.Namespace) -> None:
    rows = []
    for seed in range(options.first, options.first + options.seeds):
        world = World(seed)
        true, clear, grid_s = truth(world)
        best = max(true.values())
        if not best or not clear:
            why = "no setting meets" if not best else "it is a toss-up which settings meet"
            print(f"seed {seed:3d}: {why} {describe_goals(world.goals)}", flush=True)
            continue
        found = {}
        virtual = world.session(seed)
        began_s = virtual.clock()
        found["model"] = virtual.tune(Plan(vary=VARY, budget_s=1e6, seed=seed))
        took_s = virtual.clock() - began_s
        plan = Plan(vary=VARY, search="random", budget_s=1e6, seed=seed)
        found["random"] = world.session(seed).tune(plan, took_s)
        regret = {}
        for name, searched in found.items():
            trial = searched.state.best_trial
            gave = true[setting(trial.knobs)] if trial else 0.0
            regret[name] = 1 - gave / best
        good = {s for s, gave in true.items() if gave >= GOOD * best}
        restarted_s = grid_s + len(true) * options.start
        reached_s = {name: searched.reached_s(good) for name, searched in found.items()}
        met = sum(value > 0 for value in true.values())
        rows.append((regret, {name: restarted_s / s for name, s in reached_s.items()}))
        print(
            f"seed {seed:3d}: {describe_goals(world.goals):<36} {met:2d} of {len(true)} meet them; "
            f"{len(found['model'].state.trials):2d} trials, {took_s:4.0f} s; regret model "
            f"{regret['model']:6.1%}, random {regret['random']:6.1%}; good after "
            f"{reached_s['model']:.0f} s, random {reached_s['random']:.0f} s, the grid with "
            f"restarts {restarted_s:.0f} s",
            flush=True,
        )
    print()
    for name in ("model", "random"):
        sooner = [row[1][name] for row in rows]
        times = statistics.median(sooner)
        print(f"{name}: {times:.1f} times sooner than the grid with restarts (median)")
    for name in ("model", "random"):
        hits = sum(row[0][name] <= 1 - GOOD for row in rows)
        low, high = wilson(hits, len(rows))
        print(
            f"{name}: regret ≤ 5 % in {hits} of {len(rows)} seeds ({hits / len(rows):.0%}, "
            f"{low:.0%}–{high:.0%}); median {statistics.median(r[0][name] for r in rows):.1%}"
        )


# -- the real engine ---------------------------------------------------------------------------


def real(options: argparse.Namespace) -> None:
    from tputtui.engine.vllm.inproc import VllmEngine

    demo = profile.load(profile.shipped()["demo"])
    demo = msgspec.structs.replace(demo, goals=parse_goals(options.goal))
    session = Session(VllmEngine, demo)
    session.start()
    wait(session, lambda frame: frame.status.state in SERVING and frame.asked is not None)
    print(f"goals {options.goal}; {options.seeds} seeds", flush=True)
    grid = Plan(vary=options.vary, search="grid", budget_s=86_400)
    passes = [tuned(session, grid) for _ in range(options.passes)]
    grid_s = statistics.fmean(times[-1][1] for _, times in passes)
    size = len(passes[0][1])
    print(f"the grid, {size} settings measured whole on a warm engine: {grid_s:.0f} s", flush=True)
    runs: list[Searched] = []
    began_s = time.monotonic()
    for seed in range(options.seeds):
        if time.monotonic() - began_s > 60 * options.minutes:
            break
        runs.append(tuned(session, Plan(vary=options.vary, budget_s=1800, seed=seed)))
        state, times = runs[-1]
        assert state.best_trial is not None
        print(
            f"seed {seed}: {setting(state.best_trial.knobs)} {state.value:.1f} req/s, "
            f"{len(state.trials)} trials, {times[-1][1]:.0f} s",
            flush=True,
        )
    session.close(20)
    settings = [setting(trial.knobs) for trial in passes[0][0].trials]
    start_s = [started(demo, s) for s in settings[: options.restarts]]
    print("vLLM's server is up after " + ", ".join(f"{s:.1f} s" for s in start_s))
    judged([state for state, _ in passes], runs, grid_s, statistics.median(start_s))


def judged(grids: list[TunerState], runs: list[Searched], grid_s: float, start_s: float) -> None:
    """What each setting gave in all trials measured whole, and when each run had a good one."""
    whole: dict[tuple[int, ...], list[TunerTrial]] = {}
    for state in [*grids, *(state for state, _ in runs)]:
        for trial in state.trials:
            if trial.why == "measured":
                whole.setdefault(setting(trial.knobs), []).append(trial)
    gave = {s: weighted(trials, "value") for s, trials in whole.items()}
    holds = {s for s, trials in whole.items() if weighted(trials, "miss") <= NEAR}
    ranked = sorted(holds or gave, key=gave.__getitem__, reverse=True)
    best = gave[ranked[0]]
    for s in ranked[:8]:
        values = " ".join(f"{trial.value:.1f}" for trial in whole[s])
        print(f"  {s}: {gave[s]:.1f} req/s within the goals, of {values}")
    good = {s for s in ranked if gave[s] >= GOOD * best}
    trials = grids[0].trials
    restarted_s = grid_s + len(trials) * start_s
    print(f"the grid with a start for each of {len(trials)} settings: {restarted_s:.0f} s")
    reached = []
    for run in runs:
        reached.append(run.reached_s(good))
        assert run.state.best_trial is not None
        gives = gave.get(setting(run.state.best_trial.knobs), 0.0) / best
        print(f"  {gives:4.0%} of the best, reached after {reached[-1]:.0f} s")
    there = sorted(each for each in reached if math.isfinite(each))
    if there:
        middle, took_s = statistics.median(there), [times[-1][1] for _, times in runs]
        print(
            f"≥ 95 % of the best in {len(there)} of {len(runs)} seeds, after {middle:.0f} s "
            f"(median), {there[-1]:.0f} s (longest): {restarted_s / middle:.1f} times sooner than "
            f"the grid with restarts (median); a search took {statistics.median(took_s):.0f} s"
        )
    print(f"in any order, each measured whole: after {at_random(trials, good):.0f} s (median)")


def at_random(trials: tuple[TunerTrial, ...], good: set[tuple[int, ...]]) -> float:
    """Seconds until a good setting has been measured, the median over orders of the trials."""
    draw, found = random.Random(0), []
    for _ in range(1001):
        took_s = 0.0
        for trial in draw.sample(trials, len(trials)):
            took_s += trial.took_s
            if setting(trial.knobs) in good:
                break
        found.append(took_s)
    return statistics.median(found)


def weighted(trials: list[TunerTrial], name: str) -> float:
    """The mean of trials, by their lengths."""
    lengths = [trial.point.window_s for trial in trials]
    return statistics.fmean([getattr(trial, name) for trial in trials], weights=lengths)


def wait(session: Session, done: Callable[[Frame], bool]) -> None:
    while not done(frame := session.advance()):
        if frame.status.failure:
            raise SystemExit(str(frame.status.failure))
        time.sleep(0.25)


def tuned(session: Session, plan: Plan) -> Searched:
    """Tune until the search is over; the confirmation left out."""
    began_s = time.monotonic()
    session.steer.experiments.tune(plan)
    times: list[tuple[tuple[int, ...], float]] = []
    while True:
        time.sleep(0.25)
        state = session.advance().tuner
        assert state is not None
        spent_s = time.monotonic() - began_s
        if len(state.trials) > len(times):
            trial = state.best_trial
            assert trial is not None
            times.append((setting(trial.knobs), spent_s))
        if state.phase != "searching":
            session.steer.experiments.stop()
            session.advance()
            return Searched(state, times)


def started(demo: Profile, limits: tuple[int, ...]) -> float:
    """Seconds that vLLM's server takes from its start until it is up, with these limits."""
    names = ("max_num_seqs", "max_num_batched_tokens")
    spec = resolve(demo.engine.overridden(None, dict(zip(names, limits, strict=True))))
    port = free_port()
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", spec.model]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    command += to_argv(spec.args)
    began_s = time.monotonic()
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while True:
            if server.poll() is not None:
                raise SystemExit(f"vLLM's server ended: {' '.join(command)}")
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
                return time.monotonic() - began_s
            time.sleep(0.1)
    finally:
        server.terminate()
        server.wait()


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("part", nargs="?", choices=("known", "real", "both"), default="both")
    parser.add_argument("--seeds", type=int, default=0, help="how many (default 20, real: 10)")
    parser.add_argument("--first", type=int, default=0, help="the first seed of `known`")
    parser.add_argument("--start", type=float, default=20.0,
                        help="seconds that a start takes, of `known` (default 20)")  # fmt: skip
    parser.add_argument("--goal", default="ttft_p90=2s,tpot_p90=30ms", help="of `real`")
    parser.add_argument("--vary", default="", help="of `real` (default: the usual grid)")
    parser.add_argument("--passes", type=int, default=1, help="of the exhaustive grid")
    parser.add_argument("--minutes", type=float, default=math.inf, help="begin no seed after that")
    parser.add_argument("--restarts", type=int, default=4, help="starts of the server to time")
    options = parser.parse_args()
    if options.part in ("known", "both"):
        options.seeds = options.seeds or 20
        known(options)
    if options.part in ("real", "both"):
        options.seeds = 10 if options.part == "both" else options.seeds or 10
        real(options)


if __name__ == "__main__":
    main()
