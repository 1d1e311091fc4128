"""What settings would give under a load, by learnt step costs. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tputtui.errors import TputError
from tputtui.goals import Goal
from tputtui.knobs import Knobs
from tputtui.load.workload import Workload
from tputtui.measure.attainment import FARTHEST, keeping, worst_miss
from tputtui.measure.recorder import ENDED
from tputtui.measure.stats import Floats
from tputtui.predict.costs import StepCosts, learnt
from tputtui.predict.scheduler import Machine, Served, served

__all__ = ["Forecast", "Query", "Seen", "Wanted", "answered", "can_forecast", "forecast"]

Flags = NDArray[np.bool_]

WINDOW_S = 60.0
"""Seconds that a forecast is about, once the load is warm. Requests that began together end
together, so shorter windows hold a wave of them more or less."""
_BEYOND = 1.5
"""A batch so many times larger than any that was seen is off the measured range."""


class Wanted(NamedTuple):
    """A setting to forecast, from an empty engine on."""

    knobs: Knobs
    load: Workload
    length_s: float = WINDOW_S
    """Seconds from when it is warm."""
    block_size: int = 0
    """Of its KV cache, where that is not the running engine's; 0 where it is."""


class Query(NamedTuple):
    """Settings to forecast, and all that the forecasts need."""

    kept: Floats
    newest: Floats
    """Steps of a `StepBook`."""
    machine: Machine
    goals: tuple[Goal, ...]
    wanted: tuple[Wanted, ...]
    must_keep_up: bool = False
    """Whether a load that arrives faster than it is served misses the goals."""


class Seen(NamedTuple):
    """A quantile or rate at its median and p90."""

    p50: float
    p90: float


class Forecast(NamedTuple):
    """What a setting would give."""

    value: float
    """Requests/s that keep the goals; without goals tokens/s."""
    miss: float
    """ln(latency ÷ limit) of the worst goal, as `attainment.worst_miss`; far below 0 for none."""
    tokens_per_s: float
    requests_per_s: float
    ttft_s: Seen
    tpot_s: Seen
    beyond: bool
    """Whether its batches lie off the range that was measured."""
    error: float
    """Relative standard error of a trial of that length, by the engine's drift and stalls."""
    far: float = 0.0
    """How many doublings its usual batch is away from a size that was seen often."""


def answered(query: Query) -> tuple[Forecast, ...] | None:
    """The forecasts of a query, in its order.

    None where too few steps are known, the load's trace cannot be read here, or its requests are of
    a kind that is not forecast.
    """
    costs = learnt(query.kept, query.newest)
    if costs is None or not all(can_forecast(each.load) for each in query.wanted):
        return None
    try:
        return tuple(
            forecast(each, costs, query.machine, query.goals, must_keep_up=query.must_keep_up)
            for each in query.wanted
        )
    except TputError:
        return None


def can_forecast(load: Workload) -> bool:
    """Whether requests are of a kind that is forecast.

    Not real ones, whose answers end where they end, and those that carry something, or whose class
    does. Classes of other lengths, arrivals and goals are.
    """
    carried = (load.cancel, load.priority, load.lora, load.structured, load.answers)
    plain = all(not each.adapter and each.priority is None for each in load.classes or ())
    return plain and not load.request_files and all(each is None for each in carried)


def forecast(
    wanted: Wanted,
    costs: StepCosts,
    machine: Machine,
    goals: Sequence[Goal],
    *,
    must_keep_up: bool = False,
) -> Forecast:
    """What `wanted` gives over its window."""
    if wanted.block_size:
        machine = machine._replace(block_size=wanted.block_size)
    run = served(wanted.load, wanted.knobs, costs, machine, wanted.length_s)
    start_s = run.warm_s if math.isfinite(run.warm_s) else 0.0
    length_s = max(run.end_s - start_s, 1e-9)
    ended = run.ended[run.ended[:, 0] > start_s]
    tokens = float(run.tokens[run.tokens[:, 0] > start_s, 1].sum()) / length_s
    kept = np.ones(len(ended), dtype=bool)
    misses = [-FARTHEST]
    for goal in goals:
        mine = _concerned(run, ended, goal)
        kept &= keeping(ended, goal) | ~mine
        misses.append(worst_miss(ended[mine], [goal])[0] if mine.any() else FARTHEST)
    miss = max(misses)
    if goals and must_keep_up and not wanted.load.closed:
        miss = max(miss, _behind(run, start_s, len(ended)))
    fewest, most = costs.decodes
    batches = run.tokens[(run.tokens[:, 0] > start_s) & (run.tokens[:, 1] > 0), 1]
    far = costs.octaves_off(float(np.median(batches))) if len(batches) else 0.0
    return Forecast(
        value=float(np.count_nonzero(kept)) / length_s if goals else tokens,
        miss=miss,
        tokens_per_s=tokens,
        requests_per_s=float(np.count_nonzero(ended[:, ENDED["good"]])) / length_s,
        ttft_s=_seen(ended, "ttft_s"),
        tpot_s=_seen(ended, "tpot_s"),
        beyond=run.most_decodes > _BEYOND * most or run.most_decodes < fewest / _BEYOND,
        error=costs.error(length_s),
        far=far,
    )


def _concerned(run: Served, ended: Floats, goal: Goal) -> Flags:
    """Which of the requests that have left a goal is for, shape (k,)."""
    if not goal.traffic:
        return np.ones(len(ended), dtype=np.bool_)
    mine: Flags = ended[:, ENDED["label"]] == run.traffic.get(goal.traffic, -1)
    return mine


def _behind(run: Served, start_s: float, ended: int) -> float:
    """ln(due ÷ ended) where the load is not kept up with (`Figures.saturated`), else far below."""
    due = int(np.count_nonzero(run.due_s > start_s))
    if due - ended <= 2 * math.sqrt(max(due, 1)):
        return -FARTHEST
    return max(1e-9, min(FARTHEST, math.log(due / max(ended, 1e-9))))


def _seen(ended: Floats, name: str) -> Seen:
    values = ended[:, ENDED[name]]
    values = values[np.isfinite(values)]
    if not len(values):
        return Seen(math.nan, math.nan)
    return Seen(*np.quantile(values, (0.5, 0.9)).tolist())
