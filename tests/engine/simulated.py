"""A model executor without a model: vLLM's own engine, scheduler and KV cache on no forward pass.

`executor_class()` goes into `VllmEngine(executor_class=…)`. It keeps vLLM's side of the bargain
only: which requests are due a token in a step, and how large the KV cache is.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import Future
from functools import cache
from typing import Any
from unittest import mock

from tputtui.engine.vllm_args import check_arguments
from tputtui.profile import EngineSpec

__all__ = ["async_scheduling_on_the_cpu", "executor_class"]


@cache
def executor_class() -> type:
    """The class; made late, because vLLM reads its environment while it is imported."""
    check_arguments(EngineSpec("shape:demo"))
    import torch
    from vllm.v1.executor.abstract import Executor
    from vllm.v1.kv_cache_interface import FullAttentionSpec
    from vllm.v1.outputs import EMPTY_MODEL_RUNNER_OUTPUT, ModelRunnerOutput

    class Simulated(Executor):  # type: ignore[misc]
        supports_pp = True

        def _init_executor(self) -> None:
            self._prompt_tokens: dict[str, int] = {}
            self._output: Any = None

        @classmethod
        def supports_async_scheduling(cls) -> bool:
            return True

        @property
        def max_concurrent_batches(self) -> int:
            """Asked of the executor before 0.23, of the configuration since."""
            return 2 if self.scheduler_config.async_scheduling else 1

        # -- booting -----------------------------------------------------------------------

        def get_kv_cache_specs(self) -> list[dict[str, Any]]:
            config = self.model_config.hf_config
            spec = FullAttentionSpec(
                block_size=self.cache_config.block_size,
                num_kv_heads=config.num_key_value_heads,
                head_size=config.head_dim,
                dtype=torch.float32,
            )
            return [{f"layer.{i}": spec for i in range(config.num_hidden_layers)}]

        def determine_available_memory(self) -> list[int]:
            return [self.cache_config.kv_cache_memory_bytes]

        def get_supported_kv_cache_layouts(self) -> list[list[str]]:
            return [["LBNHC"]]

        def set_kv_cache_layout(self, *_: Any) -> None: ...

        def initialize_from_config(self, kv_cache_configs: Any) -> None: ...

        def compile_or_warm_up_model(self) -> None: ...

        def collective_rpc(self, method: Any, *_: Any, **__: Any) -> list[Any]:
            return [("generate",)] if method == "get_supported_tasks" else [None]

        def check_health(self) -> None: ...

        def shutdown(self) -> None: ...

        # -- steps -------------------------------------------------------------------------

        def execute_model(self, scheduled: Any, non_block: bool = False) -> Any:
            if not scheduled.total_num_scheduled_tokens:
                return _done(EMPTY_MODEL_RUNNER_OUTPUT, non_block)
            self._output = self._sampled(scheduled)
            return _done(None, non_block)

        def sample_tokens(self, grammar_output: Any, non_block: bool = False) -> Any:
            output, self._output = self._output, None
            return _done(output, non_block)

        def _sampled(self, scheduled: Any) -> Any:
            for name in scheduled.finished_req_ids:
                self._prompt_tokens.pop(name, None)
            known = {}
            for new in scheduled.scheduled_new_reqs:
                self._prompt_tokens[new.req_id] = len(new.prompt_token_ids)
                known[new.req_id] = (new.num_computed_tokens, 0)
            cached = scheduled.scheduled_cached_reqs
            for name, computed, had in zip(
                cached.req_ids, cached.num_computed_tokens, cached.num_output_tokens, strict=True
            ):
                known[name] = (computed, had)
            # A worker takes up again a request that was not in the step before with what it is
            # handed, of which the last so many are its output: a token still under way is in the
            # number and not in what is handed, and all that follows would be wrong.
            for name, given in cached.all_token_ids.items():
                handed, whole = len(given), self._prompt_tokens[name] + known[name][1]
                assert handed == whole, f"{name} is taken up again with {handed} of {whole} tokens"
            tokens = []
            for name, (computed, had) in known.items():
                # Every token it has (or soon will have) is computed: the next one comes out.
                after = computed + scheduled.num_scheduled_tokens[name]
                whole = after >= self._prompt_tokens[name] + had
                tokens.append([4 + after % 1000] if whole else [])
            return ModelRunnerOutput(
                req_ids=list(known),
                req_id_to_index={name: i for i, name in enumerate(known)},
                sampled_token_ids=tokens,
            )

    return Simulated


class _UnderWay(Future[Any]):
    """Done when it is waited for, no sooner: before 0.23 only that lets the next step overlap."""

    def __init__(self, value: Any) -> None:
        super().__init__()
        self._value = value

    def result(self, timeout: float | None = None) -> Any:
        if not self.done():
            self.set_result(self._value)
        return super().result(timeout)


def _done(value: Any, non_block: bool) -> Any:
    return _UnderWay(value) if non_block else value


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
