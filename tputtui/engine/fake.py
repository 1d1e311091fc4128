"""A deterministic engine for tests and screenshots, without vLLM and without real time.

It queues, batches, prefills in chunks and decodes as a scheduler does, and advances an injected
clock by a fixed cost per step and token. No user's run uses it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from tputtui.engine.protocol import (
    Counts,
    Ended,
    EngineFacts,
    Report,
    ShedError,
    State,
    StepReport,
)
from tputtui.errors import EngineError
from tputtui.knobs import UNTOLD, Knobs, knob
from tputtui.load.request import RequestSpec
from tputtui.measure.samples import POSITIONS, StepSample
from tputtui.profile import EngineSpec
from tputtui.simulate.clock import VirtualTime

__all__ = ["FakeEngine"]


_NONE_ACCEPTED = dict.fromkeys(POSITIONS, 0)


@dataclass(slots=True)
class _Request:
    spec: RequestSpec
    prompt: int
    """Tokens of its prompt."""
    limit: int
    """Output tokens after which it ends."""
    computed: int = 0
    """Tokens whose KV entries have been computed since the last preemption."""
    generated: int = 0
    """Output tokens so far."""
    scheduled_s: float = math.nan
    """When it first ran; NaN before."""
    first_s: float = math.nan
    """When its first token came; NaN before."""
    last_s: float = math.nan
    """When its newest token came; NaN before the first."""
    drafted: int = 0
    """Draft tokens that this step checks."""
    accepted: int = 0
    """How many of them it accepts."""

    @property
    def todo(self) -> int:
        """Tokens to compute before the next output token; 1 or less while it decodes."""
        return self.tokens - self.computed

    @property
    def tokens(self) -> int:
        return self.prompt + self.generated


class FakeEngine:
    """An engine whose step takes 6 ms, plus 0.15 ms a decode token and 12 µs a prefill token.

    fail_boot: raised by `boot`. fail_at_step: number of the step that raises EngineError.
    """

    STEP_S, DECODE_S, PREFILL_S = 0.006, 0.00015, 12e-6
    BLOCK_SIZE = 32
    KV_TOKENS = 32_768
    BOOTED = Knobs(
        max_num_seqs=256,
        max_num_batched_tokens=2048,
        max_model_len=2048,
        num_gpu_blocks=KV_TOKENS // BLOCK_SIZE + 1,
        enable_prefix_caching=1,
        scheduler_reserve_full_isl=1,
    )
    CEILINGS = BOOTED.overridden(
        {
            "long_prefill_token_threshold": 2048,
            "watermark_blocks": 512,
            "scheduling_policy": 1,
            "max_num_queued_reqs": UNTOLD,
            "max_num_queued_tokens": UNTOLD,
        }
    )

    def __init__(
        self, clock: VirtualTime, *, fail_boot: Exception | None = None, fail_at_step: int = -1
    ) -> None:
        self._clock = clock
        self._fail_boot = fail_boot
        self._fail_at_step = fail_at_step
        self._steps = 0
        self._knobs = self.BOOTED
        self._preempted = 0
        self._running: list[_Request] = []
        self._waiting: list[_Request] = []

    def boot(self, spec: EngineSpec, report: Report) -> EngineFacts:
        """Go through the stages of a boot."""
        report(State.IMPORTING, "importing vLLM")
        self._clock.advance(6.0)
        report(State.LOADING, "loading the model, sizing the KV cache")
        self._clock.advance(2.0)
        if self._fail_boot is not None:
            raise self._fail_boot
        return EngineFacts(
            model=spec.model,
            device="fake",
            dtype="float32",
            ceilings=self.CEILINGS.overridden(
                {k: v for k, v in self._booted_with(spec).items() if not knob(k).absent}
            ),
            booted=self.BOOTED.overridden(self._booted_with(spec)),
            kv_tokens=self.KV_TOKENS,
            block_size=self.BLOCK_SIZE,
            kv_block_bytes=1 << 16,
            vocab_size=8192,
            boot_s=8.0,
            versions={"vllm": "0.32.0", "torch": "2.13.0"},
            fixed={"prefill_schedule_interval": "this engine has no such cadence"},
        )

    def submit(self, request: RequestSpec) -> None:
        """Queue one request; under the policy *priority* a given one decides its place.

        Raises ShedError for one that the limits of admission refuse.
        """
        self._check_admission(request.carried.n)
        self._waiting.append(_Request(request, request.prompt_tokens, self._length(request)))
        if self._knobs.scheduling_policy and request.carried.priority is not None:
            self._waiting.sort(key=lambda each: each.spec.carried.priority or 0)

    def step(self) -> StepReport:
        """Decode the running requests, then fill the step with prefill."""
        self._make_room()
        self._steps += 1
        if self._steps == self._fail_at_step:
            raise EngineError("The fake engine was told to fail here.", "Boot again.")
        began_s, budget, prefill = self._clock(), self._knobs.max_num_batched_tokens, 0
        ready: list[_Request] = []
        drafted = 0
        drafts = self._knobs.num_speculative_tokens > 0
        for request in self._running:
            todo = request.prompt + request.generated - request.computed
            if todo < 1:
                todo = 1
            taken = todo if todo < budget else budget
            budget -= taken
            if drafts:
                self._draft(request, budget if taken and todo == 1 and request.generated else 0)
                budget -= request.drafted
                drafted += request.drafted
            request.computed += taken + request.accepted
            if taken and todo <= taken + request.accepted:
                ready.append(request)
            if not request.generated:
                prefill += taken
        while self._admits(budget):
            request = self._waiting.pop(0)
            if math.isnan(request.scheduled_s):
                request.scheduled_s = began_s
            taken = min(request.todo, budget)
            budget -= taken
            prefill += taken
            self._running.append(request)
            request.computed += taken
            if request.todo <= 0:
                ready.append(request)
        batch = len(self._running)
        decode = self._knobs.max_num_batched_tokens - budget - prefill - drafted
        self._clock.advance(self._cost_s(decode + drafted, prefill))
        return self._report(began_s, batch, prefill, decode, ready)

    def _check_admission(self, n: int) -> None:
        waiting, running = self._waiting, self._running
        most, tokens = self._knobs.max_num_queued_reqs, self._knobs.max_num_queued_tokens
        if most and len(waiting) + len(running) + n > most:
            raise ShedError(f"max_num_queued_reqs {most} is reached")
        prompts = (each.prompt for each in (*waiting, *running) if not each.generated)
        if tokens and sum(prompts) >= tokens:
            raise ShedError(f"max_num_queued_tokens {tokens} is reached")

    def _cost_s(self, decode: int, prefill: int) -> float:
        """Seconds of a step with so many decode and prefill tokens."""
        return self.STEP_S + self.DECODE_S * decode + self.PREFILL_S * prefill

    def end(self, numbers: Iterable[int]) -> list[Ended]:
        """Abort requests."""
        wanted = set(numbers)
        gone = [r for r in (*self._running, *self._waiting) if r.spec.number in wanted]
        return [self._leave(request, self._clock()) for request in gone]

    def apply(self, knobs: Knobs, *, anyway: bool = False) -> list[Ended]:
        """Put limits in force; requests at or past the new length end."""
        self._knobs = knobs
        past = []
        for request in (*self._running, *self._waiting):
            most = knobs.max_model_len - request.prompt
            request.limit = min(self._length(request.spec), most)
            if request.tokens >= knobs.max_model_len:
                past.append(request)
        return [self._leave(request, self._clock()) for request in past]

    def set_paused(self, paused: bool, *, anyway: bool = False) -> None:
        """Nothing to do: it runs no step that it is not asked for."""

    def preempt(self, *, anyway: bool = False) -> int:
        """Move the newest running requests above max_num_seqs to the front of the queue."""
        over = len(self._running) - self._knobs.max_num_seqs
        for _ in range(over):
            self._throw_out()
        return max(0, over)

    def reset_prefix_cache(self, *, anyway: bool = False) -> int:
        """Preempt everything; there is no cache to empty."""
        running = len(self._running)
        for _ in range(running):
            self._throw_out()
        return running

    def counts(self) -> Counts:
        """Running and waiting requests, and usable KV blocks."""
        return Counts(len(self._running), len(self._waiting), self._knobs.num_gpu_blocks - 1)

    def shutdown(self) -> None:
        """Do nothing: there is nothing to release."""

    def _length(self, request: RequestSpec) -> int:
        """How many tokens it generates: a real request ends by itself halfway, if it is even."""
        serving, most = request.serving, request.output_tokens
        natural = serving is not None and serving.natural and request.number % 2 == 0
        return max(1, min(most, 64) // 2) if natural else most

    def _booted_with(self, spec: EngineSpec) -> dict[str, int]:
        """The ceilings among the engine arguments."""
        given = {k: v for k, v in spec.args.items() if k in Knobs.__slots__ and isinstance(v, int)}
        speculative = spec.args.get("speculative_config")
        if isinstance(speculative, dict):
            given["num_speculative_tokens"] = int(speculative["num_speculative_tokens"])
        return given

    def _capacity(self) -> int:
        return (self._knobs.num_gpu_blocks - 1) * self.BLOCK_SIZE

    def _used(self) -> int:
        return sum([each.prompt + each.generated for each in self._running])

    def _admits(self, budget: int) -> bool:
        if not (self._waiting and budget and len(self._running) < self._knobs.max_num_seqs):
            return False
        return not self._running or self._used() + self._waiting[0].tokens <= self._capacity()

    def _make_room(self) -> None:
        while len(self._running) > 1 and self._used() > self._capacity():
            self._throw_out()

    def _throw_out(self) -> None:
        request = self._running.pop()
        request.computed = 0
        self._preempted += 1
        self._waiting.insert(0, request)

    def _draft(self, request: _Request, budget: int) -> None:
        """Draft for a request; what is accepted goes round from none to all."""
        left = request.limit - request.generated - 1
        request.drafted = max(0, min(self._knobs.num_speculative_tokens, budget, left))
        turn = request.spec.number + self._steps
        request.accepted = turn % (request.drafted + 1)

    def _report(
        self, began_s: float, batch: int, prefill: int, decode: int, ready: list[_Request]
    ) -> StepReport:
        end_s, first, gaps, ended = self._clock(), [], Counter[float](), []
        accepted = [request.accepted for request in ready if request.drafted]
        drafted = sum(request.drafted for request in ready)
        generated = len(ready) + sum(accepted)
        for request in ready:
            request.generated += 1 + request.accepted
            request.drafted = request.accepted = 0
            if math.isnan(request.first_s):
                request.first_s = end_s
                first.append((request.spec.number, end_s))
            else:
                gaps[end_s - request.last_s] += 1
            request.last_s = end_s
            if request.generated >= request.limit:
                by_itself = (
                    self._length(request.spec) <= request.generated < request.spec.output_tokens
                )
                reason = "stop" if by_itself else "length"
                ended.append(self._leave(request, end_s)._replace(stop=reason))
        used, preempted, self._preempted = self._used(), self._preempted, 0
        sample = StepSample(
            end_s=end_s,
            duration_s=end_s - began_s,
            running=batch,
            waiting=len(self._waiting),
            prefill_tokens=prefill,
            decode_tokens=decode,
            generated_tokens=generated,
            cached_tokens=0,
            looked_up_tokens=prefill,
            preemptions=preempted,
            kv_frac=min(1.0, used / self._capacity()),
            max_num_seqs=self._knobs.max_num_seqs,
            max_num_batched_tokens=self._knobs.max_num_batched_tokens,
            host_s=0.001,
            context_tokens=used,
            kv_blocks=self._knobs.num_gpu_blocks - 1,
            draft_tokens=drafted,
            drafts=len(accepted),
            checked_tokens=drafted,
            accepted_tokens=sum(accepted),
            **_by_position(accepted),
        )
        return StepReport(sample, first, list(gaps.items()), ended)

    def _leave(self, request: _Request, end_s: float) -> Ended:
        queue = self._running if request in self._running else self._waiting
        queue.remove(request)
        return Ended(
            request.spec.number,
            end_s,
            request.generated,
            request.scheduled_s,
            request.first_s,
            0,
            0,
        )


def _by_position(accepted: list[int]) -> dict[str, int]:
    """How many requests had the draft token at each position accepted."""
    if not accepted:
        return _NONE_ACCEPTED
    return {name: sum(each > place for each in accepted) for place, name in enumerate(POSITIONS)}
