"""How often a verdict is wrong, and how often it is found: on an engine whose truth is known.

    make verdicts                              every cell, 200 runs each: about an hour
    make verdicts ARGS="--list"                the cells by name
    make verdicts ARGS="--only aa/closed/base --runs 50"

The engine is an outline of one: a scheduler with the deterministic engine's costs (6 ms a step,
0.15 ms a decode, 12 µs a prefill token), the demo's lengths and limits, and a machine that is
never quite as quick as it was. Our own series, verdicts, attainment and comparison judge what it
does; there is no vLLM and no wall time in it, so that every run of a seed is the same.

Machines (`--list` names them): *base*: 2 % noise a step, a speed that wanders by 2 % over 5 s
(AR(1)), and a stall of up to half a second every twenty seconds or so. All others come on top of
it: *tails*: heavy-tailed lengths (lognormal, σ = 1); *steps*: lognormal step times, σ = 0.4;
*sine30*, *sine120*: the speed swings by 4 % with a period of 30 or 120 s; *bursts*: every fifteen
seconds or so something else takes 30 % of the machine for 2 s on average; *drift*: the speed
wanders by 4 % over 20 s instead.

Cells: *aa*: nothing changes, so that every "better" or "worse" is false. *x2*, *x1.3*: steps take
so many times as long. *seqs*: max_num_seqs 64 → 32. *zero*: goodput falls to none. *goal*: goals
whose truth lies 2 points from the target, so that one of "met" and "missed" is false; *goal-far*:
goals that 99.5 or 50 % keep, of p90, and how often that is found. *ab*:
interleaved legs until the comparison ends by itself, B's steps quicker by so much. Before and
after, the old window is W seconds long, and the new one is looked at each second while it grows
for 60 s.

A bound counts as met where the binomial 95 % interval of the rate reaches it.
"""

from __future__ import annotations

import argparse
import heapq
import math
import random
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatch
from statistics import median
from typing import Any

import numpy as np

from tputtui.experiments.compare import Comparison
from tputtui.experiments.comparing import leg_figures
from tputtui.goals import Goal
from tputtui.measure.attainment import GoalVerdict, goodput, wilson
from tputtui.measure.recorder import ENDED, Recorder, Table, row_of
from tputtui.measure.samples import STEP, StepSample
from tputtui.measure.series import rows, series
from tputtui.measure.verdict import Difference, Verdict, differences

WINDOWS = (10, 20, 60)
LOOKS_S = 60
WARM_UP_S = 12.0
MACHINES = ("base", "tails", "steps", "sine30", "sine120", "bursts", "drift")
LOADS = ("closed", "poisson")
IN_FLIGHT, SEQS, PER_S = 96, 64, 14.0
BATCHED_TOKENS = 2048
FOREVER = 1e9


# -- the machine and the engine ------------------------------------------------------------------


class Machine:
    """How long a step takes that would take `seconds` on a machine without a flaw."""

    def __init__(self, kind: str, seed: int) -> None:
        self._draw = draw = random.Random(seed * 1009 + 1)
        self._kind = kind
        self._sd, self._over_s = (0.04, 20.0) if kind == "drift" else (0.02, 5.0)
        self._level = draw.gauss(0, self._sd)
        self._phase = draw.random() * 2 * math.pi
        self._busy_until_s = self._next_busy_s = draw.expovariate(1 / 15)

    def takes(self, at_s: float, seconds: float) -> float:
        """Seconds that it takes at `at_s`."""
        draw, kind = self._draw, self._kind
        phi = math.exp(-seconds / self._over_s)
        self._level = phi * self._level + draw.gauss(0, self._sd * math.sqrt(1 - phi * phi))
        off = self._level + draw.gauss(0, 0.02)
        if kind == "steps":
            off += draw.gauss(-0.08, 0.4)
        elif kind == "sine30":
            off += 0.04 * math.sin(2 * math.pi * at_s / 30 + self._phase)
        elif kind == "sine120":
            off += 0.04 * math.sin(2 * math.pi * at_s / 120 + self._phase)
        elif kind == "bursts":
            if at_s >= self._next_busy_s:
                self._busy_until_s = at_s + draw.expovariate(1 / 2)
                self._next_busy_s = self._busy_until_s + draw.expovariate(1 / 15)
            if at_s < self._busy_until_s:
                off -= math.log(0.7)
        seconds *= math.exp(off)
        if draw.random() < seconds / 20.0:
            seconds += 0.5 * draw.random()
        return seconds


