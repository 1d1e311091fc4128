"""How often a verdict is wrong, and how often it is found: on an engine whose truth is known.

    make verdicts                    100 runs of each, some minutes
    python benchmarks/verdicts.py --runs 20 --drift 0.04 --drift-s 20

The deterministic engine in virtual time, made as restless as a shared machine: every step takes
2 % more or less, the speed wanders as an AR(1) process (by default with a standard deviation of
2 % and a correlation time of 5 s, so that it is at times 5 % quicker than at others), and every
twenty seconds or so it stalls for up to half a second. Our real host, comparison and statistics
run on it, twice: B like A, where every "better" or "worse" is false, and B with steps 10 %
quicker, where it should be found. A run counts as soon as any row of it, at any look, says so.

before/after: a window of 60 s, a turn, and a look each second at the window that grows for 60 s.
A/B: interleaved legs until the comparison ends by itself.
"""

from __future__ import annotations

import argparse
import math
import random
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from statistics import median

from tputtui.engine.fake import FakeEngine
from tputtui.engine.host import Host
from tputtui.goals import parse_goals
from tputtui.knobs import Knobs
from tputtui.load.workload import ClosedLoop, Poisson, Workload
from tputtui.measure.attainment import wilson
from tputtui.measure.recorder import Recorder
from tputtui.measure.series import series
from tputtui.measure.verdict import Difference, Judgement, differences
from tputtui.measure.window import Settling
from tputtui.observer import Observer
from tputtui.profile import EngineSpec, Profile
from tputtui.simulate.clock import VirtualTime
from tputtui.tune.comparing import Comparing, Side

CLEAR = (Judgement.BETTER, Judgement.WORSE)
SLOWER = 4.0
"""Steps of about 40 ms: fewer of them to compute for each virtual second."""
STEP_SD, STALL_EVERY_S, STALL_S = 0.02, 20.0, 0.5
LENGTHS = ((60, 16, 0.4), (120, 24, 0.4), (200, 40, 0.2))
LOADS = {
    "closed": Workload(ClosedLoop(16), pairs=LENGTHS),
    "poisson": Workload(Poisson(9.0), pairs=LENGTHS),
}
GOALS = parse_goals("ttft_p90=400ms, tpot_p90=45ms")


class Restless:
    """A clock that takes steps of uncertain length; the engine's own, in front of `clock`."""

    def __init__(self, clock: VirtualTime, seed: int, drift: float, drift_s: float) -> None:
        self._clock = clock
        self._random = random.Random(seed)
        self._drift, self._drift_s = drift, drift_s
        self._level = self._random.gauss(0, drift)
        self.speed = 1.0

    def __call__(self) -> float:
        return self._clock()

    def advance(self, seconds: float) -> None:
        draw = self._random
        duration_s = seconds * SLOWER / self.speed
        phi = math.exp(-duration_s / self._drift_s)
        self._level = phi * self._level + draw.gauss(0, self._drift * math.sqrt(1 - phi * phi))
        duration_s *= math.exp(self._level + draw.gauss(0, STEP_SD))
        if draw.random() < duration_s / STALL_EVERY_S:
            duration_s += STALL_S * draw.random()
        self._clock.advance(duration_s)


class RestlessEngine(FakeEngine):
    """The deterministic engine on a restless clock; `effect` quicker with side B's limits."""

    def __init__(self, clock: Restless, effect: float) -> None:
        super().__init__(clock)  # type: ignore[arg-type]
        self._restless, self._effect = clock, effect

    def apply(self, knobs: Knobs) -> list:
        self._restless.speed = 1 + self._effect if knobs == sides()[1] else 1.0
        return super().apply(knobs)


def sides() -> tuple[Knobs, Knobs]:
    """A and B: they differ in a limit that nothing comes near."""
    a = FakeEngine.BOOTED
    return a, a.with_value("max_model_len", a.max_model_len - 1)


class Bench:
    """A host on the restless engine, turned by hand."""

    def __init__(self, load: Workload, seed: int, effect: float, options: argparse.Namespace):
        self.clock, self.recorder = VirtualTime(), Recorder()
        restless = Restless(self.clock, seed, options.drift, options.drift_s)
        self.load = load
        self.goals = GOALS if options.goals else ()
        self.host = Host(lambda: RestlessEngine(restless, effect), self.recorder, load, self.clock)
        self.host.boot(EngineSpec("shape:demo"), sides()[0].as_dict(), load=True)
        self.host.turn()
        self.observer = Observer(self.recorder, self.clock())

    def run(self, until_s: float) -> None:
        while self.clock() < until_s:
            wait_s = self.host.turn()
            if wait_s > 0:
                self.clock.advance(min(wait_s, until_s - self.clock() + 1e-9))
        if self.host.status.failure:
            raise SystemExit(str(self.host.status.failure))

    def settle(self) -> float:
        """Run until every request of the setting before has left; when that is."""
        accounting = self.recorder.accounting
        settling = Settling(self.clock())
        left = accounting.issued - accounting.in_flight
        settling.change(self.clock(), accounting.in_flight, left)
        while True:
            self.run(self.clock() + 0.25)
            accounting = self.recorder.accounting
            left = accounting.issued - accounting.in_flight
            if settling.window(self.clock(), left, True).settled:
                return self.clock()


