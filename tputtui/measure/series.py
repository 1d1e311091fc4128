"""What a window of one setting gave: an estimate of every metric, and batches for its error.

Pure; called on the front end's thread. Compact: at most thirty floats a metric and no raw samples,
so that hundreds of settings can be kept.

A window is cut into turnover batches (`batches.py`), about one generation of requests each. The
batch of a rate is its relative deviation; the batch of a latency is the logarithm of the batch's
own quantile. So a change that moves a whole distribution appears as a shift, however narrow the
distribution is. Percentiles are often given an interval by the share of requests below the window's
quantile (Woodruff, "Confidence intervals for medians and other position measures", Journal of the
American Statistical Association 47, 1952, 635-646); with such a change, that share swings between
0 and 1.

Woodruff's interval remains as a lower bound of the error. TTFT comes in whole steps of the engine,
and the quantiles of a few batches can be equal by chance where the window's own quantile lies at
the edge between two steps.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tputtui.goals import Goal
from tputtui.measure.attainment import concerned, keeping
from tputtui.measure.batches import FEWEST, Spread, spread, turnover_batches
from tputtui.measure.recorder import ENDED, Recorder
from tputtui.measure.samples import STEP
from tputtui.measure.stats import P99_MIN_N, Floats, t_quantile
from tputtui.measure.steady import binned

__all__ = ["METRICS", "MORE", "Batched", "Metric", "Series", "rows", "series"]

_LEAST_S = 1e-3
_REQUESTS = 10
"""Fewest samples in a batch of a latency; for p99 so many that one of them lies above it."""
_WIDEST = math.log(10)
"""Half the width of the widest interval that says anything, of a logarithm."""
_LEAST_LATENCY_S = 1e-9
"""Replaces a latency of 0 where a logarithm is needed."""


@dataclass(frozen=True, slots=True)
class Metric:
    """A figure that is compared. unit: "1/s" or "s". key: its name in a `Series`."""

    key: str
    label: str
    unit: str
    less_is_better: bool

    @property
    def name(self) -> str:
        """The key with its unit, as files name it: `ttft_p50_s`."""
        return f"{self.key}_s" if self.unit == "s" else self.key


METRICS = (
    Metric("tokens_per_s", "tokens/s", "1/s", False),
    Metric("goodput_per_s", "goodput", "1/s", False),
    Metric("ttft_p50", "TTFT p50", "s", True),
    Metric("ttft_p90", "TTFT p90", "s", True),
    Metric("tpot_p50", "TPOT p50", "s", True),
    Metric("tpot_p90", "TPOT p90", "s", True),
)
"""Metrics compared during a run, in the order shown. Goodput is there only with goals."""
MORE = (
    Metric("requests_per_s", "requests/s", "1/s", False),
    Metric("prompt_tokens_per_s", "prompt tok/s", "1/s", False),
    Metric("ttft_p99", "TTFT p99", "s", True),
    Metric("tpot_p99", "TPOT p99", "s", True),
    *(
        Metric(f"{name}_{share}", f"{name.upper()} {share}", "s", True)
        for name in ("itl", "e2e", "job")
        for share in ("p50", "p90", "p99")
    ),
)
"""Further metrics that are kept of a run that is over."""
_SHARES = {"p50": 0.50, "p90": 0.90, "p99": 0.99}


@dataclass(frozen=True, slots=True, eq=False)
class Batched:
    """A metric over one window, with its turnover batches."""

    value: float
    """The rate per second, or the latency in seconds, of the whole window."""
    batches: Floats
    """In order of time, shape (m,). Of a rate: the rate in equal parts of the window ÷ the window's
    rate - 1 (all -1 for a rate of 0). Of a latency: the natural logarithm of the quantile in equal
    runs of requests."""
    floor: float = math.nan
    """Half an event in the whole window, per second: replaces a rate of 0 where a logarithm is
    needed (Haldane, Annals of Human Genetics 20, 1956, 309-311). NaN for a latency."""
    tied_error: float = 0.0
    """Standard error of a latency's logarithm if requests were independent, a lower bound of the
    true one; 0 for a rate."""
    n: int = 0
    """Samples: steps or requests for a rate, requests for a latency, gaps for an ITL."""

    @property
    def is_rate(self) -> bool:
        """Whether the metric is a rate rather than a latency."""
        return not math.isnan(self.floor)

    @property
    def centre(self) -> float:
        """The logarithm that differences are taken of: of a rate, or mean of a latency's batches.

        NaN for a rate of 0.
        """
        if not self.is_rate:
            return float(self.batches.mean())
        return math.log(self.value) if self.value > 0 else math.nan

    def spread(self) -> Spread | None:
        """How much the batches vary; None with fewer than 3 of them, and for a rate of 0."""
        m = len(self.batches)
        if m < FEWEST or not self.value > 0:
            return None
        observed = spread(self.batches)
        return observed._replace(variance=max(observed.variance, m * self.tied_error**2))

    @property
    def drift(self) -> float:
        """How far the window has drifted: the highest mean of its thirds less the lowest.

        In the unit of `batches`, so about a fraction of the value. Below six batches, the largest
        batch less the smallest; NaN below three.
        """
        m = len(self.batches)
        if m < FEWEST:
            return math.nan
        parts = np.array_split(self.batches, 3 if m >= 2 * FEWEST else m)
        return float(np.ptp([part.mean() for part in parts]))

    def error(self) -> tuple[float, float]:
        """Standard error of the value's logarithm, and degrees of freedom; NaN without a spread."""
        observed = self.spread()
        if observed is None:
            return math.nan, math.nan
        return math.sqrt(observed.variance / len(self.batches)), observed.freedom

    def interval(self, level: float = 0.05) -> tuple[float, float]:
        """Interval of `value` that fails with probability `level`; NaN where it is not known.

        Student's t with the degrees of freedom of `error`. Valid for one look planned beforehand.
        Of a window so short that the interval would reach from a tenth to ten times the value,
        nothing is known.
        """
        error, freedom = self.error()
        half = t_quantile(level, freedom) * error if error >= 0 else math.nan
        if not half <= _WIDEST:
            return math.nan, math.nan
        return self.value * math.exp(-half), self.value * math.exp(half)


