"""The deterministic engine's clock on a shared machine: uncertain steps, drift and stalls."""

from __future__ import annotations

import math
import random

from tputtui.simulate.clock import VirtualTime

__all__ = ["SLOWER", "Restless"]

SLOWER = 4.0
"""Steps of about 40 ms: fewer of them to compute for each virtual second."""
STEP_SD, STALL_EVERY_S, STALL_S = 0.02, 20.0, 0.5


class Restless:
    """A clock that takes steps of uncertain length; the engine's own, in front of `clock`."""

    def __init__(
        self, clock: VirtualTime, seed: int, drift: float, drift_s: float, *, quiet: bool = False
    ) -> None:
        self._clock = clock
        self._random = random.Random(seed)
        self._drift, self._drift_s = drift, drift_s
        self._level = self._random.gauss(0, drift)
        self.speed = 1.0
        self._quiet = quiet

    def __call__(self) -> float:
        return self._clock()

    def advance(self, seconds: float) -> None:
        draw = self._random
        duration_s = seconds * SLOWER / self.speed
        if self._quiet:
            self._clock.advance(duration_s)
            return
        phi = math.exp(-duration_s / self._drift_s)
        self._level = phi * self._level + draw.gauss(0, self._drift * math.sqrt(1 - phi * phi))
        duration_s *= math.exp(self._level + draw.gauss(0, STEP_SD))
        if draw.random() < duration_s / STALL_EVERY_S:
            duration_s += STALL_S * draw.random()
        self._clock.advance(duration_s)
