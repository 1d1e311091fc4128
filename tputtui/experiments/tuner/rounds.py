"""The tuner's search on one engine: its limits, its space, and the load at a level of it. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import msgspec

from tputtui.engine.protocol import EngineFacts
from tputtui.experiments.setting import Setting
from tputtui.experiments.tuner.plan import Plan, space_of
from tputtui.experiments.tuner.proposers import search_of
from tputtui.experiments.tuner.search import Search, Seen
from tputtui.experiments.tuner.space import Point, Space
from tputtui.frame import TunerTrial
from tputtui.knobs import Knobs
from tputtui.load.workload import Workload, at_level

__all__ = ["Found", "Round", "best_of"]


@dataclass(slots=True)
class Round:
    """The search on one engine."""

    engine: int
    """Number of the engine."""
    base: Knobs
    """All limits of the engine at the start of the search."""
    space: Space
    search: Search
    until_s: float
    """When to end the search, in seconds of the engine clock."""
    _workload: Workload
    _searched: bool
    """Whether the load is searched too."""

    @classmethod
    def on(
        cls,
        plan: Plan,
        engine: int,
        present: Setting,
        booted: Knobs,
        facts: EngineFacts,
        until_s: float,
    ) -> Round:
        """A search on the engine that `facts` describe, from the present setting.

        booted: the limits with which the present engine booted; limits changed since stay changed.
        The search takes in the plan's earlier trials. Raises UsageError or KnobError.
        """
        changed = {
            name: value
            for name, value in present.knobs.as_dict().items()
            if value != booted.get(name)
        }
        base = facts.booted.overridden(changed).clamped(facts.ceilings)
        space = space_of(plan, base, facts, present.load)
        search = search_of(plan.search, space, plan.seed)
        for trial in plan.earlier_trials:
            point = space.point_of(trial.knobs)
            if trial.engine == engine and point is not None and trial.index < len(space.levels):
                search.tell(point, trial.index, _seen(trial))
        return cls(engine, base, space, search, until_s, present.load, plan.load)

    def knobs(self, point: Point) -> Knobs:
        """All limits at a point."""
        return self.base.overridden(self.space.values(point))

    def load(self, level: int, seed: int) -> Workload:
        """The load at a level, with that seed."""
        load = self._workload
        if self._searched:
            load = at_level(load, self.space.levels[level])
        return msgspec.structs.replace(load, seed=seed % 2**63)


class Found(NamedTuple):
    """A point and a level on one of the engines."""

    round: Round
    point: Point
    level: int

    @property
    def seen(self) -> Seen:
        """All its trials together."""
        return self.round.search.pooled(self.point, self.level)

    @property
    def holds(self) -> bool:
        """Whether it meets every goal, by all that is known."""
        return self.round.search.believed(self.point, self.level).holds


def best_of(rounds: Iterable[Round]) -> Found | None:
    """The best point of all rounds; None while nothing has been measured."""
    candidates = [Found(each, *each.search.best) for each in rounds if each.search.best is not None]

    return max(
        candidates, key=lambda best: best.round.search.rank(best.point, best.level), default=None
    )


def _seen(trial: TunerTrial) -> Seen:
    point = trial.point
    return Seen(trial.value, trial.error, trial.miss, trial.sure, point.window_s, point.n)
