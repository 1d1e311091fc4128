"""Two settings in turns on a warm engine, until it is clear which is better. Pure.

An ask/tell machine: `ask` says which leg to run next, `tell` what it gave.

A warm engine drifts, so that legs alternate, A B B A A B …: whatever drifts in a straight line
cancels out. Both legs of a pair serve the same requests, and the pair's difference is one
observation: nothing is assumed of what happens inside a leg. Looking after every pair from the
4th to the 12th, each time at a fifth of the level or less, keeps the whole comparison at its level
(group-sequential t-test with equal nominal levels: Pocock, "Group sequential methods in the design
and analysis of clinical trials", Biometrika 64, 1977, 191-199).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from statistics import NormalDist, fmean, stdev
from typing import NamedTuple

from tputtui.measure.series import Metric
from tputtui.measure.stats import t_quantile
from tputtui.measure.verdict import (
    SAME,
    Difference,
    Estimate,
    Judgement,
    judged,
    no_interval,
)

__all__ = ["Comparison", "Leg"]

MAX_PAIRS = 12
FIRST_LOOK = 4
_FIRST_GIVING_UP = 6
_NOMINAL = 1 / 5.5
"""Level of each look ÷ level of all looks from the 4th pair to the 12th.

A million simulated comparisons without a difference: 0.76 of the overall level is used up at
0.05, 0.82 at 0.025, 0.94 at 0.005. So it holds for every level that a row can get.
"""
_GIVE_UP = 0.05


class Leg(NamedTuple):
    """One stretch of one setting. side: A or B. pair: from 0; both its legs share a seed."""

    side: str
    pair: int


class Comparison:
    """Compares settings A and B by `metrics`, the headline first, in `max_pairs` pairs at most.

    It ends when the headline is better or worse, or when every row is decided or without hope:
    that is when what was seen so far leaves a chance below 5 % that the remaining pairs decide it
    (predictive power: Spiegelhalter, Freedman & Blackburn, Controlled Clinical Trials 7, 1986,
    8-17).
    """

    def __init__(self, metrics: Sequence[Metric], *, max_pairs: int = MAX_PAIRS) -> None:
        if not metrics or not FIRST_LOOK <= max_pairs <= MAX_PAIRS:
            raise ValueError(f"no comparison of {len(metrics)} metrics in {max_pairs} pairs")
        self._metrics = tuple(metrics)
        self._max_pairs = max_pairs
        self._told: list[Mapping[str, float]] = []
        self._took_s = 0.0
        self._reason = ""
        self._result = self._judged()

    def ask(self) -> Leg | None:
        """The leg to run next, the same until it is told; None when it is over."""
        if self._reason:
            return None
        pair, second = divmod(len(self._told), 2)
        return Leg("AB"[second ^ (pair % 2)], pair)

    def tell(self, leg: Leg, values: Mapping[str, float], took_s: float = math.nan) -> None:
        """What `leg` gave: each metric by its key; one that is absent, NaN or negative is left out.

        took_s: how long the leg took in all, to say how long the rest will.
        Raises ValueError when `leg` is not the one asked for.
        """
        if leg != self.ask():
            raise ValueError(f"told of {leg}, asked for {self.ask()}")
        self._told.append(dict(values))
        self._took_s += took_s
        if len(self._told) % 2 == 0:
            self._result = self._judged()
            self._reason = self._why_over()

    @property
    def pairs(self) -> int:
        """Pairs that are complete."""
        return len(self._told) // 2

    @property
    def result(self) -> tuple[Difference, ...]:
        """B against A by the pairs so far (old: A, new: B, geometric means); no interval before 4.

        needs_s: until the end of the comparison at most.
        """
        return self._result

    @property
    def reason(self) -> str:
        """Why it is over, in one sentence; empty while it is not."""
        return self._reason

    @property
    def progress(self) -> str:
        """How far it is: `pair 3 of at most 12`."""
        leg = self.ask()
        if leg is None:
            return f"{self.pairs} pairs"
        return f"pair {leg.pair + 1} of at most {self._max_pairs}"

    # -- inside ----------------------------------------------------------------------------

    def _judged(self) -> tuple[Difference, ...]:
        return judged([self._estimate(metric) for metric in self._metrics])

    def _pairs_of(self, metric: Metric) -> list[tuple[float, float]]:
        """(A, B) of every pair that has both, above zero or both zero."""
        legs = [told.get(metric.key, math.nan) for told in self._told]
        found = []
        for pair in range(self.pairs):
            a, b = legs[2 * pair : 2 * pair + 2]
            if pair % 2:
                a, b = b, a
            if (a > 0 and b > 0) or a == b == 0:
                found.append((a, b))
        return found

    def _estimate(self, metric: Metric) -> Estimate:
        pairs = self._pairs_of(metric)
        logs = [math.log(b / a) if a else 0.0 for a, b in pairs]
        old = _geometric_mean([a for a, _ in pairs])
        new = _geometric_mean([b for _, b in pairs])
        if len(logs) < FIRST_LOOK:
            return Estimate(metric, old, new, no_interval, _nan)
        return Estimate(metric, old, new, partial(_interval, logs), partial(self._needs_s, logs))

    def _needs_s(self, logs: list[float], level: float) -> float:
        left = self._max_pairs - self.pairs
        if left == 0 or self._hopeless(logs, level):
            return math.inf
        return left * self._took_s / self.pairs

    def _hopeless(self, logs: list[float], level: float) -> bool:
        """Whether the pairs that are left will hardly decide it."""
        n, last = len(logs), len(logs) + self._max_pairs - self.pairs
        if self.pairs < _FIRST_GIVING_UP:
            return False
        mean, spread = fmean(logs), stdev(logs)
        half = t_quantile(level * _NOMINAL, last - 1) * spread / math.sqrt(last)
        # Where the mean of all pairs will lie, by those so far.
        ahead = NormalDist(mean, max(1e-12, spread * math.sqrt(1 / n - 1 / last)))
        clear = ahead.cdf(-half) + 1 - ahead.cdf(half)
        room = math.log1p(SAME) - half
        same = ahead.cdf(room) - ahead.cdf(-room) if room > 0 else 0.0
        return clear + same < _GIVE_UP

    def _why_over(self) -> str:
        headline, *others = self._result
        name = headline.metric.label
        if headline.judgement.clear:
            return f"B's {name} is {headline.judgement}, by {_between(headline)}."
        if not any(self._pairs_of(metric) for metric in self._metrics):
            return "Nothing could be measured."
        if self.pairs < self._max_pairs and not all(map(self._settled, self._result)):
            return ""
        clear = [row for row in others if row.judgement.clear]
        besides = "".join(f"; its {row.metric.label} is {row.judgement}" for row in clear)
        if headline.judgement is Judgement.SAME:
            return f"B's {name} is the same, within 2 %{besides}."
        if math.isnan(headline.low):
            return f"{self.pairs} pairs gave too little {name} to tell{besides}."
        how = f"Undecided after {self.pairs} pairs"
        if self.pairs < self._max_pairs:
            how += f", and {self._max_pairs} would hardly decide it"
        return f"{how}: B's {name} changes by {_between(headline)}{besides}."

    def _settled(self, row: Difference) -> bool:
        """Whether a row is decided, without hope, or never measured."""
        if row.judgement is not Judgement.OPEN or row.needs_s == math.inf:
            return True
        return self.pairs >= _FIRST_GIVING_UP and math.isnan(row.low)


def _interval(logs: list[float], level: float) -> tuple[float, float]:
    """The t interval of their mean, at one look's share of `level`."""
    n, mean = len(logs), fmean(logs)
    half = t_quantile(level * _NOMINAL, n - 1) * stdev(logs) / math.sqrt(n)
    return mean - half, mean + half


def _geometric_mean(values: list[float]) -> float:
    if not values:
        return math.nan
    return math.exp(fmean(math.log(value) for value in values)) if all(values) else fmean(values)


def _between(row: Difference) -> str:
    return f"{row.low:+.1%} to {row.high:+.1%}"


def _nan(level: float) -> float:
    return math.nan