class Lengths:
    """Request i of a seed: (prompt, output) tokens; the demo's, or with heavy tails."""

    def __init__(self, seed: int, heavy: bool) -> None:
        rng = np.random.default_rng(seed)
        sigmas, most = ((1.0, 1.0), 1800) if heavy else ((0.5, 0.4), 512)
        n = 1 << 15
        prompt = np.clip(120 * np.exp(sigmas[0] * rng.standard_normal(n)), 16, most)
        output = np.clip(80 * np.exp(sigmas[1] * rng.standard_normal(n)), 16, max(256, most))
        self._pairs = np.column_stack((prompt, output)).astype(int).tolist()
        self._next = 0

    def __next__(self) -> tuple[int, int]:
        prompt, output = self._pairs[self._next % len(self._pairs)]
        self._next += 1
        return prompt, output


Request = list[Any]
"""When it was due, prompt tokens left, output tokens, its number, when its first token came."""


class Engine:
    """Queues, prefills in chunks and decodes; `recorder` has what one would have of it."""

    def __init__(
        self, load: str, machine: Machine, lengths: Lengths, seed: int, now_s: float
    ) -> None:
        self.now_s = now_s
        self.seqs, self.slower = SEQS, 1.0
        self._closed = load == "closed"
        self._machine, self._lengths = machine, lengths
        self._arrivals = random.Random(seed * 7919 + 3)
        self._waiting: deque[Request] = deque()
        self._filling: deque[Request] = deque()
        self._ends: list[tuple[int, int, Request]] = []
        self._number = self._steps_done = 0
        self._next_due_s = now_s if self._closed else now_s + self._arrivals.expovariate(PER_S)
        self.steps: list[StepSample] = []
        self.first_tokens: list[tuple[float, ...]] = []
        self.ended: list[tuple[float, ...]] = []
        self.issued: list[tuple[float, ...]] = []
        self._gone: list[tuple[float, ...]] = []
        if self._closed:
            for _ in range(IN_FLIGHT):
                self._issue(now_s)

    @property
    def in_flight(self) -> int:
        return len(self.issued) - len(self.ended)

    def run(self, until_s: float) -> None:
        """Go on until `until_s`; the last step may end later."""
        while self.now_s < until_s:
            self._arrive()
            if self._waiting or self._filling or self._ends:
                self._step()
            else:
                self.now_s = min(self._next_due_s, until_s)

    def run_until_turned_over(self) -> float:
        """Run until every request that is in flight now has left, 2 s at least; when that is."""
        before, began_s = len(self.issued), self.now_s
        old = {request[3] for request in self._all()}
        while old:
            gone = len(self.ended)
            self.run(self.now_s + 0.25)
            old -= {row[-1] for row in self._gone[gone:]}
        assert len(self.issued) >= before
        self.run(began_s + 2.0)
        return self.now_s

    def recorder(self) -> Recorder:
        """What a recorder would have of it all."""
        made = Recorder()
        made.steps = Table(np.array(self.steps, dtype=np.float64).reshape(-1, len(STEP)))
        made.first_tokens = Table(np.array(self.first_tokens).reshape(-1, 4))
        made.ended = Table(np.array(self.ended).reshape(-1, len(ENDED)))
        made.issued = Table(np.array(self.issued).reshape(-1, 2))
        made.gaps = Table(np.zeros((0, 3)))
        return made

    # -- inside --------------------------------------------------------------------------------

    def _all(self) -> Iterator[Request]:
        yield from self._waiting
        yield from self._filling
        for _, _, request in self._ends:
            yield request

    def _issue(self, due_s: float) -> None:
        prompt, output = next(self._lengths)
        self._waiting.append([due_s, prompt, output, self._number, math.nan])
        self._number += 1
        self.issued.append((due_s, 0.0))

    def _arrive(self) -> None:
        if not self._closed:
            while self._next_due_s <= self.now_s:
                self._issue(self._next_due_s)
                self._next_due_s += self._arrivals.expovariate(PER_S)

    def _step(self) -> None:
        waiting, filling, ends = self._waiting, self._filling, self._ends
        decodes = len(ends)
        budget, prefill = BATCHED_TOKENS - decodes, 0
        started: list[Request] = []
        running = decodes + len(filling)
        while waiting and running < self.seqs:
            filling.append(waiting.popleft())
            running += 1
        while filling and budget > 0:
            request = filling[0]
            taken = min(request[1], budget)
            request[1] -= taken
            budget -= taken
            prefill += taken
            if request[1] == 0:
                started.append(filling.popleft())
        seconds = self.slower * (0.006 + 0.00015 * decodes + 12e-6 * prefill)
        taken_s = self._machine.takes(self.now_s, seconds)
        self.now_s = now_s = self.now_s + taken_s
        self._steps_done = step = self._steps_done + 1
        for request in started:
            request[4] = now_s
            self.first_tokens.append((now_s, now_s - request[0], now_s - request[0], 0.0))
            heapq.heappush(ends, (step + request[2] - 1, request[3], request))
        left = 0
        while ends and ends[0][0] <= step:
            self._leave(heapq.heappop(ends)[2])
            left += 1
        self.steps.append(
            StepSample(
                end_s=now_s,
                duration_s=taken_s,
                running=running,
                waiting=len(waiting),
                prefill_tokens=prefill,
                decode_tokens=decodes,
                generated_tokens=decodes + len(started),
                cached_tokens=0,
                looked_up_tokens=0,
                preemptions=0,
                kv_frac=0.0,
                max_num_seqs=self.seqs,
                max_num_batched_tokens=BATCHED_TOKENS,
            )
        )
        if self._closed:
            for _ in range(left):
                self._issue(now_s)

    def _leave(self, request: Request) -> None:
        due_s, _, output, number, first_s = request
        tpot_s = (self.now_s - first_s) / (output - 1) if output > 1 else math.nan
        self.ended.append(
            row_of(
                end_s=self.now_s,
                ttft_s=first_s - due_s,
                tpot_s=tpot_s,
                e2e_s=self.now_s - due_s,
                good=1.0,
                due_s=due_s,
                began=1.0,
            )
        )
        self._gone.append((self.now_s, number))


