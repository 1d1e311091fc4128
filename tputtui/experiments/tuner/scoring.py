"""What a stretch of one setting is worth to the tuner: its headline, and how far from its goals.

Pure. Called by whoever looks (the front end's thread).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from tputtui.experiments.tuner.search import Seen
from tputtui.frame import TunerTrial
from tputtui.goals import Goal
from tputtui.load.notation import describe_arrivals
from tputtui.load.workload import Workload, level_of
from tputtui.measure.attainment import keeping, wilson
from tputtui.measure.bounds import Binding
from tputtui.measure.frontier import Point, letter
from tputtui.measure.recorder import ENDED, Recorder
from tputtui.measure.series import Batched, rows, series
from tputtui.measure.stats import Floats, t_quantile
from tputtui.measure.window import figures, latencies

__all__ = ["SATURATED", "Score", "score", "trial_of"]

SATURATED = "saturated"
_FARTHEST = 10.0
"""The largest miss, either way: a factor of 22,000."""
_Z = 1.96
_ONE_SIGMA = 0.3173
"""What a normal deviate exceeds one standard deviation with, either way."""
_NOTHING_S = 10.0
"""Where no request ends for so long, none will meet anything."""


class Score(NamedTuple):
    """seen: for the search.

    worst: the goal nearest to its limit, or farthest beyond it, by its name; "saturated" where more
    arrived than was served; empty without goals. observed_s: its percentile over all requests that
    ended, bad ones taken as endless.
    """

    seen: Seen
    worst: str
    observed_s: float


def score(
    recorder: Recorder,
    start_s: float,
    end_s: float,
    goals: Sequence[Goal],
    *,
    must_keep_up: bool,
) -> Score:
    """What start_s < time ≤ end_s was worth.

    must_keep_up: what arrives must be served, or no goal counts as met.
    """
    found = series(recorder, start_s, end_s, goals)
    headline = found.values.get(rows(bool(goals))[0].key)
    value = headline.value if headline else math.nan
    error = _error(headline) if headline else math.nan
    if math.isnan(error):
        # Too few batches: as if every request were a coin's throw.
        error = 1 / math.sqrt(max(1, found.n))
    miss, sure, worst, observed_s = _nearest(recorder, start_s, end_s, goals, error)
    if must_keep_up and goals:
        rates = figures(recorder, start_s, end_s)
        if rates.saturated:
            behind = math.log(rates.offered_per_s / max(rates.achieved_per_s, 1e-9))
            miss, sure, worst = max(miss, min(behind, _FARTHEST), 1e-9), True, SATURATED
    if goals and not found.n and found.length_s >= _NOTHING_S:
        miss, sure = _FARTHEST, True
    seen = Seen(value, error, miss, sure, found.length_s, found.n)
    return Score(seen, worst, observed_s)


def trial_of(
    found: Score,
    recorder: Recorder,
    span_s: tuple[float, float],
    goals: Sequence[Goal],
    *,
    number: int,
    engine: int,
    knobs: Mapping[str, int],
    load: Workload,
    index: int,
    again: bool,
    why: str,
    binding: Binding | None,
    took_s: float,
    known: Sequence[TunerTrial],
) -> TunerTrial:
    """A trial that is over, measured over `span_s`; a setting that is `known` keeps its letter."""
    start_s, end_s = span_s
    rates, waits = figures(recorder, start_s, end_s), latencies(recorder, start_s, end_s)
    seen, level = found.seen, level_of(load.arrivals)
    before = [trial for trial in known if (trial.engine, trial.knobs) == (engine, knobs)]
    settings = {trial.point.label for trial in known}
    point = Point(
        label=before[0].point.label if before else letter(len(settings)),
        knobs=knobs,
        load=describe_arrivals(load.arrivals),
        level=float(level) if isinstance(level, int | float) else math.nan,
        tokens_per_s=rates.generated_per_s,
        requests_per_s=rates.achieved_per_s,
        latency={"ttft": waits.ttft, "tpot": waits.tpot, "e2e": waits.e2e},
        n=seen.n,
        window_s=seen.length_s,
        offered_per_s=rates.offered_per_s,
        goodput_per_s=seen.value if goals else math.nan,
        saturated=rates.saturated,
    )
    return TunerTrial(
        number=number,
        t_s=end_s,
        engine=engine,
        knobs=knobs,
        level=point.level,
        index=index,
        point=point,
        value=seen.value,
        error=seen.error,
        miss=seen.miss,
        sure=seen.sure,
        worst=found.worst,
        observed_s=found.observed_s,
        again=again,
        why=why,
        binding=f"{binding.bound}: {binding.evidence}" if binding else "",
        took_s=took_s,
    )


def _error(headline: Batched) -> float:
    """Half the 68 % interval of its logarithm: a standard error that knows its few batches.

    NaN without batches enough. Half an event stands in for a rate of none: a Poisson count's
    logarithm has variance 1/count.
    """
    if headline.value <= 0:
        return math.sqrt(2)
    error, freedom = headline.error()
    return error if math.isnan(error) else t_quantile(_ONE_SIGMA, freedom) * error


def _nearest(
    recorder: Recorder, start_s: float, end_s: float, goals: Sequence[Goal], error: float
) -> tuple[float, bool, str, float]:
    """Miss, whether any goal is missed beyond chance, and the goal it is worst with.

    error: the relative one of goodput. A trial is looked at a few times only, and given up where
    chance is no likely reason; a goal that is said to be met or missed has the wider interval of
    `goodput`.
    """
    ended = recorder.ended.between(start_s, end_s)
    if not goals or not len(ended):
        return (-_FARTHEST if not goals else _FARTHEST), False, "", math.nan

    def column(name: str) -> Floats:
        return ended[:, ENDED[name]]

    good = column("good")
    misses = []
    for goal in goals:
        value = np.where(good > 0, np.nan_to_num(column(f"{goal.metric}_s")), np.inf)
        # The least latency that as many as must keep it do keep: at most the limit, if it is met.
        at = float(np.quantile(value, goal.target, method="inverted_cdf"))
        miss = (
            math.log(at / goal.limit_s) if 0 < at < math.inf else math.copysign(_FARTHEST, at - 1)
        )
        misses.append((max(-_FARTHEST, min(miss, _FARTHEST)), goal.name, at))
    miss, worst, observed_s = max(misses)
    sure = False
    for goal in goals:
        kept = int(keeping(ended, goal).sum())
        likely = max(wilson(kept, len(ended))[1], kept / len(ended) * (1 + _Z * error))
        sure |= likely < goal.target
    return miss, sure, worst, observed_s
