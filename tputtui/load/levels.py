"""The level of the load over time: a constant, or one of four curves. Plain values. Pure.

A level is requests/s (open loop) or requests in flight (closed loop). Every curve is a list of
`Segment`s, on which `Curve` computes areas and times without stepping.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Annotated, Literal, NamedTuple

import msgspec

__all__ = ["Bursts", "Curve", "Diurnal", "Level", "Ramp", "Steps"]

Amount = Annotated[float, msgspec.Meta(ge=0, le=1e6)]
Seconds = Annotated[float, msgspec.Meta(gt=0, le=1e7)]


class _Shape(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind"):
    """The base of all curves; `kind` names which one it is."""


class Ramp(_Shape, frozen=True, tag="ramp"):
    """From `start` to `end` within `over_s` seconds, then `end` forever.

    curve: linear, or exponential (every second by the same factor).
    """

    start: Amount
    end: Amount
    over_s: Seconds
    curve: Literal["linear", "exponential"] = "linear"

    def __post_init__(self) -> None:
        if self.curve == "exponential" and not (self.start > 0 and self.end > 0):
            raise ValueError("an exponential ramp starts and ends above 0")


class Steps(_Shape, frozen=True, tag="steps"):
    """A staircase: each of `values` for `each_s` seconds, then the last one forever."""

    values: Annotated[tuple[Amount, ...], msgspec.Meta(min_length=1, max_length=1000)]
    each_s: Seconds


class Bursts(_Shape, frozen=True, tag="bursts"):
    """`on` for `on_s` seconds, then `off` for `off_s` seconds, repeated."""

    on: Amount
    on_s: Seconds
    off_s: Seconds
    off: Amount = 0.0


class Diurnal(_Shape, frozen=True, tag="diurnal"):
    """Straight lines through `points` (second, level), repeated with the period `period_s`.

    A line joins the last point to the first one of the next period.
    """

    points: Annotated[
        tuple[tuple[Annotated[float, msgspec.Meta(ge=0, le=1e7)], Amount], ...],
        msgspec.Meta(min_length=2, max_length=10_000),
    ]
    period_s: Seconds

    def __post_init__(self) -> None:
        times = [at for at, _ in self.points]
        if any(later <= earlier for earlier, later in pairwise(times)):
            raise ValueError("points must be in order of time, each later than the one before")
        if times[-1] >= self.period_s:
            raise ValueError(f"the last point must come before the period of {self.period_s:g} s")


Level = Amount | Ramp | Steps | Bursts | Diurnal


_HAIR = 1e-12
"""The largest relative error of an area by rounding."""


class Segment(NamedTuple):
    """One piece of a curve: from `start` to `end` in `duration_s`, linear or exponential."""

    duration_s: float
    start: float
    end: float
    exponential: bool = False

    @property
    def flat(self) -> bool:
        return self.start == self.end

    def at(self, t: float) -> float:
        if self.flat:
            return self.start
        if self.exponential:
            return self.start * math.exp(self._growth * t)
        return self.start + (self.end - self.start) * t / self.duration_s

    def area(self, t: float) -> float:
        """∫ from 0 to t."""
        if self.flat:
            return self.start * t
        if self.exponential:
            return self.start * math.expm1(self._growth * t) / self._growth
        return t * (self.start + self.at(t)) / 2

    def time_of(self, area: float) -> float:
        """The t at which the area from 0 is `area`, which the segment must contain."""
        if self.flat:
            return area / self.start if self.start else math.inf
        if self.exponential:
            return math.log1p(area * self._growth / self.start) / self._growth
        slope = (self.end - self.start) / self.duration_s
        # The root of start·t + slope·t²/2 = area, in the form without cancellation.
        root = math.sqrt(max(0.0, self.start**2 + 2 * slope * area))
        return 2 * area / (self.start + root) if area else 0.0

    def reaches(self, level: float, after: float) -> float:
        """The first t ≥ `after` at which the level is at least `level`; infinity if never."""
        if self.at(after) >= level:
            return after
        if self.end <= self.start or self.end < level:
            return math.inf
        if self.exponential:
            return math.log(level / self.start) / self._growth
        return (level - self.start) / (self.end - self.start) * self.duration_s

    @property
    def _growth(self) -> float:
        return math.log(self.end / self.start) / self.duration_s


class Curve:
    """A level as a function of t ≥ 0 seconds, with its area and the inverse of the area."""

    def __init__(self, level: Level) -> None:
        self._segments, self.repeats = _segments(level)
        spans = self._segments if self.repeats else self._segments[:-1]
        ends = [0.0, *accumulate(s.duration_s for s in spans)]
        areas = [0.0, *accumulate(s.area(s.duration_s) for s in spans)]
        # The last segment of a curve that does not repeat has no end.
        count = len(self._segments)
        self._starts, self._areas = ends[:count], areas[:count]
        self._period_s, self._whole = (ends[-1], areas[-1]) if self.repeats else (0.0, 0.0)

    @property
    def constant(self) -> float | None:
        """The level if it is constant; None for a curve."""
        return self._segments[0].start if len(self._segments) == 1 else None

    @property
    def timing(self) -> tuple[float, tuple[float, ...]]:
        """Period and segment starts: equal for curves that differ only in height."""
        return self._period_s, tuple(self._starts)

    def at(self, t: float) -> float:
        """The level at t."""
        _, place, within = self._find(t)
        return self._segments[place].at(within)

    def area(self, t: float) -> float:
        """∫ level from 0 to t; for a rate, the requests expected until t."""
        rounds, place, within = self._find(t)
        return rounds * self._whole + self._areas[place] + self._segments[place].area(within)

    def time_of(self, area: float) -> float:
        """The first t at which the area from 0 reaches `area`; infinity if it never does."""
        rounds = 0
        if self.repeats:
            if self._whole <= 0:
                return math.inf if area > 0 else 0.0
            # An area just above a whole number of rounds is that number: rounding adds up.
            rounds = max(0, math.ceil(area / self._whole * (1 - _HAIR)) - 1)
            area = min(area - rounds * self._whole, self._whole)
        # If the level is 0 for a while, several t have this area; the first counts.
        place = max(0, bisect_left(self._areas, area * (1 - _HAIR)) - 1)
        left = area - self._areas[place]
        segment = self._segments[place]
        if segment.flat and segment.start == 0 and left <= _HAIR * area:
            within = 0.0
        else:
            within = min(segment.duration_s, segment.time_of(left))
        return rounds * self._period_s + self._starts[place] + within

    def reaches(self, level: float, after: float) -> float:
        """The first t ≥ `after` at which the level is at least `level`; infinity if never."""
        rounds, place, within = self._find(after)
        count = len(self._segments)
        for step in range(place, count * 2 if self.repeats else count):
            over, index = divmod(step, count)
            t = self._segments[index].reaches(level, within)
            if t < math.inf:
                return (rounds + over) * self._period_s + self._starts[index] + t
            within = 0.0
        return math.inf

    @property
    def period_s(self) -> float:
        """The period in s; 0 if the curve does not repeat."""
        return self._period_s

    def since(self, t: float) -> float:
        """Since when the level of t has been constant: t itself while the level changes.

        A curve that repeats counts as constant from its start.
        """
        if self.repeats:
            return 0.0
        _, place, _ = self._find(t)
        return self._starts[place] if self._segments[place].flat else t

    def _find(self, t: float) -> tuple[int, int, float]:
        """(whole rounds before t, segment, seconds into it)."""
        rounds = 0
        if self.repeats:
            rounds = int(t / self._period_s)
            t -= rounds * self._period_s
        place = max(0, bisect_right(self._starts, t) - 1)
        return rounds, place, max(0.0, t - self._starts[place])


def _segments(level: Level) -> tuple[Sequence[Segment], bool]:
    """The pieces of a level, and whether they repeat; if not, the last one is flat and endless."""
    match level:
        case Ramp(start, end, over_s, curve):
            pieces = [Segment(over_s, start, end, curve == "exponential")]
        case Steps(values, each_s):
            pieces = [Segment(each_s, value, value) for value in values[:-1]]
            end = values[-1]
        case Bursts(on, on_s, off_s, off):
            return [Segment(on_s, on, on), Segment(off_s, off, off)], True
        case Diurnal(points, period_s):
            return _through(points, period_s), True
        case _:
            pieces, end = [], float(level)
    return [*pieces, Segment(math.inf, end, end)], False


def _through(points: Sequence[tuple[float, float]], period_s: float) -> list[Segment]:
    (first_s, first), (last_s, last) = points[0], points[-1]
    pieces = []
    # The period may begin on the line that starts in the previous period.
    wrap_s = period_s - last_s + first_s
    at_zero = last + (first - last) * (period_s - last_s) / wrap_s
    if first_s > 0:
        pieces.append(Segment(first_s, at_zero, first))
    for (t0, v0), (t1, v1) in pairwise(points):
        pieces.append(Segment(t1 - t0, v0, v1))
    return [*pieces, Segment(period_s - last_s, last, at_zero)]
