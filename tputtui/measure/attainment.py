"""How many requests met the goals, and whether that is enough of them to say so. Pure.

Requests are no independent tries: those that wait out one stall together are late together, and a
goal looked at every second would be found met or missed by chance sooner or later. So a share
counts for as many independent requests as its turnover batches say (`batches.py`), and its
interval holds at every look (`stats.anytime_bound`).
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
from tputtui.measure.batches import FEWEST, spread, turnover_batches
from tputtui.measure.recorder import ENDED, Recorder, Rows
from tputtui.measure.stats import Floats, anytime_bound, t_quantile

__all__ = ["Attainment", "Goodput", "Verdict", "attainment", "goodput", "judged_s", "keeping",
           "overdue", "share_interval", "wilson"]  # fmt: skip

Flags = NDArray[np.bool_]

_Z95 = 1.959964
_LEVEL = 0.05
_LONG_S = 60.0
"""Seconds after which the boundary is about as narrow as it gets."""
_REQUESTS = 10
"""Requests in a batch, at least."""
_PRIOR_FREEDOM = 0.25
"""Degrees of freedom that "the requests of a turnover count as one" has against what was seen."""
_WIDEST = 0.3
"""Standard deviation of the logarithms of turnovers' levels that no steady engine goes beyond."""
_NORMAL = NormalDist()
_HAIR_S = 1e-9
"""Times that differ by less are the same: some are sums and differences of others."""


class Verdict(StrEnum):
    """Whether a goal is met, beyond chance."""

    MET = "met"
    MISSED = "missed"
    UNRESOLVED = "unresolved"
    """The interval straddles the target: more requests are needed to tell."""


@dataclass(frozen=True, slots=True)
class Attainment:
    """One goal: `met` of the `n` requests that ended, or are late already, kept within its limit.

    frac: met ÷ n, NaN for n = 0; low, high: its 95 % interval, which holds at every look.
    observed_s: the goal's percentile over the good requests, in seconds; NaN when there are none.
    """

    goal: Goal
    met: int
    n: int
    frac: float
    low: float
    high: float
    verdict: Verdict
    observed_s: float


@dataclass(frozen=True, slots=True)
class Goodput:
    """Requests that met every goal: `met` of `n`, `per_s` of them a second (NaN without time).

    frac, low, high: as in Attainment. each: one goal at a time, in the order given.
    """

    per_s: float
    met: int
    n: int
    frac: float
    low: float
    high: float
    each: tuple[Attainment, ...]


def goodput(recorder: Recorder, goals: Sequence[Goal], start_s: float, end_s: float) -> Goodput:
    """Attainment of `goals` by what ended in start_s < time ≤ end_s, or is late by its end.

    One request that is not good (cut, aborted, rejected, failed) misses every goal; so does one
    that is in flight still and has waited past the limit. A good one with a single token has no
    TPOT (NaN) and meets any TPOT goal. Without goals, every good request counts.

    Goodput: Zhong et al., DistServe, OSDI 2024; `vllm bench serve --goodput` counts alike.
    """
    ended = recorder.ended.between(start_s, end_s)
    length_s, batches = end_s - start_s, turnover_batches(recorder, start_s, end_s)
    good = ended[:, ENDED["good"]] > 0
    every, most_late = good.copy(), 0
    each = []
    for goal in goals:
        every &= keeping(ended, goal)
        late = overdue(recorder, goal, end_s)
        most_late = max(most_late, late)
        values_s = np.concatenate((judged_s(ended, goal), np.full(late, np.inf)))
        each.append(attainment(goal, values_s, batches, length_s))
    every = np.concatenate((every, np.zeros(most_late, dtype=np.bool_)))
    met, n = int(np.count_nonzero(every)), len(every)
    low, high = share_interval(every, batches, length_s)
    # Who keeps every goal keeps each.
    high = min([high, *(goal.high for goal in each)])
    return Goodput(
        met / length_s if length_s > 0 else math.nan,
        met,
        n,
        met / n if n else math.nan,
        min(low, high),
        high,
        tuple(each),
    )


