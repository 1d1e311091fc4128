"""What a turn did: better, worse, the same, or not to be told yet. Pure.

Called once a second while the window grows, for several metrics at once. Two things would make
chance look like an effect, and both are paid for in the width of the intervals:

- *Many looks.* A plain 95 % interval looked at sixty times excludes the truth far more often than
  once in twenty. The error of an estimate that grows more exact is a Brownian motion in its
  information, so a boundary that such a motion crosses with the stated chance at most, ever, holds
  at every look: Robbins' mixture boundary ("Statistical methods related to the law of the iterated
  logarithm", Annals of Mathematical Statistics 41, 1970, 1397-1409; for means of any distribution
  Waudby-Smith et al., Annals of Statistics 52, 2024, 2613-2640).
- *Many rows.* Of the 5 % the headline has half, the others share the rest; a row that is resolved
  leaves its part to those that are not (Holm's step-down test with weights: Holm, Scandinavian
  Journal of Statistics 6, 1979, 65-70).

One thing cannot be paid for: an engine that drifts as slowly as the windows are long. Of that two
windows side by side know nothing; `tune.compare` does.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import NormalDist

from tputtui.measure.series import MOST, Batched, Metric, Series, rows
from tputtui.measure.stats import t_quantile

__all__ = ["Difference", "Estimate", "Judgement", "differences", "judged", "judgement",
           "no_interval", "once", "ratio_interval"]  # fmt: skip

ALPHA = 0.05
SAME = 0.02
_HEADLINE = 0.5
"""The headline's part of ALPHA."""
_RHO = 0.05
"""Tunes the boundary: at level 0.025 it is tightest for two windows of about equal length."""
_LONGEST_S = 3600.0
_NORMAL = NormalDist()


class Judgement(StrEnum):
    """What is known of a difference."""

    BETTER = "better"
    WORSE = "worse"
    SAME = "the same"
    """The whole interval lies within ±2 %."""
    OPEN = "cannot tell yet"

    @property
    def clear(self) -> bool:
        """Whether it is better or worse: the interval excludes no change."""
        return self in (Judgement.BETTER, Judgement.WORSE)


@dataclass(frozen=True, slots=True)
class Difference:
    """One metric under two settings; change = new ÷ old - 1.

    low, high: interval of the change. All rows' intervals together, at all looks together, hold
    with 95 %; NaN where there is none.
    needs_s: seconds more that will likely decide it; infinite where no time will, NaN where it is
    decided or unknown.
    """

    metric: Metric
    old: float
    new: float
    change: float
    low: float
    high: float
    judgement: Judgement
    needs_s: float


@dataclass(frozen=True, slots=True)
class Estimate:
    """An estimate of a change, before it is judged.

    log_change: natural logarithm of new ÷ old, NaN where there is none.
    interval: its bounds, as logarithms, at an error probability; NaN likewise.
    needs_s: seconds more, given that probability, as in Difference.
    """

    metric: Metric
    old: float
    new: float
    log_change: float
    interval: Callable[[float], tuple[float, float]]
    needs_s: Callable[[float], float]


def differences(old: Series, new: Series) -> tuple[Difference, ...]:
    """What `new` changed against `old`, the headline first.

    old: the whole window of the setting before, as it stood when it was turned. new: from a fixed
    start to now; only then do the intervals hold at every look. (A window that slides begins a
    new series of looks whenever it has moved on by its own length.)
    """
    goals = "goodput_per_s" in old.values or "goodput_per_s" in new.values
    return judged([_estimate(metric, old, new) for metric in rows(goals)])


def once(old: Series, new: Series, *, every: bool = False) -> tuple[Difference, ...]:
    """What `new` changed against `old`, two windows that are over; the headline first.

    For one look: narrower than those of `differences`, which may be looked at while they grow.
    All rows together hold with 95 %. every: with the rows kept of a run that is over.
    """
    goals = "goodput_per_s" in old.values and "goodput_per_s" in new.values
    return judged([_once(metric, old, new) for metric in rows(goals, every=every)])


def ratio_interval(
    old: float, old_bounds: tuple[float, float], new: float, new_bounds: tuple[float, float]
) -> tuple[float, float]:
    """Interval of new - old from the two numbers' own intervals (all of them logarithms).

    MOVER: Zou & Donner, Statistics in Medicine 27, 2008, 1693-1702.
    """
    (old_low, old_high), (new_low, new_high) = old_bounds, new_bounds
    return (
        new - old - math.hypot(new - new_low, old_high - old),
        new - old + math.hypot(new_high - new, old - old_low),
    )


