"""What a window of one setting gave: every metric's estimate, and batches to tell its error by.

Pure. Called by whoever looks (the front end's thread). Compact: thirty floats a metric at most and
no raw samples, so that hundreds of settings can be kept.

A window is cut into turnover batches (`batches.py`), about one generation of requests each. Of a
rate a batch is its relative deviation, of a latency the logarithm of the batch's own quantile. So
that what moves a whole distribution is seen as what it is, a shift, however narrow the
distribution; shares of requests below the window's quantile, by which percentiles are often given
an interval (Woodruff, "Confidence intervals for medians and other position measures", Journal of
the American Statistical Association 47, 1952, 635-646), then swing between none and all.

Woodruff's interval stays as a floor. TTFT comes in whole steps of the engine, and the quantiles of
a few batches can tie by chance where the window's own lies at the edge between two of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tputtui.goals import Goal
from tputtui.measure.attainment import keeping
from tputtui.measure.batches import FEWEST, Spread, spread, turnover_batches
from tputtui.measure.recorder import ENDED, Recorder
from tputtui.measure.samples import STEP
from tputtui.measure.stats import P99_MIN_N, Floats, t_quantile
from tputtui.measure.steady import binned

__all__ = ["METRICS", "MORE", "Batched", "Metric", "Series", "rows", "series"]

_LEAST_S = 1e-3
_REQUESTS = 10
"""Samples in a batch of a latency, at least; for p99 as many as one lies above."""
_LARGEST = 700.0
"""Largest logarithm whose exponential is a float."""
_LEAST_LATENCY_S = 1e-9
"""Stands in for none where a logarithm is needed."""


@dataclass(frozen=True, slots=True)
class Metric:
    """What is compared. `unit`: per second, or seconds. `key`: its name in a `Series`."""

    key: str
    label: str
    unit: str
    less_is_better: bool

    @property
    def name(self) -> str:
        """Its key with the unit, as figures are named in files: `ttft_p50_s`."""
        return f"{self.key}_s" if self.unit == "s" else self.key


METRICS = (
    Metric("tokens_per_s", "tokens/s", "1/s", False),
    Metric("goodput_per_s", "goodput", "1/s", False),
    Metric("ttft_p50", "TTFT p50", "s", True),
    Metric("ttft_p90", "TTFT p90", "s", True),
    Metric("tpot_p50", "TPOT p50", "s", True),
    Metric("tpot_p90", "TPOT p90", "s", True),
)
"""What is compared while a run goes on, in the order shown. Goodput is there only with goals."""
MORE = (
    Metric("requests_per_s", "requests/s", "1/s", False),
    Metric("prompt_tokens_per_s", "prompt tok/s", "1/s", False),
    Metric("ttft_p99", "TTFT p99", "s", True),
    Metric("tpot_p99", "TPOT p99", "s", True),
    *(
        Metric(f"{name}_{share}", f"{name.upper()} {share}", "s", True)
        for name in ("itl", "e2e")
        for share in ("p50", "p90", "p99")
    ),
)
"""What is kept beside those of a run that is over."""
_SHARES = {"p50": 0.50, "p90": 0.90, "p99": 0.99}


@dataclass(frozen=True, slots=True, eq=False)
class Batched:
    """A metric over one window: its `value`, and turnover batches in order of time, shape (m,).

    batches: of a rate, that of equal parts of the window ÷ the window's - 1 (all -1 for a rate of
    none); of a latency, the natural logarithm of the quantile of equal runs of requests.
    tied_error: of a latency, the standard error of its logarithm were requests independent: the
    least there can be; 0 for a rate.
    floor: half an event in all of the window, which stands in for a rate of none where a logarithm
    is needed (Haldane, Annals of Human Genetics 20, 1956, 309-311); NaN for a latency.
    n: the samples it rests on: steps or requests of a rate, requests of a latency, gaps of an ITL.
    """

    value: float
    batches: Floats
    floor: float = math.nan
    tied_error: float = 0.0
    n: int = 0

    @property
    def is_rate(self) -> bool:
        """Whether it is a rate, rather than a latency."""
        return not math.isnan(self.floor)

    @property
    def centre(self) -> float:
        """What differences are taken of: the logarithm of a rate, the mean of a latency's batches.

        NaN for a rate of none.
        """
        if not self.is_rate:
            return float(self.batches.mean())
        return math.log(self.value) if self.value > 0 else math.nan

    def spread(self) -> Spread | None:
        """How much its batches vary; None below 3 of them and for a rate of none."""
        m = len(self.batches)
        if m < FEWEST or not self.value > 0:
            return None
        found = spread(self.batches)
        return found._replace(variance=max(found.variance, m * self.tied_error**2))

    @property
    def drift(self) -> float:
        """How far the window has drifted: of its thirds, the highest mean above the lowest.

        In the unit of `batches`, so about a fraction of the value. Below six batches, of the
        batches themselves; NaN below three.
        """
        m = len(self.batches)
        if m < FEWEST:
            return math.nan
        parts = np.array_split(self.batches, 3 if m >= 2 * FEWEST else m)
        return float(np.ptp([part.mean() for part in parts]))

    def error(self) -> tuple[float, float]:
        """Standard error of the value's logarithm, and degrees of freedom; NaN without a spread."""
        found = self.spread()
        if found is None:
            return math.nan, math.nan
        return math.sqrt(found.variance / len(self.batches)), found.freedom

    def interval(self, level: float = 0.05) -> tuple[float, float]:
        """Interval of `value` that holds but with probability `level`; NaN where unknown.

        Student's t on the degrees of freedom that `error` leaves. For one look, decided on before.
        """
        error, freedom = self.error()
        if math.isnan(error):
            return math.nan, math.nan
        factor = t_quantile(level, freedom) * error
        return self.value * math.exp(-factor), self.value * math.exp(min(factor, _LARGEST))


