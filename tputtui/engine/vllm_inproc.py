"""A real vLLM engine in this process. The only file that touches vLLM's internals.

Engine thread only, from import to shutdown. What we rely on beyond vLLM's public interface is
listed in `INTERNALS`, with the version it was read in; a test fails when one of them is gone.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from tputtui.engine import models
from tputtui.engine.protocol import Ended, EngineFacts, Report, State, StepReport
from tputtui.engine.vllm_args import (
    INSTALL_HINT,
    import_vllm,
    parse_arguments,
    prepare,
    sentences,
)
from tputtui.knobs import Knobs
from tputtui.load.generator import RequestSpec
from tputtui.measure.samples import StepSample
from tputtui.profile import EngineSpec

__all__ = ["INTERNALS", "VllmEngine"]

INTERNALS = (
    # path from LLMEngine, what for, version it was read in
    ("engine_core.engine_core.scheduler", "the scheduler whose limits are turned", "0.32"),
    ("engine_core.get_output", "wrapped: first tokens as they come", "0.32"),
    ("engine_core.engine_core.scheduler.schedule", "wrapped: what each step schedules", "0.32"),
    ("engine_core.engine_core.scheduler.running", "sequences in the batch", "0.32"),
    ("engine_core.engine_core.scheduler.requests", "requests by internal id", "0.32"),
    ("engine_core.engine_core.scheduler.get_request_counts", "running and waiting", "0.32"),
    ("engine_core.engine_core.scheduler.max_num_running_reqs", "batch slots booted", "0.32"),
    ("engine_core.engine_core.scheduler.max_num_scheduled_tokens", "live token limit", "0.32"),
    ("engine_core.engine_core.scheduler.max_model_len", "length booted", "0.32"),
    ("engine_core.engine_core.scheduler.kv_cache_manager.block_pool.num_gpu_blocks", "KV size",
     "0.32"),
    ("output_processor.request_states", "what a request that is ended early has had", "0.32"),
    ("vllm_config.model_config.max_model_len", "ceilings", "0.32"),
)  # fmt: skip

_MODEL_HINT = "MODEL is a local folder, a hub id, or shape:NAME; the log has vLLM's own words."
_LOAD_HINT = "The log has vLLM's own words; lower ceilings or --gpu-memory-utilization if memory."


@dataclass(slots=True)
class _Live:
    """A request inside the engine."""

    number: int
    prompt_tokens: int
    wanted_tokens: int


class VllmEngine:
    """`Engine` on a real `LLMEngine` with its core in process.

    executor_class: a stand-in for the model executor (tests, simulation); None runs the model.
    """

    def __init__(self, executor_class: type | None = None) -> None:
        self._executor_class = executor_class
        self._engine: Any = None
        self._sampling: Any = None
        self._refusal: type[Exception] = ValueError
        self._live: dict[str, _Live] = {}
        self._awaiting_first: set[str] = set()
        self._kv_frac = 0.0
        # running, waiting, prefill and decode tokens, and the two limits they were scheduled under
        self._scheduled = (0, 0, 0, 0, 0, 0)
        self._clear_step()

    # -- life ------------------------------------------------------------------------------

    def boot(self, spec: EngineSpec, report: Report) -> EngineFacts:
        """Import vLLM, parse the arguments with its own parser, build the engine.

        Raises UsageError for arguments vLLM refuses, EngineError for everything else.
        """
        began_s = time.monotonic()
        resolved = models.resolve(spec)
        prepare(spec)
        report(State.IMPORTING, "importing torch")
        with sentences("torch could not be imported", INSTALL_HINT):
            import torch
        report(State.IMPORTING, "importing vLLM")
        version = import_vllm()
        from vllm import exceptions
        from vllm.sampling_params import RequestOutputKind, SamplingParams
        from vllm.usage.usage_lib import UsageContext
        from vllm.v1.engine.llm_engine import LLMEngine

        self._sampling = lambda tokens: SamplingParams(
            max_tokens=tokens,
            ignore_eos=True,
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        # Newer versions have a tree of their own for what a client got wrong.
        self._refusal = getattr(exceptions, "VLLMClientError", ValueError)
        report(State.LOADING, "checking engine arguments")
        arguments = parse_arguments(resolved)
        arguments.disable_log_stats = False
        if self._executor_class is not None:
            arguments.distributed_executor_backend = self._executor_class
        # As `vllm serve` does: defaults depend on who asks.
        context = UsageContext.OPENAI_API_SERVER
        refused = f"vLLM refuses to configure {spec.model}"
        with sentences(refused, _MODEL_HINT, usage=(ValueError,)):
            config = arguments.create_engine_config(context)
        report(State.LOADING, "loading the model, sizing the KV cache")
        with sentences(f"vLLM could not load {spec.model}", _LOAD_HINT):
            self._engine = LLMEngine.from_vllm_config(
                config,
                usage_context=context,
                stat_loggers=[lambda *_, **__: _stat_logger(self)],
            )
        self._wrap()
        pool = self._scheduler.kv_cache_manager.block_pool
        ceilings = Knobs(
            self._scheduler.max_num_running_reqs,
            self._scheduler.max_num_scheduled_tokens,
            config.model_config.max_model_len,
        )
        return EngineFacts(
            model=spec.model,
            device=_device(torch, config),
            dtype=str(config.model_config.dtype).removeprefix("torch."),
            ceilings=ceilings,
            # One block is vLLM's placeholder and never holds tokens.
            kv_tokens=(pool.num_gpu_blocks - 1) * config.cache_config.block_size,
            block_size=config.cache_config.block_size,
            vocab_size=config.model_config.get_vocab_size(),
            boot_s=time.monotonic() - began_s,
            # torch's is a subclass of str that YAML does not know.
            versions={"vllm": version, "torch": str(torch.__version__)},
        )

    def shutdown(self) -> None:
        """Free the engine's memory; nothing of it stays referenced here."""
        engine, self._engine = self._engine, None
        self._live.clear()
        self._awaiting_first.clear()
        if engine is None:
            return
        # The wrappers make cycles that vLLM's frozen garbage would keep alive.
        with contextlib.suppress(AttributeError):
            del engine.engine_core.engine_core.scheduler.schedule
        with contextlib.suppress(AttributeError):
            del engine.engine_core.get_output
        engine.engine_core.shutdown()

    # -- requests --------------------------------------------------------------------------

    def submit(self, request: RequestSpec) -> None:
        """Queue one request, counted by vLLM as having arrived when it was due."""
        arrival_s = time.time() - (time.monotonic() - request.due_s)
        external = f"t{request.number}"
        try:
            internal = self._engine.add_request(
                request_id=external,
                prompt={"prompt_token_ids": request.token_ids().tolist()},
                params=self._sampling(request.output_tokens),
                arrival_time=arrival_s,
            )
        except self._refusal as refusal:
            raise ValueError(str(refusal)) from refusal
        # Older versions return nothing and use the id as given.
        name = internal or external
        self._live[name] = _Live(request.number, request.prompt_tokens, request.output_tokens)
        self._awaiting_first.add(name)

    def step(self) -> StepReport:
        """One engine step, timed from outside."""
        self._clear_step()
        began_s = time.monotonic()
        outputs = self._engine.step()
        end_s = time.monotonic()
        ended = [self._finished(output) for output in outputs if output.finished]
        scheduler_stats, iteration_stats = self._stats
        if scheduler_stats is not None:
            self._kv_frac = scheduler_stats.kv_cache_usage
        looked_up = cached = generated = preemptions = 0
        gaps: list[tuple[float, int]] = []
        if scheduler_stats is not None and scheduler_stats.prefix_cache_stats is not None:
            looked_up = scheduler_stats.prefix_cache_stats.queries
            cached = scheduler_stats.prefix_cache_stats.hits
        if iteration_stats is not None:
            generated = iteration_stats.num_generation_tokens
            preemptions = iteration_stats.num_preempted_reqs
            gaps = list(Counter(iteration_stats.inter_token_latencies_iter).items())
        running, waiting, prefill, decode, max_seqs, max_tokens = self._scheduled
        sample = StepSample(
            end_s=end_s,
            duration_s=end_s - began_s,
            running=running,
            waiting=waiting,
            prefill_tokens=prefill,
            decode_tokens=decode,
            generated_tokens=generated,
            cached_tokens=cached,
            looked_up_tokens=looked_up,
            preemptions=preemptions,
            kv_frac=self._kv_frac,
            max_num_seqs=max_seqs,
            max_num_batched_tokens=max_tokens,
        )
        return StepReport(sample, self._first_tokens, gaps, ended)

    def end(self, numbers: Iterable[int]) -> list[Ended]:
        """Abort requests by number; what they had generated so far is told."""
        wanted = set(numbers)
        names = [name for name, live in self._live.items() if live.number in wanted]
        return self._end(names)

    def counts(self) -> tuple[int, int]:
        """(running, waiting) as the scheduler counts them."""
        running, waiting = self._scheduler.get_request_counts()
        return running, waiting

    # -- limits ----------------------------------------------------------------------------

    def apply(self, knobs: Knobs) -> list[Ended]:
        """Put limits in force.

        Sequences and tokens are the scheduler's own; the batch drains to a lower number of
        sequences. The length is *not* lowered in the scheduler: a running request already past
        it would never be scheduled again and never stop. Instead every request's own
        `max_tokens` is shortened, which the normal stop check honours, and those already at the
        limit end here. Raising it again gives back what was asked for.
        """
        scheduler = self._scheduler
        self._knobs = knobs
        if hasattr(scheduler, "max_num_active_reqs"):
            scheduler.max_num_active_reqs = knobs.max_num_seqs
        scheduler.max_num_scheduled_tokens = knobs.max_num_batched_tokens
        past = []
        for name, live in self._live.items():
            request = scheduler.requests.get(name)
            if request is None:
                continue
            if request.num_tokens >= knobs.max_model_len:
                past.append(name)
            else:
                room = knobs.max_model_len - live.prompt_tokens
                request.max_tokens = min(live.wanted_tokens, room)
        return self._end(past)

    # -- inside ----------------------------------------------------------------------------

    @property
    def _scheduler(self) -> Any:
        return self._engine.engine_core.engine_core.scheduler

    def _clear_step(self) -> None:
        self._first_tokens: list[tuple[int, float]] = []
        self._stats: tuple[Any, Any] = (None, None)
        running, waiting, _, _, max_seqs, max_tokens = self._scheduled
        self._scheduled = (running, waiting, 0, 0, max_seqs, max_tokens)

    def _wrap(self) -> None:
        """Look at what each step schedules and puts out; both hooks are removed at shutdown."""
        scheduler, client = self._scheduler, self._engine.engine_core
        schedule, get_output = scheduler.schedule, client.get_output
        booted_seqs = scheduler.max_num_running_reqs
        # Before 0.31 the one limit there is also sizes the batch and is asserted on each step.
        has_own_admission_limit = hasattr(scheduler, "max_num_active_reqs")

        def watched_schedule(*args: Any, **kwargs: Any) -> Any:
            if not has_own_admission_limit:
                floor = max(self._knobs.max_num_seqs, len(scheduler.running), 1)
                scheduler.max_num_running_reqs = min(booted_seqs, floor)
            output = schedule(*args, **kwargs)
            self._note_schedule(output)
            return output

        def watched_output(*args: Any, **kwargs: Any) -> Any:
            outputs = get_output(*args, **kwargs)
            if self._awaiting_first:
                self._note_first_tokens(outputs)
            return outputs

        scheduler.schedule = watched_schedule
        client.get_output = watched_output

    def _note_schedule(self, output: Any) -> None:
        scheduler = self._scheduler
        tokens = output.num_scheduled_tokens
        total = output.total_num_scheduled_tokens
        cached = output.scheduled_cached_reqs
        prefill = sum(tokens[request.req_id] for request in output.scheduled_new_reqs)
        # Nearly always the others decode one token each, and there is nothing to look into.
        if 0 in cached.num_output_tokens or total - prefill > len(cached.req_ids):
            for name, had, computed in zip(
                cached.req_ids, cached.num_output_tokens, cached.num_computed_tokens, strict=True
            ):
                request = scheduler.requests[name]
                left = (request.num_tokens if had else request.num_prompt_tokens) - computed
                # A preempted request computes all it has again, in chunks. With async scheduling
                # the first decode can be scheduled before the first token is known: then only
                # what is left of the prompt is prefill.
                if not had or left > 1:
                    prefill += max(0, min(tokens[name], left))
        running, waiting = scheduler.get_request_counts()
        self._scheduled = (
            running,
            waiting,
            prefill,
            total - prefill,
            self._knobs.max_num_seqs,
            self._knobs.max_num_batched_tokens,
        )

    def _note_first_tokens(self, outputs: Any) -> None:
        for output in outputs.outputs:
            if output.request_id in self._awaiting_first and output.new_token_ids:
                self._awaiting_first.discard(output.request_id)
                live = self._live[output.request_id]
                self._first_tokens.append((live.number, outputs.timestamp))

    def _finished(self, output: Any) -> Ended:
        external = output.request_id
        # The output carries the id we gave; the internal one may have a suffix.
        number = int(external[1:])
        name = external if external in self._live else self._internal(external)
        del self._live[name]
        self._awaiting_first.discard(name)
        ids = output.outputs[0].token_ids
        ended = _ended(number, output.metrics, len(ids), output.num_cached_tokens or 0)
        return ended._replace(token_ids=ids)

    def _internal(self, external: str) -> str:
        prefix = f"{external}-"
        return next(name for name in self._live if name.startswith(prefix))

    def _end(self, names: list[str]) -> list[Ended]:
        states = self._engine.output_processor.request_states
        ended, external = [], []
        for name in names:
            live = self._live.pop(name)
            self._awaiting_first.discard(name)
            external.append(f"t{live.number}")
            state = states.get(name)
            stats = state.stats if state is not None else None
            tokens = stats.num_generation_tokens if stats is not None else 0
            ended.append(_ended(live.number, stats, tokens, 0)._replace(end_s=time.monotonic()))
        if external:
            self._engine.abort_request(external)
        return ended


