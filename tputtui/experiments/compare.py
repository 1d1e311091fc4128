"""Two settings alternately on a warm engine, until it is clear which one is better. Pure.

An ask/tell machine: `ask` returns the leg to run next, `tell` takes what the leg gave.

A warm engine drifts. So the legs alternate, A B B A A B …, and a drift in a straight line cancels
out. Both legs of a pair serve the same requests, and the pair's difference is one observation.
Testing after every pair from the 3rd to the 12th, each time at a sixth of the level, keeps the
whole comparison at its level (group-sequential t-test with equal nominal levels: Pocock, "Group
sequential methods in the design and analysis of clinical trials", Biometrika 64, 1977, 191-199).

Three pairs are a poor estimate of how much pairs differ by chance. The variance inside the legs is
a second estimate: where it is the smaller of the two, it adds two degrees of freedom.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from statistics import NormalDist, fmean, variance
from typing import NamedTuple

from tputtui.experiments.stalls import Stalls
from tputtui.measure.series import Metric
from tputtui.measure.stats import t_quantile
from tputtui.measure.verdict import (
    SAME,
    Difference,
    Estimate,
    Verdict,
    judged,
    no_interval,
)

__all__ = ["Comparison", "Leg", "LegFigures"]

MAX_PAIRS = 12
FIRST_LOOK = 3
_FIRST_GIVING_UP = 6
_NOMINAL = 1 / 6
"""Level of each look ÷ level of all looks from the 3rd pair to the 12th.

In 300,000 simulated comparisons without a difference, 0.82 of the overall level is used at 0.05,
0.88 at 0.025, 0.99 at 0.005. So the level holds for every level that a row can get.
"""
_PSEUDO_FREEDOM = 2
"""Degrees of freedom that the variance inside the legs adds, where it is the smaller one."""
_TELLING_FRAC = 0.001
"""Stalls that take a smaller share of the time are not mentioned."""
_GIVE_UP = 0.05


class Leg(NamedTuple):
    """One stretch of one setting. side: A or B. pair: from 0; both legs of a pair share a seed."""

    side: str
    pair: int


@dataclass(frozen=True, slots=True)
class LegFigures:
    """What a leg gave, by the key of a metric; an absent, NaN or negative value is ignored."""

    values: Mapping[str, float]
    """In the unit of the metric."""
    errors: Mapping[str, float] = field(default_factory=dict)
    """Standard errors of the values' logarithms, from the variance inside the leg."""
    least: Mapping[str, float] = field(default_factory=dict)
    """Half an event per second of a rate: replaces a rate of 0 where the other side has none."""
    smooth: Mapping[str, float] | None = None
    """The values without the machine's stalls; None where the stalls are not known."""
    smooth_errors: Mapping[str, float] = field(default_factory=dict)
    """Standard errors of the logarithms of `smooth`."""
    stalls: Stalls = field(default_factory=Stalls)
    """The machine's stalls in this leg."""


