"""How many requests met the goals, and whether that is enough of them to say so. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from tputtui.goals import Goal
from tputtui.measure.stats import Floats

__all__ = ["Attainment", "Goodput", "Verdict", "attainment", "goodput", "wilson", "within"]

_Z95 = 1.959964


class Verdict(StrEnum):
    """Whether a goal is met, beyond chance."""

    MET = "met"
    MISSED = "missed"
    UNRESOLVED = "unresolved"
    """The interval straddles the target: more requests are needed to tell."""


@dataclass(frozen=True, slots=True)
class Attainment:
    """One goal: `met` of the `n` requests that ended kept within its limit.

    frac: met ÷ n, NaN for n = 0; low, high: its 95 % Wilson interval.
    observed_s: the goal's percentile over the good requests, in seconds; NaN when there are none.
    """

    goal: Goal
    met: int
    n: int
    frac: float
    low: float
    high: float
    verdict: Verdict
    observed_s: float


@dataclass(frozen=True, slots=True)
class Goodput:
    """Requests that met every goal: `met` of `n`, `per_s` of them a second (NaN without time).

    frac, low, high: as in Attainment. each: one goal at a time, in the order given.
    """

    per_s: float
    met: int
    n: int
    frac: float
    low: float
    high: float
    each: tuple[Attainment, ...]


def goodput(
    goals: Sequence[Goal],
    ttft_s: Floats,
    tpot_s: Floats,
    e2e_s: Floats,
    good: NDArray[np.bool_] | Floats,
    length_s: float,
) -> Goodput:
    """Attainment of `goals` by the requests that ended in a window `length_s` long.

    All arrays have shape (k,), one entry a request. One that is not good (cut, aborted, rejected,
    failed) misses every goal. A good one with a single token has no TPOT (NaN) and meets any
    TPOT goal. Without goals, every good request counts.

    Goodput: Zhong et al., DistServe, OSDI 2024; `vllm bench serve --goodput` counts alike.
    The intervals take requests as independent. Those that wait out one stall together are not,
    so that true intervals are, if anything, wider.
    """
    finished = good.astype(np.bool_)
    values = {"ttft": ttft_s, "tpot": tpot_s, "e2e": e2e_s}
    every = finished.copy()
    each = []
    for goal in goals:
        value = values[goal.metric]
        kept = finished & within(goal, value)
        every &= kept
        there = value[finished & ~np.isnan(value)]
        observed_s = float(np.percentile(there, goal.percentile)) if len(there) else math.nan
        each.append(attainment(goal, int(np.count_nonzero(kept)), len(kept), observed_s))
    met, n = int(np.count_nonzero(every)), len(every)
    return Goodput(
        met / length_s if length_s > 0 else math.nan,
        met,
        n,
        met / n if n else math.nan,
        *wilson(met, n),
        tuple(each),
    )


def within(goal: Goal, value_s: Floats) -> NDArray[np.bool_]:
    """Which of `value_s`, shape (k,), one a request, keep within the goal's limit.

    A single token has no TPOT (NaN), and meets any.
    """
    kept: NDArray[np.bool_] = value_s <= goal.limit_s
    return kept | np.isnan(value_s) if goal.metric == "tpot" else kept


def wilson(met: int, n: int) -> tuple[float, float]:
    """95 % interval for a proportion of which `met` of `n` were seen; (0, 1) for n = 0.

    The score interval, centre and half-width
    (p + z²/2n) / (1 + z²/n)  and  z √(p(1 - p)/n + z²/4n²) / (1 + z²/n)
    (Wilson, Journal of the American Statistical Association 22, 1927, 209-212).
    """
    if n == 0:
        return 0.0, 1.0
    p, z2 = met / n, _Z95**2
    scale = 1 + z2 / n
    centre = (p + z2 / (2 * n)) / scale
    half = _Z95 * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n)) / scale
    # At the ends the bound is the proportion itself, which rounding would miss by a hair.
    return (centre - half if met else 0.0), (centre + half if met < n else 1.0)


def attainment(goal: Goal, met: int, n: int, observed_s: float = math.nan) -> Attainment:
    """How `met` of `n` requests kept a goal, and what that says of it."""
    low, high = wilson(met, n)
    if low >= goal.target:
        verdict = Verdict.MET
    elif high < goal.target:
        verdict = Verdict.MISSED
    else:
        verdict = Verdict.UNRESOLVED
    return Attainment(goal, met, n, met / n if n else math.nan, low, high, verdict, observed_s)
