"""How many requests met the goals, and whether they are enough to decide. Pure.

Requests are not independent trials: requests that wait through one stall are late together. And a
goal that is tested every second is met or missed by chance sooner or later. So a share counts for
as many independent requests as its turnover batches show (`batches.py`), and its interval holds at
every look (`stats.anytime_bound`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tputtui.goals import Goal
from tputtui.measure.batches import FEWEST, spread_of_neighbours, turnover_batches
from tputtui.measure.normal import Z95
from tputtui.measure.recorder import ENDED, Recorder, Rows
from tputtui.measure.stats import Floats, anytime_bound, t_quantile

__all__ = [
    "FARTHEST",
    "Attainment",
    "GoalVerdict",
    "Goodput",
    "attainment",
    "concerned",
    "counted",
    "goodput",
    "judged_s",
    "keeping",
    "overdue",
    "share_interval",
    "wilson",
    "worst_miss",
]  # fmt: skip

Flags = NDArray[np.bool_]

FARTHEST = 10.0
"""The largest miss in either direction: a factor of 22,000."""
_LEVEL = 0.05
_LONG_S = 60.0
"""Seconds after which the boundary hardly becomes narrower."""
_REQUESTS = 10
"""Fewest requests in a batch."""
_PRIOR_FREEDOM = 0.25
"""Degrees of freedom of the prior assumption that all requests of a turnover count as one."""
_WIDEST = 0.3
"""Largest standard deviation of the logarithms of turnovers' levels on a steady engine."""
_NORMAL = NormalDist()
_HAIR_S = 1e-9
"""Times that differ by less are equal: some are sums and differences of others (rounding)."""


class GoalVerdict(StrEnum):
    """Whether a goal is met by more than chance explains."""

    MET = "met"
    MISSED = "missed"
    UNRESOLVED = "unresolved"
    """The interval contains the target: more requests are needed to decide."""


@dataclass(frozen=True, slots=True)
class Attainment:
    """How one goal was kept by the requests that ended, or that are late already."""

    goal: Goal
    met: int
    """Requests that kept within the goal's limit."""
    n: int
    """Requests that count: those that ended, and those in flight that are late already."""
    frac: float
    """met ÷ n; NaN for n = 0."""
    low: float
    """Lower end of the 95 % interval of `frac`, which holds at every look."""
    high: float
    """Upper end of the same interval."""
    verdict: GoalVerdict
    observed_s: float
    """The goal's percentile over the good requests, in seconds; NaN without good requests."""


@dataclass(frozen=True, slots=True)
class Goodput:
    """The requests that met every goal at once."""

    per_s: float
    """Requests that met every goal, per second; NaN for a window of no length."""
    met: int
    """Requests that met every goal."""
    n: int
    """Requests that count, as in `Attainment`."""
    frac: float
    """met ÷ n; NaN for n = 0."""
    low: float
    """Lower end of the 95 % interval of `frac`, which holds at every look."""
    high: float
    """Upper end of the same interval."""
    each: tuple[Attainment, ...]
    """Every goal by itself, in the order in which the goals were given."""


def goodput(recorder: Recorder, goals: Sequence[Goal], start_s: float, end_s: float) -> Goodput:
    """How requests that ended in start_s < time ≤ end_s, or are late at its end, kept `goals`.

    A request that is not good (cut, aborted, rejected, failed) misses every goal. One that its
    client gave up (cancelled) does not count. A request in
    flight that has waited longer than a limit misses that goal. A good request with a single token
    has no TPOT (NaN) and meets any TPOT goal. Without goals, every good request counts. The goal of
    a job is for the request that ends it, or breaks it; a job under way that has taken longer
    misses it.

    Goodput: Zhong et al., DistServe, OSDI 2024; `vllm bench serve --goodput` counts the same way.
    """
    ended = counted(recorder.ended.between(start_s, end_s))
    length_s, batches = end_s - start_s, turnover_batches(recorder, start_s, end_s)
    good = ended[:, ENDED["good"]] > 0
    every, lates = good.copy(), {"": 0}
    each = []
    for goal in goals:
        mine = concerned(recorder, ended, goal)
        every &= keeping(ended, goal) | ~mine
        late = overdue(recorder, goal, end_s)
        lates[goal.traffic] = max(lates.get(goal.traffic, 0), late)
        values_s = np.concatenate((judged_s(ended[mine], goal), np.full(late, np.inf)))
        each.append(attainment(goal, values_s, batches, length_s))
    # A request that is late for a goal of its class may be late for one of all requests as well.
    most_late = max(lates[""], sum(lates.values()) - lates[""])
    every = np.concatenate((every, np.zeros(most_late, dtype=np.bool_)))
    met, n = int(np.count_nonzero(every)), len(every)
    low, high = share_interval(every, batches, length_s)
    # A request that keeps every goal also keeps each one of all requests: their bounds hold too.
    of_all = [one for one in each if not one.goal.traffic and one.goal.metric != "job"]
    high = min([high, *(one.high for one in of_all)])
    return Goodput(
        met / length_s if length_s > 0 else math.nan,
        met,
        n,
        met / n if n else math.nan,
        min(low, high),
        high,
        tuple(each),
    )


