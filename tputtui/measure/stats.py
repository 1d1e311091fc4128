"""Exact quantiles and their intervals. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from tputtui.measure.normal import Z95

__all__ = ["Quantiles", "anytime_bound", "quantiles", "t_quantile"]

Floats = NDArray[np.float64]

_NORMAL = NormalDist()
_RHO = 0.05
"""Tunes the boundary: at level 0.025 it is narrowest where `part` is about 0.5."""
P99_MIN_N = 1000
"""With fewer samples, fewer than ten lie above p99: it is shown as an interval."""


@dataclass(frozen=True, slots=True)
class Quantiles:
    """p50, p90 and p99 in the samples' unit; NaN without samples."""

    n: int
    """Number of samples."""
    p50: float
    p90: float
    p99: float
    p99_low: float
    """Lower end of the 95 % interval of p99, by order statistics."""
    p99_high: float
    """Upper end of that interval; infinite where the sample is too small to bound it."""

    @property
    def p99_resolved(self) -> bool:
        """Whether there are enough samples to show p99 as one number."""
        return self.n >= P99_MIN_N


NONE = Quantiles(0, *([math.nan] * 5))


def quantiles(values: Floats, counts: Floats | None = None) -> Quantiles:
    """Quantiles of `values` (any shape (k,)), each repeated `counts` times (shape (k,), whole).

    Exact, with linear interpolation between order statistics (Hyndman & Fan type 7, NumPy's
    default): with counts it equals `np.percentile(np.repeat(values, counts), …)`.
    The interval is the distribution-free one from binomial ranks in its normal approximation
    (Conover, Practical Nonparametric Statistics, 3rd ed., sec. 3.2).
    """
    if counts is None:
        kept = values[~np.isnan(values)]
        n = len(kept)
        ordered = np.sort(kept)
        ends = None
    else:
        order = np.argsort(values)
        ordered = values[order]
        ends = np.cumsum(counts[order])
        n = int(ends[-1]) if len(ends) else 0
    if n == 0:
        return NONE

    def at_rank(rank: int) -> float:
        index = rank if ends is None else int(np.searchsorted(ends, rank, side="right"))
        return float(ordered[index])

    def interpolated(q: float) -> float:
        position = q * (n - 1)
        low = math.floor(position)
        below = at_rank(low)
        if low == n - 1 or position == low:
            return below
        return below + (position - low) * (at_rank(low + 1) - below)

    spread = Z95 * math.sqrt(n * 0.99 * 0.01)
    low_rank = max(0, math.floor(n * 0.99 - spread))
    high_rank = math.ceil(n * 0.99 + spread)
    return Quantiles(
        n=n,
        p50=interpolated(0.50),
        p90=interpolated(0.90),
        p99=interpolated(0.99),
        p99_low=at_rank(min(low_rank, n - 1)),
        p99_high=at_rank(high_rank) if high_rank < n else math.inf,
    )


def anytime_bound(level: float, part: float) -> float:
    """The number of standard errors that an estimate stays within at every look.

    level: the probability that it does not, at one look or more.
    part: information so far ÷ a fixed amount of information, above 0. While data accumulate, the
    error of an estimate is a Brownian motion in its information. Such a motion ever crosses
    Robbins' mixture boundary √((1 + ρ/part) · ln((part/ρ + 1) / level²)) with probability `level`
    at most ("Statistical methods related to the law of the iterated logarithm", Annals of
    Mathematical Statistics 41, 1970, 1397-1409; for means of any distribution Waudby-Smith et al.,
    Annals of Statistics 52, 2024, 2613-2640).
    """
    return math.sqrt((1 + _RHO / part) * math.log((part / _RHO + 1) / level**2))


def t_quantile(level: float, freedom: float) -> float:
    """The value that |Student's t| exceeds with probability `level`; freedom: ≥ 1, whole or not.

    Hill, "Algorithm 396: Student's t-quantiles", Communications of the ACM 13 (1970), 619-620;
    exact to about four digits, and to six from five degrees of freedom on. The algorithm does not
    cover one to two degrees of freedom: there the logarithm is interpolated linearly in 1/freedom.
    """
    n = max(1.0, freedom)
    if n < 2.0:
        one = 1 / math.tan(math.pi * level / 2)
        share = 2 / n - 1
        return math.exp(share * math.log(one) + (1 - share) * math.log(t_quantile(level, 2.0)))
    if n == 2.0:
        return math.sqrt(2 / (level * (2 - level)) - 2)
    normal = _NORMAL.inv_cdf(level / 2)
    if n > 1e6:
        return -normal
    a = 1 / (n - 0.5)
    b = 48 / (a * a)
    c = ((20700 * a / b - 98) * a - 16) * a + 96.36
    d = ((94.5 / (b + c) - 3) / b + 1) * math.sqrt(a * math.pi / 2) * n
    y: float = (d * level) ** (2 / n)
    if y > 0.05 + a:
        x = normal
        y = x * x
        if n < 5:
            c += 0.3 * (n - 4.5) * (x + 0.6)
        c += (((0.05 * d * x - 5) * x - 7) * x - 2) * x + b
        y = (((((0.4 * y + 6.3) * y + 36) * y + 94.5) / c - y - 3) / b + 1) * x
        y = math.expm1(a * y * y)
    else:
        tail = 1 / (((n + 6) / (n * y) - 0.089 * d - 0.822) * (n + 2) * 3) + 0.5 / (n + 4)
        y = (tail * y - 1) * (n + 1) / (n + 2) + 1 / y
    return math.sqrt(n * y)
