"""The tuner's search: which setting to measure next, for how long, and which is best. Pure.

An ask/tell machine without a clock: `ask` returns a trial, `enough` decides during the trial
whether it has been measured for long enough, `tell` takes what it gave. A proposer supplies new
settings; the rest is the same for all proposers:

- *The load climbs.* Where the load is searched too, a setting is first tried just above the highest
  load that any setting has held: a setting that fails there is dropped after a single trial. For
  one that holds, the load rises by 1, 2, 4 … levels and is then bisected (Bentley & Yao, "An almost
  optimal algorithm for unbounded searching", Information Processing Letters 5, 1976, 82-87).
- *Trials race* (where `racing`). A trial is measured until it is surely worse than the best, or
  surely misses a goal; one that may be the best is measured longer (Maron & Moore, "Hoeffding
  races", NIPS 1993). The best setting is measured again in between, because a warm engine drifts.
  At the end the settings close to the best are measured alternately, for longer.
"""

from __future__ import annotations

import math
from typing import NamedTuple, Protocol

from tputtui.experiments.tuner.space import Point, Space
from tputtui.measure.normal import Z95

__all__ = ["Ask", "Judge", "Proposer", "Search", "Seen"]

_FIRST_LOOK_S, _WHOLE_S, _LONG_S = 5.0, 10.0, 20.0
_FEWEST = 20
"""Fewest requests for a decision on a trial."""
_FRUITLESS, _LEAST = 8, 10
"""The search ends after `_FRUITLESS` settings without gain, but not before `_LEAST` settings."""
_AGAIN_EVERY = 5
_FINALISTS, _FINAL_S = 4, 30.0
_STRIDE = 4
"""Levels of the first step up or down from the start's load."""


class Seen(NamedTuple):
    """What a trial gave, or has given so far."""

    value: float
    """What the tuner maximises, per second; NaN before anything is known."""
    error: float
    """Relative standard error of `value`."""
    miss: float
    """ln(latency ÷ limit) of the worst goal: missed above 0; far below 0 without goals."""
    sure: bool
    """Whether a goal is missed by more than chance explains."""
    length_s: float
    """Seconds measured."""
    n: int
    """Requests that ended in that time."""

    @property
    def holds(self) -> bool:
        """Whether every goal was met."""
        return self.miss <= 0

    @property
    def may_hold(self) -> bool:
        """Whether every goal was met, or may be met: a single stall can cause a miss."""
        return self.holds or not self.sure


class Ask(NamedTuple):
    """A trial to run: a point at a level of the load. again: whether it was measured before."""

    point: Point
    level: int
    again: bool = False


class Proposer(Protocol):
    """Supplies new points."""

    def propose(self, best: Point) -> Point | None:
        """A point that was neither proposed nor learnt before; None when there is none left.

        best: the best point so far.
        """

    def learn(self, point: Point, value: float, miss: float) -> None:
        """Take in what a point gave, as in `Seen`; also a point that was not proposed."""


class Judge(Protocol):
    """Knows more of a point than its trials tell."""

    def told(self, point: Point, level: int, seen: Seen) -> None:
        """Take in a trial."""

    def believed(self, point: Point, level: int, pooled: Seen) -> Seen:
        """What a point gives by all that is known. pooled: by its trials."""

    def rivals(self, point: Point, best: Point) -> bool | None:
        """Whether a measured point may be better than the best; None where that is not known."""

    @property
    def settled(self) -> str:
        """Why nothing more is worth trying, in a sentence; empty where all was tried."""


