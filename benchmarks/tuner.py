"""How soon the tuner finds a good setting, and how good it is.

    make tuner                                   both parts; the real one takes about an hour
    python benchmarks/tuner.py known --seeds 20  where the best setting is known
    python benchmarks/tuner.py real --seeds 10   the real engine against a restart for each trial

known  The deterministic engine in virtual time, made as restless as a shared machine (restless.py):
       in each seed another model (costs of a step, a sequence, a prefill token), other lengths,
       loads and goals; costs that are linear in what is scheduled, and costs that are not (padded
       batches, a logarithm). What a setting truly gives is what it gives on a quiet machine. The
       goals lie in gaps between settings, and worlds in which it is a toss-up whether a setting
       that may be the best meets them are passed over. Regret: 1 - (true goodput of what the
       search settled on ÷ that of the best); time: until the search is over, in virtual seconds,
       so all of it is deterministic. Where the regret is above 2 %, both settings are also measured
       on the restless machine itself, eight minutes each: stalls take from a setting near a goal
       what it gives on a quiet one. And: when the best so far came to be, and stayed, one that
       truly gives at least 95 % of the best, against the exhaustive grid with a start for each
       setting (`--start` seconds; what `real` times on this machine is about 20). Exits with 1
       where an aim is missed.
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
import itertools
import math
import random
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import msgspec
import numpy as np
from restless import Restless

from tputtui import profile
from tputtui.engine.fake import FakeEngine
from tputtui.engine.flags import to_argv
from tputtui.engine.host import Host
from tputtui.engine.models import resolve
from tputtui.engine.orders import BeginLeg, Boot, Start
from tputtui.experiments.tuner.plan import Plan, space_of
from tputtui.frame import SERVING, Frame, TunerState, TunerTrial
from tputtui.goals import Goal, describe_goals, parse_goals
from tputtui.load.workload import ClosedLoop, Workload
from tputtui.measure.attainment import keeping, wilson, worst_miss
from tputtui.measure.recorder import ENDED, Recorder
from tputtui.measure.stats import Floats
from tputtui.profile import EngineSpec, Profile
from tputtui.session.session import Session
from tputtui.simulate.clock import VirtualTime

GOOD, REGRET = 0.95, 0.02
MINUTES = 8
"""Measured of a setting on the restless machine."""
WARM_S, WHOLE_S = 3.0, 60.0
TRIAL_S = 25.0
"""Seconds that a trial measured whole takes, warm-up included."""
KINDS = ("linear", "not linear")
DRIFT = (0.02, 5.0)
"""Standard deviation of the machine's slow drift, and the seconds over which it is lost."""
NEAR = math.log(1.02)
"""A latency within 2 % of its limit is the same as the limit, as everywhere in verdicts."""
EDGE = math.log(1.05)
"""A setting nearer to a limit than that misses it in one noisy window and meets it in another."""
VARY = "max_num_seqs=4,8,16,32,64,128,256,max_num_batched_tokens=128,256,512,1024,2048"


# -- where the best is known -------------------------------------------------------------------


class World:
    """One seed's engine, load and goals. kind: how its steps' costs grow, one of `KINDS`."""

    def __init__(self, seed: int, kind: str = "linear") -> None:
        draw = random.Random(seed)
        self.seed, self.kind = seed, kind
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
        self._draw = draw
        self.goals: tuple[Goal, ...] = ()

    def set_goals(self, quiet: Mapping[tuple[int, ...], Floats]) -> bool:
        """Goals that some settings keep and others do not, each in a gap between two settings.

        quiet: the requests that ended at each setting. False where there are no such goals.
        """
        latencies = {
            name: [
                float(np.nanquantile(ended[:, ENDED[f"{name}_s"]], 0.9)) for ended in quiet.values()
            ]
            for name in ("ttft", "tpot")
        }
        pairs = []
        for ttft_s, tpot_s in itertools.product(*map(gaps, latencies.values())):
            meet = sum(
                a <= ttft_s and b <= tpot_s for a, b in zip(*latencies.values(), strict=True)
            )
            if 3 <= meet <= 0.9 * len(quiet):
                pairs.append((ttft_s, tpot_s))
        if not pairs:
            return False
        ttft_s, tpot_s = self._draw.choice(pairs)
        self.goals = (Goal("ttft", 90, round(ttft_s, 3)), Goal("tpot", 90, round(tpot_s, 4)))
        return True

    def cost_s(self, decode: int, prefill: int) -> float:
        """Seconds of a step on the quiet machine.

        padded: batches are computed as the next power of two, and prefill in tiles of 64 tokens.
        log: a step's fixed part grows with the logarithm of its batch.
        """
        if self.kind == "padded":
            decode = 1 << max(0, decode - 1).bit_length() if decode else 0
            prefill = 64 * math.ceil(prefill / 64)
        took_s = self.step_s + self.decode_s * decode + self.prefill_s * prefill
        if self.kind == "log":
            took_s += 0.15 * self.step_s * math.log2(1 + decode + prefill)
        return took_s

    def engine(self, clock: Restless) -> FakeEngine:
        return Engine(clock, self)

    def session(self, noise: int) -> Virtual:
        return Virtual(self, noise)


