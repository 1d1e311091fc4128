"""The simulated executor with steps that take no time, and with vLLM's bargain looked at closely.

`executor_class()` goes into `VllmEngine(executor_class=…)`.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from functools import cache
from typing import Any
from unittest import mock

from tputtui.engine.vllm import executor as vllm_executor
from tputtui.engine.vllm.args import check_arguments
from tputtui.profile import EngineSpec

__all__ = ["async_scheduling_on_the_cpu", "executor_class"]


class Instant:
    """Steps take no time, but are done only when they are waited for: before 0.23 only that lets
    the next step overlap."""

    def kv_cache_specs(self, config: Any) -> dict[str, Any]:
        import torch
        from vllm.v1.kv_cache_interface import FullAttentionSpec

        model, parallel = config.model_config.hf_config, config.parallel_config
        spec = FullAttentionSpec(
            block_size=config.cache_config.block_size,
            num_kv_heads=model.num_key_value_heads,
            head_size=model.head_dim,
            dtype=torch.float32,
        )
        assert parallel.tensor_parallel_size == 1
        return {f"layer.{i}": spec for i in range(model.num_hidden_layers)}

    def kv_cache_bytes(self, config: Any) -> int:
        return int(config.cache_config.kv_cache_memory_bytes)

    def begin(self, scheduled: Any) -> float:
        return math.inf

    def there(self, at_s: float) -> bool:
        return False

    def wait(self, at_s: float) -> None: ...


@cache
def executor_class() -> type:
    """The class; made late, because vLLM reads its environment while it is imported."""
    check_arguments(EngineSpec("shape:demo"))

    class Checked(vllm_executor.executor_class(Instant())):  # type: ignore[misc]
        def _sampled(self, scheduled: Any) -> Any:
            output = super()._sampled(scheduled)
            # A worker takes up again a request that was not in the step before with what it is
            # handed, of which the last so many are its output: a token still under way is in the
            # number and not in what is handed, and all that follows would be wrong.
            cached = scheduled.scheduled_cached_reqs
            had = dict(zip(cached.req_ids, cached.num_output_tokens, strict=True))
            for name, given in cached.all_token_ids.items():
                handed, whole = len(given), self._prompt_tokens[name] + had[name]
                assert handed == whole, f"{name} is taken up again with {handed} of {whole} tokens"
            return output

    return Checked


@contextlib.contextmanager
def async_scheduling_on_the_cpu() -> Iterator[None]:
    """Undo that vLLM's CPU platform turns asynchronous scheduling off, for a boot in here."""
    executor_class()
    from vllm.platforms.cpu import CpuPlatform

    check = CpuPlatform.check_and_update_config

    def check_and_turn_on(config: Any) -> None:
        check(config)
        config.scheduler_config.async_scheduling = True

    patched = staticmethod(check_and_turn_on)
    with mock.patch.object(CpuPlatform, "check_and_update_config", patched):
        yield