def _ended(number: int, stats: Any, tokens: int, cached: int) -> Ended:
    """An `Ended` from vLLM's own request times, which are 0.0 where never reached."""

    def reached(name: str) -> float:
        return getattr(stats, name, 0.0) or math.nan

    return Ended(
        number=number,
        end_s=reached("last_token_ts"),
        output_tokens=tokens,
        scheduled_s=reached("scheduled_ts"),
        first_token_s=reached("first_token_ts"),
        cached_tokens=cached,
        preemptions=getattr(stats, "num_preemptions", 0),
    )


def _stat_logger(engine: VllmEngine) -> Any:
    """vLLM's own hook for statistics, handing each step's to `engine`."""
    from vllm.v1.metrics.loggers import StatLoggerBase

    class Sink(StatLoggerBase):  # type: ignore[misc]
        def __init__(self) -> None: ...

        def record(self, scheduler_stats: Any, iteration_stats: Any, *_: Any, **__: Any) -> None:
            engine._stats = (scheduler_stats, iteration_stats)

        def log_engine_initialized(self) -> None: ...

    return Sink()


def _device(torch: Any, config: Any) -> str:
    kind = str(config.device_config.device_type)
    if kind == "cuda" and torch.cuda.is_available():
        return str(torch.cuda.get_device_name())
    return kind
