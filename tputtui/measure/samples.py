"""The samples that the engine thread records and other threads read. Pure values.

All times are seconds on the engine's monotonic clock. `StepSample` is a tuple rather than a
dataclass because one is made for every engine step and goes straight into a row of a ring.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

__all__ = [
    "CHECKED",
    "DRAFTED",
    "POSITIONS",
    "STEP",
    "Accounting",
    "EngineLoad",
    "Mark",
    "Outcome",
    "RequestSample",
    "StepSample",
    "above",
]


class StepSample(NamedTuple):
    """One engine step."""

    end_s: float
    duration_s: float
    running: int
    """Sequences in the batch when the step was scheduled."""
    waiting: int
    """Requests that the scheduler holds back, including those deferred by a constraint."""
    prefill_tokens: int
    """Tokens scheduled for requests that had no output yet."""
    decode_tokens: int
    """Tokens scheduled for requests that had output already."""
    generated_tokens: int
    """Tokens that came out, as vLLM counts them."""
    cached_tokens: int
    """Prefix-cache hits of the requests scheduled for the first time, in tokens."""
    looked_up_tokens: int
    """Tokens that those requests looked up in the prefix cache."""
    preemptions: int
    """Requests that the scheduler preempted."""
    kv_frac: float
    """Blocks used ÷ blocks usable, after the step."""
    max_num_seqs: int
    """The limit in force when the step was scheduled."""
    max_num_batched_tokens: int
    """The limit in force when the step was scheduled."""
    host_s: float = 0.0
    """The part of duration_s spent in vLLM's own Python around the model."""
    context_tokens: int = 0
    """Tokens that the scheduled sequences had computed before the step."""
    kv_blocks: int = 0
    """Usable blocks of the KV cache, without those held back."""
    adapter_waiting: int = 0
    """Requests that wait for a place among the `max_loras` adapters of the batch."""
    draft_tokens: int = 0
    """Draft tokens scheduled to be checked, beside prefill and decode."""
    drafts: int = 0
    """Sequences whose draft tokens were checked, as vLLM counts them."""
    checked_tokens: int = 0
    """Draft tokens of those."""
    accepted_tokens: int = 0
    """Those of them that the model accepted."""
    accepted_1: int = 0
    """Sequences of which the first draft token was accepted; so on for the others."""
    accepted_2: int = 0
    accepted_3: int = 0
    accepted_4: int = 0
    accepted_5: int = 0
    accepted_6: int = 0
    accepted_7: int = 0
    accepted_8: int = 0


STEP = {name: column for column, name in enumerate(StepSample._fields)}
"""The column of each field of `StepSample` in a row of `Recorder.steps`."""

DRAFTED = StepSample._fields[STEP["draft_tokens"] :]
"""The fields of `StepSample` about speculation."""
CHECKED = DRAFTED[1:]
"""Those of them about the draft tokens that a step has checked; the last ones of all."""
POSITIONS = tuple(name for name in DRAFTED if name.startswith("accepted_") and name[-1].isdigit())
"""Those of them about one place among the draft tokens of a sequence, the first ones only."""


class EngineLoad(NamedTuple):
    """One engine of a server, as it was when it last told: requests of everybody."""

    running: int
    waiting: int
    kv_frac: float
    """Blocks used ÷ blocks usable."""
    step_s: float
    """How long its newest step took; NaN before the first."""
    kv_blocks: int = 0
    """Blocks usable: engines can have caches of different sizes. 0 where that is not told."""


def kv_frac_of(engines: Iterable[EngineLoad]) -> float:
    """Blocks used ÷ blocks usable of all of them together; NaN without any."""
    shares = [(each.kv_frac, max(1, each.kv_blocks)) for each in engines]
    usable = sum(blocks for _, blocks in shares)
    return sum(frac * blocks for frac, blocks in shares) / usable if usable else math.nan


