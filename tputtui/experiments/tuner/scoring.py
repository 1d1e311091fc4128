"""The score of a stretch of one setting for the tuner: its headline, and its distance to the goals.

Pure; called on the front end's thread.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from tputtui.experiments.tuner.search import Seen
from tputtui.frame import TunerTrial
from tputtui.goals import Goal
from tputtui.load.notation import describe_all_arrivals
from tputtui.load.workload import Workload, lead, level_of
from tputtui.measure.attainment import FARTHEST, concerned, counted, keeping, wilson, worst_miss
from tputtui.measure.bounds import Binding
from tputtui.measure.frontier import Point, letter
from tputtui.measure.normal import Z95
from tputtui.measure.recorder import Recorder
from tputtui.measure.series import Batched, rows, series
from tputtui.measure.stats import t_quantile
from tputtui.measure.window import figures, latencies

__all__ = ["SATURATED", "Score", "score", "trial_of"]

SATURATED = "saturated"
_ONE_SIGMA = 0.3173
"""Probability that a normal deviate exceeds one standard deviation, in either direction."""
_NOTHING_S = 10.0
"""Where no request ends for so long, the goals count as missed."""


class Score(NamedTuple):
    """The score of a stretch of one setting."""

    seen: Seen
    """For the search."""
    worst: str
    """Name of the goal with the greatest miss; "saturated" where more arrived than was served;
    empty without goals."""
    observed_s: float
    """That goal's percentile over all requests that ended, in seconds; a request that is not good
    counts as infinite. NaN without goals or requests."""


def score(
    recorder: Recorder,
    start_s: float,
    end_s: float,
    goals: Sequence[Goal],
    *,
    must_keep_up: bool,
) -> Score:
    """The score of start_s < time ≤ end_s.

    must_keep_up: where the engine serves less than arrives, no goal counts as met.
    """
    metrics = series(recorder, start_s, end_s, goals)
    headline = metrics.values.get(rows(bool(goals))[0].key)
    value = headline.value if headline else math.nan
    error = _error(headline) if headline else math.nan
    if math.isnan(error):
        # Too few batches: the error of a Poisson count of the requests.
        error = 1 / math.sqrt(max(1, metrics.n))
    miss, sure, worst, observed_s = _nearest(recorder, start_s, end_s, goals, error)
    if must_keep_up and goals:
        rates = figures(recorder, start_s, end_s)
        if rates.saturated:
            behind = math.log(rates.offered_per_s / max(rates.achieved_per_s, 1e-9))
            miss, sure, worst = max(miss, min(behind, FARTHEST), 1e-9), True, SATURATED
    if goals and not metrics.n and metrics.length_s >= _NOTHING_S:
        miss, sure = FARTHEST, True
    seen = Seen(value, error, miss, sure, metrics.length_s, metrics.n)
    return Score(seen, worst, observed_s)


def trial_of(
    scored: Score,
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
    predicted: float,
    known: Sequence[TunerTrial],
) -> TunerTrial:
    """A trial that has ended, measured over `span_s`.

    predicted: what was predicted of its value. known: the trials before it; a setting that is in
    them keeps its letter.
    """
    start_s, end_s = span_s
    rates, waits = figures(recorder, start_s, end_s), latencies(recorder, start_s, end_s)
    seen, level = scored.seen, level_of(lead(load))
    before = [trial for trial in known if (trial.engine, trial.knobs) == (engine, knobs)]
    settings = {trial.point.label for trial in known}
    point = Point(
        label=before[0].point.label if before else letter(len(settings)),
        knobs=knobs,
        load=describe_all_arrivals(load),
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
        worst=scored.worst,
        observed_s=scored.observed_s,
        again=again,
        why=why,
        binding=f"{binding.bound}: {binding.evidence}" if binding else "",
        took_s=took_s,
        predicted=predicted,
    )


def _error(headline: Batched) -> float:
    """Half the 68 % interval of the headline's logarithm: it allows for a small number of batches.

    NaN with too few batches. A rate of 0 counts as half an event: the logarithm of a Poisson count
    has variance 1/count.
    """
    if headline.value <= 0:
        return math.sqrt(2)
    error, freedom = headline.error()
    return error if math.isnan(error) else t_quantile(_ONE_SIGMA, freedom) * error


def _nearest(
    recorder: Recorder, start_s: float, end_s: float, goals: Sequence[Goal], error: float
) -> tuple[float, bool, str, float]:
    """The greatest miss, whether chance cannot explain one, its goal's name, and what it observed.

    error: the relative error of goodput. These plain intervals suffice here, because a trial is
    tested only a few times and only given up where chance is unlikely; the verdict on a goal uses
    the wider intervals of `goodput`.
    """
    ended = counted(recorder.ended.between(start_s, end_s))
    if not goals or not len(ended):
        return (-FARTHEST if not goals else FARTHEST), False, "", math.nan
    misses, sure = [], False
    for goal in goals:
        mine = ended[concerned(recorder, ended, goal)]
        if not len(mine):
            misses.append((FARTHEST, goal.name, math.nan))
            continue
        misses.append(worst_miss(mine, [goal]))
        kept = int(keeping(mine, goal).sum())
        likely = max(wilson(kept, len(mine))[1], kept / len(mine) * (1 + Z95 * error))
        sure |= likely < goal.target
    miss, worst, observed_s = max(misses)
    return miss, sure, worst, observed_s
