"""What was measured at each setting, and which settings no other one beats. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial

from tputtui.measure.stats import Quantiles

__all__ = ["AXES_X", "AXES_Y", "Axis", "Point", "knee", "letter", "pareto"]


@dataclass(frozen=True, slots=True)
class Point:
    """One setting under one load, measured over one window; figures not measured are NaN."""

    label: str
    """The letter of the setting, see `letter`."""
    knobs: Mapping[str, int]
    """The limits in force, by name."""
    load: str
    """The arrivals as a person writes them."""
    level: float
    """Size of the load: requests in flight, or requests/s."""
    tokens_per_s: float
    """Generated tokens per second."""
    requests_per_s: float
    """Requests that finished, per second."""
    latency: Mapping[str, Quantiles]
    """Quantiles in seconds of `ttft`, `tpot` and `e2e`."""
    n: int
    """Requests that ended in the window."""
    window_s: float
    """Length of the window in seconds."""
    offered_per_s: float = math.nan
    """Requests that were due, per second."""
    goodput_per_s: float = math.nan
    """Requests that met every goal, per second; NaN without goals."""
    tokens_per_joule: float = math.nan
    """Generated tokens per joule of the GPUs; NaN without an energy counter."""
    cost_per_mtok: float = math.nan
    """Cost of a million generated tokens, in the price's currency; NaN without a price."""
    saturated: bool = False
    """Whether more was offered than served."""
    steady: bool = True
    """Whether nothing drifted in the window."""
    swept: bool = False
    """Whether a sweep measured it rather than a person."""
    trial: int = 0
    """Number of its row in the history; 0 without a row."""


@dataclass(frozen=True, slots=True)
class Axis:
    """A figure that points can be compared by."""

    key: str
    label: str
    unit: str
    value: Callable[[Point], float]
    """The figure of a point, in `unit`; NaN where the point does not have it."""
    less_is_better: bool = False


def _latency(point: Point, metric: str, percentile: str) -> float:
    measured = point.latency.get(metric)
    # The p99 of a few hundred requests depends on a single one: no setting wins or loses by it.
    if measured is None or (percentile == "p99" and not measured.p99_resolved):
        return math.nan
    value: float = getattr(measured, percentile)
    return value


AXES_Y: tuple[Axis, ...] = (
    Axis("tokens_per_s", "generated", "tok/s", lambda point: point.tokens_per_s),
    Axis("requests_per_s", "requests", "req/s", lambda point: point.requests_per_s),
    Axis("goodput_per_s", "goodput", "req/s", lambda point: point.goodput_per_s),
    Axis("tokens_per_joule", "energy", "tok/J", lambda point: point.tokens_per_joule),
    Axis("cost_per_mtok", "cost", "/Mtok", lambda point: point.cost_per_mtok, True),
)
"""What a setting gives. More is better, except for cost."""

AXES_X: tuple[Axis, ...] = tuple(
    Axis(
        f"{metric}_{percentile}",
        f"{metric.upper()} {percentile}",
        "s",
        partial(_latency, metric=metric, percentile=percentile),
        True,
    )
    for metric in ("ttft", "tpot", "e2e")
    for percentile in ("p50", "p90", "p99")
)
"""The latency that each request has, in seconds. p99 is NaN where n is too small to resolve it."""


def pareto(points: Iterable[Point], y: Axis, x: Axis, least: float = 0.0) -> list[Point]:
    """The points that no other point beats, the best x first.

    A point beats another if it is as good on both axes and better on one. least: a point that is
    worse on x must be better on y by at least this fraction, so that noise is not enough. Points
    without a value on one of the axes are left out; all of several equal points are kept.
    """
    scored = [(_score(x, point), _score(y, point), point) for point in points]
    there = [s for s in scored if not (math.isnan(s[0]) or math.isnan(s[1]))]
    there.sort(key=lambda s: (-s[0], -s[1]))
    front: list[Point] = []
    # From the best x to the worst: a point must be better on y than all points before it.
    best_y, best_x = -math.inf, math.nan
    for of_x, of_y, point in there:
        if not front or of_y - best_y > least * abs(best_y):
            best_x, best_y = of_x, of_y
            front.append(point)
        elif (of_x, of_y) == (best_x, best_y):
            front.append(point)
    return front


def knee(points: Iterable[Point]) -> Point | None:
    """The point of greatest power, requests/s ÷ median E2E; None when no point has both.

    Power is throughput ÷ response time: past its peak, more throughput costs more than its share
    of waiting (Kleinrock, "Power and deterministic rules of thumb for probabilistic problems in
    computer communications", ICC 1979). All points must be of one workload: in another workload
    a request is another amount of work.
    """
    powers = [(_power(point), point) for point in points]
    there = [pair for pair in powers if not math.isnan(pair[0])]
    return max(there, key=lambda pair: pair[0])[1] if there else None


def letter(index: int) -> str:
    """The label of the point measured `index`-th, from 0: a, b, … z, aa, ab, …"""
    text = ""
    while index >= 0:
        text = chr(ord("a") + index % 26) + text
        index = index // 26 - 1
    return text


def _score(axis: Axis, point: Point) -> float:
    value = axis.value(point)
    return -value if axis.less_is_better else value


def _power(point: Point) -> float:
    e2e_s = _latency(point, "e2e", "p50")
    return point.requests_per_s / e2e_s if e2e_s > 0 else math.nan