def engine(load: str, machine_kind: str, seed: int) -> Engine:
    """A warm one."""
    made = Engine(
        load, Machine(machine_kind, seed), Lengths(seed, machine_kind == "tails"), seed, 0.0
    )
    made.run(WARM_UP_S)
    return made


# -- what one run says ---------------------------------------------------------------------------


@dataclass
class Told:
    """When each row was first better or worse, and which of the two; nothing where it never was."""

    at_s: dict[str, float] = field(default_factory=dict)
    said: dict[str, Verdict] = field(default_factory=dict)

    def see(self, found: tuple[Difference, ...], at_s: float) -> None:
        for row in found:
            if row.judgement.clear and row.metric.label not in self.said:
                self.at_s[row.metric.label] = at_s
                self.said[row.metric.label] = row.judgement


def before_after(cell: Cell, seed: int) -> dict[int, Told]:
    """One turn, looked at each second for 60 s: by the length of the old window."""
    made = engine(cell.load, cell.machine, seed)
    made.run(made.now_s + max(cell.windows))
    turned_s = made.now_s
    cell.turn(made)
    start_s = made.run_until_turned_over()
    made.run(start_s + LOOKS_S + 1)
    recorder, goals = made.recorder(), cell.goals()
    olds = {w: series(recorder, turned_s - w, turned_s, goals) for w in cell.windows}
    told = {w: Told() for w in cell.windows}
    for second in range(1, LOOKS_S + 1):
        new = series(recorder, start_s, start_s + second, goals)
        for w, old in olds.items():
            if len(told[w].said) < len(rows(bool(goals))):
                told[w].see(differences(old, new), second)
    return told


