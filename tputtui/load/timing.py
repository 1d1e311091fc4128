"""Due times of requests: the timing part of the generator. Pure; times are passed in.

In an open loop the next arrival is due when the area under the rate has grown by one gap of mean 1
(exponential: Poisson; gamma; or 1: constant). So a rate that changes, by a person or by its curve,
needs no stepping and neither loses nor doubles an arrival. (Time change of a renewal process:
Çınlar 1975, Introduction to Stochastic Processes, sec. 4.7; Lewis & Shedler 1979.)
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from tputtui.load.levels import Curve
from tputtui.load.prompts import Stream
from tputtui.load.workload import Arrivals, ClosedLoop, Constant, Gamma, Recorded, level_of

__all__ = ["ClosedTiming", "OpenTiming", "RecordedTiming", "Wanted", "timing_of"]

_GAPS_AT_ONCE = 256


class Wanted(NamedTuple):
    """The load wanted at a moment.

    level: requests/s, requests in flight, or the speed of a trace.
    since_s: since when the level is constant; the moment itself while the level changes.
    period_s: of a load that repeats, which counts as constant; otherwise 0.
    """

    level: float = 0.0
    since_s: float = -math.inf
    period_s: float = 0.0


class OpenTiming:
    """Arrivals by a rate; its curve starts at `began_s`."""

    def __init__(self, arrivals: Arrivals, seed: int, began_s: float) -> None:
        bits = np.random.Philox(key=seed, counter=[0, 0, Stream.ARRIVALS, 0])
        self._random = np.random.Generator(bits)
        self._began_s = began_s
        self._take(arrivals)
        self._next_area = self._gap()

    def _take(self, arrivals: Arrivals) -> None:
        self.arrivals = arrivals
        self.curve = Curve(level_of(arrivals))
        self._gaps: list[float] = []

    def next_due_s(self) -> float:
        """When the next request is due."""
        return self._began_s + self.curve.time_of(self._next_area)

    def pop(self, now_s: float) -> Iterator[float]:
        """Take the arrivals due by `now_s`, oldest first, one at a time."""
        while (due_s := self.next_due_s()) <= now_s:
            self._next_area += self._gap()
            yield due_s

    def change(self, arrivals: Arrivals, now_s: float) -> bool:
        """Go on with other arrivals; False if they are not by a rate.

        The time waited for the next arrival counts. A curve of the same timing goes on at its
        present position, another one starts from its beginning.
        """
        if isinstance(arrivals, ClosedLoop | Recorded):
            return False
        left = max(0.0, self._next_area - self.curve.area(now_s - self._began_s))
        timing = self.curve.timing
        if arrivals != self.arrivals:
            self._take(arrivals)
        if self.curve.timing != timing:
            self._began_s = now_s
        self._next_area = self.curve.area(now_s - self._began_s) + left
        return True

    def shift(self, seconds: float) -> None:
        """Move the timing `seconds` later (the load was held meanwhile)."""
        self._began_s += seconds

    def wanted(self, now_s: float) -> Wanted:
        """The rate at `now_s`."""
        return _wanted(self.curve, self._began_s, now_s)

    def _gap(self) -> float:
        if isinstance(self.arrivals, Constant):
            return 1.0
        if not self._gaps:
            shape = self.arrivals.burstiness if isinstance(self.arrivals, Gamma) else 1.0
            drawn = self._random.standard_gamma(shape, _GAPS_AT_ONCE) / shape
            self._gaps = drawn[::-1].tolist()
        return self._gaps.pop()


class ClosedTiming:
    """A number of places for requests; a free place is due to be filled at once."""

    def __init__(self, arrivals: ClosedLoop, began_s: float) -> None:
        self._began_s = began_s
        self._take(arrivals)
        self._looked_s = began_s
        self._freed_s: deque[float] = deque()

    def _take(self, arrivals: ClosedLoop) -> None:
        self.curve = Curve(arrivals.in_flight)
        always = self.curve.constant
        self._always = None if always is None else int(always)

    def target(self, now_s: float) -> int:
        """The number of places at `now_s`."""
        if self._always is not None:
            return self._always
        # By rounding, a curve that reaches 5 may be just below 5.
        return int(self.curve.at(max(0.0, now_s - self._began_s)) + 1e-9)

    def freed(self, now_s: float) -> None:
        """Note that a place became free at `now_s`."""
        self._freed_s.append(now_s)

    def next_due_s(self, taken: int) -> float:
        """When the next request is due, with `taken` places in use."""
        if taken < self.target(self._looked_s):
            return self._looked_s
        t = self.curve.reaches(taken + 1, max(0.0, self._looked_s - self._began_s))
        return max(self._looked_s, self._began_s + t)

    def pop(self, now_s: float, taken: int) -> list[float]:
        """Fill every free place; return since when each was due, ascending."""
        target, before_s = self.target(now_s), self._looked_s
        if taken >= target:
            # Places freed while too many were in use are not filled again.
            self._freed_s.clear()
            self._looked_s = now_s
            return []
        since = max(0.0, before_s - self._began_s)
        had = self.target(before_s)
        due: list[float] = []
        for place in range(taken, target):
            if place >= had:
                came_s = self._began_s + self.curve.reaches(place + 1, since)
                due.append(min(now_s, max(before_s, came_s)))
            else:
                # A place that existed and was free at the last look is due since that look.
                due.append(self._freed_s.popleft() if self._freed_s else before_s)
        # Places freed while too many were in use are not filled again.
        self._freed_s.clear()
        self._looked_s = now_s
        return sorted(due)

    def still_free(self, due_s: Iterable[float]) -> None:
        """Return places that `pop` gave but that were not filled. due_s: since when each is due."""
        self._freed_s.extendleft(reversed(list(due_s)))

    def change(self, arrivals: Arrivals, now_s: float) -> bool:
        """Go on with another number of places; False if the arrivals are no closed loop.

        A curve of the same timing goes on at its present position.
        """
        if not isinstance(arrivals, ClosedLoop):
            return False
        timing = self.curve.timing
        self._take(arrivals)
        if self.curve.timing != timing:
            self._began_s = now_s
        self._looked_s = max(self._looked_s, now_s)
        self._freed_s.clear()
        return True

    def shift(self, seconds: float) -> None:
        """Move the timing `seconds` later (the load was held meanwhile)."""
        self._began_s += seconds
        self._looked_s += seconds
        self._freed_s.clear()

    def wanted(self, now_s: float) -> Wanted:
        """The number of places wanted at `now_s`."""
        return _wanted(self.curve, self._began_s, now_s)


class RecordedTiming:
    """The times of a trace, `speed` times as fast."""

    def __init__(self, arrivals: Recorded, began_s: float) -> None:
        self._began_s = began_s
        self._speed = arrivals.speed
        self._changed_s = began_s

    def due_s(self, at_s: float) -> float:
        """When the request recorded at `at_s` seconds into the trace is due."""
        return self._began_s + at_s / self._speed

    def change(self, arrivals: Arrivals, now_s: float) -> bool:
        """Go on at another speed from the present position; False if they are not recorded."""
        if not isinstance(arrivals, Recorded):
            return False
        position_s = max(0.0, now_s - self._began_s) * self._speed
        self._speed = arrivals.speed
        self._began_s = now_s - position_s / self._speed
        self._changed_s = now_s
        return True

    def shift(self, seconds: float) -> None:
        """Move the timing `seconds` later (the load was held meanwhile)."""
        self._began_s += seconds

    def wanted(self, now_s: float) -> Wanted:
        """The speed of the trace."""
        return Wanted(self._speed, self._changed_s)


Timing = OpenTiming | ClosedTiming | RecordedTiming


def _wanted(curve: Curve, began_s: float, now_s: float) -> Wanted:
    if curve.constant is not None:
        return Wanted(curve.constant, began_s)
    t = max(0.0, now_s - began_s)
    return Wanted(curve.at(t), began_s + curve.since(t), curve.period_s)


def timing_of(arrivals: Arrivals, seed: int, now_s: float) -> Timing:
    """Timing that starts at `now_s`."""
    if isinstance(arrivals, ClosedLoop):
        return ClosedTiming(arrivals, now_s)
    if isinstance(arrivals, Recorded):
        return RecordedTiming(arrivals, now_s)
    return OpenTiming(arrivals, seed, now_s)
