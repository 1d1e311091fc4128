"""Latency goals of a load: as values, as text, and as a profile's section. Pure.

A goal bounds one percentile of a latency that every request has exactly once. So each request
either meets the goal or does not. A job of several steps has one latency, from its first step due
to its last token; its goal is met or missed by the request that ends it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal

from tputtui.errors import UsageError, nearest

__all__ = [
    "METRICS",
    "Goal",
    "describe_goals",
    "goals_from",
    "goals_to",
    "metric_of",
    "parse_goals",
]

METRICS = ("ttft", "tpot", "e2e", "job")
"""Latencies that a goal can bound: time to first token, time per output token, end to end; a job's
own."""

_NUMBER = r"(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d{1,3})?"
_ITEM = re.compile(r"(.*?)(?:<=|≤|=)(.*)", re.DOTALL)
_NAME = re.compile(rf"(.+?)[\s_-]*p\s*({_NUMBER})")
_LIMIT = re.compile(rf"({_NUMBER})\s*([a-zµ]*)")
_UNIT_S = {
    "s": Decimal(1),
    "ms": Decimal("1e-3"),
    "us": Decimal("1e-6"),
    "µs": Decimal("1e-6"),
    "min": Decimal(60),
}
_FORM = "Write ttft_p99=500ms: ttft, tpot, e2e or job, a percentile, and a limit with its unit."
_UNITS = "Limits take a unit: µs, ms, s or min."


@dataclass(frozen=True, slots=True)
class Goal:
    """At least `percentile` % of requests have a `metric` of at most `limit_s` seconds.

    metric: one of METRICS. percentile: above 0, below 100. Raises UsageError for other values.
    traffic: the class of requests that it is for; empty for all.
    """

    metric: str
    percentile: float
    limit_s: float
    traffic: str = ""

    def __post_init__(self) -> None:
        if self.metric == "itl":
            raise UsageError(
                "Goals are per request, and a request has many inter-token latencies.",
                "Use tpot, their mean over one request.",
            )
        if self.metric not in METRICS:
            hint = nearest(self.metric, METRICS) or f"Goals are for {', '.join(METRICS)}."
            raise UsageError(f"There is no goal for {self.metric!r}.", hint)
        if not 0 < self.percentile < 100:
            raise UsageError(
                f"{self.metric}: percentile {_plain(self.percentile)} is not between 0 and 100.",
                "Write p99 or p99.9.",
            )
        if not 0 < self.limit_s < math.inf:
            raise UsageError(f"{self.name}: the limit must be a time above zero.", _FORM)

    @property
    def name(self) -> str:
        """Metric and percentile as they are written: `ttft_p99`, of a class `chat:ttft_p99`."""
        of = f"{self.traffic}:" if self.traffic else ""
        return f"{of}{self.metric}_p{_plain(self.percentile)}"

    @property
    def target(self) -> float:
        """Fraction of requests that must keep within the limit."""
        return self.percentile / 100


def parse_goals(text: str) -> tuple[Goal, ...]:
    """Goals as typed: `ttft_p99=500ms, tpot_p99<=50ms`; none for empty text.

    Raises UsageError when one cannot be read, has no unit, or is there twice.
    """
    goals = []
    for item in text.split(",") if text.strip() else []:
        written = _ITEM.fullmatch(item.strip())
        if not written:
            raise UsageError(f"{item.strip()!r} is not a goal.", _FORM)
        goals.append(_goal(written[1], written[2]))
    return _distinct(goals)


def metric_of(name: str) -> str:
    """The metric in a goal's name ("ttft" in "ttft_p99"), also one that is not in METRICS."""
    plain = name.strip().lower()
    match = _NAME.fullmatch(plain)
    return match[1] if match else plain


def describe_goals(goals: Iterable[Goal]) -> str:
    """The text that `parse_goals` reads back as the same goals."""
    return ",".join(f"{name}={limit}" for name, limit in goals_to(goals).items())


def goals_from(section: Mapping[str, object]) -> tuple[Goal, ...]:
    """Goals from a profile's section (`ttft_p99: 500ms`). Raises UsageError like `parse_goals`."""
    return _distinct([_goal(str(name), limit) for name, limit in section.items()])


def goals_to(goals: Iterable[Goal]) -> dict[str, str]:
    """The section that `goals_from` reads back as the same goals."""
    return {goal.name: _limit_text(goal.limit_s) for goal in goals}


def _goal(name: str, limit: object) -> Goal:
    plain = name.strip().lower()
    match = _NAME.fullmatch(plain)
    if not match and plain in METRICS:
        raise UsageError(f"{plain!r} names no percentile.", f"Write {plain}_p99.")
    metric, percentile = (match[1], float(match[2])) if match else (plain, 50.0)
    # With some limit first, so that errors in the name are raised before errors in the limit.
    goal = Goal(metric, percentile, 1.0)
    return replace(goal, limit_s=_seconds(goal.name, limit))


def _seconds(name: str, limit: object) -> float:
    # A Greek mu is not the micro sign, but it looks the same and some keyboards produce it.
    plain = str(limit).strip().lower().replace("μ", "µ")
    match = _LIMIT.fullmatch(plain)
    if not match:
        raise UsageError(f"{name}: {str(limit)!r} is not a time.", _FORM)
    number, unit = match.groups()
    if not unit:
        raise UsageError(
            f"{name}: {number} has no unit.", f"Did you mean {number}ms, or {number}s? {_UNITS}"
        )
    if unit == "m":
        # 500m is more likely a typing error for 500ms than eight hours.
        raise UsageError(f"{name}: 'm' could be ms or min.", f"Write {number}ms or {number}min.")
    if unit not in _UNIT_S:
        raise UsageError(f"{name}: there is no unit {unit!r}.", _UNITS)
    # Decimals, so that 70ms and 0.07s are the same limit: 0.001 is not a binary fraction.
    return float(Decimal(number) * _UNIT_S[unit])


def _distinct(goals: list[Goal]) -> tuple[Goal, ...]:
    names = [goal.name for goal in goals]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"{name} is there twice.", "Keep the limit you mean.")
    return tuple(goals)


def _limit_text(limit_s: float) -> str:
    exact = Decimal(repr(float(limit_s)))
    unit = next((u for u in ("s", "ms") if exact >= _UNIT_S[u]), "µs")
    return f"{(exact / _UNIT_S[unit]).normalize():f}{unit}"


def _plain(percentile: float) -> str:
    return f"{Decimal(repr(float(percentile))).normalize():f}"