def concerned(recorder: Recorder, ended: Floats, goal: Goal) -> Flags:
    """Which of the requests that have left a goal is for, shape (k,).

    ended: rows with the columns that `ENDED` names, shape (k, columns). The goal of a job is for
    the requests that ended one, or broke it.
    """
    mine = recorder.concerned(ended[:, ENDED["label"]], goal.traffic)
    return mine & ~np.isnan(ended[:, ENDED["job_s"]]) if goal.metric == "job" else mine


def counted(ended: Floats) -> Floats:
    """Those of the requests that have left which count for goals: all but cancelled ones.

    ended: rows with the columns that `ENDED` names, shape (k, columns).
    """
    cancelled = ended[:, ENDED["cancelled"]] > 0
    return ended[~cancelled] if cancelled.any() else ended


def attainment(goal: Goal, values_s: Floats, batches: int, length_s: float) -> Attainment:
    """How requests in order of time kept a goal, and whether the goal is met.

    values_s: latencies as `judged_s` returns them, shape (n,). batches: the number of turnovers
    in the window. length_s: the window's length in seconds.
    """
    kept: Flags = (values_s <= goal.limit_s) | np.isnan(values_s)
    met, n = int(np.count_nonzero(kept)), len(kept)
    low, high = share_interval(kept, batches, length_s)
    levels = _levels(goal, values_s, batches)
    if levels is not None and length_s > 0:
        far = levels.far(length_s)
        low = min(low, levels.within(length_s))
        if met == n and far > low:
            low = far
        elif met == 0 and far < high:
            high = far
    verdict = GoalVerdict.UNRESOLVED
    if n and low >= goal.target:
        verdict = GoalVerdict.MET
    elif n and high < goal.target:
        verdict = GoalVerdict.MISSED
    there = values_s[np.isfinite(values_s)]
    observed_s = float(np.percentile(there, goal.percentile)) if len(there) else math.nan
    return Attainment(goal, met, n, met / n if n else math.nan, low, high, verdict, observed_s)


