"""The steps that are kept to learn from: some of each size of batch, and the newest in a row.

Front end's thread. A step's time is counted from the end of the step before, as long as the engine
was busy in between: so it holds what the loop around the engine costs.
"""

from __future__ import annotations

import math
from collections import deque

import numpy as np

from tputtui.measure.recorder import Recorder
from tputtui.measure.samples import STEP
from tputtui.measure.stats import Floats

__all__ = ["COLUMNS", "StepBook"]

COLUMNS = ("end_s", "took_s", "decodes", "prefill", "context")
"""Columns of a kept step. decodes, prefill: tokens. context: tokens computed before."""
_EACH, _IN_A_ROW = 24, 4096
"""Steps kept of each size of batch, and of the newest ones."""
_IDLE = 1.0
"""A gap before a step that is longer than so many of its own durations was idle time."""


class StepBook:
    """The steps of one engine, with all arguments as booted.

    overlapped: async scheduling. Then a step's duration is the model's time for what the step
    before scheduled.
    """

    def __init__(self, *, overlapped: bool = False) -> None:
        self._overlapped = overlapped
        self._kept: dict[tuple[int, int], deque[tuple[float, ...]]] = {}
        self._row: deque[tuple[float, ...]] = deque(maxlen=_IN_A_ROW)
        self._seen = 0
        self._looked_up = self._cached = 0.0

    def skip(self, recorder: Recorder) -> None:
        """Leave out the steps so far: they are another engine's."""
        self._seen = recorder.steps.count

    def follow(self, recorder: Recorder) -> None:
        """Take in the steps since the last call."""
        count = recorder.steps.count
        new = count - self._seen
        if new < 1:
            return
        # With the step before the first new one, from which its time counts.
        rows = recorder.steps.since(max(0, self._seen - 1), count).copy()
        self._seen = count
        self._cached = 0.98 * self._cached + float(rows[:, STEP["cached_tokens"]].sum())
        self._looked_up = 0.98 * self._looked_up + float(rows[:, STEP["looked_up_tokens"]].sum())
        for step in _timed(rows, overlapped=self._overlapped):
            size = (
                math.ceil(4 * math.log2(max(step[2], 0.8))),
                math.ceil(2 * math.log2(max(step[3], 0.6))),
            )
            self._kept.setdefault(size, deque(maxlen=_EACH)).append(step)
            self._row.append(step)

    @property
    def kept(self) -> Floats:
        """The steps of all sizes, shape (n, 5)."""
        steps = [step for each in self._kept.values() for step in each]
        return np.array(steps, dtype=float).reshape(-1, len(COLUMNS))

    @property
    def newest(self) -> Floats:
        """The newest steps, in order, shape (n, 5)."""
        return np.array(self._row, dtype=float).reshape(-1, len(COLUMNS))

    @property
    def hit_frac(self) -> float:
        """The share of looked-up tokens that the prefix cache had lately."""
        return self._cached / self._looked_up if self._looked_up > 0 else 0.0


def _timed(rows: Floats, *, overlapped: bool) -> list[tuple[float, ...]]:
    """The rows that ran the model, but the first one, as kept steps."""
    if len(rows) < 2:
        return []
    end_s, duration_s = rows[:, STEP["end_s"]], rows[:, STEP["duration_s"]]
    gap_s = np.maximum(end_s[1:] - duration_s[1:] - end_s[:-1], 0.0)
    took_s = duration_s[1:] + np.where(gap_s <= _IDLE * duration_s[1:], gap_s, 0.0)
    of = rows[:-1] if overlapped else rows[1:]
    made = np.column_stack(
        (
            end_s[1:],
            took_s,
            of[:, STEP["decode_tokens"]],
            of[:, STEP["prefill_tokens"]],
            of[:, STEP["context_tokens"]],
        )
    )
    ran = (made[:, 2] + made[:, 3] > 0) & (took_s > 0)
    return [tuple(step) for step in made[ran].tolist()]
