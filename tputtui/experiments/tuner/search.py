"""The tuner's search: which setting to measure next, for how long, and which is best. Pure.

An ask/tell machine without a clock: `ask` names a trial, `enough` says while it is measured
whether that will do, `tell` takes what it gave. Where new settings come from is a proposer's
affair; the rest is the same for all of them:

- *The load climbs.* Where it is searched too, a setting is first tried just above the best load
  that any setting has held: one that fails there is done with after a single trial. One that holds
  gallops up by 1, 2, 4 … levels and bisects (Bentley & Yao, "An almost optimal algorithm for
  unbounded searching", Information Processing Letters 5, 1976, 82-87).
- *Trials race* (where `racing`). Each is measured until it is surely worse than the best, or surely
  misses a goal; one that may be the best is measured longer (Maron & Moore, "Hoeffding races",
  NIPS 1993). The best is measured again in between, because a warm engine drifts; and in the end
  those that come near it, longer and in turns.
"""

from __future__ import annotations

import math
from typing import NamedTuple, Protocol

from tputtui.experiments.tuner.space import Point, Space

__all__ = ["Ask", "Proposer", "Search", "Seen"]

_FIRST_LOOK_S, _WHOLE_S, _LONG_S = 5.0, 10.0, 20.0
_FEWEST = 20
"""Requests that a look takes at least."""
_FRUITLESS, _LEAST = 8, 10
"""The search is over after so many settings without gain, of so many in all at least."""
_AGAIN_EVERY = 5
_FINALISTS, _FINAL_S = 4, 30.0
_STRIDE = 4
"""Levels that a first load is missed by, at a guess."""
_Z = 1.96


class Seen(NamedTuple):
    """What a trial gave, or has given so far.

    value: what is maximised, NaN before anything is known. error: its relative standard error.
    miss: the logarithm of the worst goal's latency ÷ its limit; above 0 it is missed, far below
    without goals. sure: whether it is missed beyond chance. length_s: seconds measured.
    n: requests that ended in them.
    """

    value: float
    error: float
    miss: float
    sure: bool
    length_s: float
    n: int

    @property
    def holds(self) -> bool:
        """Whether every goal was met."""
        return self.miss <= 0

    @property
    def may_hold(self) -> bool:
        """Whether every goal was met, or may be: one stall can be all that a miss is made of."""
        return self.holds or not self.sure


class Ask(NamedTuple):
    """A trial: a point at a level of the load; again: it has been measured before."""

    point: Point
    level: int
    again: bool = False


class Proposer(Protocol):
    """Where new points come from."""

    def propose(self, best: Point) -> Point | None:
        """A point that was neither proposed nor learnt of before; None when there is none left.

        best: the best one so far.
        """

    def learn(self, point: Point, value: float, miss: float) -> None:
        """What a point gave, proposed or not, as in `Seen`."""


