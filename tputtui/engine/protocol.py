"""What the loop asks of an engine, and the values they exchange.

An engine is driven by one thread only: `boot`, `submit`, `step`, `apply`, `end` and `shutdown`
are all called on it (CUDA's current device is per thread).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple, Protocol

from tputtui.knobs import Knobs
from tputtui.load.generator import RequestSpec
from tputtui.measure.samples import Outcome, StepSample
from tputtui.profile import EngineSpec

__all__ = ["Argument", "Counts", "Ended", "Engine", "EngineFacts", "State", "StepReport"]


class State(StrEnum):
    """Where the engine is in its life."""

    COLD = "COLD"
    IMPORTING = "IMPORTING"
    LOADING = "LOADING"
    READY = "READY"
    RUNNING = "RUNNING"
    DRAINING = "DRAINING"
    PAUSED = "PAUSED"
    """No steps are run: what is in flight stands still, what arrives queues up."""
    STOPPED = "STOPPED"
    FAILED = "FAILED"


@dataclass(frozen=True, slots=True)
class EngineFacts:
    """What a booted engine is.

    ceilings: the highest value each limit can take; booted: the limits as they stood after the
    boot. fixed: limits that cannot be turned here, and why.
    kv_tokens: tokens the KV cache holds; kv_block_bytes: bytes of one of its blocks, on all
    devices, 0 if not known. kv_groups: how many kinds of layers take blocks of their own.
    overlapped: whether a step is scheduled while the one before it is computed (asynchronous
    scheduling). kind: what serves. stepped: whether its steps are seen; a server's are not, and
    what stands for one is a tick. simulated: what is to be said of an engine whose model is only
    simulated, empty for a real one.
    versions: of everything worth writing beside a result ("vllm", "torch", …).
    revision: of the model, as its hub names it; config_sha256: of its configuration.
    arguments: everything a boot can be given.
    """

    model: str
    device: str
    dtype: str
    ceilings: Knobs
    kv_tokens: int
    block_size: int
    vocab_size: int
    boot_s: float
    booted: Knobs
    versions: Mapping[str, str] = field(default_factory=dict)
    fixed: Mapping[str, str] = field(default_factory=dict)
    kv_block_bytes: int = 0
    kv_groups: int = 1
    overlapped: bool = False
    stepped: bool = True
    kind: str = "vLLM"
    simulated: str = ""
    arguments: tuple[Argument, ...] = ()
    revision: str = ""
    config_sha256: str = ""

    def kv_tokens_in(self, blocks: int) -> int:
        """Tokens that so many blocks hold."""
        return blocks * self.block_size // self.kv_groups

    def floor(self, name: str, knobs: Knobs) -> int:
        """The least that the limit `name` can be beside the other `knobs`.

        With fewer blocks than one request of the greatest length needs, it would wait for ever.
        """
        if name != "num_gpu_blocks":
            return 0
        needed = self.kv_groups * math.ceil(knobs.max_model_len / self.block_size)
        return min(needed + 1, self.ceilings.num_gpu_blocks)


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument an engine can be booted with, as the engine's own parser describes it.

    kind: "switch", "whole", "number", "choice" or "text" (anything else, JSON among it).
    default: as its text; empty for none. group: the parser's heading.
    """

    name: str
    kind: str
    default: str
    help: str
    group: str
    choices: tuple[str, ...] = ()


class Ended(NamedTuple):
    """A request that has left the engine, with the engine's own times (NaN if not reached).

    token_ids: what it generated, where the engine tells; conversations go on with it.
    outcome: how it ended, where the engine knows better than its length tells.
    """

    number: int
    end_s: float
    output_tokens: int
    scheduled_s: float
    first_token_s: float
    cached_tokens: int
    preemptions: int
    token_ids: Sequence[int] = ()
    outcome: Outcome | None = None


class Counts(NamedTuple):
    """Running and waiting requests as the scheduler counts them; blocks of the KV cache usable."""

    running: int
    waiting: int
    kv_blocks: int


class StepReport(NamedTuple):
    """What one step did.

    first_tokens: (request number, when) of requests that got their first token.
    gaps: inter-token latencies as (seconds, how many requests had that very gap).
    """

    sample: StepSample
    first_tokens: list[tuple[int, float]]
    gaps: list[tuple[float, int]]
    ended: list[Ended]


Report = Callable[[State, str], None]
"""Tells the stage of a boot: the state, and what is being done in a few words."""


class Engine(Protocol):
    """One engine, from boot to shutdown."""

    def boot(self, spec: EngineSpec, report: Report) -> EngineFacts:
        """Start. Raises UsageError for arguments it refuses, EngineError for the rest."""

    def submit(self, request: RequestSpec) -> None:
        """Queue one request. Raises ValueError when the engine refuses it."""

    def step(self) -> StepReport:
        """Run one step. Only called with requests in flight."""

    def apply(self, knobs: Knobs) -> list[Ended]:
        """Put limits in force by the next step; requests already past the new length end now.

        Raises KnobError when the engine refuses them; the limits in force then stay as they were.
        """

    def end(self, numbers: Iterable[int]) -> list[Ended]:
        """Abort requests."""

    def preempt(self) -> int:
        """Put what runs above `max_num_seqs` back to the queue now; how many that were.

        They lose their KV cache, not their tokens.
        """

    def reset_prefix_cache(self) -> int | None:
        """Empty the prefix cache; how many were preempted for it, None if it was not emptied."""

    def counts(self) -> Counts:
        """The scheduler's own counts."""

    def shutdown(self) -> None:
        """Give everything back. Safe after a failed boot and when called twice."""
