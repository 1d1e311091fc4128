"""Which limits the booted vLLM lets us change, by the parts of its scheduler that they need.

An older vLLM has not got some of them yet; a newer one may have moved or renamed a part. Either way
that limit is fixed, with the reason, and everything else works.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

__all__ = ["CADENCE", "found_at", "unreachable"]

CADENCE = "local_prefill_interval"
_POOL = "kv_cache_manager.block_pool"
_QUEUE = "vllm.v1.core.sched.request_queue"

_NEEDS: Mapping[str, tuple[str, ...]] = {
    "max_num_batched_tokens": ("max_num_scheduled_tokens",),
    "max_model_len": ("max_model_len", "requests"),
    "long_prefill_token_threshold": ("scheduler_config.long_prefill_token_threshold",),
    "num_gpu_blocks": (
        f"{_POOL}.num_gpu_blocks",
        f"{_POOL}.get_new_blocks",
        f"{_POOL}.free_blocks",
        f"{_POOL}.get_num_free_blocks",
    ),
    "enable_prefix_caching": ("kv_cache_manager.enable_caching",),
    "scheduling_policy": ("policy.value", "waiting"),
}
"""By limit: paths from the scheduler that every vLLM had so far."""
_SINCE: Mapping[str, str] = {
    "watermark_blocks": "kv_cache_manager.watermark_blocks",
    "scheduler_reserve_full_isl": "scheduler_reserve_full_isl",
    "max_num_queued_reqs": "scheduler_config.max_num_queued_reqs",
    "max_num_queued_tokens": "scheduler_config.max_num_queued_tokens",
}
"""Those that came with some version."""


def found_at(scheduler: Any, path: str, default: Any = None) -> Any:
    """What stands at a dotted path from the scheduler; `default` where some part is missing."""
    found = scheduler
    for name in path.split("."):
        found = getattr(found, name, _MISSING)
        if found is _MISSING:
            return default
    return found


def unreachable(scheduler: Any) -> dict[str, str]:
    """The limits that cannot be changed on this scheduler, each with the reason."""
    fixed = {
        name: "this vLLM does not have it"
        for name, path in _SINCE.items()
        if not _has(scheduler, path)
    }
    for name, paths in _NEEDS.items():
        gone = [path for path in paths if not _has(scheduler, path)]
        if gone:
            fixed[name] = _gone(gone[0])
    if not _has(scheduler, "max_num_active_reqs") and not _has(scheduler, "max_num_running_reqs"):
        fixed["max_num_seqs"] = _gone("max_num_active_reqs")
    if "scheduling_policy" not in fixed and not _makes_queues():
        fixed["scheduling_policy"] = _gone(f"{_QUEUE}.create_request_queue")
    if why := _no_cadence(scheduler):
        fixed["prefill_schedule_interval"] = why
    return fixed


_MISSING = object()


def _has(scheduler: Any, path: str) -> bool:
    return found_at(scheduler, path, _MISSING) is not _MISSING


def _gone(path: str) -> str:
    return f"this vLLM has no {path} to change it by"


def _makes_queues() -> bool:
    try:
        module = import_module(_QUEUE)
    except ImportError:
        return False
    return hasattr(module, "create_request_queue") and hasattr(module, "SchedulingPolicy")


def _no_cadence(scheduler: Any) -> str:
    if not _has(scheduler, CADENCE):
        return "this vLLM has it only among data-parallel engines of a mixture of experts"
    if found_at(scheduler, "parallel_config.data_parallel_size", 1) > 1:
        return "data-parallel engines of a mixture of experts keep one cadence together"
    return ""
