"""From samples to figures: the measuring window and the latencies and rates inside it.

Pure: times are passed in. Called on the front end's thread, never by the engine thread.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from tputtui.knobs import UNTOLD
from tputtui.measure.acceptance import NONE_CHECKED, Acceptance, acceptance_of
from tputtui.measure.recorder import ENDED, Recorder
from tputtui.measure.samples import STEP, Accounting
from tputtui.measure.stats import Floats, Quantiles, quantiles

__all__ = ["Figures", "Latencies", "Phase", "Settling", "Window", "figures", "finished_per_s",
           "latencies"]  # fmt: skip

SPAN_S = 60.0
_MIN_SETTLE_S = 2.0


class Phase(StrEnum):
    """Whether a window's figures are of one steady setting. `phase_of` has the rules."""

    SETTLING = "settling"
    """Requests from before the change, or an older limit, still have an effect."""
    RAMPING = "ramping"
    """The load changes along a curve."""
    DRAINING = "draining"
    """The load is held and the requests in flight run out."""
    IDLE = "idle"
    """The load is held and nothing is in flight."""
    MEASURING = "measuring"
    """The window is too short to decide whether it is steady."""
    DRIFTING = "not steady"
    """Tokens/s or requests in flight show a trend."""
    STEADY = "steady"

    @property
    def quotable(self) -> bool:
        """Whether a figure of this window may be quoted, together with its phase."""
        return self in (Phase.MEASURING, Phase.DRIFTING, Phase.STEADY)


@dataclass(frozen=True, slots=True)
class Window:
    """The time that the figures are about, in seconds of the engine clock."""

    start_s: float
    """Until the window is settled, the time of the change."""
    end_s: float
    settled: bool
    """Whether the figures belong to the present setting alone."""
    turned_over: int
    """Requests from before the change that have left; younger ones are not counted."""
    to_turn_over: int
    """Requests from before the change that must leave before the window is settled."""
    phase: Phase = Phase.SETTLING
    since_s: float = math.nan
    """When the present setting settled, else when it changed; a long window starts later. NaN:
    not recorded."""

    @property
    def length_s(self) -> float:
        """Seconds from start to end."""
        return max(0.0, self.end_s - self.start_s)

    @property
    def turnover(self) -> str:
        """How many requests from before the change have left, in words; empty for none."""
        if not self.to_turn_over:
            return ""
        return f"{self.turned_over} of {self.to_turn_over} old requests finished"


