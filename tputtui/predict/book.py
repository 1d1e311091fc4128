"""The steps that are kept to learn from: some of each size of batch, and the newest in a row.

Front end's thread. A step's time is counted from the end of the step before, as long as the engine
was busy in between: so it holds what the loop around the engine costs.
"""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Sequence

import numpy as np

from tputtui.measure.recorder import Recorder
from tputtui.measure.samples import STEP
from tputtui.measure.stats import Floats

__all__ = ["COLUMNS", "StepBook"]

COLUMNS = ("end_s", "took_s", "decodes", "prefill", "context")
"""Columns of a kept step. decodes, prefill: tokens. context: tokens computed before."""
_EACH, _IN_A_ROW = 24, 4096
"""Steps kept of each size of batch, and of the newest ones."""
_OWN = 200
"""From so many steps on, the newest are those of this run."""
_NONE: Floats = np.zeros((0, len(COLUMNS)))
_IDLE = 1.0
"""A gap before a step that is longer than so many of its own durations was idle time."""


class StepBook:
    """The steps of one engine, with all arguments as booted.

    overlapped: async scheduling. Then a step's duration is the model's time for what the step
    before scheduled. kept, newest: steps of earlier runs of the same engine, shape (n, 5). The
    newest of them count until this run has enough of its own; the kept ones fill up the sizes of
    batch that this run has seen little of, at this run's level.
    """

    def __init__(
        self,
        *,
        overlapped: bool = False,
        kept: Floats | None = None,
        newest: Floats | None = None,
    ) -> None:
        self._overlapped = overlapped
        self._earlier: dict[tuple[int, int], list[tuple[float, ...]]] = {}
        for step in (kept if kept is not None else _NONE).tolist():
            self._earlier.setdefault(_size(step), []).append(tuple(step))
        self._earlier_newest = newest if newest is not None else _NONE
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
            self._kept.setdefault(_size(step), deque(maxlen=_EACH)).append(step)
            self._row.append(step)

    @property
    def kept(self) -> Floats:
        """The steps of all sizes, shape (n, 5)."""
        steps = [step for each in self._kept.values() for step in each]
        own = np.array(steps, dtype=float).reshape(-1, len(COLUMNS))
        filled = [
            step
            for size, each in self._earlier.items()
            for step in each[: max(0, _EACH - len(self._kept.get(size, ())))]
        ]
        earlier = np.array(filled, dtype=float).reshape(-1, len(COLUMNS))
        earlier[:, 1] *= self._level
        return np.vstack((earlier, own))

    @property
    def newest(self) -> Floats:
        """The newest steps of one run, in order, shape (n, 5)."""
        if len(self._row) < _OWN and len(self._earlier_newest) > len(self._row):
            return self._earlier_newest
        return np.array(self._row, dtype=float).reshape(-1, len(COLUMNS))

    @property
    def grown(self) -> bool:
        """Whether this run has told enough to be worth keeping."""
        return len(self._row) >= _OWN

    @property
    def _level(self) -> float:
        """How much slower this run is than the earlier ones, by the sizes that both have."""
        ratios = [
            statistics.median(step[1] for step in self._kept[size])
            / statistics.median(step[1] for step in each)
            for size, each in self._earlier.items()
            if size in self._kept
        ]
        return statistics.median(ratios) if ratios and self.grown else 1.0

    @property
    def hit_frac(self) -> float:
        """The share of looked-up tokens that the prefix cache had lately."""
        return self._cached / self._looked_up if self._looked_up > 0 else 0.0


def _size(step: Sequence[float]) -> tuple[int, int]:
    """The size of a step's batch: of its decodes, and of its prefill."""
    return (
        math.ceil(4 * math.log2(max(step[2], 0.8))),
        math.ceil(2 * math.log2(max(step[3], 0.6))),
    )


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
