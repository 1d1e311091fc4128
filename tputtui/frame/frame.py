"""One picture of a run: everything a front end shows. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from tputtui.engine.orders import Status
from tputtui.engine.protocol import State
from tputtui.engine.resolved import same_engine, unlike
from tputtui.hardware import HardwareSample
from tputtui.knobs import Knobs, differing, names_differing
from tputtui.load.carrier import Label
from tputtui.load.requests.counts import RequestCounts
from tputtui.load.sections import difference
from tputtui.load.timing import Wanted
from tputtui.load.workload import Workload
from tputtui.measure.attainment import Goodput
from tputtui.measure.binding import Binding
from tputtui.measure.frontier import Point
from tputtui.measure.histogram import Histogram
from tputtui.measure.padding import Padding
from tputtui.measure.samples import Accounting, EngineLoad, Mark, above
from tputtui.measure.series import Series
from tputtui.measure.traffic import Traffic
from tputtui.measure.verdict import Difference
from tputtui.measure.window import Figures, Latencies, Phase, Window
from tputtui.predict.outlook import Outlook
from tputtui.profile import EngineSpec, Profile
from tputtui.quality.compare import FirstDifference
from tputtui.text.format import clock

__all__ = [
    "SERVING",
    "CompareState",
    "Frame",
    "QualityState",
    "SweepState",
    "Tried",
    "TunerState",
    "TunerTrial",
]

SERVING = (State.READY, State.RUNNING, State.DRAINING, State.PAUSED)


@dataclass(frozen=True, slots=True)
class Frame:
    """How everything stood at one moment of a run."""

    t_s: float
    """The moment, in seconds of the engine clock."""
    elapsed_s: float
    """Seconds since the run began."""
    status: Status
    profile: Profile
    asked: Knobs | None
    """The limits last ordered; None before the engine is up. `status.knobs` are those in force."""
    accounting: Accounting
    generated_tokens: int
    """Tokens since the start of the run."""
    now: Figures
    """Figures over the last second."""
    window: Window
    figures: Figures
    """Figures over `window`."""
    latencies: Latencies
    """Latencies over `window`, computed once a second."""
    goodput: Goodput
    """How the requests that ended in `window` kept the profile's goals."""
    tokens_per_joule: float
    """Generated tokens per joule over `window`; NaN without an energy counter."""
    cost_per_mtok: float
    """Cost of a million generated tokens over `window`; NaN without a price."""
    binding: Binding | None
    """What holds the engine back, over the last 10 s of the window; None where it is not known."""
    kv_frac: float
    """Share of the usable KV blocks in use, 0 to 1."""
    kv_blocks: int
    """Blocks of the KV cache usable now."""
    wanted: Wanted
    """The load as it was planned at the last step."""
    hardware: HardwareSample | None
    """The last sample of GPUs and host; None without a sampler."""
    marks: tuple[Mark, ...]
    """Newest last."""
    spread: tuple[Histogram, ...] = ()
    """How the latencies of the newest requests in `window` are spread."""
    others: int = 0
    """Requests of other people under way, at a server that tells."""
    engines: tuple[EngineLoad, ...] = ()
    """Each engine of a server that tells; empty for an engine in this process."""
    stops: tuple[tuple[str, int], ...] = ()
    """How many finished requests stopped for each reason, by name."""
    requests: RequestCounts | None = None
    """What became of the lines of a file of real requests; None without one."""
    points: tuple[Point, ...] = ()
    """Settings measured so far, by letter."""
    sweep: SweepState | None = None
    """The sweep under way, or the last one."""
    trials: tuple[Tried, ...] = ()
    """Every setting tried; the one put on last (the present one) is last."""
    baseline: int | None = None
    """Number of the pinned trial, with which the others are compared; None for none."""
    compare: CompareState | None = None
    """The A/B or verify boot under way, or the last one."""
    guard: str = ""
    """What a change must not break, as it was written; empty without a guard."""
    tuner: TunerState | None = None
    """The tuner under way, or the last one."""
    traffic: tuple[Traffic, ...] = ()
    """Each class of traffic, or adapter, over `window`; empty where requests are of one kind."""
    tiers: tuple[tuple[str, int], ...] = ()
    """Prompt tokens found in a cache since the boot, by tier; empty with the GPU's alone."""
    padding: Padding | None = None
    """Padding of decode steps over `window`; None without CUDA graphs."""
    labels: tuple[Label, ...] = ()
    """What the labels of the recorded requests mean, by number."""
    outlooks: tuple[Outlook, ...] = ()
    """What other values of a limit would do, as far as a person has looked at them."""
    quality: QualityState | None = None
    """Whether the present setting answers as the reference; on the screen only, in no log."""

    @property
    def serving(self) -> bool:
        """Whether the engine is up and its limits can be changed."""
        return self.status.state in SERVING

    @property
    def draining_seqs(self) -> int:
        """Running sequences above the limit in force, which leave as they finish."""
        knobs = self.status.knobs
        return above(self.accounting, self.engines, knobs.max_num_seqs) if knobs else 0

    @property
    def running(self) -> int:
        """Sequences in the batch, of all engines and everybody's as far as that is told."""
        if not self.engines:
            return self.accounting.running
        return sum(each.running for each in self.engines)


