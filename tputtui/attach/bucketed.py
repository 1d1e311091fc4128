"""Percentiles as closely as a histogram's buckets allow. Pure."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass

from tputtui.attach.reading import MetricHistogram
from tputtui.measure.normal import Z95
from tputtui.text.format import MISSING

__all__ = ["Bucketed", "Latency", "latency_of", "pooled"]


@dataclass(frozen=True, slots=True)
class Bucketed:
    """A percentile lies above `low` and at or below `high`, with 95 % confidence. Both are NaN
    without samples; `high` is infinite where nothing bounds it."""

    low: float
    high: float

    def as_text(self, room: int = 0) -> str:
        """The bounds, read as seconds: 250–500 ms; only the upper one where `room` is too small.

        room: cells on the screen.
        """
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
    """Mean and percentiles of `n` samples, in the histogram's unit. mean: exact (sum ÷ count)."""

    n: float
    mean: float
    p50: Bucketed
    p90: Bucketed
    p99: Bucketed


def latency_of(histogram: MetricHistogram) -> Latency:
    """Mean and percentiles of a histogram's samples.

    A percentile's interval reaches from the bucket of its lowest rank to that of its highest. The
    two ranks bound the binomial interval in its normal approximation (Conover, Practical
    Nonparametric Statistics, 3rd ed., sec. 3.2). So the interval covers both the uncertainty of
    chance and that of the buckets.
    """
    n = histogram.n
    mean = histogram.total / n if n else math.nan
    return Latency(n, mean, *(_between(histogram, share) for share in (0.5, 0.9, 0.99)))


def pooled(histograms: Iterable[MetricHistogram]) -> MetricHistogram | None:
    """Merge the samples of several histograms; None without any, or where their buckets differ."""
    parts = list(histograms)
    if not parts or any(each.bounds != parts[0].bounds for each in parts):
        return None
    counts = tuple(map(sum, zip(*(each.counts for each in parts), strict=True)))
    return MetricHistogram(parts[0].bounds, counts, sum(each.total for each in parts))


def _edge(bound_s: float) -> str:
    """A bucket's bound without needless digits: 250 ms, 2.5 s."""
    return f"{bound_s:g} s" if bound_s >= 1 else f"{bound_s * 1e3:g} ms"


def _between(histogram: MetricHistogram, share: float) -> Bucketed:
    n = histogram.n
    if n <= 0:
        return Bucketed(math.nan, math.nan)
    spread = Z95 * math.sqrt(n * share * (1 - share))
    low = bisect_left(histogram.counts, max(1.0, math.floor(n * share - spread)))
    rank = math.ceil(n * share + spread)
    high = bisect_left(histogram.counts, rank) if rank <= n else len(histogram.counts) - 1
    below = histogram.bounds[low - 1] if low else 0.0
    return Bucketed(below, histogram.bounds[high] if rank <= n else math.inf)