class Settling:
    """Decides what the window covers after a limit or the load has changed.

    A change is settled when the limit is in force, every request that was due before the change has
    left, however long that takes (so that no request carries the old setting), and at least 2 s
    have passed. If requests still wait then, and the queue has become shorter meanwhile, the
    requests in flight waited behind the old queue. So they count as older requests too. This
    repeats until the queue is gone or no longer shrinks (by more than its square root, which
    chance explains). Then the window starts anew and grows to `span_s`. Under a load that repeats
    it covers whole periods, at least two once it is long enough.
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
        """Requests due until this time do not belong to the present setting alone."""
        return self._older_s

    def change(
        self,
        now_s: float,
        in_flight: int,
        *,
        longest_s: float = math.inf,
        warming: bool = False,
    ) -> None:
        """A setting changed while `in_flight` requests were in the engine.

        longest_s: seconds after which the change counts as settled in any case; only for requests
        that are of the same setting. warming: the change does not settle before `begin` is called.
        """
        self._changed_s = now_s
        self._older_s = now_s
        self._settled_s = None
        self._in_flight = self._to_turn_over = in_flight
        self._longest_s = longest_s
        self._warming = warming

    def begin(self, at_s: float) -> None:
        """Start the window at `at_s`: requests are warm from then on, and of this setting."""
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
        oldest request in flight was due; NaN with none. in_force: whether the engine applies the
        limits that were set. period_s: seconds after which the load repeats; 0 if it does not.
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
    """Rates and shares over one window; NaN where the window or its steps are missing.

    Rates are counts ÷ window length. Shares of a limit and kv_frac are weighted by step time.
    """

    generated_per_s: float
    """Generated tokens per second."""
    prompt_computed_per_s: float
    """Prompt tokens computed per second."""
    prompt_cached_per_s: float
    """Prompt tokens taken from the prefix cache per second."""
    offered_per_s: float
    """Requests due per second."""
    achieved_per_s: float
    """Requests finished per second."""
    saturated: bool
    """Whether more requests were due than ended, by more than chance explains (`_behind`)."""
    sequences_frac: float
    """Running sequences ÷ max_num_seqs in force."""
    tokens_frac: float
    """Scheduled tokens ÷ max_num_batched_tokens in force."""
    prefill_frac: float
    """The part of tokens_frac that prefill takes."""
    decode_frac: float
    """The part of tokens_frac that decode takes."""
    kv_frac: float
    """Blocks of the KV cache used ÷ usable."""
    cached_frac: float
    """Prefix-cache hits ÷ tokens looked up; NaN without look-ups."""
    preemptions: int
    step: Quantiles
    """Step time in seconds, of single steps."""
    steps_per_s: float
    """Steps of all engines per second."""
    busy_frac: float
    """Share of the window in which a step ran, 0 to 1; the mean over engines."""
    draft_frac: float = 0.0
    """The part of tokens_frac that draft tokens take while they are checked."""
    acceptance: Acceptance = NONE_CHECKED
    """What became of them."""


def figures(recorder: Recorder, start_s: float, end_s: float) -> Figures:
    """The figures for start_s < time ≤ end_s."""
    length_s = end_s - start_s
    steps = recorder.steps.between(start_s, end_s)
    # Shares and times are of single steps: of several engines, of each engine's own.
    single = recorder.single_steps(start_s, end_s)
    issued = len(recorder.issued.between(start_s, end_s))
    ended = recorder.ended.between(start_s, end_s)
    finished = int(np.count_nonzero(ended[:, ENDED["good"]]))

    def column(name: str) -> Floats:
        return steps[:, STEP[name]]

    def rate(count: float) -> float:
        return count / length_s if length_s > 0 else math.nan

    def of_single(name: str) -> Floats:
        return single[:, STEP[name]]

    duration = of_single("duration_s")
    busy_s = float(duration.sum())
    engine_s = recorder.engine_count(end_s) * length_s
    # A limit can change within the window: dividing step by step keeps the shares exact then.
    weight = duration / busy_s if busy_s > 0 else duration

    def share(values: Floats, limit: str) -> float:
        most = np.maximum(_reported(of_single(limit)), 1)
        return float(weight @ (values / most)) if busy_s > 0 else math.nan

    prefill = share(of_single("prefill_tokens"), "max_num_batched_tokens")
    decode = share(of_single("decode_tokens"), "max_num_batched_tokens")
    draft = share(of_single("draft_tokens"), "max_num_batched_tokens")
    looked_up = float(column("looked_up_tokens").sum())
    cached = float(column("cached_tokens").sum())
    return Figures(
        generated_per_s=rate(float(column("generated_tokens").sum())),
        prompt_computed_per_s=rate(float(column("prefill_tokens").sum())),
        prompt_cached_per_s=rate(cached),
        offered_per_s=rate(issued),
        achieved_per_s=rate(finished),
        saturated=_behind(issued, ended, steps, length_s),
        sequences_frac=share(of_single("running"), "max_num_seqs"),
        tokens_frac=prefill + decode + draft,
        prefill_frac=prefill,
        decode_frac=decode,
        draft_frac=draft,
        acceptance=acceptance_of(steps),
        kv_frac=_mean_kv(steps),
        cached_frac=cached / looked_up if looked_up else math.nan,
        preemptions=int(column("preemptions").sum()),
        step=quantiles(duration),
        steps_per_s=rate(len(single)),
        busy_frac=min(1.0, busy_s / engine_s) if length_s > 0 else math.nan,
    )


def _mean_kv(steps: Floats) -> float:
    """Mean over the time of steps, of all engines together; NaN without any."""
    duration = steps[:, STEP["duration_s"]]
    busy_s = float(duration.sum())
    return float(duration @ steps[:, STEP["kv_frac"]]) / busy_s if busy_s > 0 else math.nan


def finished_per_s(recorder: Recorder, start_s: float, end_s: float) -> float:
    """Requests finished per second of start_s < time ≤ end_s."""
    ended = recorder.ended.between(start_s, end_s)
    return float(np.count_nonzero(ended[:, ENDED["good"]])) / (end_s - start_s)


def _behind(issued: int, ended: Floats, steps: Floats, length_s: float) -> bool:
    """Whether the engine falls behind: more were due than ended by over twice the standard
    deviation of a Poisson count, 2 √due.

    Where nothing waits, all that is due is being served: a burst at the end, of as many as come in
    the time of one request, is then no sign of it either.
    """
    behind, chance = issued - len(ended), 2 * math.sqrt(max(issued, 1))
    if behind <= chance or not length_s > 0:
        return behind > chance
    late = steps[len(steps) // 2 :, STEP["waiting"]]
    if not len(late) or np.isnan(late).any() or np.mean(late > 0) >= 0.5:
        return True
    took_s = ended[:, ENDED["e2e_s"]]
    took_s = took_s[~np.isnan(took_s)]
    under_way = issued / length_s * float(took_s.mean()) if len(took_s) else 0.0
    return behind > chance + under_way


def _reported(limits: Floats) -> Floats:
    """`limits` with NaN where a server does not report one: the share of it is then not known."""
    return np.where(limits < UNTOLD, limits, math.nan)


@dataclass(frozen=True, slots=True)
class Latencies:
    """Quantiles over one window, in seconds.

    ttft and lag cover requests whose first token came in the window; itl covers its output events;
    the others cover requests that finished in it.
    """

    ttft: Quantiles
    """From due to the first token."""
    tpot: Quantiles
    """Time per output token after the first."""
    itl: Quantiles
    """Gap between consecutive output events, pooled over requests."""
    e2e: Quantiles
    """From due to the last token."""
    queue: Quantiles
    """From submitted to first scheduled."""
    prefill: Quantiles
    """From first scheduled to the first token."""
    decode: Quantiles
    """From the first token to the last."""
    lag: Quantiles
    """From due to submitted."""
    job: Quantiles
    """Of jobs of several steps: from the first step due to the last token of the last."""


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
        job=quantiles(ended[ended[:, ENDED["good"]] > 0, ENDED["job_s"]]),
    )