@dataclass(frozen=True, slots=True)
class SweepState:
    """How far a sweep is."""

    level: float | None
    """The level being measured; None when the sweep is over."""
    told: int
    """How many levels have been measured."""
    note: str
    """What it is waiting for, or why it ended."""
    named: str = ""
    """The level in words: 34 in flight."""
    left_s: float = math.nan
    """Seconds left at most for this level; NaN where it is not known."""


@dataclass(frozen=True, slots=True)
class Tried:
    """One setting that was tried: limits, load and engine, and what they gave."""

    number: int
    """From 1; a setting that is put on again keeps its number."""
    t_s: float
    """When it was put on last, in seconds of the engine clock."""
    changed: str
    """What that changed, in words."""
    knobs: Knobs
    load: Workload
    engine: EngineSpec
    booted: Knobs
    """The limits with which the engine booted."""
    got: Mapping[str, str] = field(default_factory=dict)
    """What that boot resolved its arguments to, by name; empty where it is not known."""
    series: Series | None = None
    """What was measured of it; None before anything counts."""
    phase: Phase = Phase.SETTLING
    """Phase of the newest span; without a span, of the window."""
    against: int | None = None
    """Number of the trial that it is compared with; None for none."""
    differences: tuple[Difference, ...] = ()
    """From that trial, the headline first, by all that both have given so far."""
    note: str = ""
    """What else happened to it ("undone by the guard: …")."""
    spans: tuple[tuple[float, float], ...] = ()
    """When it was measured, oldest first: (start, end) in seconds of the engine clock, one for each
    time that the setting was in force, a minute at most."""
    unjudged: str = ""
    """Why the differences are shown but not judged; empty where they are judged."""
    decided_s: float = math.nan
    """When the headline was judged better or worse; NaN until then."""
    withdrawn_s: float = math.nan
    """When that judgement was withdrawn; NaN where it holds."""
    withdrawn: str = ""
    """Why it was withdrawn."""
    predicted: Mapping[str, float] = field(default_factory=dict)
    """The changes that were predicted before it was put on, as fractions, by the key of a metric;
    empty where none were shown."""
    predicted_from: int | None = None
    """Number of the trial from which they were predicted."""

    def same_engine(self, other: Tried) -> bool:
        """Whether both ran on the same engine, by what its boot resolved its arguments to."""
        return same_engine(other.engine, other.got, self.engine, self.got)

    def differs(self, other: Tried) -> str:
        """How this setting differs from another one, in words; empty where it does not."""
        engine = "" if self.same_engine(other) else "another engine"
        if engine:
            # What a limit is now tells more than what it was booted with.
            told = names_differing(other.knobs, self.knobs)
            got = {name: n for name, n in self.got.items() if name.rpartition(".")[2] not in told}
            if resolved := unlike(other.got, got):
                engine = f"{engine}: {resolved}"
        load = difference(other.load, self.load) if other.load != self.load else ""
        return ", ".join(filter(None, (engine, differing(other.knobs, self.knobs), load)))

    def course(self, started_s: float) -> str:
        """When its verdict was decided and withdrawn, why it has none, and when it was measured.

        In words; empty where none of these applies. started_s: the engine's clock when the run
        began.
        """
        clauses = []
        if not math.isnan(self.withdrawn_s):
            decided, withdrawn = (clock(t - started_s) for t in (self.decided_s, self.withdrawn_s))
            clauses.append(f"decided at {decided}, withdrawn at {withdrawn}: {self.withdrawn}")
        elif self.unjudged:
            clauses.append(self.unjudged)
        if len(self.spans) > 1:
            times = [f"{clock(a - started_s)}–{clock(b - started_s)}" for a, b in self.spans]
            clauses.append(f"measured {', '.join(times[:-1])} and {times[-1]}, pooled")
        return "; ".join(clauses)

    @property
    def foretold(self) -> Mapping[str, float]:
        """The predicted changes that can be held against `differences`."""
        return self.predicted if self.against == self.predicted_from else {}

    def value(self, key: str) -> float:
        """A metric of `measure.series.METRICS`; NaN where it was not measured."""
        batched = self.series.values.get(key) if self.series else None
        return batched.value if batched else math.nan


