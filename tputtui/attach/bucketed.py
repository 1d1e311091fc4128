"""Percentiles as far as a histogram's buckets let them be known. Pure."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass

from tputtui.attach.reading import Histogram
from tputtui.text.format import MISSING

__all__ = ["Bucketed", "Latency", "latency_of", "pooled"]

_Z95 = 1.959964


@dataclass(frozen=True, slots=True)
class Bucketed:
    """A percentile lies above `low` and at or below `high`, with 95 % confidence; NaN without
    samples, `high` infinite where nothing bounds it."""

    low: float
    high: float

    def told(self, room: int = 0) -> str:
        """Of seconds: 250–500 ms; the upper end where both do not fit in `room` cells."""
        if math.isnan(self.low):
            return MISSING
        low, high = _edge(self.low), _edge(self.high)
        if math.isinf(self.high):
            return f"> {low}"
        if not self.low:
            return f"≤ {high}"
        shared = low.rpartition(" ")[2] == high.rpartition(" ")[2]
        both = f"{low.rpartition(' ')[0] if shared else low}–{high}"
        return both if len(both) <= room else f"≤ {high}"


@dataclass(frozen=True, slots=True)
class Latency:
    """What a histogram's increase tells of `n` samples, in its unit. mean: exact (sum ÷ count)."""

    n: float
    mean: float
    p50: Bucketed
    p90: Bucketed
    p99: Bucketed


def latency_of(found: Histogram) -> Latency:
    """Mean and percentiles.

    A percentile's interval joins the buckets that hold its ranks at either end of the binomial
    interval, in its normal approximation (Conover, Practical Nonparametric Statistics, 3rd ed.,
    sec. 3.2): what chance leaves open, and what the buckets do.
    """
    n = found.n
    mean = found.total / n if n else math.nan
    return Latency(n, mean, *(_between(found, share) for share in (0.5, 0.9, 0.99)))


def pooled(histograms: Iterable[Histogram]) -> Histogram | None:
    """The samples of several in one; None without any, or where their buckets differ."""
    found = list(histograms)
    if not found or any(each.bounds != found[0].bounds for each in found):
        return None
    counts = tuple(map(sum, zip(*(each.counts for each in found), strict=True)))
    return Histogram(found[0].bounds, counts, sum(each.total for each in found))


def _edge(bound_s: float) -> str:
    """A bucket's bound as round as it is: 250 ms, 2.5 s."""
    return f"{bound_s:g} s" if bound_s >= 1 else f"{bound_s * 1e3:g} ms"


def _between(found: Histogram, share: float) -> Bucketed:
    n = found.n
    if n <= 0:
        return Bucketed(math.nan, math.nan)
    spread = _Z95 * math.sqrt(n * share * (1 - share))
    low = bisect_left(found.counts, max(1.0, math.floor(n * share - spread)))
    rank = math.ceil(n * share + spread)
    high = bisect_left(found.counts, rank) if rank <= n else len(found.counts) - 1
    below = found.bounds[low - 1] if low else 0.0
    return Bucketed(below, found.bounds[high] if rank <= n else math.inf)