@dataclass
class Found:
    """What one run said: when anything was clear, when the headline was, and how it ended."""

    any_s: float = math.nan
    headline_s: float = math.nan
    false_rows: list[str] = field(default_factory=list)
    last: tuple[Difference, ...] = ()
    took_s: float = 0.0
    missed: list[str] = field(default_factory=list)

    def see(self, rows: tuple[Difference, ...], at_s: float, truth: float) -> None:
        self.last = rows
        for i, row in enumerate(rows):
            if row.judgement in CLEAR:
                if math.isnan(self.any_s):
                    self.any_s = at_s
                    self.false_rows = [r.metric.label for r in rows if r.judgement in CLEAR]
                if i == 0 and math.isnan(self.headline_s):
                    self.headline_s = at_s
            # Only tokens/s has a truth that is known exactly, in a closed loop.
            outside = row.low > truth or row.high < truth
            if row.metric.key == "tokens_per_s" and outside and not self.missed:
                self.missed.append(row.metric.label)


def before_after(load: Workload, seed: int, effect: float, options: argparse.Namespace) -> Found:
    """A turn after 60 s, looked at each second for 60 s."""
    bench, found = Bench(load, seed, effect, options), Found()
    start_s = bench.settle()
    bench.run(start_s + 60.0)
    old = series(bench.recorder, start_s, bench.clock(), bench.goals)
    bench.host.set_knobs(sides()[1], "")
    start_s = bench.settle()
    for second in range(1, 61):
        bench.run(start_s + second)
        new = series(bench.recorder, start_s, bench.clock(), bench.goals)
        found.see(differences(old, new), bench.clock() - start_s, effect)
    found.took_s = 60.0
    return found


def interleaved(load: Workload, seed: int, effect: float, options: argparse.Namespace) -> Found:
    """A whole comparison, looked at each second."""
    bench, found = Bench(load, seed, effect, options), Found()
    began_s = bench.clock()
    profile = Profile(EngineSpec("shape:demo"), load, {}, goals=bench.goals)
    comparing = Comparing(*map(Side, sides()), load, bench.goals, began_s)
    put_on = True
    while (leg := comparing.leg) is not None:
        if put_on:
            bench.host.begin_leg(leg.knobs, leg.workload, leg.text)
        bench.run(bench.clock() + 1.0)
        status = bench.host.status
        frame = bench.observer.frame(bench.clock(), status, profile, leg.knobs, None)
        put_on = comparing.follow(frame, bench.recorder)
        found.see(comparing.state.differences, bench.clock() - began_s, effect)
    found.took_s = bench.clock() - began_s
    return found


def counted(hits: int, n: int) -> str:
    low, high = wilson(hits, n)
    return f"{hits:3d} of {n} ({hits / n:4.0%}, {low:.0%}–{high:.0%})"


def table(name: str, method, load: Workload, options: argparse.Namespace) -> None:
    for effect in (0.0, options.effect):
        began_s = time.monotonic()
        runs = []
        for i in range(options.runs):
            runs.append(method(load, options.seed + i, effect, options))
            if sys.stderr.isatty():
                print(
                    f"  {name} {effect:.0%}: {i + 1} of {options.runs}", end="\r", file=sys.stderr
                )
        clear = sum(not math.isnan(run.any_s) for run in runs)
        heads = [run.headline_s for run in runs if not math.isnan(run.headline_s)]
        label = runs[0].last[0].metric.label
        ends = Counter(run.last[0].judgement.value for run in runs)
        print(f"{name}, B {effect:+.0%} quicker  [{time.monotonic() - began_s:.0f} s to compute]")
        print(f"  any row better or worse:      {counted(clear, options.runs)}")
        print(f"  {label} better or worse:  {counted(len(heads), options.runs)}", end="")
        print(f", after {median(heads):.0f} s (median)" if heads else "")
        if not effect and clear:
            said = Counter(label for run in runs for label in run.false_rows)
            print(f"  false rows: {dict(said)}")
        if not options.goals and isinstance(load.arrivals, ClosedLoop):
            missed = sum(bool(run.missed) for run in runs)
            print(f"  interval ever without the truth: {counted(missed, options.runs)}")
        print(f"  at the end: {dict(ends)}; {median(run.took_s for run in runs):.0f} s (median)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--effect", type=float, default=0.10, help="how much quicker B is")
    parser.add_argument("--drift", type=float, default=0.02, help="standard deviation of the speed")
    parser.add_argument("--drift-s", type=float, default=5.0, help="its correlation time")
    parser.add_argument("--load", choices=LOADS, default="closed")
    parser.add_argument("--goals", action="store_true", help="judge goodput first")
    parser.add_argument("--only", choices=("before-after", "ab"), help="one of the two")
    options = parser.parse_args()
    print(
        f"{options.runs} runs each, {options.load} loop, drift {options.drift:.0%} over "
        f"{options.drift_s:g} s"
    )
    if options.only != "ab":
        table("before/after", before_after, LOADS[options.load], options)
    if options.only != "before-after":
        table("A/B", interleaved, LOADS[options.load], options)


if __name__ == "__main__":
    main()