def share_interval(kept: Flags, batches: int, length_s: float) -> tuple[float, float]:
    """95 % interval, valid at every look, of the share of requests that kept a goal.

    kept: shape (n,), in order of time; batches, length_s: as in `attainment`. (0, 1) below three
    batches of ten requests.

    Wilson's interval for n ÷ (variance of the share over batches ÷ its binomial variance) requests
    (the design effect: Kish, Survey Sampling, 1965, sec. 8.2). Student's t accounts for the small
    number of batches from which that variance is estimated. The binomial variance is taken at
    Wilson's centre, where it is above 0 even if all requests kept the goal, or none did.
    """
    n = len(kept)
    parts = min(batches, n // _REQUESTS)
    if parts < FEWEST or not length_s > 0:
        return 0.0, 1.0
    size = n // parts
    shares = kept[n - parts * size :].reshape(parts, size).mean(axis=1)
    observed = spread_of_neighbours(shares)
    frac = float(kept.mean())
    centre = (frac * n + Z95**2 / 2) / (n + Z95**2)
    seen = observed.variance * size / (centre * (1 - centre))
    freedom = observed.freedom + _PRIOR_FREEDOM
    effect = max(1.0, (observed.freedom * seen + _PRIOR_FREEDOM * size) / freedom)
    return wilson(frac * n / effect, n / effect, _errors(length_s, freedom))


def keeping(ended: Floats, goal: Goal) -> Flags:
    """Which of the requests that have left kept a goal, shape (k,).

    A request that is not good did not keep it.
    ended: rows with the columns that `ENDED` names, shape (k, columns). A request with a single
    token has no TPOT (NaN), and meets any TPOT goal; so does one that ends no job any goal of jobs.
    """
    values_s = judged_s(ended, goal)
    kept: Flags = (values_s <= goal.limit_s) | np.isnan(values_s)
    return kept


def judged_s(ended: Floats, goal: Goal) -> Floats:
    """The latency that a goal bounds, for requests that have left: shape (k,), in seconds.

    ended: as in `keeping`. Infinite for a request that is not good; NaN for the TPOT of a request
    with a single token, and for the job of a request that ended, or broke, none.
    """
    values_s, good = ended[:, ENDED[f"{goal.metric}_s"]], ended[:, ENDED["good"]] > 0
    if goal.metric == "job":
        good = good | np.isnan(values_s)
    return np.where(good, values_s, np.inf)


def worst_miss(ended: Floats, goals: Sequence[Goal]) -> tuple[float, str, float]:
    """The greatest miss of a goal, the goal's name, and what was observed in seconds.

    A miss is ln(latency ÷ limit), of the latency that the required share of requests keeps: the
    goal is met where it is ≤ 0. ended: one row at least. goals: one at least.
    """
    misses = []
    for goal in goals:
        values_s = judged_s(ended, goal)
        if goal.metric == "job":
            values_s = values_s[~np.isnan(values_s)]
        if not len(values_s):
            misses.append((FARTHEST, goal.name, math.nan))
            continue
        value = np.nan_to_num(values_s, posinf=np.inf)
        at = float(np.quantile(value, goal.target, method="inverted_cdf"))
        miss = math.log(at / goal.limit_s) if 0 < at < math.inf else math.copysign(FARTHEST, at - 1)
        misses.append((max(-FARTHEST, min(miss, FARTHEST)), goal.name, at))
    return max(misses)


def overdue(recorder: Recorder, goal: Goal, now_s: float) -> int:
    """Requests in flight at `now_s` that have already waited longer than a TTFT or E2E goal allows.

    For TTFT only requests without a first token count; for a goal of jobs, the jobs under way, by
    their first step. Requests that were due before the oldest row that the recorder still has are
    not counted.
    """
    if goal.metric == "tpot":
        return 0
    ended = recorder.ended.between(-np.inf, now_s)
    known = ended
    if goal.metric == "job":
        ended = ended[~np.isnan(ended[:, ENDED["job_s"]])]
    over_s, due_s, labels = ended[:, 0], ended[:, ENDED["due_s"]], ended[:, ENDED["label"]]
    if goal.metric == "job":
        due_s = over_s - ended[:, ENDED["job_s"]]
    # Where due times are lost (NaN), every request of that time had left by then.
    since_s = float(np.max(over_s[np.isnan(due_s)], initial=-np.inf))
    if goal.metric == "ttft":
        first = recorder.first_tokens.between(-np.inf, now_s)
        since_s = max(since_s, _known_since(recorder.first_tokens, first))
        never = ended[:, ENDED["began"]] == 0
        due_s = np.concatenate((first[:, 0] - first[:, 1], due_s[never]))
        labels = np.concatenate((first[:, 3], labels[never]))
    since_s = max(since_s, _known_since(recorder.ended, known))
    due_s = due_s[recorder.concerned(labels, goal.traffic)]
    until_s = now_s - goal.limit_s - _HAIR_S
    since_s = max(since_s, _known_since(recorder.issued, recorder.issued.between(-np.inf, now_s)))
    if goal.metric == "job":
        # One that began at that moment is of the present load.
        since_s = max(since_s, recorder.jobs_since_s - 2 * _HAIR_S)
    issued = recorder.issued.between(since_s + _HAIR_S, until_s)
    if goal.metric == "job":
        issued = issued[issued[:, 2] > 0]
    issued_s = issued[recorder.concerned(issued[:, 1], goal.traffic)]
    over = np.count_nonzero((due_s > since_s + _HAIR_S) & (due_s <= until_s))
    return max(0, len(issued_s) - int(over))


def wilson(met: float, n: float, z: float = Z95) -> tuple[float, float]:
    """Interval of a proportion when `met` of `n` trials had it; (0, 1) for n = 0.

    The score interval, centre and half-width
    (p + z²/2n) / (1 + z²/n)  and  z √(p(1 - p)/n + z²/4n²) / (1 + z²/n)
    (Wilson, Journal of the American Statistical Association 22, 1927, 209-212). z: 1.96 for a
    plain 95 % interval of independent trials, for one look.
    """
    if n == 0:
        return 0.0, 1.0
    p, z2 = met / n, z * z
    scale = 1 + z2 / n
    centre = (p + z2 / (2 * n)) / scale
    half = z * math.sqrt(max(0.0, p * (1 - p) / n) + z2 / (4 * n * n)) / scale
    # At 0 and 1 the bound is exactly the proportion; rounding would make it slightly different.
    return (centre - half if met else 0.0), (centre + half if met < n else 1.0)


# -- inside ------------------------------------------------------------------------------------


def _bound(length_s: float) -> float:
    """How many standard errors an estimate stays within at every look, except with 5 % chance."""
    return anytime_bound(_LEVEL, length_s / _LONG_S)


def _errors(length_s: float, freedom: float) -> float:
    """`_bound` for a standard error that is itself estimated, with `freedom` degrees of freedom."""
    return t_quantile(max(1e-300, 2 * _NORMAL.cdf(-_bound(length_s))), freedom)


class _Levels(NamedTuple):
    """The turnovers of a window, by the logarithms of their latencies."""

    parts: int
    """Number of turnovers."""
    apart: float
    """Logarithm of the limit less the mean logarithm of the turnovers' own percentiles."""
    deviation: float
    """Standard deviation of those percentiles or of the turnovers' medians, the smaller one."""
    inflation: float
    """Factor by which the correlation of neighbours inflates the variance (`batches`)."""
    freedom: float
    """Degrees of freedom of that variance."""

    def within(self, length_s: float) -> float:
        """Lower bound of the share of turnovers whose own percentile keeps within the limit.

        An engine that is sometimes faster and sometimes slower may run for a while without a miss,
        and then whole turnovers miss together. The spread of the turnovers' levels shows this
        before the first miss: the logarithms are assumed to be normal. The standard error of u
        standard deviations is √(1/m + u²/2f) (Johnson & Welch, "Applications of the non-central
        t-distribution", Biometrika 31, 1940, 362-389).
        """
        if self.deviation < _HAIR_S:
            return 1.0
        distance = self.apart / self.deviation
        error = math.sqrt(self.inflation / self.parts + distance**2 / (2 * self.freedom))
        return _NORMAL.cdf(distance - _errors(length_s, self.freedom) * error)

    def far(self, length_s: float) -> float:
        """The bound of `within` for turnovers that are assumed to differ by `_WIDEST`.

        NaN where they are observed to differ by more than half of that. Under this assumption few
        turnovers are enough for a limit that is far away. With latencies above the limit (`apart`
        below 0) it is an upper bound.
        """
        if self.deviation > _WIDEST / 2:
            return math.nan
        error = _bound(length_s) * math.sqrt(self.inflation / self.parts)
        distance = self.apart / _WIDEST
        return _NORMAL.cdf(distance - math.copysign(error, distance))


def _levels(goal: Goal, values_s: Floats, batches: int) -> _Levels | None:
    """The turnovers' levels of latencies as `judged_s` returns them; None where there are none."""
    n = len(values_s)
    parts = min(batches, n // _REQUESTS)
    if parts < FEWEST:
        return None
    size = n // parts
    runs = np.nan_to_num(values_s[n - parts * size :], nan=0.0).reshape(parts, size)
    at, middle = np.quantile(runs, (goal.target, 0.5), axis=1, method="inverted_cdf")
    if not (np.isfinite(at).all() and (middle > 0).all() and (at > 0).all()):
        return None
    # High percentiles vary by chance; medians vary where requests are of two kinds.
    levels = min(np.log(at), np.log(middle), key=np.std)
    observed, deviation = spread_of_neighbours(levels), float(levels.std(ddof=1))
    # Levels that are all equal have no variance, so the inflation follows from the freedom.
    inflation = parts / (observed.freedom + 1)
    apart = math.log(goal.limit_s) - float(np.log(at).mean())
    return _Levels(parts, apart, deviation, inflation, observed.freedom)


def _known_since(rows: Rows, seen: Floats) -> float:
    """The time from which on every row is kept; -∞ where no row was dropped. seen: rows by time."""
    gone = rows.count > len(rows.since(0, rows.count))
    return float(seen[0, 0]) if gone and len(seen) else -math.inf
