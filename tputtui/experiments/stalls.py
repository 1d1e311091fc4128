"""What a leg would have given without the machine's stalls. Pure.

Now and then a machine does something else for half a second. A stall in only one leg of a pair is
most of the pair's difference. The steps show it: a step that takes at least 2.5 times as long as
its tokens explain has stalled. The excess time is taken out of the leg, as if the clock had stood
still.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tputtui.measure.recorder import ENDED, Recorder, Table
from tputtui.measure.regression import fit_parts
from tputtui.measure.samples import STEP
from tputtui.measure.stats import Floats

__all__ = ["Stalls", "without_stalls"]

_TIMES = 2.5
"""A step has stalled where time ÷ fitted cost exceeds its median by this factor."""
_FEWEST = 30
"""Fewest steps for a fit of the cost."""
_BEFORE_S = 60.0
"""Requests of a leg were due at most so long before its measured part."""


class Stalls(NamedTuple):
    """The stalls of a leg that is `length_s` seconds long; together they take `total_s` seconds.

    squares: sum of the squares of their lengths, in s²: the variance of their total by chance.
    """

    length_s: float = 0.0
    total_s: float = 0.0
    squares: float = 0.0

    def __add__(self, other: object) -> Stalls:
        """The stalls of two legs together."""
        assert isinstance(other, Stalls)
        return Stalls(*(a + b for a, b in zip(self, other, strict=True)))

    @property
    def frac(self) -> float:
        """The share of the time that the stalls take."""
        return self.total_s / self.length_s if self.length_s > 0 else 0.0

    def like(self, other: Stalls) -> bool:
        """Whether chance explains the difference of the two totals.

        The total of stalls that occur at random (a compound Poisson process) has a variance of the
        sum of their squares, on average. The difference may be two standard errors.
        """
        apart = abs(self.total_s - other.total_s)
        return apart <= 2 * math.sqrt(self.squares + other.squares)


def without_stalls(
    recorder: Recorder, start_s: float, end_s: float
) -> tuple[Recorder, tuple[float, float], Stalls]:
    """The rows of start_s < time ≤ end_s without the stalls; their window; and the stalls.

    The cost of a step is fitted as a sum of a constant, its decode tokens and its prefill tokens.
    A step in which a request was preempted keeps its time.
    """
    steps = recorder.steps.between(start_s - _BEFORE_S, end_s)
    inside = steps[:, 0] > start_s
    excess_s = _excess(steps, inside)
    mine = excess_s[inside]
    stalls = Stalls(end_s - start_s, float(mine.sum()), float(mine @ mine))
    over = np.flatnonzero(excess_s)
    ends = steps[over, 0]
    # Stalled time before each moment: piecewise linear through both ends of each stall.
    knots = np.maximum.accumulate(np.ravel(np.column_stack((ends - excess_s[over], ends))))
    lost = np.concatenate(([0.0], np.repeat(np.cumsum(excess_s[over]), 2)[:-1]))

    def moved(times: Floats) -> Floats:
        """`times` on a clock that stands still during a stall."""
        if not len(over):
            return times
        shifted: Floats = times - np.interp(times, knots, lost)
        return shifted

    made = Recorder()
    steps = steps[inside].copy()
    steps[:, STEP["duration_s"]] -= mine
    steps[:, 0] = moved(steps[:, 0])
    made.steps = Table(steps)
    first = recorder.first_tokens.between(start_s, end_s).copy()
    at = moved(first[:, 0])
    for column in (1, 2):
        first[:, column] = at - moved(first[:, 0] - first[:, column])
    first[:, 0] = at
    made.first_tokens = Table(first)
    made.ended = Table(_ended(recorder.ended.between(start_s, end_s), moved))
    window = moved(np.array([start_s, end_s]))
    return made, (float(window[0]), float(window[1])), stalls


# -- inside ------------------------------------------------------------------------------------


def _excess(steps: Floats, inside: NDArray[np.bool_]) -> Floats:
    """Seconds that each step was stalled, shape (k,); the cost is fitted to the steps `inside`."""
    durations = steps[:, STEP["duration_s"]]
    none = np.zeros(len(steps))
    fitting = inside & (durations > 0)
    if np.count_nonzero(fitting) < _FEWEST:
        return none
    columns = np.column_stack(
        (
            np.ones(len(steps)),
            steps[:, STEP["decode_tokens"]] + steps[:, STEP["draft_tokens"]],
            steps[:, STEP["prefill_tokens"]],
        )
    )
    cost = columns @ fit_parts(columns[fitting], durations[fitting]).coefficients
    ratio = durations / np.maximum(cost, 1e-9)
    usual = float(np.median(ratio[fitting]))
    stalled = (ratio > _TIMES * usual) & (steps[:, STEP["preemptions"]] == 0)
    return np.where(stalled, durations - usual * cost, none)


def _ended(ended: Floats, moved: Callable[[Floats], Floats]) -> Floats:
    """Rows of requests that have left, with their times on the clock without stalls."""
    ended = ended.copy()
    end_s, ttft_s, e2e_s = (ended[:, ENDED[name]] for name in ("end_s", "ttft_s", "e2e_s"))
    due, first, last = moved(end_s - e2e_s), moved(end_s - e2e_s + ttft_s), moved(end_s)
    decode_s = e2e_s - ttft_s
    with np.errstate(invalid="ignore", divide="ignore"):
        ended[:, ENDED["tpot_s"]] *= np.where(decode_s > 0, (last - first) / decode_s, 1.0)
    ended[:, ENDED["ttft_s"]], ended[:, ENDED["e2e_s"]] = first - due, last - due
    ended[:, ENDED["job_s"]] = last - moved(end_s - ended[:, ENDED["job_s"]])
    ended[:, 0] = last
    return ended
