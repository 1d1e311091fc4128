"""What the tuner has to search, as a person writes it, and as values on an engine. Pure."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import yaml

from tputtui.engine.protocol import EngineFacts
from tputtui.errors import UsageError
from tputtui.experiments.compare import FIRST_LOOK
from tputtui.experiments.tuner.proposers import check_search
from tputtui.experiments.tuner.space import Space, levels_around, parse_axes, usual_axes
from tputtui.frame import TunerTrial
from tputtui.goals import Goal
from tputtui.knobs import Knobs
from tputtui.load.workload import ClosedLoop, Workload, constant, lead, level_of
from tputtui.profile import EngineSpec, EngineValue

__all__ = ["Plan", "engines_of", "parse_engines", "space_of"]

BUDGET_S = 600.0
LEG_S = 15.0
"""Seconds of a trial with short requests, warm-up included."""
_LEAST_LEGS = 2 + 2 * FIRST_LOOK
"""Legs for the start, one other setting, and the pairs of both until the first look."""
_MOST_ENGINES = 12


@dataclass(frozen=True, slots=True)
class Plan:
    """What the tuner searches, how, and for how long."""

    load: bool = False
    """Whether to search the load too: the highest level that meets the goals."""
    vary: str = ""
    """Limits and values as text (see `parse_axes`); empty: sequences and batched tokens."""
    engines: str = ""
    """Engine arguments to boot with, as text (see `parse_engines`); empty: no other engine."""
    search: str = "physics"
    """One of `SEARCHES`."""
    budget_s: float = BUDGET_S
    """Seconds for search and confirmation together."""
    seed: int = 0
    earlier_trials: tuple[TunerTrial, ...] = ()
    """Trials of an earlier run that was interrupted; the search continues from them."""

    def check(self, workload: Workload, goals: tuple[Goal, ...]) -> None:
        """Raise UsageError where the plan cannot be carried out on any engine."""
        check_search(self.search)
        if self.budget_s < _LEAST_LEGS * LEG_S:
            raise UsageError(
                f"{self.budget_s:g} s are too short to try anything.",
                f"The start, another setting, and {FIRST_LOOK} pairs of both take "
                f"{_LEAST_LEGS * LEG_S:.0f} s at least. Give it 5 to 30 minutes.",
            )
        parse_engines(self.engines)
        if self.load and not (constant(workload) and level_of(lead(workload))):
            raise UsageError(
                "Searching the load needs a constant one to start from.",
                "Give a number in flight or a rate (--load 16, --load 8/s).",
            )
        if self.load and not goals:
            raise UsageError(
                "Searching for the most load needs a goal.",
                "Give one: ttft_p99=500ms,tpot_p99=50ms.",
            )


def space_of(plan: Plan, limits: Knobs, facts: EngineFacts, workload: Workload) -> Space:
    """The limits and levels to search on an engine that has come up with `limits`.

    Raises UsageError or KnobError for values that the engine cannot take.
    """
    closed = isinstance(lead(workload), ClosedLoop)
    level = level_of(lead(workload))
    if plan.vary.strip():
        floor = partial(facts.floor, knobs=limits)
        axes = parse_axes(plan.vary, limits, facts.ceilings, floor)
    else:
        alone = closed and not plan.load and not workload.apart and not workload.sessions
        most = level if alone and isinstance(level, int) else None
        axes = usual_axes(limits, facts.ceilings, most)
    for axis in axes:
        if axis.name in facts.fixed:
            raise UsageError(f"{axis.name} cannot be changed here: {facts.fixed[axis.name]}.")
    start = tuple(axis.values.index(limits.get(axis.name)) for axis in axes)
    if not plan.load or not isinstance(level, int | float):
        return Space(axes, start)
    levels, at = levels_around(float(level), whole=closed)
    capped = not any(isinstance(each, ClosedLoop) for each in workload.all_arrivals)
    return Space(axes, start, levels, at, capped=capped)


def engines_of(plan: Plan, engine: EngineSpec) -> tuple[EngineSpec, ...]:
    """The engines to try, the present one first."""
    others = [EngineSpec(engine.model, {**engine.args, **args}) for args in
              parse_engines(plan.engines)]  # fmt: skip
    return (engine, *(other for other in others if other != engine))


def parse_engines(text: str) -> tuple[Mapping[str, EngineValue], ...]:
    """Every combination of engine arguments as typed: `block_size=16,32 async_scheduling=true`.

    Raises UsageError.
    """
    form = "Write block_size=16,32 async_scheduling=true,false."
    given: dict[str, list[EngineValue]] = {}
    for item in text.split():
        name, equals, values = item.partition("=")
        name = name.strip().removeprefix("--").replace("-", "_")
        if not (name.isidentifier() and equals and values):
            raise UsageError(f"{item!r} is no engine argument with values.", form)
        if name in given:
            raise UsageError(f"{name} is there twice.", "Give all its values at once.")
        given[name] = [_value(name, value) for value in values.split(",") if value]
    combined = [dict(zip(given, values, strict=True)) for values in
                itertools.product(*given.values())]  # fmt: skip
    if len(combined) > _MOST_ENGINES:
        raise UsageError(
            f"{len(combined)} engines would be booted.", f"Try {_MOST_ENGINES} at most."
        )
    return tuple(combined) if given else ()


def _value(name: str, text: str) -> EngineValue:
    try:
        value: EngineValue = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError):
        raise UsageError(f"{name}: {text!r} is no value.") from None
    return value
