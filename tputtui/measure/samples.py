"""The facts that cross from the engine thread to whoever looks. Pure values.

All times are seconds on the engine's monotonic clock. `StepSample` is a tuple rather than a
dataclass because one is made for every engine step and goes straight into a row of a ring.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

__all__ = ["STEP", "Accounting", "Mark", "Outcome", "RequestSample", "StepSample"]


class StepSample(NamedTuple):
    """One engine step.

    running: sequences in the batch when the step was scheduled.
    waiting: requests the scheduler holds back, those deferred by a constraint included.
    prefill_tokens, decode_tokens: tokens scheduled, by whether the request had output yet.
    generated_tokens: tokens that came out, as vLLM counts them.
    cached_tokens, looked_up_tokens: prefix-cache hits and queries of requests first scheduled.
    kv_frac: blocks used ÷ blocks usable, after the step.
    max_num_seqs, max_num_batched_tokens: limits in force when the step was scheduled.
    host_s: the part of duration_s spent in vLLM's own Python around the model.
    context_tokens: tokens that the scheduled sequences had computed before the step.
    kv_blocks: blocks of the KV cache usable in the step, those held back left out.
    """

    end_s: float
    duration_s: float
    running: int
    waiting: int
    prefill_tokens: int
    decode_tokens: int
    generated_tokens: int
    cached_tokens: int
    looked_up_tokens: int
    preemptions: int
    kv_frac: float
    max_num_seqs: int
    max_num_batched_tokens: int
    host_s: float = 0.0
    context_tokens: int = 0
    kv_blocks: int = 0


STEP = {name: column for column, name in enumerate(StepSample._fields)}
"""Where each of its fields stands in a row of a ring."""


class Outcome(StrEnum):
    """How a request ended. Only FINISHED is good for a goal."""

    FINISHED = "finished"
    CUT = "cut"
    """Ended short by a lowered `max_model_len`."""
    ABORTED = "aborted"
    REJECTED = "rejected"
    FAILED = "failed"


class RequestSample(NamedTuple):
    """One request that has ended. Times it did not reach are NaN.

    due_s: when it should have been sent; latencies count from here.
    submitted_s: when the engine was given it; the gap is the dispatch lag.
    """

    number: int
    outcome: Outcome
    due_s: float
    submitted_s: float
    scheduled_s: float
    first_token_s: float
    end_s: float
    prompt_tokens: int
    output_tokens: int
    wanted_tokens: int
    cached_tokens: int
    preemptions: int

    @property
    def ttft_s(self) -> float:
        """Time to first token, from due."""
        return self.first_token_s - self.due_s

    @property
    def queue_s(self) -> float:
        """From handed to the engine until first scheduled."""
        return self.scheduled_s - self.submitted_s

    @property
    def prefill_s(self) -> float:
        """From first scheduled to first token."""
        return self.first_token_s - self.scheduled_s

    @property
    def decode_s(self) -> float:
        """From first token to last."""
        return self.end_s - self.first_token_s

    @property
    def e2e_s(self) -> float:
        """Last token, from due."""
        return self.end_s - self.due_s

    @property
    def tpot_s(self) -> float:
        """Time per output token after the first; NaN for fewer than two tokens.

        (last token - first token) / (n_out - 1), as `vllm bench serve` has it.
        """
        if self.output_tokens < 2:
            return float("nan")
        return (self.end_s - self.first_token_s) / (self.output_tokens - 1)


@dataclass(frozen=True, slots=True)
class Accounting:
    """Where every issued request is, counted between two steps.

    running and waiting are the scheduler's own counts; the rest is the host's ledger, so
    `balanced` compares two independent books.
    """

    issued: int = 0
    running: int = 0
    waiting: int = 0
    finished: int = 0
    cut: int = 0
    aborted: int = 0
    rejected: int = 0
    failed: int = 0
    clamped: int = 0
    """Issued with a length cut to fit `max_model_len`; also counted by how they ended."""

    @property
    def in_flight(self) -> int:
        """Requests inside the engine."""
        return self.running + self.waiting

    @property
    def balanced(self) -> bool:
        """Whether every issued request is in exactly one place."""
        ended = self.finished + self.cut + self.aborted + self.rejected + self.failed
        return self.issued == self.in_flight + ended


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that changed the figures: drawn as a vertical rule, listed in the log of marks.

    kind: "knob", "load", "engine" or "trial" (a leg of an A/B).
    """

    t_s: float
    kind: str
    text: str
