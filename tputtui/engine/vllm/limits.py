"""Changes vLLM's limits between two steps of a booted engine. Engine thread only.

The scheduler has no locks, so every change happens between its steps.
"""

from __future__ import annotations

from collections.abc import Callable
from inspect import signature
from typing import Any

from tputtui.engine.protocol import least_blocks
from tputtui.engine.vllm.drafting import Drafting
from tputtui.engine.vllm.facts import request_blocks, state_blocks
from tputtui.engine.vllm.reach import CADENCE, found_at, unreachable
from tputtui.errors import UsageError
from tputtui.knobs import UNTOLD, Knobs

__all__ = ["LiveLimits", "kv_frac"]

_QUEUES = ("waiting", "skipped_waiting", "kv_holding_waiting")
_LONGEST_CADENCE = 64
"""Steps without prefill; longer, and TTFT is many times that of a queue."""


class LiveLimits:
    """The limits of one booted engine.

    booted: the limits right after the boot. ceilings: the highest value of each.
    fixed: limits that this vLLM cannot change while it runs, with the reason.
    """

    def __init__(self, scheduler: Any, config: Any, clock: Callable[[], float]) -> None:
        self._scheduler = scheduler
        self._clock = clock
        self._block_size = config.cache_config.block_size
        self._request_blocks = request_blocks(config, scheduler)
        self._state_blocks = state_blocks(config, scheduler)
        config = scheduler.scheduler_config

        def found(path: str, default: Any = 0) -> int:
            return int(found_at(scheduler, path, default) or 0)

        self.fixed = unreachable(scheduler)
        self._held: list[Any] = []
        self._to_hold = 0
        booted_blocks = found_at(scheduler, "cache_config.num_gpu_blocks", 1)
        self._blocks = found("kv_cache_manager.block_pool.num_gpu_blocks", booted_blocks)
        # Before 0.31 the only limit of requests also sizes the batch, and each step asserts it.
        self._admission_only = hasattr(scheduler, "max_num_active_reqs")
        preempt = getattr(scheduler, "_preempt_request", None)
        drops = preempt is not None and "drop_stale_output" in signature(preempt).parameters
        self._dropping = {"drop_stale_output": True} if drops else {}
        self._slots = found("max_num_running_reqs", config.max_num_seqs)
        model = "vllm_config.model_config.max_model_len"
        longest = found("max_model_len", found_at(scheduler, model, 2))
        self._drafting = Drafting(scheduler)
        policy = found_at(scheduler, "policy.value", config.policy)
        self.booted = self._knobs = Knobs(
            max_num_seqs=found("max_num_active_reqs", self._slots),
            max_num_batched_tokens=found("max_num_scheduled_tokens", config.max_num_batched_tokens),
            max_model_len=longest,
            long_prefill_token_threshold=found("scheduler_config.long_prefill_token_threshold"),
            num_gpu_blocks=self._blocks,
            watermark_blocks=found("kv_cache_manager.watermark_blocks"),
            enable_prefix_caching=found("kv_cache_manager.enable_caching"),
            scheduling_policy=int(policy == "priority"),
            scheduler_reserve_full_isl=found("scheduler_reserve_full_isl"),
            num_speculative_tokens=self._drafting.booted,
            max_num_queued_reqs=found("scheduler_config.max_num_queued_reqs"),
            max_num_queued_tokens=found("scheduler_config.max_num_queued_tokens"),
            prefill_schedule_interval=found(CADENCE, 1),
        )
        highest = {
            "max_num_seqs": self._slots,
            "long_prefill_token_threshold": longest,
            # A watermark above half of the cache would act as the limit, not as a margin.
            "watermark_blocks": self._blocks // 2,
            "scheduling_policy": 1,
            "scheduler_reserve_full_isl": 1,
            "max_num_queued_reqs": UNTOLD,
            "max_num_queued_tokens": UNTOLD,
            "prefill_schedule_interval": _LONGEST_CADENCE,
        }
        if self._drafting.fixed:
            self.fixed["num_speculative_tokens"] = self._drafting.fixed
        self.ceilings = self.booted.overridden(
            {name: value for name, value in highest.items() if name not in self.fixed}
        )

    # -- changing --------------------------------------------------------------------------

    @property
    def knobs(self) -> Knobs:
        """The limits in force."""
        return self._knobs

    def apply(self, knobs: Knobs) -> None:
        """Put limits in force, all but the model length (see `VllmEngine.apply`).

        Those of admission are kept here, for whoever hands requests over to the engine.
        A lower limit only makes batches smaller, so the buffers and CUDA graphs of the boot
        suffice; the batch drains to fewer sequences. Except for the long prefill threshold,
        `scheduler_config` keeps its values: CUDA graphs and the grammar bitmask read them.
        """
        self._knobs = knobs
        scheduler = self._scheduler
        if self._admission_only:
            scheduler.max_num_active_reqs = knobs.max_num_seqs
        manager, config = scheduler.kv_cache_manager, scheduler.scheduler_config
        reserve = bool(knobs.scheduler_reserve_full_isl)
        for name, owner, attribute, value in (
            ("max_num_batched_tokens", scheduler, "max_num_scheduled_tokens", None),
            ("long_prefill_token_threshold", config, "long_prefill_token_threshold", None),
            ("watermark_blocks", manager, "watermark_blocks", None),
            ("scheduler_reserve_full_isl", scheduler, "scheduler_reserve_full_isl", reserve),
            ("prefill_schedule_interval", scheduler, CADENCE, None),
            # This switches only look-ups. If the pool switched too, it would serve stale blocks.
            ("enable_prefix_caching", manager, "enable_caching", bool(knobs.enable_prefix_caching)),
        ):
            if name not in self.fixed:
                setattr(owner, attribute, knobs.get(name) if value is None else value)
        self._drafting.apply(knobs.num_speculative_tokens)
        if "scheduling_policy" not in self.fixed:
            self._set_policy("priority" if knobs.scheduling_policy else "fcfs")
        if "num_gpu_blocks" in self.fixed:
            return
        # One request of maximal length must always fit, or it would wait forever.
        least = least_blocks(
            knobs.max_model_len, self._block_size, self._request_blocks, self._state_blocks
        )
        self._to_hold = max(0, self._blocks - max(knobs.num_gpu_blocks, least))
        self._hold()

    def before_schedule(self) -> None:
        """Adjust held blocks and the batch size right before each step is scheduled."""
        if len(self._held) != self._to_hold:
            self._hold()
        if not self._admission_only and "max_num_seqs" not in self.fixed:
            scheduler = self._scheduler
            floor = max(self._knobs.max_num_seqs, len(scheduler.running), 1)
            scheduler.max_num_running_reqs = min(self._slots, floor)

    def give_slots_back(self) -> None:
        """Let the batch have every slot booted, where `before_schedule` is called no more."""
        if hasattr(self._scheduler, "max_num_running_reqs"):
            self._scheduler.max_num_running_reqs = self._slots

    def preempt(self) -> int:
        """Move the newest requests above `max_num_seqs` back to the queue; return how many.

        Raises UsageError where this vLLM has no way to do that.
        """
        if not hasattr(self._scheduler, "_preempt_request"):
            raise UsageError("This vLLM has no way to preempt a request.", "The batch drains.")
        running = self._scheduler.running
        over = max(0, len(running) - self._knobs.max_num_seqs)
        for _ in range(over):
            request = running.pop()
            under_way = getattr(request, "num_output_placeholders", 0)
            self._scheduler._preempt_request(request, self._clock(), **self._dropping)
            if not self._dropping:
                _drop_token_under_way(request, under_way)
            # The next step must not treat it as part of the batch that it continues.
            getattr(self._scheduler, "prev_step_scheduled_req_ids", set()).discard(
                request.request_id
            )
        return over

    def reset_prefix_cache(self) -> int | None:
        """Empty the prefix cache; return how many were preempted for it, None if vLLM refused.

        vLLM refuses while a request or this class holds a block.
        """
        if not hasattr(self._scheduler, "reset_prefix_cache"):
            return None
        running = list(self._scheduler.running)
        under_way = [getattr(request, "num_output_placeholders", 0) > 0 for request in running]
        self._give_back(len(self._held))
        done = self._scheduler.reset_prefix_cache(reset_running_requests=bool(running))
        self._hold()
        for request, waits in zip(running, under_way, strict=True):
            # vLLM 0.19 would also discard a token when none is under way.
            if hasattr(request, "discard_latest_async_tokens"):
                request.discard_latest_async_tokens = waits
        return len(running) if done else None

    # -- the KV cache ----------------------------------------------------------------------

    @property
    def kv_blocks(self) -> int:
        """Usable blocks: all except vLLM's placeholder and the held ones."""
        return self._blocks - 1 - len(self._held)

    @property
    def free_blocks(self) -> Callable[[], int]:
        """Counts the blocks that nothing holds, quickly."""
        found: Callable[[], int] | None = found_at(
            self._scheduler, "kv_cache_manager.block_pool.get_num_free_blocks", None
        )
        manager = self._scheduler.kv_cache_manager
        return found or (lambda: round((1 - manager.usage) * (self._blocks - 1)))

    def kv_frac(self, usage: float) -> float:
        """Convert vLLM's usage of the whole cache into a share of the usable blocks."""
        return kv_frac((1 - usage) * (self._blocks - 1), self.kv_blocks)

    @property
    def _pool(self) -> Any:
        return self._scheduler.kv_cache_manager.block_pool

    def _hold(self) -> None:
        """Hold the wanted number of blocks, as far as blocks are free; retried at each step."""
        if not self._to_hold and not self._held:
            return
        missing = self._to_hold - len(self._held)
        if missing < 0:
            self._give_back(-missing)
        free = self._pool.get_num_free_blocks()
        if missing > 0 and free > 0:
            self._held += self._pool.get_new_blocks(min(missing, free))

    def _give_back(self, blocks: int) -> None:
        if blocks:
            given, self._held = self._held[-blocks:], self._held[:-blocks]
            self._pool.free_blocks(given)

    # -- the queue -------------------------------------------------------------------------

    def _set_policy(self, name: str) -> None:
        scheduler = self._scheduler
        if scheduler.policy.value == name:
            return
        from vllm.v1.core.sched.request_queue import SchedulingPolicy, create_request_queue

        scheduler.policy = SchedulingPolicy(name)
        for queue_name in _QUEUES:
            queue = getattr(scheduler, queue_name, None)
            if queue is None:
                continue
            ordered = create_request_queue(scheduler.policy)
            # Preempted requests arrived before those that have not run, so they stay in front.
            for request in sorted(queue, key=lambda request: request.arrival_time):
                ordered.add_request(request)
            setattr(scheduler, queue_name, ordered)


def kv_frac(free: float, usable: int) -> float:
    """The share of `usable` blocks in use, where `free` ones are held by nothing."""
    return min(1.0, max(0.0, 1 - free / usable)) if usable else 0.0


def _drop_token_under_way(request: Any, under_way: int) -> None:
    """Up to 0.26, asynchronous scheduling: drop the token that a preempted request awaits.

    The token would arrive out of order, after the request runs again. Newer versions take
    `drop_stale_output` for this; here the older `reset_prefix_cache` is imitated.
    """
    request.num_output_placeholders = 0
    if hasattr(request, "async_tokens_to_discard"):  # 0.22, 0.26
        request.async_tokens_to_discard += under_way
    elif under_way:  # 0.19
        request.discard_latest_async_tokens = True
