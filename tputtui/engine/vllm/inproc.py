"""A real vLLM engine in this process. Engine thread only, from import to shutdown."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from tputtui.engine import models
from tputtui.engine.arguments import arguments as describe
from tputtui.engine.carrying import adapters_of
from tputtui.engine.memory import uncollected
from tputtui.engine.parallel import check_in_process
from tputtui.engine.protocol import Counts, Ended, EngineFacts, Report, State, StepReport
from tputtui.engine.resolved import resolved
from tputtui.engine.vllm.admission import check_admission, check_admits
from tputtui.engine.vllm.answered import ended_of, logprobs_of
from tputtui.engine.vllm.args import (
    INSTALL_HINT,
    argument_parser,
    given,
    import_vllm,
    newer_explained,
    parse_arguments,
    prepare,
    sentences,
)
from tputtui.engine.vllm.asking import Asking
from tputtui.engine.vllm.compiled import forget_compiled
from tputtui.engine.vllm.drafting import add_schedule
from tputtui.engine.vllm.facts import (
    block_bytes,
    block_tokens,
    config_sha256,
    device,
    request_blocks,
    revision,
    state_blocks,
)
from tputtui.engine.vllm.kernels import keep_kernels
from tputtui.engine.vllm.limits import LiveLimits
from tputtui.engine.vllm.resolving import asked_of, boot_log, got_of
from tputtui.engine.vllm.sampling import sampling_of
from tputtui.engine.vllm.scheduled import checked
from tputtui.engine.vllm.tiers import Tiers
from tputtui.engine.vllm.watch import StepWatch
from tputtui.engine.vllm.workers import Workers, start_tracker
from tputtui.knobs import Knobs
from tputtui.load.request import FIRST_QUESTION, RequestSpec
from tputtui.measure.samples import Outcome, StepSample
from tputtui.profile import EngineSpec

__all__ = ["VllmEngine"]

_MODEL_HINT = "MODEL is a local folder, a hub id, or shape:NAME; the log has vLLM's own words."
_LOAD_HINT = "The log has vLLM's own words; lower ceilings or --gpu-memory-utilization if memory."


@dataclass(slots=True)
class _Live:
    """A request inside the engine."""

    number: int
    prompt_tokens: int
    wanted_tokens: int
    names: tuple[str, ...]
    """vLLM's internal ids of its sequences, one for each answer."""
    first_s: float = math.nan
    """When its first token came; NaN before."""


