"""What a change did: better, worse, the same, or undecided so far. Pure.

Called once a second while the window grows, for several metrics at once. Two things would make
chance look like an effect, and wider intervals account for both:

- *Many looks.* A plain 95 % interval tested sixty times excludes the truth far more often than
  once in twenty. Robbins' mixture boundary (`stats.anytime_bound`) holds at every look.
- *Many rows.* The headline gets half of the 5 %, the other rows share the rest; a row that is
  decided passes its part on to the undecided ones (Holm's step-down test with weights: Holm,
  Scandinavian Journal of Statistics 6, 1979, 65-70).

One thing no interval accounts for: an engine that drifts as slowly as the windows are long. Two
windows side by side do not show such a drift; `experiments.compare` alternates settings instead.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from statistics import NormalDist
from typing import NamedTuple

from tputtui.measure.batches import FEWEST, MOST, Spread
from tputtui.measure.series import METRICS, Batched, Metric, Series, rows
from tputtui.measure.stats import anytime_bound, t_quantile

__all__ = ["Difference", "Estimate", "Verdict", "differences", "judged", "judgement",
           "no_interval", "once", "ratio_interval"]  # fmt: skip

ALPHA = 0.05
SAME = 0.02
_HEADLINE = 0.5
"""The headline's part of ALPHA."""
_POOLED_FREEDOM = 4
"""Degrees of freedom with which the pooled variance enters each window's own variance."""
_RANK_SUM_LOOKS = (3, 5, 8, 13, 21)
"""Numbers of batches of the new window at which a rate with batches of 0 is tested, each time at a
fifth of the level."""
_LONGEST_S = 3600.0
_FINEST = 1.05
_NORMAL = NormalDist()


class Verdict(StrEnum):
    """What is known of a difference."""

    BETTER = "better"
    WORSE = "worse"
    SAME = "the same"
    """The whole interval lies within ±2 %."""
    OPEN = "cannot tell yet"
    NOTHING = "nothing to compare"
    """Both values are 0."""
    UNJUDGED = "not judged"
    """Something else than the limits changed too, or a window is not steady."""

    @property
    def clear(self) -> bool:
        """Whether it is better or worse: the interval does not contain 0."""
        return self in (Verdict.BETTER, Verdict.WORSE)


