"""A vLLM that lacks a part: that limit is fixed with the reason, and all others work."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.engine.conftest import Served, all_whole
from tests.versions.run import RELEASES, numbers
from tputtui.engine.vllm import args
from tputtui.engine.vllm.args import newer_explained
from tputtui.engine.vllm.limits import LiveLimits
from tputtui.engine.vllm.reach import found_at, unreachable
from tputtui.errors import EngineError, UsageError
from tputtui.knobs import KNOBS
from tputtui.load.lengths import Uniform

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]

MOVED = [
    ("max_num_seqs", ("max_num_active_reqs", "max_num_running_reqs")),
    ("max_num_batched_tokens", ("max_num_scheduled_tokens",)),
    ("max_model_len", ("max_model_len",)),
    ("long_prefill_token_threshold", ("scheduler_config.long_prefill_token_threshold",)),
    ("num_gpu_blocks", ("kv_cache_manager.block_pool.get_new_blocks",)),
    ("num_gpu_blocks", ("kv_cache_manager.block_pool.num_gpu_blocks",)),
    ("watermark_blocks", ("kv_cache_manager.watermark_blocks",)),
    ("enable_prefix_caching", ("kv_cache_manager.enable_caching",)),
    ("scheduling_policy", ("policy",)),
    ("scheduling_policy", ("waiting",)),
    ("scheduler_reserve_full_isl", ("scheduler_reserve_full_isl",)),
    ("max_num_queued_reqs", ("scheduler_config.max_num_queued_reqs",)),
]


class Without:
    """An object of vLLM's without the parts at `paths`, for who reads and sets it through this."""

    def __init__(self, real: Any, paths: tuple[str, ...]) -> None:
        self.__dict__.update(_real=real, _paths=paths)

    def __getattr__(self, name: str) -> Any:
        if name in self._paths:
            raise AttributeError(name)
        inner = tuple(p.partition(".")[2] for p in self._paths if p.startswith(f"{name}."))
        found = getattr(self._real, name)
        return Without(found, inner) if inner else found

    def __setattr__(self, name: str, value: Any) -> None:
        assert name not in self._paths, f"{name} is set, and this vLLM has none"
        setattr(self._real, name, value)


@pytest.mark.parametrize(("limit", "paths"), MOVED)
def test_what_a_vllm_lacks_is_fixed_and_the_rest_is_turned_under_load(
    cpu: Served, limit: str, paths: tuple[str, ...]
) -> None:
    served = cpu
    config = served.scheduler.vllm_config
    whole = LiveLimits(served.scheduler, config, time.monotonic)
    limits = LiveLimits(Without(served.scheduler, paths), config, time.monotonic)
    assert limits.fixed.keys() - whole.fixed.keys() == {limit}
    reason = limits.fixed[limit]
    assert reason.startswith("this vLLM ")
    assert "does not have it" in reason or paths[0].split(".")[-1] in reason
    assert limits.ceilings.get(limit) == limits.booted.get(limit)
    assert limits.booted.overridden({limit: whole.booted.get(limit)}) == whole.booted
    served.start(80, Uniform(16, 60), Uniform(4, 12), seed=3)
    served.turn(3)
    tried = {"max_num_seqs": 8, "max_num_batched_tokens": 256, "watermark_blocks": 2,
             "long_prefill_token_threshold": 32, "scheduling_policy": 1,
             "enable_prefix_caching": 0, "scheduler_reserve_full_isl": 0}  # fmt: skip
    knobs = limits.booted.overridden({k: v for k, v in tried.items() if k not in limits.fixed})
    limits.apply(knobs)
    limits.before_schedule()
    served.turn(5)
    limits.apply(limits.booted)
    limits.before_schedule()
    limits.give_slots_back()
    served.drain(at_most=400)
    all_whole(served)


def test_every_limit_is_looked_for_on_this_vllm_and_found(cpu: Served) -> None:
    assert unreachable(cpu.scheduler).keys() <= {"prefill_schedule_interval"}
    known = {limit for limit, _ in MOVED} | {
        "max_num_queued_tokens", "prefill_schedule_interval",
        "num_speculative_tokens",  # `Drafting` says
    }  # fmt: skip
    assert known == {knob.name for knob in KNOBS}
    assert found_at(cpu.scheduler, "kv_cache_manager.no.such", 7) == 7


def test_without_a_way_to_preempt_or_to_empty_the_cache_that_is_said(cpu: Served) -> None:
    parts = ("_preempt_request", "reset_prefix_cache")
    limits = LiveLimits(Without(cpu.scheduler, parts), cpu.scheduler.vllm_config, time.monotonic)
    with pytest.raises(UsageError, match="no way to preempt"):
        limits.preempt()
    assert limits.reset_prefix_cache() is None


def test_a_newer_vllm_that_cannot_boot_is_named() -> None:
    told = r"vLLM 0\.99\.0 has changed where tputtui looks: AttributeError: no conductor"
    with pytest.raises(EngineError, match=told) as failed, newer_explained("0.99.0"):
        raise AttributeError("no conductor")
    assert ".".join(map(str, args.NEWEST)) in failed.value.hint
    with pytest.raises(AttributeError), newer_explained("0.33.1"):
        raise AttributeError("ours to mend")
    with pytest.raises(UsageError), newer_explained("0.99.0"):
        raise UsageError("What.", "Do.")


def test_the_newest_tried_is_that_of_the_releases() -> None:
    assert max(numbers(release) for release in RELEASES) == args.NEWEST