@dataclass(frozen=True, slots=True)
class CompareState:
    """How far a comparison is, and what it has measured so far."""

    side: str
    """Side of the leg under way, "A" or "B"; empty when the comparison is over."""
    pair: int
    """Number of the pair under way, from 0."""
    note: str
    """What it is doing, or why it ended."""
    done: bool
    differences: tuple[Difference, ...]
    """B against A so far, the headline first."""
    title: str = "A/B"
    """`A/B`, or `verify`: a boot with exactly the tuned values, compared with the tuned engine."""
    sides: tuple[str, str] = ("", "")
    """A and B by the limits in which they differ."""
    left_s: float = math.nan
    """Seconds left at most; NaN where it is not known."""

    @property
    def named(self) -> str:
        """Both sides in words; empty where they have no names."""
        return " · ".join(
            f"{side} {name}" for side, name in zip("AB", self.sides, strict=True) if name
        )


@dataclass(frozen=True, slots=True)
class QualityState:
    """How far a comparison of answers is, or what it found."""

    note: str
    """What it is doing, what it found, or why it ended."""
    over: bool = False
    verdict: str = ""
    """Empty before one is known."""
    differences: tuple[tuple[str, FirstDifference], ...] = ()
    """Alone, or under load: the answers that differ least likely by chance."""


@dataclass(frozen=True, slots=True)
class TunerTrial:
    """One trial of the tuner: a setting under a load, measured for a while."""

    number: int
    """From 1."""
    t_s: float
    """When it ended, in seconds of the engine clock."""
    engine: int
    """Number of the engine among those that the tuner tries; 0 is the one it began with."""
    knobs: Mapping[str, int]
    """The limits that the tuner varies, by name."""
    level: float
    """Level of the load, as in `Point`."""
    index: int
    """Index of that level among those that the tuner tries."""
    point: Point
    """What was measured. Its letter belongs to the setting, also when that is measured again."""
    value: float
    """What the tuner maximises, per second: goodput with goals, else tokens/s."""
    error: float
    """Relative standard error of `value`."""
    miss: float
    """ln(`observed_s` ÷ limit) of the goal `worst`; the goal is missed above 0."""
    sure: bool
    """Whether a goal is missed by more than chance explains."""
    worst: str
    """Name of the goal with the greatest miss; "saturated" where not everything was served."""
    observed_s: float
    """That goal's percentile, in seconds; NaN without goals or requests."""
    again: bool
    """Whether the setting had been measured before."""
    why: str
    """Why it was not measured longer."""
    binding: str
    """What held the engine back, in words."""
    took_s: float
    """Seconds that it took, with warm-up."""
    predicted: float = math.nan
    """What was predicted of `value` before; NaN where nothing was."""

    @property
    def holds(self) -> bool:
        """Whether every goal was met."""
        return self.miss <= 0


@dataclass(frozen=True, slots=True)
class TunerState:
    """The tuner: what it searches, what it has tried, and its result."""

    phase: str
    """`searching`, `confirming` or `done`."""
    note: str
    """What it does now, or why it ended."""
    load: bool
    """Whether the load is searched too."""
    search: str
    """How it searches, one of `SEARCHES`."""
    varied: str
    """The limits that it varies with their values, as text."""
    boots: str
    """The engine arguments that it varies with their values, as text."""
    engines: tuple[str, ...]
    """Of each engine, the arguments that differ from the first one's."""
    trials: tuple[TunerTrial, ...] = ()
    best: int | None = None
    """Number of the newest trial of the best setting so far; None before there is one."""
    holds: bool = False
    """Whether the best setting met every goal, over all its trials."""
    value: float = math.nan
    """What the best setting gave per second, over all its trials."""
    left_s: float = math.nan
    """Seconds left at most."""
    drift: float = math.nan
    """The best setting measured again ÷ before - 1; NaN before that."""
    start: Mapping[str, int] = field(default_factory=dict)
    """The limits at the start, as far as they are varied."""
    found: Mapping[str, int] = field(default_factory=dict)
    """The limits of the best setting, as far as they are varied."""
    differences: tuple[Difference, ...] = ()
    """The best setting against the start, in pairs, the headline first."""
    verdict: str = ""
    """The result, in sentences."""
    offered: bool = False
    """Whether there is a setting to take: the best one beats the start."""
    of: Profile | None = None
    """Engine, load and goals that it began with; None in logs that do not have them."""
    settings: int = 0
    """How many settings there are to try, by its first engine."""

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
        """Whether the tuner has ended."""
        return self.phase == "done"
