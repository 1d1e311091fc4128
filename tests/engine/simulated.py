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

__all__ = ["async_scheduling_on_the_cpu", "drafting_class", "executor_class"]


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


@cache
def drafting_class() -> type:
    """The class of an executor that drafts as many tokens as the scheduler says, and accepts all
    of a request's at one step, none at the next, and so on in between."""
    from vllm.v1.outputs import DraftTokenIds

    class Drafts(executor_class()):  # type: ignore[misc]
        def _sampled(self, scheduled: Any) -> Any:
            output = super()._sampled(scheduled)
            checked = scheduled.scheduled_spec_decode_tokens
            for row, name in enumerate(output.req_ids):
                if output.sampled_token_ids[row] and (drafts := len(checked.get(name, ()))):
                    (first,) = output.sampled_token_ids[row]
                    accepted = (first + row) % (drafts + 1)
                    output.sampled_token_ids[row] = [first + i for i in range(accepted + 1)]
            count = scheduled.num_spec_tokens_to_schedule
            self._drafted = DraftTokenIds(output.req_ids, [[7] * count for _ in output.req_ids])
            return output

        def take_draft_token_ids(self) -> Any:
            return self._drafted

    return Drafts


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