class Comparison:
    """Compares settings A and B by `metrics`, the headline first, in `max_pairs` pairs at most.

    It ends when every row is decided or hopeless. A row is hopeless when the pairs so far leave a
    chance below 5 % that the remaining pairs decide it (predictive power: Spiegelhalter, Freedman
    & Blackburn, Controlled Clinical Trials 7, 1986, 8-17).

    The machine's stalls are taken out of both sides, unless one side has more of them than chance
    explains: then the setting may cause them, and they count.
    """

    def __init__(self, metrics: Sequence[Metric], *, max_pairs: int = MAX_PAIRS) -> None:
        if not metrics or not FIRST_LOOK <= max_pairs <= MAX_PAIRS:
            raise ValueError(f"no comparison of {len(metrics)} metrics in {max_pairs} pairs")
        self._metrics = tuple(metrics)
        self._max_pairs = max_pairs
        self._legs: list[LegFigures] = []
        self._took_s = 0.0
        self._reason = ""
        self._result = self._judged()

    def ask(self) -> Leg | None:
        """The leg to run next, the same until `tell` has it; None when the comparison is over."""
        if self._reason:
            return None
        return _leg(len(self._legs))

    def tell(self, leg: Leg, figures: LegFigures, took_s: float = math.nan) -> None:
        """Take in what `leg` gave.

        took_s: seconds the leg took in all, for an estimate of the time left.
        Raises ValueError when `leg` is not the one asked for.
        """
        if leg != self.ask():
            raise ValueError(f"got {leg}, asked for {self.ask()}")
        self._legs.append(figures)
        self._took_s += took_s
        if len(self._legs) % 2 == 0:
            self._result = self._judged()
            self._reason = self._why_over()

    @property
    def pairs(self) -> int:
        """Number of complete pairs."""
        return len(self._legs) // 2

    @property
    def leg_s(self) -> float:
        """Mean seconds of a leg so far; NaN before the first."""
        return self._took_s / len(self._legs) if self._legs else math.nan

    @property
    def result(self) -> tuple[Difference, ...]:
        """B against A by the pairs so far (old: A, new: B, geometric means).

        There is no interval before the 3rd pair. needs_s: seconds to the end of the comparison.
        """
        return self._result

    @property
    def reason(self) -> str:
        """Why the comparison is over, in one sentence; empty while it is not."""
        return self._reason

    @property
    def progress(self) -> str:
        """How far the comparison is: `pair 3 of at most 12`."""
        leg = self.ask()
        if leg is None:
            return f"{self.pairs} pairs"
        return f"pair {leg.pair + 1} of at most {self._max_pairs}"

    # -- inside ----------------------------------------------------------------------------

    def _judged(self) -> tuple[Difference, ...]:
        return judged([self._estimate(metric) for metric in self._metrics])

    @property
    def stalls(self) -> tuple[Stalls, Stalls]:
        """The machine's stalls in the legs of A and of B so far."""
        sides = {"A": Stalls(), "B": Stalls()}
        for i, leg in enumerate(self._legs):
            sides[_leg(i).side] += leg.stalls
        return sides["A"], sides["B"]

    @property
    def smooth(self) -> bool:
        """Whether the stalls are taken out of the values."""
        known = all(leg.smooth is not None for leg in self._legs)
        a, b = self.stalls
        return known and a.like(b)

    def _values(self, metric: Metric) -> list[tuple[float, float]]:
        """The value and its error of each leg of a complete pair."""
        key, smooth = metric.key, self.smooth
        measured = []
        for leg in self._legs[: 2 * self.pairs]:
            values, errors = leg.values, leg.errors
            if smooth and leg.smooth is not None:
                values, errors = leg.smooth, leg.smooth_errors
            measured.append((values.get(key, math.nan), errors.get(key, math.nan)))
        return measured

    def _pairs_of(self, metric: Metric) -> _Pairs:
        """Every pair with a value on both sides."""
        legs = self._values(metric)
        pairs = _Pairs([], [], [], 0)
        for i in range(0, len(legs), 2):
            first = i if _leg(i).side == "A" else i + 1
            (a, error_a), (b, error_b) = legs[first], legs[2 * i + 1 - first]
            if a == b == 0:
                pairs = pairs._replace(nones=pairs.nones + 1)
                continue
            if a == 0 or b == 0:
                least = self._legs[i].least.get(metric.key, math.nan)
                a, b = a or least, b or least
            if a > 0 and b > 0:
                pairs.a.append(a)
                pairs.b.append(b)
                pairs.inside.append(error_a**2 + error_b**2)
        return pairs

    def _estimate(self, metric: Metric) -> Estimate:
        pairs = self._pairs_of(metric)
        if not pairs.a and pairs.nones:
            return Estimate(metric, 0.0, 0.0, no_interval, _nan)
        old, new = _geometric_mean(pairs.a), _geometric_mean(pairs.b)
        if len(pairs.a) < FIRST_LOOK:
            return Estimate(metric, old, new, no_interval, _nan)
        moments = pairs.moments()
        return Estimate(metric, old, new, moments.interval, partial(self._needs_s, moments))

    def _needs_s(self, moments: _Moments, level: float) -> float:
        left = self._max_pairs - self.pairs
        if left == 0 or self._hopeless(moments, level):
            return math.inf
        return left * self._took_s / self.pairs

    def _hopeless(self, moments: _Moments, level: float) -> bool:
        """Whether the remaining pairs are unlikely to decide the row."""
        n, last = moments.n, moments.n + self._max_pairs - self.pairs
        if self.pairs < _FIRST_GIVING_UP:
            return False
        mean, spread = moments.mean, math.sqrt(moments.variance)
        half = moments._replace(n=last, freedom=moments.freedom + last - n).half_width(level)
        # The distribution of the mean of all pairs, predicted from the pairs so far.
        ahead = NormalDist(mean, max(1e-12, spread * math.sqrt(1 / n - 1 / last)))
        clear = ahead.cdf(-half) + 1 - ahead.cdf(half)
        room = math.log1p(SAME) - half
        same = ahead.cdf(room) - ahead.cdf(-room) if room > 0 else 0.0
        return clear + same < _GIVE_UP

    def _why_over(self) -> str:
        if not any(pairs.a or pairs.nones for pairs in map(self._pairs_of, self._metrics)):
            return "Nothing could be measured."
        if self.pairs < self._max_pairs and not all(map(self._settled, self._result)):
            return ""
        return self._sentence() + self._stalls_sentence()

    def _sentence(self) -> str:
        """The result, in one sentence."""
        headline, *others = self._result
        name = headline.metric.label
        clear = [row for row in others if row.judgement.clear]
        besides = "".join(f"; its {row.metric.label} is {row.judgement}" for row in clear)
        if headline.judgement.clear:
            return f"B's {name} is {headline.judgement}, by {_between(headline)}{besides}."
        if headline.judgement is Verdict.SAME:
            return f"B's {name} is the same, within 2 %{besides}."
        if headline.judgement is Verdict.NOTHING:
            return f"Neither side had any {name}: {headline.judgement}{besides}."
        if math.isnan(headline.low):
            return f"{self.pairs} pairs gave too little {name} to tell{besides}."
        how = f"Undecided after {self.pairs} pairs"
        if self.pairs < self._max_pairs:
            how += f", and {self._max_pairs} would hardly decide it"
        return f"{how}: B's {name} changes by {_between(headline)}{besides}."

    def _stalls_sentence(self) -> str:
        """The share of the machine's stalls on both sides, in a sentence; empty without stalls."""
        a, b = self.stalls
        if max(a.frac, b.frac) < _TELLING_FRAC:
            return ""
        done = "they are taken out" if self.smooth else "they count, for the sides differ"
        return f" Stalls took {a.frac:.1%} of A's time and {b.frac:.1%} of B's; {done}."

    def _settled(self, row: Difference) -> bool:
        """Whether a row is decided, hopeless, or never measured."""
        if row.judgement is not Verdict.OPEN or row.needs_s == math.inf:
            return True
        return self.pairs >= _FIRST_GIVING_UP and math.isnan(row.low)


