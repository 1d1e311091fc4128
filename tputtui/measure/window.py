"""From samples to figures: the measuring window and the latencies and rates inside it.

Pure: times are passed in. Called by whoever looks (the UI thread), never by the engine thread.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from tputtui.knobs import UNTOLD
from tputtui.measure.recorder import ENDED, Recorder
from tputtui.measure.samples import STEP, Accounting
from tputtui.measure.stats import Floats, Quantiles, quantiles

__all__ = ["Figures", "Latencies", "Phase", "Settling", "Window", "figures", "latencies"]

SPAN_S = 60.0
_MIN_SETTLE_S = 2.0


class Phase(StrEnum):
    """What a window is worth. See `phase_of` for the rules."""

    SETTLING = "settling"
    """Older requests, or an older limit, are still at work."""
    RAMPING = "ramping"
    """The load is on its way up or down a curve."""
    DRAINING = "draining"
    """The load is held and what is in flight runs out."""
    IDLE = "idle"
    MEASURING = "measuring"
    """Too short a time to tell whether it is steady."""
    DRIFTING = "not steady"
    """Tokens/s or requests in flight show a trend."""
    STEADY = "steady"

    @property
    def quotable(self) -> bool:
        """Whether a figure of this window may be quoted at all (with what it is worth)."""
        return self in (Phase.MEASURING, Phase.DRIFTING, Phase.STEADY)


@dataclass(frozen=True, slots=True)
class Window:
    """The time the figures are about.

    settled: whether the figures belong to the present setting alone; until then the window
    starts at the change and `turned_over` of `to_turn_over` older requests have left, no younger
    one counted.
    since_s: from when on everything is of the present setting; a long window has moved on from it.
    """

    start_s: float
    end_s: float
    settled: bool
    turned_over: int
    to_turn_over: int
    phase: Phase = Phase.SETTLING
    since_s: float = math.nan

    @property
    def length_s(self) -> float:
        """Seconds covered."""
        return max(0.0, self.end_s - self.start_s)

    @property
    def turnover(self) -> str:
        """How many of the older requests have left, in words; empty where there were none."""
        if not self.to_turn_over:
            return ""
        return f"{self.turned_over} of {self.to_turn_over} old requests finished"


class Settling:
    """Decides what the window covers after a knob or the load has changed.

    A change is settled when the limit is in force, every request that was due before it was made
    has left, however long that takes (so that none carries the old setting), and at least 2 s have
    passed. If a queue from before has become shorter meanwhile and is there still, those in flight
    have waited behind it: they are older ones too, and so on until it is gone or shrinks no more
    (by more than its square root: arrivals by chance). Then the window starts anew and grows to
    `span_s`; under a load that repeats it covers whole periods, two at least once it is that long.
    """

    def __init__(self, now_s: float, span_s: float = SPAN_S) -> None:
        self._span_s = span_s
        self._changed_s = now_s
        self._settled_s: float | None = now_s
        self._older_s = now_s
        self._in_flight = self._to_turn_over = 0
        self._longest_s = math.inf
        self._warming = False

    @property
    def changed_s(self) -> float:
        """When the setting changed last."""
        return self._changed_s

    @property
    def older_s(self) -> float:
        """Requests due until then are not of the present setting alone."""
        return self._older_s

    def change(
        self,
        now_s: float,
        in_flight: int,
        *,
        longest_s: float = math.inf,
        warming: bool = False,
    ) -> None:
        """A setting changed with `in_flight` requests in the engine.

        longest_s: seconds after which it is taken as settled in any case: only where those are of
        the same setting. warming: it does not settle before `begin` says so.
        """
        self._changed_s = now_s
        self._older_s = now_s
        self._settled_s = None
        self._in_flight = self._to_turn_over = in_flight
        self._longest_s = longest_s
        self._warming = warming

    def begin(self, at_s: float) -> None:
        """What is in flight is warm, and of the present setting: the window starts there."""
        self._settled_s = max(at_s, self._changed_s)
        self._warming = False

    def window(
        self,
        now_s: float,
        books: Accounting,
        left: int,
        oldest_s: float,
        in_force: bool,
        period_s: float = 0.0,
    ) -> Window:
        """The window at `now_s`.

        left: requests due until `older_s` that have left since the change. oldest_s: when the
        oldest in flight was due; NaN with none. period_s: after how many seconds the load repeats
        itself.
        """
        if self._settled_s is None and not self._warming:
            waited_s = now_s - self._changed_s
            done = in_force and not oldest_s <= self._older_s and waited_s >= _MIN_SETTLE_S
            if done and books.waiting and _shrunk(self._in_flight, books.in_flight):
                self._older_s, self._in_flight = now_s, books.in_flight
                self._to_turn_over = left + books.in_flight
            elif done or waited_s >= self._longest_s:
                self._settled_s = now_s
        settled = self._settled_s is not None
        since = self._settled_s if self._settled_s is not None else self._changed_s
        start = max(since, now_s - max(self._span_s, 2 * period_s))
        if period_s > 0 and now_s - start >= period_s:
            start = now_s - math.floor((now_s - start) / period_s) * period_s
        turned_over = self._to_turn_over if settled else min(left, self._to_turn_over)
        return Window(start, now_s, settled, turned_over, self._to_turn_over, since_s=since)


def _shrunk(before: int, now: int) -> bool:
    return now < before - math.sqrt(before)


@dataclass(frozen=True, slots=True)
class Figures:
    """Rates and shares over one window. Rates are counts ÷ window length; NaN when it is empty.

    sequences_frac: running ÷ max_num_seqs in force, weighted by step time.
    tokens_frac: scheduled tokens ÷ max_num_batched_tokens in force, likewise; prefill_frac and
    decode_frac are its two parts.
    kv_frac: blocks of the KV cache used ÷ usable, likewise.
    cached_frac: prefix-cache hits ÷ tokens looked up in this window; NaN without look-ups.
    offered_per_s, achieved_per_s: requests due, requests that finished.
    saturated: more were due than ended, by more than chance (twice the square root) explains.
    """

    generated_per_s: float
    prompt_computed_per_s: float
    prompt_cached_per_s: float
    offered_per_s: float
    achieved_per_s: float
    saturated: bool
    sequences_frac: float
    tokens_frac: float
    prefill_frac: float
    decode_frac: float
    kv_frac: float
    cached_frac: float
    preemptions: int
    step: Quantiles
    steps_per_s: float
    busy_frac: float


def figures(recorder: Recorder, start_s: float, end_s: float) -> Figures:
    """The figures for start_s < time ≤ end_s."""
    length_s = end_s - start_s
    steps = recorder.steps.between(start_s, end_s)
    issued = len(recorder.issued.between(start_s, end_s))
    ended = recorder.ended.between(start_s, end_s)
    finished = int(np.count_nonzero(ended[:, ENDED["good"]]))

    def column(name: str) -> Floats:
        return steps[:, STEP[name]]

    def rate(count: float) -> float:
        return count / length_s if length_s > 0 else math.nan

    duration = column("duration_s")
    busy_s = float(duration.sum())
    # One limit is nearly always in force for a whole window; dividing per step keeps it exact
    # when it is not.
    weight = duration / busy_s if busy_s > 0 else duration
    per_token = weight / np.maximum(_told(column("max_num_batched_tokens")), 1)
    prefill = float(per_token @ column("prefill_tokens")) if busy_s > 0 else math.nan
    decode = float(per_token @ column("decode_tokens")) if busy_s > 0 else math.nan
    sequences = (
        float(weight @ (column("running") / np.maximum(_told(column("max_num_seqs")), 1)))
        if busy_s > 0
        else math.nan
    )
    looked_up = float(column("looked_up_tokens").sum())
    cached = float(column("cached_tokens").sum())
    return Figures(
        generated_per_s=rate(float(column("generated_tokens").sum())),
        prompt_computed_per_s=rate(float(column("prefill_tokens").sum())),
        prompt_cached_per_s=rate(cached),
        offered_per_s=rate(issued),
        achieved_per_s=rate(finished),
        saturated=issued - len(ended) > 2 * math.sqrt(max(issued, 1)),
        sequences_frac=sequences,
        tokens_frac=prefill + decode,
        prefill_frac=prefill,
        decode_frac=decode,
        kv_frac=float(weight @ column("kv_frac")) if busy_s > 0 else math.nan,
        cached_frac=cached / looked_up if looked_up else math.nan,
        preemptions=int(column("preemptions").sum()),
        step=quantiles(duration),
        steps_per_s=rate(len(steps)),
        busy_frac=min(1.0, busy_s / length_s) if length_s > 0 else math.nan,
    )


def _told(limits: Floats) -> Floats:
    """Limits, NaN where a server keeps them to itself: there is no share of what is not known."""
    return np.where(limits < UNTOLD, limits, math.nan)


@dataclass(frozen=True, slots=True)
class Latencies:
    """Quantiles over one window, in seconds.

    ttft: first token - due, of requests whose first token came in the window.
    itl: gap between consecutive output events, pooled over requests.
    tpot, e2e: of requests that finished in the window as asked for; e2e from due.
    queue, prefill, decode: of the same; from submitted to first scheduled, on to the first token,
    on to the last. lag: submitted - due, of those in ttft.
    """

    ttft: Quantiles
    tpot: Quantiles
    itl: Quantiles
    e2e: Quantiles
    queue: Quantiles
    prefill: Quantiles
    decode: Quantiles
    lag: Quantiles


def latencies(recorder: Recorder, start_s: float, end_s: float) -> Latencies:
    """The latencies for start_s < time ≤ end_s."""
    gaps = recorder.gaps.between(start_s, end_s)
    ended = recorder.ended.between(start_s, end_s)
    first = recorder.first_tokens.between(start_s, end_s)
    return Latencies(
        ttft=quantiles(first[:, 1]),
        queue=quantiles(ended[:, ENDED["queue_s"]]),
        prefill=quantiles(ended[:, ENDED["prefill_s"]]),
        decode=quantiles(ended[:, ENDED["decode_s"]]),
        lag=quantiles(first[:, 1] - first[:, 2]),
        tpot=quantiles(ended[:, ENDED["tpot_s"]]),
        itl=quantiles(gaps[:, 1], gaps[:, 2]),
        e2e=quantiles(ended[:, ENDED["e2e_s"]]),
    )