def goal_run(cell: Cell, seed: int) -> dict[int, Told]:
    """Goals whose truth is known, looked at each second for 60 s: when each was met or missed."""
    made = engine(cell.load, cell.machine, seed)
    start_s = made.now_s
    made.run(start_s + LOOKS_S + 1)
    recorder, goals, told = made.recorder(), cell.goals(), Told()
    for second in range(1, LOOKS_S + 1):
        found = goodput(recorder, goals, start_s, start_s + second)
        for (name, counted), each in zip(goal_rows(cell.shares), found.each, strict=True):
            if each.verdict is counted and name not in told.said:
                told.said[name], told.at_s[name] = Verdict.SAME, second
    return {LOOKS_S: told}


def ab_run(cell: Cell, seed: int) -> dict[int, Told]:
    """A whole comparison: legs as `Comparing` has them. at_s: pairs; -1: seconds in all."""
    machine, now_s = Machine(cell.machine, seed), 0.0
    comparison, told = Comparison(rows(False)), Told()
    began_s = length_s = earliest_s = 0.0
    while (leg := comparison.ask()) is not None:
        second = (leg.side == "B") ^ (leg.pair % 2 == 1)
        lengths = Lengths(seed * 100 + leg.pair, cell.machine == "tails")
        made = Engine(cell.load, machine, lengths, seed * 100 + leg.pair, now_s)
        if leg.side == "B":
            cell.turn(made)
        most, leg_began_s = 0, now_s
        warm_s = max(3.0, earliest_s) if second else 3.0
        while True:
            made.run(made.now_s + 0.25)
            most = max(most, made.in_flight)
            waited_s = made.now_s - leg_began_s
            if (len(made.ended) >= most and waited_s >= warm_s) or waited_s >= 30.0:
                break
        cut_s = made.now_s
        length_s = length_s if second else 10.0
        made.run(cut_s + length_s)
        figures = leg_figures(made.recorder(), cut_s, cut_s + length_s, ())
        earliest_s = 0.0 if second else cut_s - leg_began_s
        now_s = made.now_s
        comparison.tell(leg, figures, took_s=now_s - leg_began_s)
        told.see(comparison.result, comparison.pairs)
    told.at_s["seconds"] = now_s - began_s
    told.at_s["pairs"] = comparison.pairs
    told.at_s["open"] = sum(
        row.judgement is Verdict.OPEN for row in comparison.result if row.metric.less_is_better
    )
    return {0: told}


# -- the cells -----------------------------------------------------------------------------------

GOALS = ("ttft", "tpot", "e2e")
NEAR = (0.92, 0.88)
FAR = (0.995, 0.5)
TTFT, TPOT = ("TTFT p50", "TTFT p90"), ("TPOT p50", "TPOT p90")
ANY = "any row"
Bound = tuple[str, float]


def goal_rows(shares: tuple[float, ...]) -> list[tuple[str, GoalVerdict]]:
    """Goals of p90 that so many keep in the long run: name, and the verdict that is counted.

    Near the target it is the false one, far from it the right one.
    """
    found = []
    for name in GOALS:
        for share in shares:
            keeps = share > 0.9
            verdict = GoalVerdict.MET if keeps is (shares == FAR) else GoalVerdict.MISSED
            found.append((f"{name} {share:.1%} {verdict}", verdict))
    return found