class _Moments(NamedTuple):
    """Mean and variance of the logarithms of B ÷ A over `n` pairs, on degrees of freedom."""

    n: int
    mean: float
    variance: float
    freedom: float

    def half_width(self, level: float) -> float:
        """Half the width of the mean's t interval, at one look's share of `level`."""
        return t_quantile(level * _NOMINAL, self.freedom) * math.sqrt(self.variance / self.n)

    def interval(self, level: float) -> tuple[float, float]:
        """The mean's t interval, at one look's share of `level`."""
        half = self.half_width(level)
        return self.mean - half, self.mean + half


class _Pairs(NamedTuple):
    """The values of a metric in the complete pairs."""

    a: list[float]
    b: list[float]
    inside: list[float]
    """Variance of each pair's log ratio, from the variance inside the legs; NaN: not known."""
    nones: int
    """Pairs with a value of 0 on both sides; they are not in the lists."""

    def moments(self) -> _Moments:
        """The moments of the logarithms of B ÷ A; for two pairs or more."""
        logs = [math.log(b / a) for a, b in zip(self.a, self.b, strict=True)]
        n, freedom, seen = len(logs), len(logs) - 1, variance(logs)
        known = [each for each in self.inside if math.isfinite(each)]
        inside = fmean(known) if known else math.inf
        if inside < seen:
            whole = freedom + _PSEUDO_FREEDOM
            seen = (freedom * seen + _PSEUDO_FREEDOM * inside) / whole
            freedom = whole
        return _Moments(n, fmean(logs), seen, freedom)


def _leg(i: int) -> Leg:
    """The i-th leg: A B B A A B …"""
    pair, second = divmod(i, 2)
    return Leg("AB"[second ^ (pair % 2)], pair)


def _geometric_mean(values: list[float]) -> float:
    if not values:
        return math.nan
    return math.exp(fmean(math.log(value) for value in values)) if all(values) else fmean(values)


def _between(row: Difference) -> str:
    return f"{row.low:+.1%} to {row.high:+.1%}"


def _nan(level: float) -> float:
    return math.nan
