"""What was measured at each setting, and which settings are worth having. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial

from tputtui.measure.stats import Quantiles

__all__ = ["AXES_X", "AXES_Y", "Axis", "Point", "knee", "letter", "pareto"]


@dataclass(frozen=True, slots=True)
class Point:
    """One setting under one load, measured over one window. What was not measured is NaN.

    label: its letter, see `letter`. trial: the number of its row in the history, 0 without.
    load: as a person writes it; level: its size, requests in flight or requests/s. knobs: the
    limits in force, by name.
    goodput_per_s: requests that met every goal, a second; NaN without goals.
    latency: "ttft", "tpot" and "e2e" to their quantiles in seconds.
    saturated: more was offered than served. steady: nothing drifted in the window.
    n: requests that ended in it. swept: measured by a sweep rather than by hand.
    """

    label: str
    knobs: Mapping[str, int]
    load: str
    level: float
    tokens_per_s: float
    requests_per_s: float
    latency: Mapping[str, Quantiles]
    n: int
    window_s: float
    offered_per_s: float = math.nan
    goodput_per_s: float = math.nan
    tokens_per_joule: float = math.nan
    cost_per_mtok: float = math.nan
    saturated: bool = False
    steady: bool = True
    swept: bool = False
    trial: int = 0


@dataclass(frozen=True, slots=True)
class Axis:
    """Something points can be compared by. value: NaN where a point does not have it."""

    key: str
    label: str
    unit: str
    value: Callable[[Point], float]
    less_is_better: bool = False


def _latency(point: Point, metric: str, percentile: str) -> float:
    found = point.latency.get(metric)
    # A p99 of a few hundred requests is one request's luck: no setting wins or loses by it.
    if found is None or (percentile == "p99" and not found.p99_resolved):
        return math.nan
    value: float = getattr(found, percentile)
    return value


AXES_Y: tuple[Axis, ...] = (
    Axis("tokens_per_s", "generated", "tok/s", lambda point: point.tokens_per_s),
    Axis("requests_per_s", "requests", "req/s", lambda point: point.requests_per_s),
    Axis("goodput_per_s", "goodput", "req/s", lambda point: point.goodput_per_s),
    Axis("tokens_per_joule", "energy", "tok/J", lambda point: point.tokens_per_joule),
    Axis("cost_per_mtok", "cost", "/Mtok", lambda point: point.cost_per_mtok, True),
)
"""What a setting gives. More is better, but for cost."""

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
"""What each request pays for it, in seconds. p99 is NaN below the n that resolves it."""


def pareto(points: Iterable[Point], y: Axis, x: Axis, least: float = 0.0) -> list[Point]:
    """The points no other beats: as good on both axes and better on one. Best x first.

    least: what is worse on x must be better on y by that fraction, so that noise is no reason.
    Points without a value on either axis are left out; equal ones are kept together.
    """
    scored = [(_score(x, point), _score(y, point), point) for point in points]
    there = [s for s in scored if not (math.isnan(s[0]) or math.isnan(s[1]))]
    there.sort(key=lambda s: (-s[0], -s[1]))
    front: list[Point] = []
    # Walking from the best x to the worst: a point must be better on y than all before it.
    best_y, best_x = -math.inf, math.nan
    for of_x, of_y, point in there:
        if not front or of_y - best_y > least * abs(best_y):
            best_x, best_y = of_x, of_y
            front.append(point)
        elif (of_x, of_y) == (best_x, best_y):
            front.append(point)
    return front


def knee(points: Iterable[Point]) -> Point | None:
    """The point of greatest power, requests/s ÷ median E2E; None when none has both.

    Power is throughput ÷ response time: past its peak, more throughput costs more than its share
    of waiting (Kleinrock, "Power and deterministic rules of thumb for probabilistic problems in
    computer communications", ICC 1979). It compares points of one workload: others differ in
    what one request is.
    """
    powers = [(_power(point), point) for point in points]
    there = [found for found in powers if not math.isnan(found[0])]
    return max(there, key=lambda found: found[0])[1] if there else None


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