class Search:
    """Searches `space` by trials; the first is the start.

    racing: end trials early, measure the best again, and play the last ones off.
    best: the point and level that gave most of those that hold; else the closest miss.
    """

    def __init__(self, space: Space, proposer: Proposer, *, racing: bool) -> None:
        self._space = space
        self._proposer = proposer
        self._racing = racing
        self._told: dict[tuple[Point, int], list[Seen]] = {}
        self._pooled: dict[tuple[Point, int], Seen] = {}
        self.best: tuple[Point, int] | None = None
        self._climbing: Point | None = space.start
        self._fruitless = 0
        self._since_again = 0
        self._exhausted = False
        self._next: Ask | None = None

    # -- ask and tell ----------------------------------------------------------------------

    def ask(self) -> Ask | None:
        """The trial to run next, the same until something is told; None when it is over."""
        if self._next is None:
            self._next = self._choose()
        return self._next

    def enough(self, ask: Ask, seen: Seen) -> str:
        """Why a trial need not be measured on, in a few words; empty while it must be."""
        if seen.length_s < _FIRST_LOOK_S or seen.n < _FEWEST:
            # Where hardly anything ends, a minute says so.
            return "too few requests ended" if seen.length_s >= 3 * _LONG_S else ""
        if not self._racing or ask.again:
            return "measured" if seen.length_s >= _LONG_S else ""
        if seen.sure:
            return "surely misses a goal"
        best = self.best
        rival = self.pooled(*best) if best else None
        if rival is not None and rival.holds and best != (ask.point, ask.level):
            if not (self._space.capped or self._can_beat(seen, rival)):
                return "surely below the best"
            below = seen.value <= rival.value * (1 - _Z * rival.error)
            close = seen.may_hold and (self._space.capped or not below)
        else:
            close = seen.may_hold
        return "measured" if seen.length_s >= (_LONG_S if close else _WHOLE_S) else ""

    def tell(self, point: Point, level: int, seen: Seen) -> None:
        """What a trial gave, whether it was asked for or is known from before."""
        before, again = self.best, (point, level) in self._told
        self._fruitless += all(known != point for known, _ in self._told)
        self._told.setdefault((point, level), []).append(seen)
        self._pooled[point, level] = _pooled(self._told[point, level])
        self.best = max(self._told, key=lambda trial: self.rank(*trial))
        self._next = None
        if again:
            self._since_again = 0
            return
        self._since_again += 1
        if before != self.best == (point, level):
            self._fruitless = 0
        if self._ahead(point) is None:
            level = max(
                (at for p, at in self._told if p == point), key=lambda at: self.rank(point, at)
            )
            found = self.pooled(point, level)
            value = self._space.levels[level] if self._space.capped else found.value
            self._proposer.learn(point, value if math.isfinite(value) else 0.0, found.miss)

    # -- what was found --------------------------------------------------------------------

    @property
    def over(self) -> str:
        """Why there is nothing more to try, in a sentence; empty while there is."""
        if self.ask() is not None:
            return ""
        if self._exhausted:
            return "Every setting was tried."
        return f"The last {_FRUITLESS} settings gave nothing better."

    def pooled(self, point: Point, level: int) -> Seen:
        """All that was seen of a trial, weighted by length. Raises KeyError when it was not run."""
        return self._pooled[point, level]

    def rank(self, point: Point, level: int) -> tuple[bool, float, float]:
        """What is better sorts higher: what holds, at a higher rate, with more of what counts.

        Of what misses a goal, what misses less.
        """
        seen = self.pooled(point, level)
        if not seen.holds:
            return False, 0.0, -seen.miss
        return True, self._space.levels[level] if self._space.capped else 0.0, seen.value

    # -- inside ----------------------------------------------------------------------------

    def _choose(self) -> Ask | None:
        best = self.best
        if self._climbing is not None:
            level = self._ahead(self._climbing)
            if level is not None:
                return Ask(self._climbing, level)
            self._climbing = None
        holds = best is not None and self.pooled(*best).holds
        if self._racing and best is not None and holds and self._since_again >= _AGAIN_EVERY:
            return Ask(*best, again=True)
        if self._given_up():
            return self._play_off()
        point = self._proposer.propose(best[0] if best else self._space.start)
        if point is None:
            self._exhausted = True
            return self._play_off()
        self._climbing = point
        return self._choose()

    def _given_up(self) -> bool:
        best = self.best
        patience = _FRUITLESS if best and self.pooled(*best).holds else 2 * _FRUITLESS
        tried = len({point for point, _ in self._told})
        return self._racing and tried >= _LEAST and self._fruitless >= patience

    def _play_off(self) -> Ask | None:
        """The finalist measured least; None when all have been measured for long enough."""
        best = self.best
        if not self._racing or best is None:
            return None
        near = [trial for trial in self._told if trial == best or self._comes_near(trial, best)]
        if len(near) == 1 and self.pooled(*best).holds:
            return None
        near.sort(key=self._promise, reverse=True)
        finalists = [best, *(trial for trial in near if trial != best)][:_FINALISTS]
        short = min(finalists, key=lambda trial: self.pooled(*trial).length_s)
        seen = self.pooled(*short)
        return Ask(*short, again=True) if seen.may_hold and seen.length_s < _FINAL_S else None

    def _can_beat(self, seen: Seen, rival: Seen) -> bool:
        """Whether a trial under way may still turn out better."""
        return seen.value * (1 + _Z * seen.error) >= rival.value * (1 - _Z * rival.error)

    def _comes_near(self, trial: tuple[Point, int], best: tuple[Point, int]) -> bool:
        """Whether another trial may yet turn out as good as the best."""
        seen, top = self.pooled(*trial), self.pooled(*best)
        if not seen.may_hold:
            return False
        if self._space.capped:
            return trial[1] >= best[1] - 1
        return not top.holds or self._can_beat(seen, top)

    def _promise(self, trial: tuple[Point, int]) -> tuple[float, float]:
        """What promises most sorts highest, whether it has met its goals or may yet."""
        point, level = trial
        rate = self._space.levels[level] if self._space.capped else 0.0
        return rate, self.pooled(point, level).value

    # -- the load --------------------------------------------------------------------------

    def _ahead(self, point: Point) -> int | None:
        """The level to try a point at next; None when it has shown what it can."""
        highest = len(self._space.levels) - 1
        if highest == 0:
            return None if (point, 0) in self._told else 0
        told = {level: self.pooled(p, level) for p, level in self._told if p == point}
        if not told:
            return self._entry()
        good = [level for level, seen in told.items() if self._gains(level, told)]
        bad = [level for level in told if level not in good]
        if not good:
            lowest = min(bad)
            if lowest <= max(0, self._floor(point) + self._space.capped):
                # Further down it is no better than another one, or there is no further down.
                return None
            return max(0, self._floor(point), lowest - max(_STRIDE, max(told) - lowest))
        held = max(good)
        above = [level for level in bad if level > held]
        if above:
            middle = (held + min(above)) // 2
            return middle if middle > held else None
        stride = _STRIDE if point == self._space.start else 1
        return min(highest, held + max(stride, held - min(told))) if held < highest else None

    def _entry(self) -> int:
        """The level a new point has to hold."""
        best = self.best
        if best is None:
            return self._space.start_level
        higher = self._space.capped and self.pooled(*best).holds
        return min(best[1] + higher, len(self._space.levels) - 1)

    def _floor(self, point: Point) -> int:
        """Below this level a point would be no better than another one."""
        others = [t for t in self._told if t[0] != point and self.pooled(*t).holds]
        return max((level for _, level in others), default=-1)

    def _gains(self, level: int, told: dict[int, Seen]) -> bool:
        """Whether a level holds, and gives no less than the levels below it that hold."""
        seen = told[level]
        lower = [s.value for at, s in told.items() if at < level and s.holds]
        return seen.holds and seen.value >= 0.98 * max(lower, default=0.0)


def _pooled(trials: list[Seen]) -> Seen:
    """Trials of one point and level as one, weighted by length."""
    length_s = math.fsum(each.length_s for each in trials)

    def mean(name: str) -> float:
        values = [getattr(each, name) * each.length_s for each in trials]
        return math.fsum(values) / length_s if length_s > 0 else values[0]

    error = math.sqrt(math.fsum((s.error * s.length_s) ** 2 for s in trials)) / length_s
    sure = any(each.sure for each in trials) and mean("miss") > 0
    n = sum(each.n for each in trials)
    return Seen(mean("value"), error, mean("miss"), sure, length_s, n)