def attainment(goal: Goal, values_s: Floats, batches: int, length_s: float) -> Attainment:
    """How a goal was kept by requests in order of time, and what that says of it.

    values_s: shape (n,), as `judged_s` has them. batches: as many turnovers they were, in
    `length_s` seconds.
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
    verdict = Verdict.UNRESOLVED
    if n and low >= goal.target:
        verdict = Verdict.MET
    elif n and high < goal.target:
        verdict = Verdict.MISSED
    there = values_s[np.isfinite(values_s)]
    observed_s = float(np.percentile(there, goal.percentile)) if len(there) else math.nan
    return Attainment(goal, met, n, met / n if n else math.nan, low, high, verdict, observed_s)


def share_interval(kept: Flags, batches: int, length_s: float) -> tuple[float, float]:
    """95 % interval, at every look, of the share of requests that kept something.

    kept: shape (n,), in order of time; batches, length_s: as in `attainment`. (0, 1) below three
    batches of ten requests.

    Wilson's interval for n ÷ (variance of the share over batches ÷ its binomial variance) requests
    (the design effect: Kish, Survey Sampling, 1965, sec. 8.2), of which Student's t takes into
    account how many batches tell it. The binomial variance is that of Wilson's centre, which is
    not none where all kept or none did.
    """
    n = len(kept)
    parts = min(batches, n // _REQUESTS)
    if parts < FEWEST or not length_s > 0:
        return 0.0, 1.0
    size = n // parts
    shares = kept[n - parts * size :].reshape(parts, size).mean(axis=1)
    found = spread(shares)
    frac = float(kept.mean())
    centre = (frac * n + _Z95**2 / 2) / (n + _Z95**2)
    seen = found.variance * size / (centre * (1 - centre))
    freedom = found.freedom + _PRIOR_FREEDOM
    effect = max(1.0, (found.freedom * seen + _PRIOR_FREEDOM * size) / freedom)
    return wilson(frac * n / effect, n / effect, _errors(length_s, freedom))


def keeping(ended: Floats, goal: Goal) -> Flags:
    """Which of the requests that have left kept a goal, shape (k,); one that is not good did not.

    ended: rows as `ENDED` names the columns, shape (k, columns). A single token has no TPOT (NaN),
    and meets any.
    """
    values_s = judged_s(ended, goal)
    kept: Flags = (values_s <= goal.limit_s) | np.isnan(values_s)
    return kept


def judged_s(ended: Floats, goal: Goal) -> Floats:
    """A goal's latency of requests that have left, shape (k,), in seconds.

    ended: as in `keeping`. Infinite for one that is not good, NaN for a single token's TPOT.
    """
    return np.where(ended[:, ENDED["good"]] > 0, ended[:, ENDED[f"{goal.metric}_s"]], np.inf)


def overdue(recorder: Recorder, goal: Goal, now_s: float) -> int:
    """Requests in flight at `now_s` that have missed a goal of TTFT or E2E by waiting already.

    For TTFT: without a first token. Those due longer ago than the recorder's rows go back are not
    counted.
    """
    if goal.metric == "tpot":
        return 0
    ended = recorder.ended.between(-np.inf, now_s)
    over_s, due_s = ended[:, 0], ended[:, ENDED["due_s"]]
    # Where it is lost when requests were due, all of them had left by then.
    since_s = float(np.max(over_s[np.isnan(due_s)], initial=-np.inf))
    if goal.metric == "ttft":
        first = recorder.first_tokens.between(-np.inf, now_s)
        since_s = max(since_s, _known_since(recorder.first_tokens, first))
        due_s = np.concatenate((first[:, 0] - first[:, 1], due_s[ended[:, ENDED["began"]] == 0]))
    since_s = max(since_s, _known_since(recorder.ended, ended))
    until_s = now_s - goal.limit_s - _HAIR_S
    since_s = max(since_s, _known_since(recorder.issued, recorder.issued.between(-np.inf, now_s)))
    issued_s = recorder.issued.between(since_s + _HAIR_S, until_s)
    over = np.count_nonzero((due_s > since_s + _HAIR_S) & (due_s <= until_s))
    return max(0, len(issued_s) - int(over))


def wilson(met: float, n: float, z: float = _Z95) -> tuple[float, float]:
    """Interval for a proportion of which `met` of `n` were seen; (0, 1) for n = 0.

    The score interval, centre and half-width
    (p + z²/2n) / (1 + z²/n)  and  z √(p(1 - p)/n + z²/4n²) / (1 + z²/n)
    (Wilson, Journal of the American Statistical Association 22, 1927, 209-212). z: 1.96 for a
    plain interval of 95 %, of independent tries and for one look.
    """
    if n == 0:
        return 0.0, 1.0
    p, z2 = met / n, z * z
    scale = 1 + z2 / n
    centre = (p + z2 / (2 * n)) / scale
    half = z * math.sqrt(max(0.0, p * (1 - p) / n) + z2 / (4 * n * n)) / scale
    # At the ends the bound is the proportion itself, which rounding would miss by a hair.
    return (centre - half if met else 0.0), (centre + half if met < n else 1.0)


# -- inside ------------------------------------------------------------------------------------


def _bound(length_s: float) -> float:
    """Standard errors that an estimate keeps within at every look, but in 5 %."""
    return anytime_bound(_LEVEL, length_s / _LONG_S)


def _errors(length_s: float, freedom: float) -> float:
    """The same where the standard error itself is estimated, on some degrees of freedom."""
    return t_quantile(max(1e-300, 2 * _NORMAL.cdf(-_bound(length_s))), freedom)


class _Levels(NamedTuple):
    """Turnovers of a window, `parts` of them, by the logarithms of their latencies.

    apart: from the limit down to the mean of their own percentiles of the goal. deviation: of
    those or of their medians, the smaller; inflation, freedom: of its square (`batches.spread`).
    """

    parts: int
    apart: float
    deviation: float
    inflation: float
    freedom: float

    def within(self, length_s: float) -> float:
        """Lower bound of the share of turnovers whose own percentile keeps within the limit.

        Where the whole engine is now quicker and now slower, a while may pass without a miss, and
        then whole turnovers miss together. How their levels vary tells so before any does: the
        logarithms are taken as normal. The standard error of u standard deviations is
        √(1/m + u²/2f) (Johnson & Welch, "Applications of the non-central t-distribution",
        Biometrika 31, 1940, 362-389).
        """
        if self.deviation < _HAIR_S:
            return 1.0
        distance = self.apart / self.deviation
        error = math.sqrt(self.inflation / self.parts + distance**2 / (2 * self.freedom))
        return _NORMAL.cdf(distance - _errors(length_s, self.freedom) * error)

    def far(self, length_s: float) -> float:
        """The same for turnovers that would differ by `_WIDEST`, though they are seen to differ
        by half of that at most: few of them are enough for a limit that is far away. Above it,
        negative `apart`: an upper bound."""
        if self.deviation > _WIDEST / 2:
            return math.nan
        error = _bound(length_s) * math.sqrt(self.inflation / self.parts)
        distance = self.apart / _WIDEST
        return _NORMAL.cdf(distance - math.copysign(error, distance))


def _levels(goal: Goal, values_s: Floats, batches: int) -> _Levels | None:
    """Of latencies as `judged_s` has them; None where they cannot be told."""
    n = len(values_s)
    parts = min(batches, n // _REQUESTS)
    if parts < FEWEST:
        return None
    size = n // parts
    runs = np.nan_to_num(values_s[n - parts * size :], nan=0.0).reshape(parts, size)
    at, middle = np.quantile(runs, (goal.target, 0.5), axis=1, method="inverted_cdf")
    if not (np.isfinite(at).all() and (middle > 0).all() and (at > 0).all()):
        return None
    # Percentiles far out vary by chance, medians where requests are of two kinds.
    levels = min(np.log(at), np.log(middle), key=np.std)
    found, deviation = spread(levels), float(levels.std(ddof=1))
    # Of levels that all tie, by the degrees of freedom that they would have.
    inflation = parts / (found.freedom + 1)
    apart = math.log(goal.limit_s) - float(np.log(at).mean())
    return _Levels(parts, apart, deviation, inflation, found.freedom)


def _known_since(rows: Rows, seen: Floats) -> float:
    """From when on all rows are there: where some are gone, from the oldest one's time."""
    gone = rows.count > len(rows.since(0, rows.count))
    return float(seen[0, 0]) if gone and len(seen) else -math.inf
