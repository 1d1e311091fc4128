"""The phase of a window: whether the engine ran steadily in it, and if not, why. Pure."""

from __future__ import annotations

import numpy as np

from tputtui.measure.recorder import Recorder
from tputtui.measure.samples import STEP
from tputtui.measure.steady import binned, steady
from tputtui.measure.window import Phase, Window

__all__ = ["phase_of"]

_SHORTEST_S = 5.0
"""A shorter window has too few steps for its hundred bins."""


def phase_of(
    window: Window, recorder: Recorder, *, held: bool, in_flight: int, moving: bool, period_s: float
) -> Phase:
    """The phase of `window`, by the first rule that holds.

    held: no requests arrive. Then DRAINING, or IDLE with nothing in flight.
    moving: the load changes along a curve. Then RAMPING.
    SETTLING until the window is settled.
    MEASURING below 5 s, below two periods of the load (`period_s`), or with too few steps.
    DRIFTING when tokens/s or requests in flight show a trend (`measure.steady`), else STEADY.
    """
    if held:
        return Phase.DRAINING if in_flight else Phase.IDLE
    if moving:
        return Phase.RAMPING
    if not window.settled:
        return Phase.SETTLING
    if window.length_s < max(_SHORTEST_S, 2 * period_s * (1 - 1e-9)):
        return Phase.MEASURING
    steps = recorder.steps.between(window.start_s, window.end_s)
    times, busy_s = steps[:, 0], steps[:, STEP["duration_s"]]
    inside = steps[:, STEP["running"]] + steps[:, STEP["waiting"]]
    span = window.start_s, window.end_s
    tokens = binned(times, steps[:, STEP["generated_tokens"]], *span)
    # Weighted by time: while the engine is idle, no request is in flight.
    flying = binned(times, inside * busy_s, *span)
    if np.count_nonzero(tokens) < len(tokens) // 4:
        return Phase.MEASURING
    return Phase.STEADY if steady(tokens, flying) else Phase.DRIFTING