class VllmEngine:
    """Runs a real `LLMEngine` with its core in this process.

    executor_class: replaces the model executor (tests, simulation); None runs the model.
    clock: monotonic seconds, for steps and requests. wall: seconds, for vLLM's arrival times.
    """

    def __init__(
        self,
        executor_class: type | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._executor_class = executor_class
        self._clock, self._wall = clock, wall
        self._engine: Any = None
        self._asking: Any = None
        self._refusal: type[Exception] = ValueError
        self._live: dict[str, _Live] = {}
        self._numbers: dict[int, _Live] = {}
        self._limits: Any = None
        self._watch: Any = None
        self._workers: Workers | None = None
        self._asked: dict[str, str] = {}
        self._stats: tuple[Any, Any] = (None, None)
        self._tiers = Tiers()
        self._kv_frac = 0.0

    # -- life ------------------------------------------------------------------------------

    def boot(self, spec: EngineSpec, report: Report) -> EngineFacts:
        """Import vLLM, parse the arguments with its own parser, build the engine.

        Raises UsageError for arguments vLLM refuses, EngineError for everything else.
        """
        began_s = time.monotonic()
        full = self._resolved(spec)
        check_in_process(spec.args)
        prepare(spec)
        with uncollected():
            report(State.IMPORTING, "importing torch")
            with sentences("torch could not be imported", INSTALL_HINT):
                import torch  # noqa: F401
            report(State.IMPORTING, "importing vLLM")
            version = import_vllm()
            with sentences("vLLM could not be imported", INSTALL_HINT):
                import vllm.v1.engine.llm_engine  # noqa: F401
        once_s = time.monotonic() - began_s
        # Built in other frames: a traceback kept by an import keeps this frame alive.
        with boot_log() as said, newer_explained(version):
            config = self._build(spec, full, report)
            facts = self._facts(spec, config, version)
        rows = resolved(self._asked, self._got(config), said)
        took_s = time.monotonic() - began_s
        return replace(facts, boot_s=took_s, once_s=once_s, resolved=rows)

    def _resolved(self, spec: EngineSpec) -> EngineSpec:
        """The spec that vLLM receives. Raises UsageError."""
        return models.resolve(spec)

    def _parsed(self, spec: EngineSpec, arguments: Any) -> None:
        """Check the parsed arguments. Raises UsageError for one that cannot work here."""
        changed = given(arguments)
        for check in (models.check_no_secret, check_in_process, check_admits):
            check(changed)

    def _configured(self, config: Any, arguments: Any) -> None:
        """Hook: vLLM has made its configuration of the EngineArgs, and has built nothing yet."""

    def _got(self, config: Any) -> dict[str, str]:
        """What vLLM resolved the arguments to, by name."""
        return got_of(config)

    def _scheduled(self, output: Any) -> None:
        """Hook: a step is scheduled and has not run yet."""

    def _build(self, spec: EngineSpec, resolved: EngineSpec, report: Report) -> Any:
        """Build the engine; return its configuration."""
        from vllm import exceptions
        from vllm.usage.usage_lib import UsageContext
        from vllm.v1.engine.llm_engine import LLMEngine

        # Newer versions have an exception class of their own for errors of a client.
        self._refusal = getattr(exceptions, "VLLMClientError", ValueError)
        report(State.LOADING, "checking engine arguments")
        arguments = parse_arguments(resolved)
        self._asked = asked_of(arguments)
        self._parsed(spec, arguments)
        arguments.disable_log_stats = False
        if self._executor_class is not None:
            arguments.distributed_executor_backend = self._executor_class
        # The context of `vllm serve`: vLLM's defaults depend on it.
        context = UsageContext.OPENAI_API_SERVER
        refused = f"vLLM refuses to configure {spec.model}"
        with sentences(refused, _MODEL_HINT, usage=(ValueError,)):
            config = arguments.create_engine_config(context)
            if add_schedule(arguments, config):
                config = arguments.create_engine_config(context)
        self._configured(config, arguments)
        self._asking = Asking(adapters_of(spec.args), sampling_of(config.model_config))
        if config.parallel_config.world_size > 1:
            start_tracker()
        keep_kernels()
        report(State.LOADING, "loading the model, sizing the KV cache")
        with sentences(f"vLLM could not load {spec.model}", _LOAD_HINT):
            self._engine = LLMEngine.from_vllm_config(
                config,
                usage_context=context,
                stat_loggers=[lambda *_, **__: _stat_logger(self)],
            )
        self._limits = LiveLimits(self._scheduler, config, self._clock)
        self._watch = StepWatch(self._engine, self._limits, self._clock, self._scheduled)
        self._workers = Workers(self._engine)
        return config

    def _facts(self, spec: EngineSpec, config: Any, version: str) -> EngineFacts:
        import torch

        limits, block_size = self._limits, config.cache_config.block_size
        groups = self._scheduler.kv_cache_config.kv_cache_groups
        kv_block_tokens = block_tokens(config, self._scheduler)
        # Arguments that a shape sets are shown as its defaults.
        brought = models.resolve(EngineSpec(spec.model)).args
        return EngineFacts(
            model=spec.model,
            device=device(torch, config),
            dtype=str(config.model_config.dtype).removeprefix("torch."),
            ceilings=limits.ceilings,
            booted=limits.booted,
            fixed=limits.fixed,
            # One block is vLLM's placeholder, which never holds tokens.
            kv_tokens=int((limits.booted.num_gpu_blocks - 1) * kv_block_tokens),
            kv_block_tokens=kv_block_tokens,
            kv_request_blocks=request_blocks(config, self._scheduler),
            kv_state_blocks=state_blocks(config, self._scheduler),
            block_size=block_size,
            kv_block_bytes=block_bytes(groups) * config.parallel_config.world_size,
            kv_groups=len(groups),
            overlapped=bool(config.scheduler_config.async_scheduling),
            vocab_size=config.model_config.get_vocab_size(),
            boot_s=0.0,
            tokenizes=not config.model_config.skip_tokenizer_init,
            # torch's version is a subclass of str, which YAML cannot write.
            versions={"vllm": version, "torch": str(torch.__version__)},
            arguments=describe(argument_parser(), brought),
            revision=revision(config.model_config),
            config_sha256=config_sha256(config.model_config.hf_config),
        )

    def shutdown(self) -> None:
        """Free the engine's memory, and drop every reference to the engine."""
        engine, watch, workers = self._engine, self._watch, self._workers
        self._engine = self._limits = self._watch = self._workers = None
        self._live.clear()
        self._numbers.clear()
        if watch is not None:
            watch.remove()
        if engine is not None:
            engine.engine_core.shutdown()
        if workers is not None:
            workers.clear_away()
        forget_compiled()

    # -- requests --------------------------------------------------------------------------

    def submit(self, request: RequestSpec) -> None:
        """Queue one request, which arrives when it was due. Raises ShedError as a front does."""
        check_admission(self._engine.output_processor, self._limits.knobs, request.carried.n)
        arrival_s = self._wall() - (self._clock() - request.due_s)
        external, carried = f"t{request.number}", request.carried
        adapter = self._asking.adapter(carried.label.adapter)
        # Only the policy `priority` uses it: without one the shortest prompt comes first.
        priority = request.prompt_tokens if carried.priority is None else carried.priority
        try:
            internal = self._engine.add_request(
                request_id=external,
                prompt={"prompt_token_ids": request.ids()},
                params=self._asking.params(request),
                arrival_time=arrival_s,
                priority=priority,
                **({"lora_request": adapter} if adapter is not None else {}),
            )
        except self._refusal as refusal:
            raise ValueError(str(refusal)) from refusal
        name = internal or external  # Older versions return nothing, and use the id as given.
        names = (name,) if carried.n == 1 else tuple(f"{i}_{name}" for i in range(carried.n))
        live = _Live(request.number, request.prompt_tokens, request.output_tokens, names)
        self._numbers[request.number] = live
        self._live.update(dict.fromkeys(names, live))
        self._watch.awaiting.update(names)

    def step(self) -> StepReport:
        """Run one engine step and time it. Raises EngineError if a worker has died."""
        self._stats = (None, None)
        watch = self._watch
        watch.begin()
        began_s = self._clock()
        try:
            outputs = self._engine.step()
        except Exception as error:
            # vLLM's own message for a dead worker is only "cancelled".
            death = self._workers.death() if self._workers else None
            if death is None:
                raise
            raise death from error
        end_s = self._clock()
        first = [found for each in watch.first_tokens if (found := self._began(*each))]
        ended = [self._finished(output) for output in outputs if output.finished]
        scheduler_stats, iteration_stats = self._stats
        if scheduler_stats is not None:
            self._kv_frac = self._limits.kv_frac(scheduler_stats.kv_cache_usage)
            self._tiers.see(scheduler_stats)
        looked_up = cached = generated = preemptions = 0
        gaps: list[tuple[float, int]] = []
        if scheduler_stats is not None and scheduler_stats.prefix_cache_stats is not None:
            looked_up = scheduler_stats.prefix_cache_stats.queries
            cached = scheduler_stats.prefix_cache_stats.hits
        if iteration_stats is not None:
            generated = iteration_stats.num_generation_tokens
            preemptions = iteration_stats.num_preempted_reqs
            gaps = list(Counter(iteration_stats.inter_token_latencies_iter).items())
        done, knobs = watch.scheduled, self._limits.knobs
        sample = StepSample(
            end_s=end_s,
            duration_s=end_s - began_s,
            running=done.running,
            waiting=done.waiting,
            prefill_tokens=done.prefill,
            decode_tokens=done.decode,
            generated_tokens=generated,
            cached_tokens=cached,
            looked_up_tokens=looked_up,
            preemptions=preemptions,
            kv_frac=self._kv_frac,
            max_num_seqs=knobs.max_num_seqs,
            max_num_batched_tokens=knobs.max_num_batched_tokens,
            # The time of the step without the model and the wait for it.
            host_s=end_s - began_s - watch.core_s + watch.scheduler_s,
            context_tokens=done.context,
            kv_blocks=self._limits.kv_blocks,
            adapter_waiting=done.adapter_waiting,
            draft_tokens=done.drafted,
            **checked(scheduler_stats),
        )
        return StepReport(sample, first, gaps, ended)

    def end(self, numbers: Iterable[int]) -> list[Ended]:
        """Abort requests by number; the results contain the tokens generated so far."""
        return self._end([number for number in numbers if number in self._numbers])

    def counts(self) -> Counts:
        """Running and waiting requests by the scheduler's count, and usable KV blocks."""
        running, waiting = self._scheduler.get_request_counts()
        if len(self._live) > len(self._numbers):
            running, waiting = self._requests()
        return Counts(running, waiting, self._limits.kv_blocks, tiers=self._tiers.told)

    # -- limits ----------------------------------------------------------------------------

    def apply(self, knobs: Knobs, *, anyway: bool = False) -> list[Ended]:
        """Put limits in force.

        The length is *not* lowered in the scheduler: the scheduler would never schedule a running
        request past it again, so the request would never stop. Instead each request's own
        `max_tokens` is lowered, which the normal stop check honours, and requests already at the
        limit end here. Raising the length later restores the requested `max_tokens`.
        """
        scheduler, before = self._scheduler, self._limits.knobs.max_model_len
        self._limits.apply(knobs)
        if knobs.max_model_len == before:
            return []
        past: dict[int, None] = {}
        for name, live in self._live.items():
            request = scheduler.requests.get(name)
            if request is None:
                continue
            if request.num_tokens >= knobs.max_model_len:
                past[live.number] = None
            else:
                room = knobs.max_model_len - live.prompt_tokens
                request.max_tokens = min(live.wanted_tokens, room)
        return self._end(past)

    def set_paused(self, paused: bool, *, anyway: bool = False) -> None:
        """Nothing to do: it runs no step that it is not asked for."""

    def preempt(self, *, anyway: bool = False) -> int:
        """Move running requests above the limit back to the queue; return how many."""
        return int(self._limits.preempt())

    def reset_prefix_cache(self, *, anyway: bool = False) -> int | None:
        """Empty the prefix cache; return how many were preempted, None if vLLM refused."""
        preempted: int | None = self._limits.reset_prefix_cache()
        return preempted

    # -- inside ----------------------------------------------------------------------------

    @property
    def _scheduler(self) -> Any:
        return self._engine.engine_core.engine_core.scheduler

    def _began(self, name: str, at_s: float) -> tuple[int, float] | None:
        """The request whose first token this is; None where another answer of it was first."""
        live = self._live[name]
        if not math.isnan(live.first_s):
            return None
        live.first_s = at_s
        return live.number, at_s

    def _requests(self) -> tuple[int, int]:
        """The scheduler's running and waiting requests, each with its answers counted as one."""
        scheduler, live = self._scheduler, self._live
        every = {live[name].number for name in scheduler.requests if name in live}
        running = {live[each.request_id].number for each in scheduler.running}
        return len(running), len(every - running)

    def _left(self, number: int) -> _Live:
        live = self._numbers.pop(number)
        for name in live.names:
            del self._live[name]
        self._watch.awaiting.difference_update(live.names)
        return live

    def _finished(self, output: Any) -> Ended:
        # The output carries our id; vLLM's internal id may have a suffix.
        live, answers = self._left(int(output.request_id[1:])), output.outputs
        longest = max(len(answer.token_ids) for answer in answers)
        ended = ended_of(live.number, output.metrics, longest, output.num_cached_tokens or 0)
        reasons = [answer.finish_reason or "" for answer in answers]
        if len(live.names) > 1:
            # vLLM's times are those of the answer that ended last.
            ended = ended._replace(first_token_s=live.first_s)
        return ended._replace(
            token_ids=answers[0].token_ids,
            stop="stop" if "stop" in reasons else reasons[0],
            outcome=Outcome.FAILED if "error" in reasons else None,
            logprobs=logprobs_of(answers[0]) if live.number >= FIRST_QUESTION else (),
        )

    def _end(self, numbers: Iterable[int]) -> list[Ended]:
        states = self._engine.output_processor.request_states
        ended, external = [], []
        for number in numbers:
            live = self._left(number)
            external.append(f"t{number}")
            there = [state.stats for name in live.names if (state := states.get(name)) is not None]
            tokens = max((stats.num_generation_tokens for stats in there if stats), default=0)
            stats = there[0] if there else None
            ended.append(ended_of(number, stats, tokens, 0)._replace(end_s=self._clock()))
        if external:
            self._engine.abort_request(external)
        return ended


def _stat_logger(engine: VllmEngine) -> Any:
    """A logger for vLLM's statistics that gives those of each step to `engine`."""
    from vllm.v1.metrics.loggers import StatLoggerBase

    class Sink(StatLoggerBase):  # type: ignore[misc]
        def __init__(self) -> None: ...

        def record(self, scheduler_stats: Any, iteration_stats: Any, *_: Any, **__: Any) -> None:
            engine._stats = (scheduler_stats, iteration_stats)

        def log_engine_initialized(self) -> None: ...

    return Sink()