@dataclass(frozen=True, slots=True)
class Series:
    """What a window gave: `length_s` seconds from `start_s` on, in which `n` requests ended.

    values: by a metric's key; one that could not be measured is not there.
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
    """What start_s < time ≤ end_s gave; goodput against `goals`, if there are any.

    every: what `MORE` names as well. A p99 is there from 1,000 samples on.
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
        met = _met(ended, goals)
        values["goodput_per_s"] = rate(ended[:, 0], met, len(ended))
    first = recorder.first_tokens.between(start_s, end_s)
    latencies = {"ttft": first[:, 1], "tpot": ended[:, ENDED["tpot_s"]]}
    if every:
        gaps = recorder.gaps.between(start_s, end_s)
        latencies["itl"] = np.repeat(gaps[:, 1], gaps[:, 2].astype(np.intp))
        latencies["e2e"] = ended[:, ENDED["e2e_s"]]
        good = ended[:, ENDED["good"]]
        values["requests_per_s"] = rate(ended[:, 0], good, int(np.count_nonzero(good)))
        prompt = steps[:, STEP["prefill_tokens"]]
        values["prompt_tokens_per_s"] = rate(steps[:, 0], prompt, len(steps))
    shares = ("p50", "p90", "p99") if every else ("p50", "p90")
    for name, seconds in latencies.items():
        found = _quantiles(seconds, shares, batches)
        values |= {f"{name}_{share}": quantile for share, quantile in found.items()}
    return Series(length_s, len(ended), values, start_s)


def _quantiles(seconds: Floats, shares: Sequence[str], batches: int) -> dict[str, Batched]:
    """Quantiles of `seconds`, shape (k,), in order of time; NaN are left out.

    batches: as many, where there are samples enough. The oldest samples are left out of them where
    their number does not divide.
    """
    there = seconds[~np.isnan(seconds)]
    n = len(there)
    if not n:
        return {}
    there = np.maximum(there, _LEAST_LATENCY_S)
    found = {}
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
        found[name] = Batched(
            float(value),
            np.log(np.quantile(runs, share, axis=1)),
            tied_error=float(np.log(high / low)) / 2,
            n=n,
        )
    return found


def _met(ended: Floats, goals: Sequence[Goal]) -> Floats:
    """1.0 for each request that met every goal, else 0.0: shape (k,), as `goodput` counts them.

    ended: rows as `ENDED` names the columns, shape (k, columns).
    """
    met = ended[:, ENDED["good"]] > 0
    for goal in goals:
        met &= keeping(ended, goal)
    return met.astype(np.float64)