@dataclass(frozen=True)
class Cell:
    """Runs under one load on one machine.

    bounds: (window, row) → at most or at least so often; a row without one is reported.
    right: what a row is truly; without it, whatever is said is false.
    """

    name: str
    load: str
    machine: str
    run: Callable[[Cell, int], dict[int, Told]]
    bounds: dict[tuple[int, str], Bound]
    windows: tuple[int, ...] = WINDOWS
    slower: float = 1.0
    seqs: int = SEQS
    right: dict[str, Verdict] = field(default_factory=dict)
    to_none: bool = False
    shares: tuple[float, ...] = ()
    median_s: float = math.nan

    def turn(self, made: Engine) -> None:
        """Put the new setting on."""
        made.slower, made.seqs = self.slower, self.seqs

    def goals(self) -> tuple[Goal, ...]:
        """Its goals."""
        if self.to_none:
            # Half as much again as a TPOT with nothing changed; twice as much is never within.
            return (Goal("tpot", 90, 1.5 * usual(self.load, self.machine, "tpot_s", 0.5)),)
        return tuple(
            Goal(name, 90, usual(self.load, self.machine, f"{name}_s", share))
            for name in GOALS
            for share in self.shares
        )


_USUAL: dict[tuple[str, str], np.ndarray] = {}


def usual(load: str, machine: str, column: str, share: float) -> float:
    """The quantile of a latency in the long run: 30 runs of 60 s with other seeds."""
    if (load, machine) not in _USUAL:
        found = []
        for seed in range(30):
            made = engine(load, machine, 900_001 + seed)
            start_s = made.now_s
            made.run(start_s + 60.0)
            found.append(made.recorder().ended.between(start_s))
        _USUAL[load, machine] = np.concatenate(found)
    values = _USUAL[load, machine][:, ENDED[column]]
    return float(np.quantile(values[~np.isnan(values)], share))


def cells() -> list[Cell]:
    """Every cell, those that matter most first."""
    made = []
    slower = {"tokens/s": Verdict.WORSE} | dict.fromkeys((*TTFT, *TPOT), Verdict.WORSE)
    # What arrives is served all the same.
    right_open = slower | {"tokens/s": Verdict.SAME}
    for load in LOADS:
        for machine in MACHINES:
            most = {"bursts": 0.10, "drift": 0.10}.get(machine, 0.05)
            bounds = {} if machine == "sine120" else {(w, ANY): ("≤", most) for w in WINDOWS}
            made.append(Cell(f"aa/{load}/{machine}", load, machine, before_after, bounds))
    for load in LOADS:
        sure = (*TTFT, *TPOT) if load == "closed" else (TTFT[0], TPOT[0])
        bounds = {(w, row): ("≥", 0.95) for w in WINDOWS for row in sure}
        right = slower if load == "closed" else right_open
        made.append(Cell(f"x2/{load}", load, "base", before_after, bounds, slower=2.0, right=right))
        long = {(60, row): ("≥", 0.95) for row in sure} if load == "closed" else {}
        made.append(Cell(f"x1.3/{load}", load, "base", before_after, long, slower=1.3, right=right))
    right = slower | dict.fromkeys(TPOT, Verdict.BETTER)
    bounds = {(12, row): ("≥", 0.95 if "p50" in row else 0.80) for row in (*TTFT, *TPOT)}
    made.append(Cell("seqs/closed", "closed", "base", before_after, bounds, (12,), seqs=32,
                     right=right, median_s=30.0))  # fmt: skip
    for load in LOADS:
        bounds = {(w, "goodput"): ("≥", 0.95) for w in WINDOWS}
        lower = (slower if load == "closed" else right_open) | {"goodput": Verdict.WORSE}
        made.append(Cell(f"zero/{load}", load, "base", before_after, bounds, slower=2.0,
                         right=lower, to_none=True))  # fmt: skip
        near = {(LOOKS_S, name): ("≤", 0.05) for name, _ in goal_rows(NEAR)}
        made.append(Cell(f"goal/{load}", load, "base", goal_run, near, (LOOKS_S,), shares=NEAR))
        made.append(Cell(f"goal-far/{load}", load, "base", goal_run, {}, (LOOKS_S,), shares=FAR))
    quicker = {"tokens/s": Verdict.BETTER} | dict.fromkeys((*TTFT, *TPOT), Verdict.BETTER)
    for percent, least in ((2, 0.65), (5, 0.95), (10, 0.95)):
        made.append(Cell(f"ab/{percent}", "closed", "base", ab_run, {(0, "tokens/s"): ("≥", least)},
                         (0,), slower=1 / (1 + percent / 100), right=quicker))  # fmt: skip
    made += [
        Cell(f"ab/aa/{machine}", "closed", machine, ab_run, {(0, ANY): ("≤", 0.05)}, (0,))
        for machine in ("base", "tails", "bursts", "drift")
    ]
    made.append(Cell("ab/seqs", "closed", "base", ab_run, {(0, "open"): ("≤", 0.0)}, (0,),
                     seqs=32, right=slower | dict.fromkeys(TPOT, Verdict.BETTER)))  # fmt: skip
    return made


