"""What the loop asks of an engine, and the values they exchange.

An engine is driven by one thread only: `boot`, `submit`, `step`, `apply`, `end` and `shutdown`
are all called on it (CUDA's current device is per thread).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple, Protocol

from tputtui.knobs import Knobs
from tputtui.load.generator import RequestSpec
from tputtui.measure.samples import StepSample
from tputtui.profile import EngineSpec

__all__ = ["Ended", "Engine", "EngineFacts", "State", "StepReport"]


class State(StrEnum):
    """Where the engine is in its life."""

    COLD = "COLD"
    IMPORTING = "IMPORTING"
    LOADING = "LOADING"
    READY = "READY"
    RUNNING = "RUNNING"
    DRAINING = "DRAINING"
    STOPPED = "STOPPED"
    FAILED = "FAILED"


@dataclass(frozen=True, slots=True)
class EngineFacts:
    """What a booted engine is.

    ceilings: the limits it booted with. kv_tokens: tokens the KV cache holds.
    versions: of everything worth writing beside a result ("vllm", "torch", …).
    """

    model: str
    device: str
    dtype: str
    ceilings: Knobs
    kv_tokens: int
    block_size: int
    vocab_size: int
    boot_s: float
    versions: Mapping[str, str] = field(default_factory=dict)


class Ended(NamedTuple):
    """A request that has left the engine, with the engine's own times (NaN if not reached).

    token_ids: what it generated, where the engine tells; conversations go on with it.
    """

    number: int
    end_s: float
    output_tokens: int
    scheduled_s: float
    first_token_s: float
    cached_tokens: int
    preemptions: int
    token_ids: Sequence[int] = ()


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
        """Put limits in force by the next step; requests already past the new length end now."""

    def end(self, numbers: Iterable[int]) -> list[Ended]:
        """Abort requests."""

    def counts(self) -> tuple[int, int]:
        """The scheduler's own counts of running and waiting requests."""

    def shutdown(self) -> None:
        """Give everything back. Safe after a failed boot and when called twice."""
