"""One picture of a run: everything a front end shows. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from tputtui.engine.orders import Status
from tputtui.engine.protocol import State
from tputtui.hardware import HardwareSample
from tputtui.knobs import Knobs, differing
from tputtui.load.sections import difference
from tputtui.load.timing import Wanted
from tputtui.load.workload import Workload
from tputtui.measure.attainment import Goodput
from tputtui.measure.binding import Binding
from tputtui.measure.frontier import Point
from tputtui.measure.samples import Accounting, Mark
from tputtui.measure.series import Series
from tputtui.measure.verdict import Difference
from tputtui.measure.window import Figures, Latencies, Phase, Window
from tputtui.profile import EngineSpec, Profile
from tputtui.text.format import clock

__all__ = ["SERVING", "CompareState", "Frame", "SweepState", "Trial", "TunerState", "TunerTrial"]

SERVING = (State.READY, State.RUNNING, State.DRAINING, State.PAUSED)


@dataclass(frozen=True, slots=True)
class Frame:
    """How everything stood at `t_s` (engine clock, seconds).

    asked: the knobs last asked for; None before the engine is up. In force: `status.knobs`.
    now: figures over the last second. window: figures over `window`.
    latencies: over `window`, renewed once a second.
    goodput: of the requests that ended in `window`, against the profile's goals.
    tokens_per_joule, cost_per_mtok: over `window`; NaN without a counter, without a price.
    binding: which limit holds the engine back, over the last 10 s of the window.
    kv_blocks: blocks of the KV cache usable now; kv_frac: the share of them in use.
    wanted: the load as it was meant to be at the last step.
    marks: newest last. points: settings measured so far, the present one last where it counts.
    sweep: a sweep under way, or the last one. compare: an A/B likewise. tuner: likewise.
    trials: every setting tried, in the order they were put on last, so that the present one is
    last. baseline: the number of the one that is pinned, for the others to be compared with.
    guard: what a turn must not break, in words.
    """

    t_s: float
    elapsed_s: float
    status: Status
    profile: Profile
    asked: Knobs | None
    accounting: Accounting
    generated_tokens: int
    now: Figures
    window: Window
    figures: Figures
    latencies: Latencies
    goodput: Goodput
    tokens_per_joule: float
    cost_per_mtok: float
    binding: Binding | None
    kv_frac: float
    kv_blocks: int
    wanted: Wanted
    hardware: HardwareSample | None
    marks: tuple[Mark, ...]
    points: tuple[Point, ...] = ()
    sweep: SweepState | None = None
    trials: tuple[Trial, ...] = ()
    baseline: int | None = None
    compare: CompareState | None = None
    guard: str = ""
    tuner: TunerState | None = None

    @property
    def serving(self) -> bool:
        """Whether the engine is up and its limits can be turned."""
        return self.status.state in SERVING

    @property
    def draining_seqs(self) -> int:
        """Running sequences above the limit in force, which leave as they finish."""
        knobs = self.status.knobs
        return max(0, self.accounting.running - knobs.max_num_seqs) if knobs else 0


@dataclass(frozen=True, slots=True)
class SweepState:
    """A sweep: `level` being measured (None when it is over), `told` levels behind it.

    note: what it is waiting for, or why it ended.
    """

    level: float | None
    told: int
    note: str


@dataclass(frozen=True, slots=True)
class Trial:
    """One setting that was tried: limits, load and engine, and what they gave.

    number: from 1; a setting that is put on again keeps its own. t_s: when it was put on last.
    turned: what that changed, in words.
    series: what was measured of it; None before anything counts. spans: when that was, (start, end)
    each time that the setting stood, a minute of each at most, oldest first.
    phase: what the newest of them is worth; without any, what the window is.
    against: the number of the trial it is compared with, None without one to compare with.
    differences: against that, the headline first, by what both have given so far.
    unjudged: why those are described and not judged; empty where they are.
    decided_s, withdrawn_s: when the headline was found better or worse, and no longer so; NaN until
    then. withdrawn: why. note: what else became of it ("undone by the guard: …").
    """

    number: int
    t_s: float
    turned: str
    knobs: Knobs
    load: Workload
    engine: EngineSpec
    booted: Knobs
    series: Series | None = None
    phase: Phase = Phase.SETTLING
    against: int | None = None
    differences: tuple[Difference, ...] = ()
    note: str = ""
    spans: tuple[tuple[float, float], ...] = ()
    unjudged: str = ""
    decided_s: float = math.nan
    withdrawn_s: float = math.nan
    withdrawn: str = ""

    def differs(self, other: Trial) -> str:
        """What this setting changes of another one, in words; empty when nothing does."""
        engine = "another engine" if other.engine != self.engine else ""
        load = difference(other.load, self.load) if other.load != self.load else ""
        return ", ".join(filter(None, (engine, differing(other.knobs, self.knobs), load)))

    def course(self, started_s: float) -> str:
        """When its verdict was decided and withdrawn, why it has none, and when it was measured.

        started_s: the engine's clock when the run began. Empty where there is nothing to say.
        """
        said = []
        if not math.isnan(self.withdrawn_s):
            decided, withdrawn = (clock(t - started_s) for t in (self.decided_s, self.withdrawn_s))
            said.append(f"decided at {decided}, withdrawn at {withdrawn}: {self.withdrawn}")
        elif self.unjudged:
            said.append(self.unjudged)
        if len(self.spans) > 1:
            times = [f"{clock(a - started_s)}–{clock(b - started_s)}" for a, b in self.spans]
            said.append(f"measured {', '.join(times[:-1])} and {times[-1]}, pooled")
        return "; ".join(said)

    def value(self, key: str) -> float:
        """A metric of `measure.series.METRICS`; NaN where it was not measured."""
        found = self.series.values.get(key) if self.series else None
        return found.value if found else math.nan


@dataclass(frozen=True, slots=True)
class CompareState:
    """A comparison: the leg under way (side "" when it is over), and B against A so far.

    pair: which one, from 0. note: what it is doing, or why it ended. title: "A/B", or "verify" for
    a boot with exactly the tuned values against the engine that they were tuned on.
    sides: A and B by the limits they differ in. left_s: seconds left at most; NaN where unknown.
    """

    side: str
    pair: int
    note: str
    done: bool
    differences: tuple[Difference, ...]
    title: str = "A/B"
    sides: tuple[str, str] = ("", "")
    left_s: float = math.nan

    @property
    def named(self) -> str:
        """Both sides in words; empty where they have no names."""
        return " · ".join(
            f"{side} {name}" for side, name in zip("AB", self.sides, strict=True) if name
        )


@dataclass(frozen=True, slots=True)
class TunerTrial:
    """One trial of the tuner: a setting under a load, measured for a while.

    number: from 1. engine: which of those it tries, 0 the one that stood. knobs: the limits it
    varies. level: of the load, as in Point. index: of that level among those it tries.
    point: what was measured; its letter is the setting's, the same whenever that is measured again.
    value, error: of what is maximised (goodput with goals, else tokens/s), per second, and its
    relative standard error. miss: logarithm of `observed_s` ÷ limit of the goal named `worst`,
    above 0 it is missed; sure: beyond chance. again: it had been measured before.
    why: why it was measured no longer. binding: what held the engine back. took_s: with warm-up.
    """

    number: int
    t_s: float
    engine: int
    knobs: Mapping[str, int]
    level: float
    index: int
    point: Point
    value: float
    error: float
    miss: float
    sure: bool
    worst: str
    observed_s: float
    again: bool
    why: str
    binding: str
    took_s: float

    @property
    def holds(self) -> bool:
        """Whether every goal was met."""
        return self.miss <= 0


@dataclass(frozen=True, slots=True)
class TunerState:
    """The tuner: what it searches, what it has tried, and what came of it.

    of: engine, load and goals it began with. settings: how many there are to try, as far as its
    first engine tells. phase: "searching", "confirming" or "done".
    note: what it does, or why it ended.
    load: whether the load is searched too. search, varied, boots: how and what it searches, as
    in its plan. engines: what each was booted with beside the first.
    best: number of the newest trial of the best setting so far; None before there is one.
    holds, value: whether that met every goal, and what it gave, over all its trials.
    left_s: seconds left at most. drift: the best measured again ÷ before - 1; NaN before that.
    start: the limits of before, and found: those it settled on, as far as they are varied.
    differences: found against start, in pairs, the headline first. verdict: what came of it, in
    sentences. offered: whether there is a setting to take: what was found beats the start.
    """

    phase: str
    note: str
    load: bool
    search: str
    varied: str
    boots: str
    engines: tuple[str, ...]
    trials: tuple[TunerTrial, ...] = ()
    best: int | None = None
    holds: bool = False
    value: float = math.nan
    left_s: float = math.nan
    drift: float = math.nan
    start: Mapping[str, int] = field(default_factory=dict)
    found: Mapping[str, int] = field(default_factory=dict)
    differences: tuple[Difference, ...] = ()
    verdict: str = ""
    offered: bool = False
    of: Profile | None = None
    settings: int = 0

    @property
    def tried(self) -> int:
        """How many settings it has tried so far."""
        return len({(trial.engine, *sorted(trial.knobs.items())) for trial in self.trials})

    @property
    def best_trial(self) -> TunerTrial | None:
        """The newest trial of the best setting so far; None before there is one."""
        return next((trial for trial in self.trials if trial.number == self.best), None)

    @property
    def over(self) -> bool:
        """Whether nothing is under way any more."""
        return self.phase == "done"