class Outcome(StrEnum):
    """How a request ended. Only FINISHED is good for a goal."""

    FINISHED = "finished"
    CUT = "cut"
    """Ended short by a lowered `max_model_len`."""
    ABORTED = "aborted"
    REJECTED = "rejected"
    FAILED = "failed"
    CANCELLED = "cancelled"
    """Given up by the client, as the load has it: neither good nor bad for a goal."""


class RequestSample(NamedTuple):
    """One request that has ended. Times that it did not reach are NaN."""

    number: int
    outcome: Outcome
    due_s: float
    """When it should have been sent; latencies count from here."""
    submitted_s: float
    """When the engine received it; submitted_s - due_s is the dispatch lag."""
    scheduled_s: float
    """When the scheduler admitted it for the first time."""
    first_token_s: float
    end_s: float
    """When it ended: with the last token, or when it was cut or aborted."""
    prompt_tokens: int
    output_tokens: int
    wanted_tokens: int
    """Output tokens that the load asked for; like `output_tokens`, of one answer."""
    cached_tokens: int
    """Prompt tokens that the prefix cache supplied."""
    preemptions: int
    """How many times it was preempted."""
    label: int = 0
    """Place of its label in `Recorder.labels`."""
    job_s: float = float("nan")
    """How long the job took that this request ended, or broke, from its first step due; NaN where
    it did neither."""

    @property
    def ttft_s(self) -> float:
        """Time to first token, from due."""
        return self.first_token_s - self.due_s

    @property
    def queue_s(self) -> float:
        """From submitted until first scheduled."""
        return self.scheduled_s - self.submitted_s

    @property
    def prefill_s(self) -> float:
        """From first scheduled to the first token."""
        return self.first_token_s - self.scheduled_s

    @property
    def decode_s(self) -> float:
        """From the first token to the last."""
        return self.end_s - self.first_token_s

    @property
    def e2e_s(self) -> float:
        """From due to the last token."""
        return self.end_s - self.due_s

    @property
    def tpot_s(self) -> float:
        """Time per output token after the first; NaN for fewer than two tokens.

        (last token - first token) / (n_out - 1), as `vllm bench serve` computes it.
        """
        if self.output_tokens < 2:
            return float("nan")
        return (self.end_s - self.first_token_s) / (self.output_tokens - 1)


@dataclass(frozen=True, slots=True)
class Accounting:
    """Where every issued request is, counted between two steps.

    running and waiting are the scheduler's own counts; the rest is the host's ledger. So
    `balanced` compares two independent books.
    """

    issued: int = 0
    """Requests sent to the engine so far."""
    running: int = 0
    waiting: int = 0
    finished: int = 0
    """Requests that ended with all their tokens."""
    cut: int = 0
    """Requests ended short by a lowered `max_model_len`."""
    aborted: int = 0
    rejected: int = 0
    """Requests that the engine did not accept."""
    failed: int = 0
    """Requests that an error of the engine ended."""
    clamped: int = 0
    """Requests issued with a length cut to fit `max_model_len`; also counted by how they ended."""
    cancelled: int = 0
    """Requests that the client gave up, as the load has it."""

    @property
    def in_flight(self) -> int:
        """Requests inside the engine."""
        return self.running + self.waiting

    @property
    def balanced(self) -> bool:
        """Whether every issued request is in exactly one place."""
        ended = self.finished + self.cut + self.aborted + self.rejected + self.failed
        return self.issued == self.in_flight + ended + self.cancelled


def above(books: Accounting, engines: Sequence[EngineLoad], limit: int) -> int:
    """How many sequences run above `limit`, which is each engine's own."""
    running = [each.running for each in engines] or [books.running]
    return sum(max(0, each - limit) for each in running)


@dataclass(frozen=True, slots=True)
class Mark:
    """An event that changed the figures: drawn as a vertical rule, listed in the log of marks.

    kind: "knob", "load", "engine", "guard" or "leg" (of an experiment).
    """

    t_s: float
    kind: str
    text: str
