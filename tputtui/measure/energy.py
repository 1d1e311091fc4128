"""What tokens cost: energy from the GPUs' counters, money from a price per hour. Pure."""

from __future__ import annotations

import math
from collections import deque

from tputtui.measure.recorder import Recorder
from tputtui.measure.samples import StepSample

__all__ = ["EnergyMeter", "cost_per_mtok"]

_GENERATED = StepSample._fields.index("generated_tokens")


class EnergyMeter:
    """The readings of an energy counter over the last few minutes (600 readings)."""

    def __init__(self) -> None:
        self._readings: deque[tuple[float, float]] = deque(maxlen=600)

    def add(self, t_s: float, joules: float) -> None:
        """Add a reading of `t_s`; one that is not newer than the last is ignored.

        A counter that has fallen (driver reloaded, a GPU lost) drops the earlier readings.
        """
        if self._readings:
            last_s, last = self._readings[-1]
            if t_s <= last_s:
                return
            if joules < last:
                self._readings.clear()
        self._readings.append((t_s, joules))

    def tokens_per_joule(self, recorder: Recorder, start_s: float, end_s: float) -> float:
        """Generated tokens ÷ joules between the first and the last reading in the window.

        NaN with fewer than two readings in it, or when the counter has not moved.
        """
        inside = [reading for reading in self._readings if start_s <= reading[0] <= end_s]
        if len(inside) < 2:
            return math.nan
        (first_s, first), (last_s, last) = inside[0], inside[-1]
        if last <= first:
            return math.nan
        tokens = recorder.steps.between(first_s, last_s)[:, _GENERATED].sum()
        return float(tokens) / (last - first)


def cost_per_mtok(price_per_hour: float | None, tokens_per_s: float) -> float:
    """What a million tokens cost at that rate, in the price's currency; NaN without a price.

    price ÷ 3600 s ÷ tokens/s × 10⁶.
    """
    if price_per_hour is None or not tokens_per_s > 0:
        return math.nan
    return price_per_hour / 3600 / tokens_per_s * 1e6
