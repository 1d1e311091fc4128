"""Latencies, goodput and goals by class of traffic, or by LoRA adapter. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tputtui.goals import Goal
from tputtui.measure.attainment import counted, keeping
from tputtui.measure.recorder import ENDED, Recorder
from tputtui.measure.stats import Quantiles, quantiles

__all__ = ["Traffic", "traffic"]


@dataclass(frozen=True, slots=True)
class Traffic:
    """The requests of one class, or of one adapter, over a window.

    Latencies are in seconds, of the requests that finished in it, TTFT too. Cancelled requests do
    not count.
    """

    name: str
    """Of the class; `adapter NAME`, or `base model`, where the load has adapters and no classes."""
    n: int
    """Requests that ended."""
    ttft: Quantiles
    tpot: Quantiles
    e2e: Quantiles
    goodput_per_s: float
    """Requests that met every goal which is for them, per second; NaN for no window."""
    kept_frac: float
    """Share of the requests that did; NaN without requests."""
    offered_per_s: float = math.nan
    """Requests that became due, per second; NaN for no window."""
    served_per_s: float = math.nan
    """Requests that finished, per second; NaN for no window."""


def traffic(
    recorder: Recorder,
    goals: Sequence[Goal],
    start_s: float,
    end_s: float,
    order: Sequence[str] = (),
) -> tuple[Traffic, ...]:
    """Each class with requests that were due, or ended, in start_s < time ≤ end_s.

    order: names that come first, in their order; the others in that of their first requests.
    Without classes each adapter. Empty where requests are of one kind.
    """
    ended = counted(recorder.ended.between(start_s, end_s))
    numbers = ended[:, ENDED["label"]]
    issued = recorder.issued.between(start_s, end_s)[:, 1]
    there = [recorder.labels[int(number)] for number in np.union1d(numbers, issued)]
    by_class = any(label.traffic for label in there)
    if not by_class and not any(label.adapter for label in there):
        return ()
    names = [label.traffic or "no class" if by_class else _adapter(label.adapter)
             for label in recorder.labels]  # fmt: skip
    length_s, made = end_s - start_s, []
    for name in dict.fromkeys([*order, *names]):
        labels = [number for number, each in enumerate(names) if each == name]
        mine, due = ended[np.isin(numbers, labels)], np.isin(issued, labels)
        if not len(mine) and not due.any():
            continue
        kept = mine[:, ENDED["good"]] > 0
        for goal in goals:
            if not goal.traffic or (by_class and goal.traffic == name):
                kept &= keeping(mine, goal)
        met = int(np.count_nonzero(kept))
        made.append(
            Traffic(
                name=name,
                n=len(mine),
                ttft=quantiles(mine[:, ENDED["ttft_s"]]),
                tpot=quantiles(mine[:, ENDED["tpot_s"]]),
                e2e=quantiles(mine[:, ENDED["e2e_s"]]),
                goodput_per_s=_rate(kept, length_s),
                kept_frac=met / len(mine) if len(mine) else math.nan,
                offered_per_s=_rate(due, length_s),
                served_per_s=_rate(mine[:, ENDED["good"]] > 0, length_s),
            )
        )
    return tuple(made)


def _rate(which: NDArray[np.bool_], length_s: float) -> float:
    return int(np.count_nonzero(which)) / length_s if length_s > 0 else math.nan


def _adapter(name: str) -> str:
    return f"adapter {name}" if name else "base model"