@dataclass(frozen=True, slots=True)
class Series:
    """What a window of `length_s` seconds from `start_s` gave; `n` requests ended in it.

    values: by a metric's key; a metric that could not be measured is not there.
    """

    length_s: float
    n: int
    values: Mapping[str, Batched]
    start_s: float = 0.0


def rows(goals: bool, *, every: bool = False) -> tuple[Metric, ...]:
    """The metrics that are compared, the headline first: goodput with goals, else tokens/s."""
    more = MORE if every else ()
    if not goals:
        return (*(metric for metric in METRICS if metric.key != "goodput_per_s"), *more)
    return METRICS[1], METRICS[0], *METRICS[2:], *more


def series(
    recorder: Recorder,
    start_s: float,
    end_s: float,
    goals: Sequence[Goal],
    *,
    every: bool = False,
) -> Series:
    """The metrics over start_s < time ≤ end_s; goodput by `goals`, if there are any.

    every: with the metrics of `MORE`. A p99 is there from 1,000 samples on.
    """
    length_s = end_s - start_s
    ended = recorder.ended.between(start_s, end_s)
    if not length_s >= _LEAST_S:
        return Series(0.0, len(ended), {}, start_s)
    steps = recorder.steps.between(start_s, end_s)
    values = {}
    batches = turnover_batches(recorder, start_s, end_s)

    def rate(times: Floats, weights: Floats, events: int) -> Batched:
        total = float(weights.sum())
        sums = binned(times, weights, start_s, end_s, batches)
        relative = sums * (batches / total) - 1 if total > 0 else np.full(batches, -1.0)
        return Batched(total / length_s, relative, floor=0.5 / length_s, n=events)

    values["tokens_per_s"] = rate(steps[:, 0], steps[:, STEP["generated_tokens"]], len(steps))
    if goals:
        met = _met(recorder, ended, goals)
        values["goodput_per_s"] = rate(ended[:, 0], met, len(ended))
    first = recorder.first_tokens.between(start_s, end_s)
    latencies = {"ttft": first[:, 1], "tpot": ended[:, ENDED["tpot_s"]]}
    if every:
        gaps = recorder.gaps.between(start_s, end_s)
        latencies["itl"] = np.repeat(gaps[:, 1], gaps[:, 2].astype(np.intp))
        latencies["e2e"] = ended[:, ENDED["e2e_s"]]
        good = ended[:, ENDED["good"]]
        latencies["job"] = ended[good > 0, ENDED["job_s"]]
        values["requests_per_s"] = rate(ended[:, 0], good, int(np.count_nonzero(good)))
        prompt = steps[:, STEP["prefill_tokens"]]
        values["prompt_tokens_per_s"] = rate(steps[:, 0], prompt, len(steps))
    shares = ("p50", "p90", "p99") if every else ("p50", "p90")
    for name, seconds in latencies.items():
        quantiles = _quantiles(seconds, shares, batches)
        values |= {f"{name}_{share}": quantile for share, quantile in quantiles.items()}
    return Series(length_s, len(ended), values, start_s)


def _quantiles(seconds: Floats, shares: Sequence[str], batches: int) -> dict[str, Batched]:
    """Quantiles of `seconds`, shape (k,), in order of time; NaN are left out.

    batches: the number of batches where there are enough samples, otherwise fewer. Where the
    samples do not divide evenly, the oldest ones belong to no batch.
    """
    there = seconds[~np.isnan(seconds)]
    n = len(there)
    if not n:
        return {}
    there = np.maximum(there, _LEAST_LATENCY_S)
    quantiles = {}
    for name in shares:
        if name == "p99" and n < P99_MIN_N:
            continue
        share = _SHARES[name]
        parts = max(1, min(batches, n // max(_REQUESTS, round(1 / (1 - share)))))
        size = n // parts
        runs = there[n - parts * size :].reshape(parts, size)
        step = math.sqrt(share * (1 - share) / n)
        low, value, high = np.quantile(
            there, [max(0.0, share - step), share, min(1.0, share + step)]
        )
        quantiles[name] = Batched(
            float(value),
            np.log(np.quantile(runs, share, axis=1)),
            tied_error=float(np.log(high / low)) / 2,
            n=n,
        )
    return quantiles


def _met(recorder: Recorder, ended: Floats, goals: Sequence[Goal]) -> Floats:
    """1.0 for each request that met every goal, else 0.0: shape (k,), counted as in `goodput`.

    ended: rows with the columns that `ENDED` names, shape (k, columns).
    """
    met = ended[:, ENDED["good"]] > 0
    for goal in goals:
        others = ~concerned(recorder, ended, goal)
        met &= keeping(ended, goal) | others
    return met.astype(np.float64)
