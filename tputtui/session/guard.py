"""What a change must not break: latency goals and a share of the KV cache. Pure.

A guard judges the present setting alone, by the requests that were due since the change.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from tputtui.errors import UsageError, nearest
from tputtui.goals import METRICS, Goal, metric_of, parse_goals
from tputtui.measure.attainment import wilson
from tputtui.measure.recorder import ENDED, Recorder
from tputtui.measure.samples import STEP

__all__ = ["Guard", "parse_guard"]

_FEWEST = 30
_KV_OVER_S = 2.0
_HINT = "A guard takes goals (ttft, tpot, e2e, job) and a KV cache share: ttft_p99=2s,kv=0.97."


@dataclass(frozen=True, slots=True)
class Guard:
    """A rule that a change must not break.

    goals: as those of a load. kv_frac: the highest mean use of the KV cache, 0 to 1; None: any.
    text: the rule as it was written.
    """

    goals: tuple[Goal, ...]
    kv_frac: float | None
    text: str

    def broken(self, recorder: Recorder, since_s: float, now_s: float) -> str:
        """What was broken between `since_s` and `now_s`, in a sentence; empty for nothing.

        A goal is broken when, of at least 30 requests that were due since `since_s`, fewer kept it
        than chance explains (95 % Wilson interval). A TTFT goal is also broken when the oldest
        request without a first token has waited twice the limit: where no tokens come out, there
        are no requests to count. The KV cache is judged by its mean use over the last 2 s.
        """
        for goal in self.goals:
            sentence = self._goal(goal, recorder, since_s, now_s)
            if sentence:
                return sentence
        if self.kv_frac is not None and now_s - since_s >= _KV_OVER_S:
            steps = recorder.steps.between(now_s - _KV_OVER_S, now_s)
            used = float(steps[:, STEP["kv_frac"]].mean()) if len(steps) else 0.0
            if used > self.kv_frac:
                return f"KV cache {used:.0%} used, over {self.kv_frac:.0%}"
        return ""

    def _goal(self, goal: Goal, recorder: Recorder, since_s: float, now_s: float) -> str:
        if goal.metric == "ttft":
            oldest_s = recorder.oldest_due_s
            if oldest_s >= since_s and now_s - oldest_s > 2 * goal.limit_s:
                waits_s = now_s - oldest_s
                return f"a request waits {waits_s:.1f} s for its first token ({goal.name})"
            rows = recorder.first_tokens.between(since_s, now_s)
            values = rows[rows[:, 0] - rows[:, 1] >= since_s, 1]
        else:
            ended = recorder.ended.between(since_s, now_s)
            ended = ended[ended[:, ENDED["good"]] > 0]
            whole_s = ended[:, ENDED["job_s" if goal.metric == "job" else "e2e_s"]]
            due_s = ended[:, ENDED["end_s"]] - whole_s
            values = ended[due_s >= since_s, ENDED[f"{goal.metric}_s"]]
            values = values[~np.isnan(values)]
        n, met = len(values), int(np.count_nonzero(values <= goal.limit_s))
        if n < _FEWEST or wilson(met, n)[1] >= goal.target:
            return ""
        return f"{goal.name}: {met / n:.1%} of {n} within, {goal.target:.1%} wanted"


def parse_guard(text: str) -> Guard:
    """A guard from "ttft_p99=2s,kv=0.97". Raises UsageError with the expected form as its hint."""
    goals, kv = [], None
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, _, value = part.partition("=")
        if (metric := metric_of(name)) != "kv":
            if metric not in (*METRICS, "itl"):
                raise UsageError(f"There is no guard for {name.strip()!r}.",
                                 nearest(metric, (*METRICS, "kv")) or _HINT)  # fmt: skip
            goals.append(part)
            continue
        try:
            kv = float(value)
        except ValueError:
            kv = math.nan
        if not 0 < kv <= 1:
            raise UsageError(
                f"A guard of the KV cache is a share from 0 to 1, not {value!r}.", _HINT
            )
    if not goals and kv is None:
        raise UsageError("The guard is empty.", _HINT)
    return Guard(parse_goals(",".join(goals)) if goals else (), kv, text)