def judged(estimates: Sequence[Estimate]) -> tuple[Difference, ...]:
    """Judge estimates together, the headline first: any of them is wrong with 5 % at most.

    Each row's interval is the one it was judged by, at the level that Holm's procedure left it.
    """
    others = (1 - _HEADLINE) / max(1, len(estimates) - 1)
    weights = [_HEADLINE] + [others] * (len(estimates) - 1)
    found: dict[int, Difference] = {}
    left = list(range(len(estimates)))
    total = math.fsum(weights)
    while True:
        level = {i: ALPHA * weights[i] / total for i in left}
        for i in left:
            found[i] = _difference(estimates[i], level[i])
        resolved = [i for i in left if found[i].low > 0 or found[i].high < 0]
        left = [i for i in left if i not in resolved]
        total = math.fsum(weights[i] for i in left)
        if not resolved or not left:
            return tuple(found[i] for i in range(len(estimates)))


# -- inside ------------------------------------------------------------------------------------


def _difference(estimate: Estimate, level: float) -> Difference:
    low, high = map(_expm1, estimate.interval(level))
    verdict = judgement(low, high, estimate.metric.less_is_better)
    decided = verdict is not Judgement.OPEN
    return Difference(
        metric=estimate.metric,
        old=estimate.old,
        new=estimate.new,
        change=_change(estimate.old, estimate.new),
        low=low,
        high=high,
        judgement=verdict,
        needs_s=math.nan if decided else estimate.needs_s(level),
    )


def judgement(low: float, high: float, less_is_better: bool) -> Judgement:
    """What an interval of a change, as a fraction, says."""
    if low >= -SAME and high <= SAME:
        return Judgement.SAME
    if low > 0:
        return Judgement.WORSE if less_is_better else Judgement.BETTER
    if high < 0:
        return Judgement.BETTER if less_is_better else Judgement.WORSE
    return Judgement.OPEN


def _estimate(metric: Metric, old: Series, new: Series) -> Estimate:
    """One row of two windows.

    Their errors are pooled, as variance × seconds: if nothing changed they are the same, and a
    window of a few seconds cannot know its own. Where the new one is known to be the more
    restless, its own is taken.
    """
    before, after = old.values.get(metric.key), new.values.get(metric.key)
    if before is None or after is None:
        return _unknown(metric, before, after)
    x, y = before.log_value, after.log_value
    error_old, free_old = before.error()
    error_new, free_new = after.error()
    old_s, new_s = old.length_s, new.length_s
    freedom = free_old + free_new
    variance_old, variance_new = error_old**2 * old_s, error_new**2 * new_s
    pooled = (free_old * variance_old + free_new * variance_new) / freedom
    larger = max(pooled, variance_new)

    def interval(level: float, length_s: float = new_s) -> tuple[float, float]:
        if math.isnan(freedom):
            return math.nan, math.nan
        # The part of the information there is that an endless new window would bring.
        part = length_s / (length_s + old_s)
        bound = math.sqrt((1 + _RHO / part) * math.log((part / _RHO + 1) / level**2))
        # A window that has grown has more batches, up to their number.
        grown = max(free_new, min(MOST - 1, (free_new + 1) * length_s / new_s - 1))
        # Few degrees of freedom: t at the normal's own probability (Pocock, Biometrika 64, 1977).
        t = t_quantile(max(1e-300, 2 * _NORMAL.cdf(-bound)), free_old + grown)
        x_bounds = before.bounds(t * math.sqrt(pooled / old_s))
        return ratio_interval(x, x_bounds, y, after.bounds(t * math.sqrt(larger / length_s)))

    def needs_s(level: float) -> float:
        if math.isnan(freedom):
            return math.nan
        length_s = new_s
        while length_s <= new_s + _LONGEST_S:
            low, high = map(_expm1, interval(level, length_s))
            if judgement(low, high, metric.less_is_better) is not Judgement.OPEN:
                return max(1.0, length_s - new_s)
            length_s *= 1.05
        return math.inf

    return Estimate(metric, before.value, after.value, y - x, interval, needs_s)


def _once(metric: Metric, old: Series, new: Series) -> Estimate:
    """One row of two windows that are over, each with its own error."""
    before, after = old.values.get(metric.key), new.values.get(metric.key)
    if before is None or after is None:
        return _unknown(metric, before, after)
    x, y = before.log_value, after.log_value

    def interval(level: float) -> tuple[float, float]:
        return ratio_interval(x, before.log_interval(level), y, after.log_interval(level))

    return Estimate(metric, before.value, after.value, y - x, interval, lambda level: math.inf)


def _unknown(metric: Metric, before: Batched | None, after: Batched | None) -> Estimate:
    value_old = before.value if before else math.nan
    value_new = after.value if after else math.nan
    return Estimate(metric, value_old, value_new, math.nan, no_interval, _nan)


def _change(old: float, new: float) -> float:
    if old > 0:
        return new / old - 1
    return math.inf if new > 0 else 0.0 if new == 0 and old == 0 else math.nan


def _expm1(value: float) -> float:
    return math.inf if value > 700 else math.expm1(value)


def no_interval(level: float) -> tuple[float, float]:
    """The interval of what is not known."""
    return math.nan, math.nan


def _nan(level: float) -> float:
    return math.nan
