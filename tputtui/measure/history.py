"""One-second buckets of a run, for charts and for "now". Pure; owned by whoever looks."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tputtui.knobs import known
from tputtui.measure.recorder import Recorder
from tputtui.measure.samples import STEP

__all__ = ["Bucket", "History"]

_KEPT = 3600


@dataclass(frozen=True, slots=True)
class Bucket:
    """One second of the engine.

    Token rates are per second; running, waiting, kv_frac and the limit are means over the steps
    that ended in the second (the last known value when none did); step_s is their mean length.
    """

    start_s: float
    generated: float
    prefill: float
    running: float
    waiting: float
    max_num_seqs: float
    kv_frac: float
    step_s: float
    preemptions: float


class History:
    """Buckets of a run that began at `start_s`, an hour at most.

    Second i of the run is bucket i. Nothing is kept before `begin`; `first` is the first second
    kept, `total` one past the last.
    """

    def __init__(self, start_s: float) -> None:
        self.start_s = start_s
        self.buckets: deque[Bucket] = deque(maxlen=_KEPT)
        self.first = 0
        self.total = 0

    def begin(self, now_s: float) -> None:
        """Leave out what came before `now_s`, unless something has been kept already."""
        if not self.buckets:
            self.first = self.total = max(0, self.index(now_s))

    def advance(self, recorder: Recorder, now_s: float) -> bool:
        """Close every second that has passed with what was recorded; whether there was one."""
        return self.close(now_s, lambda start_s: self._bucket(recorder, start_s))

    def close(self, now_s: float, bucket_of: Callable[[float], Bucket]) -> bool:
        """Close every second that is over by `now_s` with its bucket; whether there was one."""
        before = self.total
        # A long pause (the process was stopped) closes empty seconds without walking each.
        missing = math.floor(now_s - self.start_s) - self.total
        if missing > _KEPT:
            self.total += missing - _KEPT
        while self.start_s + self.total + 1 <= now_s:
            self.buckets.append(bucket_of(self.start_s + self.total))
            self.total += 1
        return self.total > before

    def index(self, t_s: float) -> int:
        """Number of the second that holds time `t_s`."""
        return math.floor(t_s - self.start_s)

    def _bucket(self, recorder: Recorder, start_s: float) -> Bucket:
        steps = recorder.steps.between(start_s, start_s + 1.0)
        if not len(steps):
            last = self.buckets[-1] if self.buckets else None
            kept = recorder.accounting
            return Bucket(
                start_s,
                0.0,
                0.0,
                kept.running,
                kept.waiting,
                last.max_num_seqs if last else math.nan,
                last.kv_frac if last and kept.in_flight else 0.0,
                math.nan,
                0.0,
            )
        total = steps.sum(axis=0)
        mean = total / len(steps)
        return Bucket(
            start_s,
            generated=float(total[STEP["generated_tokens"]]),
            prefill=float(total[STEP["prefill_tokens"]]),
            running=float(mean[STEP["running"]]),
            waiting=float(mean[STEP["waiting"]]),
            max_num_seqs=known(float(steps[-1, STEP["max_num_seqs"]])),
            kv_frac=float(mean[STEP["kv_frac"]]),
            step_s=float(np.mean(steps[:, STEP["duration_s"]])),
            preemptions=float(total[STEP["preemptions"]]),
        )
