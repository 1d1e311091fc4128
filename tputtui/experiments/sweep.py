"""Steps the load up until the engine gives no more, then measures more levels at the knee. Pure.

An ask/tell machine: `ask` returns the load to measure next, `tell` takes what it gave.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import NamedTuple

__all__ = ["Sweep"]

_DOWN = 4
"""Most steps down from a first level that saturates."""


class _Told(NamedTuple):
    level: float
    power: float
    saturated: bool


class Sweep:
    """Load levels from `start` up: requests in flight when `whole`, else requests/s.

    growth: factor from one level to the next. ceiling: the highest level to ask for.
    gain: throughput must rise by this fraction over the best so far. The climb ends when it does
    not do so twice in a row (once may be chance), or when a level saturates. If the first level
    saturates, the sweep steps down from it, four times at most.
    Then, while the lowest level has the greatest power, lower levels are asked for, four at most.
    refine: how many levels between others are measured at the end, at geometric means. If a level
    saturated: by bisection between the highest level that did not and the lowest that did.
    Otherwise: beside the level of greatest power, throughput ÷ latency (Kleinrock, ICC 1979).
    name: what a level is called; by default a number with its unit.
    """

    def __init__(
        self,
        start: float,
        *,
        whole: bool,
        growth: float = 2.0,
        gain: float = 0.05,
        refine: int = 2,
        ceiling: float = math.inf,
        name: Callable[[float], str] | None = None,
    ) -> None:
        lowest = 1.0 if whole else 1e-6
        if not (0 < start < math.inf and ceiling >= lowest and 1.1 <= growth <= 100):
            raise ValueError(f"no sweep from {start} to {ceiling} by {growth}")
        self._whole, self._growth, self._gain = whole, growth, gain
        self._ceiling = float(math.floor(ceiling)) if whole and ceiling < math.inf else ceiling
        self._refine = refine
        self._name = name
        self._measured: list[_Told] = []
        self._best = 0.0
        self._flat = 0
        self._climbing = True
        self._came_down = 0
        self._reason = ""
        first = float(round(start)) if whole else start
        self._next: float | None = min(max(first, lowest), self._ceiling)

    @property
    def done(self) -> bool:
        """Whether there is nothing left to ask."""
        return self._next is None

    @property
    def reason(self) -> str:
        """Why the climb ended, in one sentence; empty while it goes on."""
        return self._reason

    @property
    def levels(self) -> tuple[float, ...]:
        """The levels measured so far, in the order of their measurement."""
        return tuple(row.level for row in self._measured)

    def ask(self) -> float | None:
        """The level to measure next, the same until `tell` has it; None when done."""
        return self._next

    def tell(self, level: float, throughput: float, latency_s: float, saturated: bool) -> None:
        """Take in what `level` gave: throughput in any unit, a typical E2E latency in seconds.

        saturated: more was offered than served, so that the queue kept growing.
        Raises ValueError when `level` is not the one asked for.
        """
        if level != self._next:
            raise ValueError(f"got level {level}, asked for {self._next}")
        power = throughput / latency_s if latency_s > 0 and throughput > 0 else 0.0
        self._measured.append(_Told(level, power, saturated))
        if self._climbing:
            self._climbing = not self._ends(level, throughput, saturated)
        if self._climbing:
            up = any(not row.saturated for row in self._measured)
            self._next = self._step(level, up)
        elif (lower := self._below()) is not None:
            self._next = lower
        else:
            self._next = self._between() if self._refine > 0 else None
            self._refine -= 1

    def _ends(self, level: float, throughput: float, saturated: bool) -> bool:
        """Whether this ends the climb, or the way down from a first level too high; sets why."""
        first = len(self._measured) == 1
        came_down = not first and self._measured[0].saturated
        # A throughput of NaN is no gain either.
        gained = first or (throughput >= self._best * (1 + self._gain) and throughput > self._best)
        self._flat = 0 if gained else self._flat + 1
        self._best = max(self._best, throughput) if throughput > 0 else self._best
        if saturated and (first or came_down):
            if len(self._measured) <= _DOWN and self._step(level, up=False) < level:
                return False
            highest = self._named(self._measured[0].level)
            above = "" if first else f", and at every level up to {highest}"
            self._reason = f"Saturated even at {self._named(level)}{above}."
            self._refine = 0
        elif saturated:
            self._reason = f"Saturated at {self._named(level)}."
        elif came_down:
            higher = self._measured[-2].level
            self._reason = f"Saturated at {self._named(higher)}, not at {self._named(level)}."
        elif self._flat == 2:
            self._reason = (
                f"Two steps, up to {self._named(level)}, gained less than {self._gain:.0%} each."
            )
        elif self._step(level, up=True) <= level:
            self._reason = f"Reached the ceiling, {self._named(level)}, without saturating."
        return bool(self._reason)

    def _step(self, level: float, up: bool) -> float:
        """The next level up or down; `level` itself at the ceiling, or at one request in flight."""
        target = level * self._growth if up else level / self._growth
        rounded = self._rounded(target)
        if self._whole:
            rounded = max(rounded, level + 1) if up else max(1.0, min(rounded, level - 1))
        # Past the largest float there is no level to ask for.
        return min(rounded, self._ceiling) if math.isfinite(target) else level

    def _below(self) -> float | None:
        """The level below all measured ones, while the lowest of them has the greatest power."""
        lowest = min(self._measured, key=lambda row: row.level)
        best = max(self._measured, key=lambda row: row.power)
        # Where the sweep stepped down from the first level, it has measured lower ones already.
        if len(self._measured) < 2 or self._measured[0].saturated or self._came_down == _DOWN:
            return None
        if lowest.saturated or lowest is not best:
            return None
        level = self._step(lowest.level, up=False)
        if level >= lowest.level:
            return None
        self._came_down += 1
        return level

    def _between(self) -> float | None:
        """A level not measured yet beside the knee, in its wider gap; None when there is none."""
        rows = sorted(self._measured)
        too_much = min((row.level for row in rows if row.saturated), default=math.inf)
        if too_much < math.inf:
            below = [row.level for row in rows if row.level < too_much]
            # Empty where a level saturates that did not saturate on the way up.
            gaps = [(max(below), too_much)] if below else []
        else:
            powers = [row.power for row in rows]
            at = powers.index(max(powers))
            near = [row.level for row in rows[max(0, at - 1) : at + 2]]
            gaps = sorted(itertools.pairwise(near), key=lambda gap: gap[0] / gap[1])
        for low, high in gaps:
            middle = self._rounded(math.sqrt(low) * math.sqrt(high))
            if low < middle < high:
                return middle
        return None

    def _rounded(self, level: float) -> float:
        # Three digits, so that the measured level is exactly the one shown.
        if not math.isfinite(level):
            return level
        return float(round(level)) if self._whole else float(f"{level:.3g}")

    def _named(self, level: float) -> str:
        if self._name is not None:
            return self._name(level)
        return f"{level:.0f} in flight" if self._whole else f"{level:g} requests/s"
