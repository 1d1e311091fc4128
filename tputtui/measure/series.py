"""What a window of one setting gave: every metric's estimate, and batches to tell its error by.

Pure. Called by whoever looks (the front end's thread). Compact: sixty floats a metric at most and
no raw samples, so that hundreds of settings can be kept.

What an engine gives in one second resembles what it gave in the second before. Taken as
independent, sixty such seconds would promise an interval several times too narrow. So the batches'
variance is inflated by their correlation, as Skart does (Tafazzoli & Wilson, "Skart: A skewness-
and autoregression-adjusted batch-means procedure for simulation analysis", IIE Transactions 43,
2011, 110-128): by (1 + φ) / (1 - φ), φ the correlation of neighbours. It is done at three batch
lengths, and the largest error counts: a slow drift hides from short batches behind quick noise.

Of a quantile the batches hold the share of requests that kept below it, and the error of that
share is turned into an interval by the quantiles next to it (Woodruff, "Confidence intervals for
medians and other position measures", Journal of the American Statistical Association 47, 1952,
635-646; in batches over time: Asmussen & Glynn, Stochastic Simulation, 2007, sec. III.4). Quantiles
of the batches themselves would not do: TTFT comes in whole steps of the engine, and a percentile
that lies at the edge between two of them jumps where its batches never do.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tputtui.goals import Goal
from tputtui.measure.attainment import within
from tputtui.measure.recorder import ENDED, Recorder
from tputtui.measure.samples import STEP
from tputtui.measure.stats import P99_MIN_N, Floats, t_quantile
from tputtui.measure.steady import binned

__all__ = ["METRICS", "MORE", "Batched", "Metric", "Series", "keeping", "rows", "series"]

MOST = 60
"""Batches of a window, at most."""
_FEWEST = 8
"""Fewer batches say nothing about an error that could be relied on."""
_SHORTEST_S = 0.25
_LEAST_S = 1e-3
_STEPS = 4
"""Steps in a time batch, on average: below that, whole steps falling in or out are the noise."""
_MERGES = (1, 2, 4)
_LARGEST_PHI = 0.8
_REQUESTS = 10
"""Requests in a batch, at least."""
_GRID = np.linspace(0, 1, 201)
"""Shares of which a window keeps the quantiles."""


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
    """A metric over one window: its `value`, and `batches` in order of time, shape (m,).

    Of a rate the batches are the rate in equal parts of the window; floor: half an event in all
    of it, which stands in for none where a logarithm is needed (Haldane, Annals of Human Genetics
    20, 1956, 309-311). Of a latency they are the share of requests that kept within `value`, in
    equal numbers of requests; share: what it would be over all of them; curve: the window's
    quantiles at 0, 0.5 … 100 %, shape (201,). n: the samples it rests on: steps or requests of a
    rate, requests of a latency, gaps of an ITL.
    """

    value: float
    batches: Floats
    floor: float = math.nan
    share: float = math.nan
    n: int = 0
    curve: Floats | None = None

    @property
    def log_value(self) -> float:
        """Natural logarithm of the value, of `floor` for a rate of none; NaN without either."""
        positive = self.value if self.value > 0 else self.floor
        return math.log(positive) if positive > 0 else math.nan

    def error(self) -> tuple[float, float]:
        """Standard error of `log_value`, of a latency's share; degrees of freedom; or NaN.

        NaN below 8 batches. Over m batches of sample variance S² the mean has variance
        S²/m · (1 + φ) / (1 - φ), and m (1 - φ) / (1 + φ) batches would be worth as much were they
        independent: one less are the degrees of freedom (Zwiers & von Storch, Journal of Climate
        8, 1995, 336-351). φ is corrected for its bias, -(1 + 3φ)/m (Kendall, Biometrika 41, 1954,
        403-404), and kept within 0 … 0.8.
        """
        m = len(self.batches)
        if m < _FEWEST or math.isnan(self.log_value):
            return math.nan, math.nan
        if self.value <= 0:
            # Half an event seen: a Poisson count's logarithm has variance 1/count.
            return math.sqrt(2), m - 1.0
        worst = (0.0, m - 1.0)
        for merged in _MERGES:
            k = m // merged
            if k < _FEWEST:
                break
            # The oldest are left out where it does not divide.
            means = self.batches[m - k * merged :].reshape(k, merged).mean(axis=1)
            worst = max(worst, _error(means))
        error, freedom = worst
        if self.curve is None:
            return error / self.value, freedom
        # Many requests can tie at a quantile: then the shares vary less than where it lies.
        return max(error, math.sqrt(self.share * (1 - self.share) / self.n)), freedom

    def interval(self, level: float = 0.05) -> tuple[float, float]:
        """Interval of `value` that holds but with probability `level`; NaN where unknown.

        Student's t on the degrees of freedom that `error` leaves. For one look, decided on before.
        """
        low, high = self.log_interval(level)
        return math.exp(low), math.exp(high) if not high >= 700 else math.inf

    def log_interval(self, level: float) -> tuple[float, float]:
        """The same of `log_value`."""
        error, freedom = self.error()
        if math.isnan(error):
            return math.nan, math.nan
        return self.bounds(t_quantile(level, freedom) * error)

    def bounds(self, error: float) -> tuple[float, float]:
        """Interval of `log_value` for a half-width in the unit of `error()`; infinite if open."""
        if self.curve is None:
            return self.log_value - error, self.log_value + error
        low, high = self.share - error, self.share + error
        steps = len(_GRID) - 1
        return (
            _log(self.curve[math.floor(low * steps)]) if low >= 0 else -math.inf,
            _log(self.curve[math.ceil(high * steps)]) if high <= 1 else math.inf,
        )


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

    def rate(times: Floats, weights: Floats, events: int) -> Batched:
        most = min(MOST, int(length_s / _SHORTEST_S), events // _STEPS)
        bins = max(1, most)
        sums = binned(times, weights, start_s, end_s, bins)
        return Batched(
            float(weights.sum()) / length_s,
            sums * (bins / length_s),
            floor=0.5 / length_s,
            n=events,
        )

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
        values |= {f"{name}_{share}": found for share, found in _quantiles(seconds, shares).items()}
    return Series(length_s, len(ended), values, start_s)


def keeping(ended: Floats, goal: Goal) -> NDArray[np.bool_]:
    """Which of the requests that have left kept a goal, shape (k,); one that is not good did not.

    ended: rows as `ENDED` names the columns, shape (k, columns).
    """
    good: NDArray[np.bool_] = ended[:, ENDED["good"]] > 0
    return good & within(goal, ended[:, ENDED[f"{goal.metric}_s"]])


def _quantiles(seconds: Floats, shares: Sequence[str]) -> dict[str, Batched]:
    """Quantiles of `seconds`, shape (k,), in order of time; NaN are left out."""
    there = seconds[~np.isnan(seconds)]
    if not len(there):
        return {}
    curve = np.quantile(there, _GRID)
    parts = max(1, min(MOST, len(there) // _REQUESTS))
    found = {}
    for name in shares:
        if name == "p99" and len(there) < P99_MIN_N:
            continue
        value = float(np.quantile(there, _SHARES[name]))
        kept = np.array_split(there <= value, parts)
        means = np.array([part.mean() for part in kept])
        found[name] = Batched(value, means, share=_SHARES[name], n=len(there), curve=curve)
    return found


def _met(ended: Floats, goals: Sequence[Goal]) -> Floats:
    """1.0 for each request that met every goal, else 0.0: shape (k,), as `goodput` counts them.

    ended: rows as `ENDED` names the columns, shape (k, columns).
    """
    met = ended[:, ENDED["good"]] > 0
    for goal in goals:
        met &= keeping(ended, goal)
    return met.astype(np.float64)


def _error(means: Floats) -> tuple[float, float]:
    """Error of the mean of `means`, and degrees of freedom: shape (k,), in order of time."""
    k = len(means)
    centred = means - means.mean()
    squares = float(centred @ centred)
    if squares <= (1e-12 * float(means.mean())) ** 2 * k:
        return 0.0, k - 1.0
    phi = (float(centred[1:] @ centred[:-1]) / squares + 1 / k) / (1 - 3 / k)
    phi = min(max(phi, 0.0), _LARGEST_PHI)
    inflation = (1 + phi) / (1 - phi)
    return math.sqrt(squares / (k - 1) / k * inflation), max(2.0, k / inflation - 1)


def _log(value: float) -> float:
    return math.log(value) if value > 0 else -math.inf