@dataclass(frozen=True, slots=True)
class Difference:
    """One metric under two settings."""

    metric: Metric
    old: float
    """Its value under the old setting, in the metric's unit; NaN where it was not measured."""
    new: float
    """Its value under the new setting."""
    change: float
    """new ÷ old - 1; infinite where only `old` is 0, NaN where both are."""
    low: float
    """Lower end of the interval of the change; NaN without an interval. The intervals of all rows
    hold together, at all looks, with 95 %."""
    high: float
    """Upper end of the same interval."""
    judgement: Verdict
    needs_s: float
    """Seconds more that will likely decide it; infinite where waiting will not decide it, NaN where
    it is decided or the time is unknown."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """An estimate of a change, before it is judged."""

    metric: Metric
    old: float
    new: float
    interval: Callable[[float], tuple[float, float]]
    """By error probability: bounds of the natural logarithm of new ÷ old; NaN without bounds."""
    needs_s: Callable[[float], float]
    """By error probability: seconds more, as in `Difference`."""


def differences(old: Series, new: Series) -> tuple[Difference, ...]:
    """The differences of `new` from `old`, the headline first.

    old: the whole window of the setting before, up to the change. new: from a fixed start to now;
    only then do the intervals hold at every look. (A sliding window begins a new series of looks
    each time it has moved on by its own length.)
    """
    goals = "goodput_per_s" in old.values or "goodput_per_s" in new.values
    return judged([_estimate(metric, old, new, growing=True) for metric in rows(goals)])


def once(old: Series, new: Series, *, every: bool = False) -> tuple[Difference, ...]:
    """The differences of `new` from `old`, complete windows of two boots or runs; headline first.

    Valid for one look, whereas `differences` may be called while the window grows. All rows
    together hold with 95 %. At least one boot lies between the windows, and the machine drifts
    meanwhile: so each interval is wider on both sides by the larger of the two windows' drifts.
    every: with the metrics that are kept of a run that is over (`series.MORE`), where either has
    them: a row without figures would only widen the others.
    """
    goals = "goodput_per_s" in old.values and "goodput_per_s" in new.values
    known = {*(metric.key for metric in METRICS), *old.values, *new.values}
    shown = [metric for metric in rows(goals, every=every) if metric.key in known]
    return judged([_estimate(metric, old, new, growing=False) for metric in shown])


def ratio_interval(
    old: float, old_bounds: tuple[float, float], new: float, new_bounds: tuple[float, float]
) -> tuple[float, float]:
    """Interval of new - old from the intervals of the two numbers (all of them logarithms).

    MOVER: Zou & Donner, Statistics in Medicine 27, 2008, 1693-1702.
    """
    (old_low, old_high), (new_low, new_high) = old_bounds, new_bounds
    return (
        new - old - math.hypot(new - new_low, old_high - old),
        new - old + math.hypot(new_high - new, old - old_low),
    )


def judged(estimates: Sequence[Estimate]) -> tuple[Difference, ...]:
    """Judge estimates together, the headline first: with 95 % probability all are right.

    Each row's interval is the one it was judged by, at the level that Holm's procedure gave it.
    """
    others = (1 - _HEADLINE) / max(1, len(estimates) - 1)
    weights = [_HEADLINE] + [others] * (len(estimates) - 1)
    rated: dict[int, Difference] = {}
    left = list(range(len(estimates)))
    total = math.fsum(weights)
    while True:
        level = {i: ALPHA * weights[i] / total for i in left}
        for i in left:
            rated[i] = _difference(estimates[i], level[i])
        resolved = [i for i in left if rated[i].low > 0 or rated[i].high < 0]
        left = [i for i in left if i not in resolved]
        total = math.fsum(weights[i] for i in left)
        if not resolved or not left:
            return tuple(rated[i] for i in range(len(estimates)))


# -- inside ------------------------------------------------------------------------------------


def _difference(estimate: Estimate, level: float) -> Difference:
    low, high = map(_expm1, estimate.interval(level))
    verdict = judgement(low, high, estimate.metric.less_is_better)
    if estimate.old == estimate.new == 0:
        verdict = Verdict.NOTHING
    decided = verdict is not Verdict.OPEN
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


def judgement(low: float, high: float, less_is_better: bool) -> Verdict:
    """The judgement for an interval of a change, as a fraction."""
    if low >= -SAME and high <= SAME:
        return Verdict.SAME
    if low > 0:
        return Verdict.WORSE if less_is_better else Verdict.BETTER
    if high < 0:
        return Verdict.BETTER if less_is_better else Verdict.WORSE
    return Verdict.OPEN


def _estimate(metric: Metric, old: Series, new: Series, *, growing: bool) -> Estimate:
    """The estimate of one metric; growing: the new window is tested while it grows."""
    before, after = old.values.get(metric.key), new.values.get(metric.key)
    if before is None or after is None or before.value == after.value == 0:
        return _unknown(metric, before, after)
    spread_old, spread_new = before.spread(), after.spread()
    ranks = _Ranks(before, after, growing)
    if spread_old is None or spread_new is None:
        if before.value > 0 and after.value > 0:
            return _unknown(metric, before, after)
        return Estimate(
            metric, before.value, after.value, ranks.interval, partial(ranks.needs_s, new.length_s)
        )
    part = _Widths(before, after, spread_old, spread_new, old.length_s, new.length_s)

    def interval(level: float, length_s: float = new.length_s) -> tuple[float, float]:
        if ranks.tell(level):
            return ranks.interval(level)
        half = part.half_width(level, length_s if growing else math.inf)
        half += 0.0 if growing else max(before.drift, after.drift)
        middle = after.centre - before.centre
        # The mean of a latency's batches can differ from the figures shown: include both.
        shown = math.log(after.value / before.value)
        return min(middle - half, shown), max(middle + half, shown)

    def needs_s(level: float) -> float:
        if not growing:
            return math.inf
        return _seconds_until(new.length_s, lambda s: _decided(metric, interval(level, s)))

    return Estimate(metric, before.value, after.value, interval, needs_s)


class _Widths(NamedTuple):
    """Two windows of a metric, for the width of the interval of their difference."""

    before: Batched
    after: Batched
    spread_old: Spread
    spread_new: Spread
    old_s: float
    """Length of the old window in seconds."""
    new_s: float
    """Length of the new window in seconds."""

    def half_width(self, level: float, length_s: float) -> float:
        """Half the width of the interval of ln(new ÷ old), once the new window is `length_s` long.

        length_s: infinite where the new window is over and this is the only look.
        The variances of a batch are pooled: they are equal if nothing changed, and a few batches
        give a poor estimate of their own. A window keeps its own variance where that is larger.
        """
        m_old, m_new = len(self.before.batches), len(self.after.batches)
        (v_old, f_old), (v_new, f_new) = self.spread_old, self.spread_new
        pooled = (f_old * v_old + f_new * v_new) / (f_old + f_new)
        v_old, v_new = (
            max(pooled, (f * v + _POOLED_FREEDOM * pooled) / (f + _POOLED_FREEDOM))
            for v, f in ((v_old, f_old), (v_new, f_new))
        )
        if length_s == math.inf:
            error = math.sqrt(v_old / m_old + v_new / m_new)
            return t_quantile(level, f_old + f_new) * error
        # The information so far ÷ that of an endless new window.
        bound = anytime_bound(level, length_s / (length_s + self.old_s))
        # A longer window has more batches, up to MOST.
        grown = length_s / self.new_s
        freedom = f_old + max(f_new, (f_new + 1) * max(1.0, min(grown, MOST / m_new)) - 1)
        # With few degrees of freedom: t at the normal's probability (Pocock, Biometrika 64, 1977).
        t = t_quantile(max(1e-300, 2 * _NORMAL.cdf(-bound)), freedom)
        return t * math.sqrt(v_old / m_old + v_new / (m_new * grown))


class _Ranks:
    """Compares a rate with batches of 0: these have no logarithm, but they have ranks.

    It applies where one window has a batch of 0, and all its batches lie below all batches of the
    other window. If their order is chance, that has probability 2 / C(m + k, k) with m and k
    batches (Wilcoxon's rank-sum test, Biometrics Bulletin 1, 1945, 80-83). While the new window
    grows, this is tested at 3, 5, 8, 13 and 21 batches, each time at a fifth of the level.

    The interval contains all factors between the windows that the test does not refuse. And if m
    batches are 0, the share of batches above 0 is known only to be below 1 - level^(1/m) (Clopper &
    Pearson, Biometrika 26, 1934, 404-413).
    """

    def __init__(self, before: Batched, after: Batched, growing: bool) -> None:
        self._m, self._k = len(before.batches), len(after.batches)
        self._looks: tuple[int, ...] = _RANK_SUM_LOOKS if growing else (self._k,)
        low, high = (before, after) if before.value < after.value else (after, before)
        self._falls = low is after
        most = low.value * (1 + float(low.batches.max()))
        least = high.value * (1 + float(high.batches.min()))
        sparse = before.is_rate and float(low.batches.min()) == -1
        self._separate = sparse and most < least and min(self._m, self._k) >= FEWEST
        self._log_most = math.log(most / least) if self._separate and most > 0 else -math.inf

    def tell(self, level: float, count: int = 0) -> bool:
        """Whether the order exceeds chance, now or once the new window has `count` batches."""
        share, count = level / len(self._looks), count or self._k
        looks = [look for look in self._looks if look <= count]
        return (
            self._separate and bool(looks) and 2 / math.comb(self._m + looks[-1], self._m) < share
        )

    def interval(self, level: float) -> tuple[float, float]:
        """Bounds of the logarithm of new ÷ old."""
        if not self.tell(level):
            return math.nan, math.nan
        empty = self._k if self._falls else self._m
        some = math.log1p(-((level / len(self._looks)) ** (1 / empty)))
        nearest = max(some, self._log_most)
        return (-math.inf, nearest) if self._falls else (-nearest, math.inf)

    def needs_s(self, new_s: float, level: float) -> float:
        """Seconds more until the test decides, if rates stay as they are; infinite for never."""
        later = [look for look in self._looks if look > self._k and self.tell(level, look)]
        return new_s * (later[0] / self._k - 1) if later else math.inf


def _seconds_until(new_s: float, decided: Callable[[float], bool]) -> float:
    """Seconds more until `decided(length of the window)` is true, to 5 %; infinite beyond an hour.

    Bisection: the longer the window, the narrower the interval.
    """
    low, high = new_s, new_s + _LONGEST_S
    if not decided(high):
        return math.inf
    while high > _FINEST * low:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if decided(middle) else (middle, high)
    return max(1.0, high - new_s)


def _decided(metric: Metric, interval: tuple[float, float]) -> bool:
    low, high = map(_expm1, interval)
    return judgement(low, high, metric.less_is_better) is not Verdict.OPEN


def _unknown(metric: Metric, before: Batched | None, after: Batched | None) -> Estimate:
    value_old = before.value if before else math.nan
    value_new = after.value if after else math.nan
    return Estimate(metric, value_old, value_new, no_interval, _nan)


def _change(old: float, new: float) -> float:
    if old > 0:
        return new / old - 1
    return math.inf if new > 0 else math.nan


def _expm1(value: float) -> float:
    return math.inf if value > 700 else math.expm1(value)


def no_interval(level: float) -> tuple[float, float]:
    """The interval of a change that is not known: NaN at every level."""
    return math.nan, math.nan


def _nan(level: float) -> float:
    return math.nan
