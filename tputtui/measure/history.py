"""One-second buckets of a run, for charts. Pure; used on one thread, the front end's."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tputtui.knobs import known
from tputtui.measure.recorder import ENDED, Recorder
from tputtui.measure.samples import STEP
from tputtui.measure.stats import Floats

__all__ = ["LATENCY_S", "Bucket", "History"]

_KEPT = 3600
LATENCY_S = 5
"""A second alone has too few requests for a quantile."""


@dataclass(frozen=True, slots=True)
class Bucket:
    """One second of the engine: sums and means over the steps that ended in it.

    Without a step, means keep the last known value.
    """

    start_s: float
    """Start of the second, engine clock."""
    generated: float
    """Generated tokens."""
    prefill: float
    """Prompt tokens computed."""
    running: float
    """Mean number of running requests."""
    waiting: float
    """Mean number of waiting requests."""
    max_num_seqs: float
    """The limit in force at the last step; NaN where it is not known."""
    kv_frac: float
    """Mean share of the KV cache in use, 0 to 1."""
    step_s: float
    """Mean length of a step in seconds; NaN without a step."""
    preemptions: float
    """Requests preempted."""
    ttft_p50: float = math.nan
    """Median TTFT in seconds, over the `LATENCY_S` seconds up to this one; NaN without a token."""
    ttft_p90: float = math.nan
    tpot_p50: float = math.nan
    """Median TPOT in seconds, of the requests that finished in the same seconds."""
    tpot_p90: float = math.nan
    cpu_frac: float = math.nan
    """Busy share of the host's cores when the second was closed; NaN where it is not known."""
    gpu_frac: float = math.nan
    """Busy share of the GPUs that the engine sees, their mean; NaN without GPUs."""


class History:
    """The buckets of a run that began at `start_s`: the last hour at most.

    Second i of the run is bucket i. No second before `begin` is kept. first: the number of the
    first second kept; total: one past the number of the last.
    """

    def __init__(self, start_s: float) -> None:
        self.start_s = start_s
        self.buckets: deque[Bucket] = deque(maxlen=_KEPT)
        self.first = 0
        self.total = 0

    def begin(self, now_s: float) -> None:
        """Leave out the seconds before `now_s`, unless some seconds are kept already."""
        if not self.buckets:
            self.first = self.total = max(0, self.index(now_s))

    def advance(
        self,
        recorder: Recorder,
        now_s: float,
        machine: tuple[float, float] = (math.nan, math.nan),
    ) -> bool:
        """Add a bucket of `recorder` for every second that has passed; whether there was one.

        machine: busy shares of host and GPUs, from 0 to 1.
        """
        return self.close(now_s, lambda start_s: self._bucket(recorder, start_s, machine))

    def close(self, now_s: float, bucket_of: Callable[[float], Bucket]) -> bool:
        """Add the bucket of every second that is over by `now_s`; whether there was one."""
        before = self.total
        # After a long pause (the process was stopped) empty seconds are skipped at once.
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

    def _bucket(self, recorder: Recorder, start_s: float, machine: tuple[float, float]) -> Bucket:
        steps = recorder.steps.between(start_s, start_s + 1.0)
        since_s, until_s = start_s + 1.0 - LATENCY_S, start_s + 1.0
        first = recorder.first_tokens.between(since_s, until_s)
        ended = recorder.ended.between(since_s, until_s)
        others = (*_p50_p90(first[:, 1]), *_p50_p90(ended[:, ENDED["tpot_s"]]), *machine)
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
                *others,
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
            ttft_p50=others[0],
            ttft_p90=others[1],
            tpot_p50=others[2],
            tpot_p90=others[3],
            cpu_frac=others[4],
            gpu_frac=others[5],
        )


def _p50_p90(values: Floats) -> tuple[float, float]:
    """Both quantiles, as the nearest of the values below; NaN without values."""
    kept = values[~np.isnan(values)]
    if not len(kept):
        return math.nan, math.nan
    ordered = np.sort(kept)
    last = len(ordered) - 1
    return float(ordered[last // 2]), float(ordered[int(last * 0.9)])