def told_of(cell: Cell, runs: list[dict[int, Told]]) -> list[str]:
    """A line for each row and window: the bound, the rate with its interval, met or missed."""
    lines = []
    for w in cell.windows:
        told = [run[w] for run in runs]
        names = sorted({name for each in told for name in each.said}
                       | {row for window, row in cell.bounds if window == w})  # fmt: skip
        if cell.run is goal_run:
            hits = {
                name: [name in each.said for each in told] for name, _ in goal_rows(cell.shares)
            }
        elif cell.right:
            hits = {
                name: [each.said.get(name) is cell.right.get(name) for each in told]
                for name in names
                if cell.right.get(name) not in (None, Verdict.SAME)
            }
            wrong = [
                any(said is not cell.right.get(name) for name, said in each.said.items())
                for each in told
            ]
            hits["false, any row"] = wrong
            if (0, "open") in cell.bounds:
                hits["open"] = [each.at_s["open"] > 0 for each in told]
        else:
            hits = {name: [name in each.said for each in told] for name in names if name != ANY}
            hits[ANY] = [bool(each.said) for each in told]
        for name, seen in hits.items():
            times = [each.at_s[name] for each in told if name in each.at_s and name in each.said]
            lines.append(line(cell, w, name, sum(seen), len(seen), times))
        if cell.run is ab_run:
            lines.append(
                f"  {cell.name:<18}       takes {median(e.at_s['pairs'] for e in told):.0f} pairs, "
                f"{median(e.at_s['seconds'] for e in told):.0f} s (medians)"
            )
    return lines


def line(cell: Cell, w: int, name: str, hits: int, n: int, times: list[float]) -> str:
    low, high = wilson(hits, n)
    bound = cell.bounds.get((w, name)) or (("≤", 0.05) if name == "false, any row" else None)
    said, verdict = "", "reported"
    if bound is not None:
        sign, limit = bound
        met = low <= limit if sign == "≤" else high >= limit
        late = bool(times) and sign == "≥" and median(times) > cell.median_s
        said, verdict = f"{sign} {limit:.0%}", "met" if met and not late else "MISSED"
    unit = "pairs" if cell.run is ab_run else "s"
    after = f", after {median(times):.0f} {unit}" if times else ""
    window = f"W={w:<3d}" if w else "     "
    return (
        f"  {cell.name:<18} {window} {name:<18} {said:<7}{hits / n:>6.1%} "
        f"({low:.1%}–{high:.1%}) of {n}{after:<18} {verdict}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=200, help="of each cell")
    parser.add_argument("--seed", type=int, default=1, help="of the first run")
    parser.add_argument("--only", action="append", metavar="PATTERN", help="cells, such as 'aa/*'")
    parser.add_argument("--list", action="store_true", help="the cells, and nothing else")
    options = parser.parse_args()
    chosen = [
        cell
        for cell in cells()
        if not options.only or any(fnmatch(cell.name, each) for each in options.only)
    ]
    if options.list:
        print("\n".join(cell.name for cell in chosen))
        return
    for cell in chosen:
        began_s = time.monotonic()
        runs = []
        for i in range(options.runs):
            runs.append(cell.run(cell, options.seed + i))
            if sys.stderr.isatty():
                print(f"  {cell.name}: {i + 1} of {options.runs}", end="\r", file=sys.stderr)
        print("\n".join(told_of(cell, runs)))
        print(f"  {'':<18} [{time.monotonic() - began_s:.0f} s to compute]", flush=True)


if __name__ == "__main__":
    main()
