"""The methods that the loop calls on an engine, and the values they exchange.

One thread makes all calls on an engine: `boot`, `submit`, `step`, `apply`, `end`, `shutdown`
(CUDA's current device is per thread).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple, Protocol

from tputtui.engine.resolved import CAPTURE_SIZES, GRAPH_MODE, Resolved, from_runs
from tputtui.knobs import Knobs
from tputtui.load.request import RequestSpec
from tputtui.measure.samples import EngineLoad, Outcome, RequestSample, StepSample
from tputtui.profile import EngineSpec

__all__ = ["Argument", "Counts", "Ended", "Engine", "EngineFacts", "ShedError", "State",
           "StepReport", "least_blocks"]  # fmt: skip


class ShedError(ValueError):
    """A request is refused because there are too many: by a limit, for no fault of its own."""


class State(StrEnum):
    """The state of an engine, from cold to stopped."""

    COLD = "COLD"
    IMPORTING = "IMPORTING"
    LOADING = "LOADING"
    READY = "READY"
    RUNNING = "RUNNING"
    DRAINING = "DRAINING"
    PAUSED = "PAUSED"
    """No steps are run: requests in flight stand still, arriving ones queue up."""
    STOPPED = "STOPPED"
    FAILED = "FAILED"


@dataclass(frozen=True, slots=True)
class EngineFacts:
    """Properties of a booted engine."""

    model: str
    device: str
    dtype: str
    """Empty if not known."""
    ceilings: Knobs
    """The highest value that each limit can take."""
    kv_tokens: int
    """Capacity of the KV cache in tokens."""
    block_size: int
    """Tokens in a block of the KV cache."""
    vocab_size: int
    """Token ids below this may be sent."""
    boot_s: float
    """Duration of the boot in s."""
    booted: Knobs
    """The limits right after the boot."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Versions to store beside a result ("vllm", "torch", …)."""
    fixed: Mapping[str, str] = field(default_factory=dict)
    """Limits that cannot be changed on this engine, with the reason."""
    kv_block_bytes: int = 0
    """Bytes of one block of the KV cache, on all devices; 0 if not known."""
    kv_block_tokens: float = 0.0
    """Tokens that a block stands for; 0: `block_size` of them, over all `kv_groups`."""
    kv_request_blocks: tuple[int, ...] = ()
    """Blocks that a request of the greatest length takes, by kind of attention; empty if not
    known."""
    kv_state_blocks: int = 0
    """Blocks that any request takes for the states of layers without attention."""
    kv_groups: int = 1
    """How many kinds of layers have blocks of their own."""
    overlapped: bool = False
    """Whether a step is scheduled while the previous one is computed (asynchronous scheduling)."""
    stepped: bool = True
    """Whether single steps are observed. Those of a server are not; its samples are of ticks."""
    kind: str = "vLLM"
    """The software that serves."""
    once_s: float = 0.0
    """Seconds of `boot_s` that another boot in this process does not take again: imports."""
    simulated: str = ""
    """A notice to show where the model is only simulated; empty for a real one."""
    pausable: bool = True
    """Whether the engine can be paused from here."""
    engines: int = 1
    """Engine cores that share the requests (data parallelism); limits and ceilings are of each."""
    served: bool = False
    """Whether it is a server, and reached over HTTP."""
    live: bool = False
    """Whether the run is about the traffic of others, and sends nothing itself."""
    vocab_exact: bool = True
    """Whether `vocab_size` is all of the model's ids; of a server only some are sure."""
    tokenizes: bool = True
    """Whether the engine has a tokenizer; without one there is no text, and no stop string."""
    takes_ids: bool = True
    """Whether prompts go to it as token ids; else as text of only about the wanted length."""
    renders: bool = False
    """Whether it makes prompts of messages itself: a server with a chat route."""
    arguments: tuple[Argument, ...] = ()
    """All arguments that a boot accepts; empty if not known."""
    revision: str = ""
    """Revision of the model on its hub; empty if not known."""
    config_sha256: str = ""
    """Hash of the model's configuration; empty if not known."""
    resolved: tuple[Resolved, ...] = ()
    """What the boot was asked for and what came of it; empty if not known."""

    @property
    def again_s(self) -> float:
        """How long another boot of this engine takes, in s, as far as the last one tells."""
        return self.boot_s - self.once_s

    @property
    def got(self) -> dict[str, str]:
        """What the boot resolved its arguments to, by name."""
        return {row.name: row.got for row in self.resolved}

    @property
    def graph_mode(self) -> str:
        """How CUDA graphs are used, by vLLM's name; empty without them or where not known."""
        return self.got.get(GRAPH_MODE, "").replace("NONE", "")

    @property
    def capture_sizes(self) -> tuple[int, ...]:
        """Batch sizes that have a CUDA graph, in tokens, ascending; empty without graphs."""
        return from_runs(self.got.get(CAPTURE_SIZES, "")) if self.graph_mode else ()

    @property
    def notice(self) -> str:
        """What stands beside the lengths of synthetic requests; empty where they are exact."""
        return "" if self.takes_ids else "prompts are text: lengths are approximate"

    @property
    def slot_tokens(self) -> int:
        """Tokens of a request that a block holds, of those that grow with it."""
        return max(1, self.block_size // (len(self.kv_request_blocks) or self.kv_groups))

    @property
    def state_tokens(self) -> int:
        """How many such tokens the blocks for the states of a request would hold."""
        states = self.kv_groups - len(self.kv_request_blocks)
        return max(0, self.kv_state_blocks - states) * self.slot_tokens

    def kv_tokens_in(self, blocks: int) -> int:
        """How many tokens `blocks` blocks hold."""
        return int(blocks * (self.kv_block_tokens or self.block_size / self.kv_groups))

    def floor(self, name: str, knobs: Knobs) -> int:
        """The lowest possible value of the limit `name` beside the other `knobs`.

        With fewer blocks than the longest request needs, that request would wait forever.
        """
        if name != "num_gpu_blocks":
            return 0
        most = self.kv_request_blocks or (self.ceilings.num_gpu_blocks,) * self.kv_groups
        needed = least_blocks(knobs.max_model_len, self.block_size, most, self.kv_state_blocks)
        return min(needed, self.ceilings.num_gpu_blocks)


def least_blocks(tokens: int, block_size: int, most: Iterable[int], states: int) -> int:
    """The smallest KV cache for a request of `tokens` tokens, with vLLM's placeholder, in blocks.

    most: blocks that it takes at most, by kind of attention. states: blocks for its states.
    """
    return sum(min(math.ceil(tokens / block_size), each) for each in most) + states + 1


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument that an engine can be booted with, as the engine's own parser describes it."""

    name: str
    """As a profile spells it: "max_num_seqs"."""
    kind: str
    """"switch", "whole", "number", "choice" or "text" (anything else, JSON included)."""
    default: str
    """As a person would type it; empty for none."""
    help: str
    group: str
    """The parser's heading."""
    choices: tuple[str, ...] = ()
    """Possible values; for kinds other than "choice" those that are known."""


class Ended(NamedTuple):
    """A request that has left the engine. Times are s on the engine clock, NaN if not reached."""

    number: int
    end_s: float
    output_tokens: int
    scheduled_s: float
    """When it first ran."""
    first_token_s: float
    cached_tokens: int
    """Prompt tokens that were in the prefix cache."""
    preemptions: int
    token_ids: Sequence[int] = ()
    """Generated token ids, with which conversations go on; empty if the engine gives none."""
    outcome: Outcome | None = None
    """How it ended, if the engine knows; None if it follows from the length."""
    stop: str = ""
    """Why the model stopped ("stop", "length", …), if the engine says."""
    prompt_tokens: int | None = None
    """Where the engine made the prompt from text: how many tokens it has."""
    answer_s: float = math.nan
    """When the answer began, of a request that reasoned before; else NaN."""
    logprobs: Sequence[Mapping[int, float]] = ()
    """Of a question: at each position, log-probabilities of its own and the likeliest tokens."""

    @classmethod
    def unreported(cls, number: int, end_s: float) -> Ended:
        """The end of a request that no engine tells of: it was refused, or its engine is gone."""
        return cls(number, end_s, 0, math.nan, math.nan, 0, 0)


class Counts(NamedTuple):
    """Running and waiting requests by the scheduler's count; usable blocks of the KV cache."""

    running: int
    waiting: int
    kv_blocks: int
    others: int = 0
    """Requests of other people under way, at a server that tells."""
    engines: tuple[EngineLoad, ...] = ()
    """Each engine of a server that tells."""
    unbooked: int = 0
    """Requests of other people under way that this run is about (live traffic)."""
    oldest_s: float = math.nan
    """When the oldest of those came, s on the engine clock."""
    tiers: tuple[tuple[str, int], ...] = ()
    """Prompt tokens found in a cache since the boot, by the tier that had them, under vLLM's name;
    empty where the GPU's own is the only one."""


class StepReport(NamedTuple):
    """The results of one step.

    sample: the step; None where none has ended since the last call. earlier: steps before it, of an
    engine that reports several at once. unfinished: whether steps of requests that have ended are
    still to come: `step` is to be called again although nothing is in flight.
    first_tokens: (request number, when in s) of requests that got their first token.
    gaps: inter-token latencies as (seconds, how many tokens had exactly this gap).
    of_engines: where `sample` is of several engines together, the steps of each that are in it.
    seen: requests of other people that have ended, where the run is about those (live traffic).
    """

    sample: StepSample | None
    first_tokens: list[tuple[int, float]]
    gaps: list[tuple[float, int]]
    ended: list[Ended]
    earlier: Sequence[StepSample] = ()
    unfinished: bool = False
    of_engines: Mapping[int, Sequence[StepSample]] = MappingProxyType({})
    seen: Sequence[RequestSample] = ()

    @property
    def steps(self) -> list[tuple[StepSample, Sequence[tuple[float, int]]]]:
        """Every step, oldest first, with the gaps that ended in it."""
        last = [(self.sample, self.gaps)] if self.sample is not None else []
        return [*((step, ()) for step in self.earlier), *last]

    @property
    def stuck(self) -> bool:
        """Whether a step was run that did nothing."""
        step = self.sample
        return step is not None and not (
            step.prefill_tokens or step.decode_tokens or step.generated_tokens
        )


Report = Callable[[State, str], None]
"""Takes the stage of a boot: the state, and a few words for what the boot does."""


class Engine(Protocol):
    """One engine, from boot to shutdown."""

    def boot(self, spec: EngineSpec, report: Report) -> EngineFacts:
        """Start. Raises UsageError for arguments that the engine refuses, EngineError otherwise."""

    def submit(self, request: RequestSpec) -> None:
        """Queue one request. Raises ValueError if the engine refuses it, ShedError by a limit."""

    def step(self) -> StepReport:
        """Run one step. Only called with requests in flight, or after an unfinished report."""

    def apply(self, knobs: Knobs, *, anyway: bool = False) -> list[Ended]:
        """Put limits in force by the next step; requests already past the new length end now.

        anyway: here and below, also where it costs requests of other people something; only a
        server has those.
        Raises KnobError if the engine refuses the limits; then the previous ones stay in force.
        """

    def end(self, numbers: Iterable[int]) -> list[Ended]:
        """Abort requests."""

    def set_paused(self, paused: bool, *, anyway: bool = False) -> None:
        """No more steps are asked for, or they are again; an engine that steps itself stands still.

        Raises TputError where it will not.
        """

    def preempt(self, *, anyway: bool = False) -> int:
        """Move running requests above `max_num_seqs` back to the queue; return how many.

        They lose their KV cache, not their tokens. Raises TputError where it is refused.
        """

    def reset_prefix_cache(self, *, anyway: bool = False) -> int | None:
        """Empty the prefix cache; return how many requests that preempted, None if it failed."""

    def counts(self) -> Counts:
        """The scheduler's own counts."""

    def shutdown(self) -> None:
        """Release everything. Safe after a failed boot and when called twice."""