class Engine(FakeEngine):
    """The deterministic engine with the costs of a world."""

    def __init__(self, clock: Restless, world: World) -> None:
        super().__init__(clock)  # type: ignore[arg-type]
        self._cost_s = world.cost_s  # type: ignore[method-assign]


class Virtual:
    """A session on the engine of a world, turned by hand."""

    def __init__(self, world: World, noise: int) -> None:
        self.clock = VirtualTime()
        restless = Restless(self.clock, noise, *DRIFT)
        self.session = Session(
            lambda: world.engine(restless),
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
                look_s = self.clock() + 1.0

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


def gaps(values: list[float]) -> list[float]:
    """The middle of each gap of 12 % or more between two of the values."""
    return [
        math.sqrt(low * high)
        for low, high in itertools.pairwise(sorted(values))
        if high >= low * math.exp(2 * EDGE + NEAR)
    ]


def measured_whole(
    world: World, only: Sequence[tuple[int, ...]] = (), noise: int = -1
) -> tuple[dict[tuple[int, ...], Floats], float]:
    """The requests that ended at each setting in a minute; the seconds that whole trials take.

    only: these settings; empty for all. noise: the seed of a restless machine; -1 for a quiet one.
    """
    clock, recorder = VirtualTime(), Recorder()
    restless = Restless(clock, max(noise, 0), *DRIFT, quiet=noise < 0)
    host = Host(lambda: world.engine(restless), recorder, world.load, clock)
    host.order(Boot(Start(EngineSpec("shape:demo"), {}), load=False))
    host.run_pass()
    facts = host.status.facts
    assert facts is not None
    space = space_of(Plan(vary=VARY), facts.booted, facts, world.load)
    load = msgspec.structs.replace(world.load, seed=world.load.seed + 1_000_003 + max(noise, 0))
    found = {}
    for point in space:
        if only and setting(space.values(point)) not in only:
            continue
        host.order(BeginLeg(facts.booted.overridden(space.values(point)), load, "whole"))
        host.run_pass()
        leg_s = clock()
        while clock() < leg_s + WARM_S + WHOLE_S:
            if (wait_s := host.run_pass()) > 0:
                clock.advance(min(wait_s, 0.05))
        start_s, end_s = leg_s + WARM_S, leg_s + WARM_S + WHOLE_S
        found[setting(space.values(point))] = recorder.ended.between(start_s, end_s).copy()
    return found, len(found) * TRIAL_S


def truth(world: World) -> tuple[dict[tuple[int, ...], float], bool, float]:
    """The goodput each setting truly gives, 0 where it misses a goal; whether that is all clear;
    seconds that measuring every setting whole took.

    It is not where a setting that could be the best lies at a goal's limit: whether it meets the
    goals is then a toss-up, in one noisy window and in the next.
    """
    quiet, grid_s = measured_whole(world)
    if not world.set_goals(quiet):
        return {}, False, math.nan
    miss = {name: worst_miss(ended, world.goals)[0] for name, ended in quiet.items()}
    value = {name: goodput(ended, world.goals) for name, ended in quiet.items()}
    gave = {name: value[name] if miss[name] <= 0 else 0.0 for name in quiet}
    best = max(gave.values())
    clear = all(abs(miss[name]) >= EDGE or value[name] < GOOD * best for name in quiet)
    return gave, clear, grid_s


def regret_there(world: World, found: tuple[int, ...], best: tuple[int, ...]) -> float:
    """1 - (goodput of `found` ÷ that of `best`), on the restless machine itself."""
    runs = [measured_whole(world, (found, best), noise)[0] for noise in range(MINUTES)]
    gave = [sum(goodput(run[name], world.goals) for run in runs) for name in (found, best)]
    return 1 - gave[0] / gave[1]


def goodput(ended: Floats, goals: Sequence[Goal]) -> float:
    """Requests/s that kept every goal."""
    kept = np.logical_and.reduce([keeping(ended, goal) for goal in goals])
    return float(np.count_nonzero(kept)) / WHOLE_S


def setting(knobs: Mapping[str, int]) -> tuple[int, ...]:
    return tuple(knobs.values())


class Run(NamedTuple):
    """One search in one world: 1 - (what it settled on gives ÷ the best), and how long it took."""

    regret: float
    took_s: float
    trials: int
    reached_s: float
    there: float
    """The regret on the restless machine itself; NaN where it was not measured."""


def searched(world: World, true: dict[tuple[int, ...], float], search: str) -> Run:
    virtual = world.session(world.seed)
    found = virtual.tune(Plan(vary=VARY, search=search, budget_s=1e6, seed=world.seed))
    best = max(true.values())
    trial = found.state.best_trial
    gave = true[setting(trial.knobs)] if trial else 0.0
    good = {s for s, gave in true.items() if gave >= GOOD * best}
    regret, there = 1 - gave / best, math.nan
    if trial and regret > REGRET:
        there = regret_there(world, setting(trial.knobs), max(true, key=true.__getitem__))
    return Run(regret, found.times[-1][1], len(found.times), found.reached_s(good), there)


def known(options: argparse.Namespace) -> None:
    missed = False
    for kind in KINDS:
        if options.kind in (kind, ""):
            missed |= not in_worlds(kind, options)
    sys.exit(int(missed))


def in_worlds(kind: str, options: argparse.Namespace) -> bool:
    """Search clear worlds of a kind; whether all that is aimed at was reached."""
    rows: list[dict[str, Run]] = []
    sooner: dict[str, list[float]] = {name: [] for name in options.search.split(",")}
    seed = options.first
    while len(rows) < options.seeds:
        # Both kinds of costs that are not linear, by turns.
        world = World(seed, kind if kind == "linear" else ("padded", "log")[seed % 2])
        seed += 1
        true, clear, grid_s = truth(world)
        if not clear or not max(true.values()):
            continue
        rows.append({name: searched(world, true, name) for name in sooner})
        restarted_s = grid_s + len(true) * options.start
        for name, run in rows[-1].items():
            sooner[name].append(restarted_s / run.reached_s)
        met = sum(value > 0 for value in true.values())
        print(
            f"{world.kind:<7}{world.seed:3d}: {describe_goals(world.goals):<36} {met:2d} of "
            f"{len(true)} meet them; "
            + "; ".join(
                f"{name} {run.trials:2d} trials, {run.took_s:4.0f} s, regret {run.regret:6.1%}"
                + (f" ({run.there:.1%} on the restless machine)" if run.regret > REGRET else "")
                for name, run in rows[-1].items()
            ),
            flush=True,
        )
    print(f"\n{kind}: {len(rows)} clear worlds of {seed - options.first}")
    for name in sooner:
        runs = [row[name] for row in rows]
        hits = sum(run.regret <= REGRET for run in runs)
        low, high = wilson(hits, len(runs))
        print(
            f"  {name:<8} regret ≤ 2 % in {hits} of {len(runs)} ({hits / len(runs):.0%}, "
            f"{low:.0%}–{high:.0%}), worst {max(run.regret for run in runs):.1%}; median "
            f"{statistics.median(run.took_s for run in runs):.0f} s, "
            f"{statistics.median(run.trials for run in runs):.0f} trials; a good setting "
            f"{statistics.median(sooner[name]):.1f} times sooner than the grid with restarts"
        )
    if len(sooner) < 2:
        return True
    ours, theirs = ([row[name] for row in rows] for name in ("physics", "model"))
    share = sum(run.regret <= REGRET for run in ours) / len(ours)
    worst = max(run.regret for run in ours)
    times = statistics.median(r.took_s for r in ours) / statistics.median(r.took_s for r in theirs)
    aims = {
        f"regret ≤ 2 % in ≥ 90 %: {share:.0%}": share >= 0.9,
        f"worst regret ≤ 5 %: {worst:.1%}": worst <= 0.05,
        f"median time ≤ a third of the model's: {times:.2f}": times <= 1 / 3,
    }
    for text, reached in aims.items():
        print(f"  {'reached' if reached else 'MISSED '} {text}")
    print(flush=True)
    return all(aims.values())


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
    parser.add_argument("--kind", choices=KINDS, default="", help="of `known` (default: both)")
    parser.add_argument("--search", default="physics,model", help="of `known`")
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