class Search:
    """Searches `space` by trials; the first trial is the start.

    racing: end trials early, measure the best again, and play off the best settings at the end.
    judge: whose belief ranks the settings; None: their trials do.
    best: the point and level that gave most among those that hold; if none holds, the closest miss.
    """

    def __init__(
        self, space: Space, proposer: Proposer, *, racing: bool, judge: Judge | None = None
    ) -> None:
        self._space = space
        self._proposer = proposer
        self.judge = judge
        self._racing = racing
        self._trials: dict[tuple[Point, int], list[Seen]] = {}
        self._pooled: dict[tuple[Point, int], Seen] = {}
        self.best: tuple[Point, int] | None = None
        self._climbing: Point | None = space.start
        self._fruitless = 0
        self._since_again = 0
        self._exhausted = False
        self._next: Ask | None = None

    # -- ask and tell ----------------------------------------------------------------------

    def ask(self) -> Ask | None:
        """The trial to run next, the same until `tell` is called; None when the search is over."""
        if self._next is None:
            self._next = self._choose()
        return self._next

    def enough(self, ask: Ask, seen: Seen) -> str:
        """Why a trial need not be measured longer, in a few words; empty while it must be."""
        if seen.length_s < _FIRST_LOOK_S or seen.n < _FEWEST:
            # A minute with hardly any requests is enough to drop the trial.
            return "too few requests ended" if seen.length_s >= 3 * _LONG_S else ""
        if not self._racing or ask.again:
            return "measured" if seen.length_s >= _LONG_S else ""
        if seen.sure:
            return "stopped early: goal missed"
        best = self.best
        rival = self.pooled(*best) if best else None
        if rival is not None and rival.holds and best != (ask.point, ask.level):
            if not (self._space.capped or self._can_beat(seen, rival)):
                return "stopped early: below the best"
            below = seen.value <= rival.value * (1 - Z95 * rival.error)
            close = seen.may_hold and (self._space.capped or not below)
        else:
            close = seen.may_hold
        return "measured" if seen.length_s >= (_LONG_S if close else _WHOLE_S) else ""

    def tell(self, point: Point, level: int, seen: Seen) -> None:
        """Take in what a trial gave; also a trial that is known from an earlier run."""
        before, again = self.best, (point, level) in self._trials
        self._fruitless += all(known != point for known, _ in self._trials)
        self._trials.setdefault((point, level), []).append(seen)
        self._pooled[point, level] = _pooled(self._trials[point, level])
        if self.judge is not None:
            self.judge.told(point, level, seen)
        self.best = max(self._trials, key=lambda trial: self.rank(*trial))
        self._next = None
        if again:
            self._since_again = 0
            return
        self._since_again += 1
        if before != self.best == (point, level):
            self._fruitless = 0
        if self._ahead(point) is None:
            level = max(
                (at for p, at in self._trials if p == point), key=lambda at: self.rank(point, at)
            )
            pooled = self.pooled(point, level)
            value = self._space.levels[level] if self._space.capped else pooled.value
            self._proposer.learn(point, value if math.isfinite(value) else 0.0, pooled.miss)

    # -- the result ------------------------------------------------------------------------

    @property
    def over(self) -> str:
        """Why the search is over, in a sentence; empty while it is not."""
        if self.ask() is not None:
            return ""
        if self.judge is not None and self.judge.settled:
            return self.judge.settled
        if self._exhausted:
            return "Every setting was tried."
        return f"The last {_FRUITLESS} settings gave nothing better."

    def pooled(self, point: Point, level: int) -> Seen:
        """All measurements of a trial together, weighted by length.

        Raises KeyError when the trial was not run.
        """
        return self._pooled[point, level]

    def believed(self, point: Point, level: int) -> Seen:
        """What a point gives by all that is known: by the judge, or by its trials together."""
        pooled = self._pooled[point, level]
        return self.judge.believed(point, level, pooled) if self.judge else pooled

    def rank(self, point: Point, level: int) -> tuple[bool, float, float]:
        """A sort key; the better trial has the greater one.

        A trial that holds is better than one that does not; then one at a higher level (if levels
        are capped) or with a higher value. Among trials that miss a goal, the smaller miss is
        better.
        """
        seen = self.believed(point, level)
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
        holds = best is not None and self.believed(*best).holds
        if self._racing and best is not None and holds and self._since_again >= _AGAIN_EVERY:
            return Ask(*best, again=True)
        if self._given_up():
            return self._play_off()
        point = None
        if not self._exhausted:
            point = self._proposer.propose(best[0] if best else self._space.start)
        if point is None:
            self._exhausted = True
            return self._play_off()
        self._climbing = point
        return self._choose()

    def _given_up(self) -> bool:
        best = self.best
        patience = _FRUITLESS if best and self.pooled(*best).holds else 2 * _FRUITLESS
        tried = len({point for point, _ in self._trials})
        return self._racing and tried >= _LEAST and self._fruitless >= patience

    def _play_off(self) -> Ask | None:
        """The finalist measured least; None when all have been measured for long enough."""
        best = self.best
        if not self._racing or best is None:
            return None
        near = [trial for trial in self._trials if trial == best or self._comes_near(trial, best)]
        if len(near) == 1 and self.believed(*best).holds:
            return None
        near.sort(key=self._promise, reverse=True)
        finalists = [best, *(trial for trial in near if trial != best)][:_FINALISTS]
        pooled = {trial: self.pooled(*trial) for trial in finalists}
        # One that predictions make a finalist may have been stopped by chance, as surely too slow.
        short = [trial for trial, seen in pooled.items()
                 if seen.length_s < _FINAL_S and (seen.may_hold or trial != best)]  # fmt: skip
        if not short:
            return None
        return Ask(*min(short, key=lambda trial: pooled[trial].length_s), again=True)

    def _can_beat(self, seen: Seen, rival: Seen) -> bool:
        """Whether a trial under way may still turn out better."""
        return seen.value * (1 + Z95 * seen.error) >= rival.value * (1 - Z95 * rival.error)

    def _comes_near(self, trial: tuple[Point, int], best: tuple[Point, int]) -> bool:
        """Whether another trial may still turn out as good as the best."""
        rival = self.judge.rivals(trial[0], best[0]) if self.judge else None
        if rival is not None:
            return rival
        seen, top = self.pooled(*trial), self.pooled(*best)
        if not seen.may_hold:
            return False
        if self._space.capped:
            return trial[1] >= best[1] - 1
        return not top.holds or self._can_beat(seen, top)

    def _promise(self, trial: tuple[Point, int]) -> tuple[float, float]:
        """A sort key for the play-off: greater for a trial that may give more."""
        point, level = trial
        rate = self._space.levels[level] if self._space.capped else 0.0
        return rate, self.pooled(point, level).value

    # -- the load --------------------------------------------------------------------------

    def _ahead(self, point: Point) -> int | None:
        """The level at which to try a point next; None when the point needs no further trial."""
        highest = len(self._space.levels) - 1
        if highest == 0:
            return None if (point, 0) in self._trials else 0
        tried = {level: self.pooled(p, level) for p, level in self._trials if p == point}
        if not tried:
            return self._entry()
        good = [level for level, seen in tried.items() if self._gains(level, tried)]
        bad = [level for level in tried if level not in good]
        if not good:
            lowest = min(bad)
            if lowest <= max(0, self._floor(point) + self._space.capped):
                # At a lower level the point is no better than another, or there is no lower level.
                return None
            return max(0, self._floor(point), lowest - max(_STRIDE, max(tried) - lowest))
        held = max(good)
        above = [level for level in bad if level > held]
        if above:
            middle = (held + min(above)) // 2
            return middle if middle > held else None
        stride = _STRIDE if point == self._space.start else 1
        return min(highest, held + max(stride, held - min(tried))) if held < highest else None

    def _entry(self) -> int:
        """The level that a new point must hold."""
        best = self.best
        if best is None:
            return self._space.start_level
        higher = self._space.capped and self.pooled(*best).holds
        return min(best[1] + higher, len(self._space.levels) - 1)

    def _floor(self, point: Point) -> int:
        """The highest level that another point holds, -1 for none. Below it, `point` is worse."""
        others = [t for t in self._trials if t[0] != point and self.pooled(*t).holds]
        return max((level for _, level in others), default=-1)

    def _gains(self, level: int, tried: dict[int, Seen]) -> bool:
        """Whether a level holds, and gives no less than the levels below it that hold."""
        seen = tried[level]
        lower = [s.value for at, s in tried.items() if at < level and s.holds]
        return seen.holds and seen.value >= 0.98 * max(lower, default=0.0)


def _pooled(trials: list[Seen]) -> Seen:
    """All trials of one point and level as one, weighted by length."""
    length_s = math.fsum(each.length_s for each in trials)

    def mean(name: str) -> float:
        values = [getattr(each, name) * each.length_s for each in trials]
        return math.fsum(values) / length_s if length_s > 0 else values[0]

    error = math.sqrt(math.fsum((s.error * s.length_s) ** 2 for s in trials)) / length_s
    sure = any(each.sure for each in trials) and mean("miss") > 0
    n = sum(each.n for each in trials)
    return Seen(mean("value"), error, mean("miss"), sure, length_s, n)
