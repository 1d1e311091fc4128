"""A model executor without a model: vLLM's engine, scheduler and KV cache, but no forward pass.

It answers vLLM as a real executor does: it returns a token for each request that is due one, at the
time when the device would finish the step. A `Stand` provides that time and the size of the KV
cache. Engine thread; importing this module does not import vLLM.
"""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any, Protocol

__all__ = ["Stand", "executor_class"]

_FIRST_ID, _IDS = 4, 1000
"""The range of returned token ids. It skips the first few, which are special tokens."""


class Stand(Protocol):
    """The replacement for the devices."""

    def kv_cache_specs(self, config: Any) -> dict[str, Any]:
        """vLLM's `KVCacheSpec` of each layer on one device, by the layer's name."""

    def kv_cache_bytes(self, config: Any) -> int:
        """Bytes for the KV cache on each device."""

    def begin(self, scheduled: Any) -> float:
        """Begin a step, given as vLLM's `SchedulerOutput`; return when its result is due, in s."""

    def there(self, at_s: float) -> bool:
        """Whether a result due at `at_s` is ready."""

    def wait(self, at_s: float) -> None:
        """Wait until a result due at `at_s` is ready."""


def executor_class(stand: Stand) -> type:
    """The class for `EngineArgs(distributed_executor_backend=…)`. vLLM must be imported.

    Each engine gets a class of its own that holds `stand`: vLLM takes a class and passes it only
    its configuration.
    """
    from vllm.v1.executor.abstract import Executor
    from vllm.v1.outputs import EMPTY_MODEL_RUNNER_OUTPUT, ModelRunnerOutput

    class Simulated(Executor):  # type: ignore[misc]
        supports_pp = True

        def _init_executor(self) -> None:
            self._prompt_tokens: dict[str, int] = {}
            self._output: Any = None
            self._at_s = 0.0

        @classmethod
        def supports_async_scheduling(cls) -> bool:
            return True

        @property
        def max_concurrent_batches(self) -> int:
            """vLLM before 0.23 reads this from the executor, newer ones from the configuration."""
            stages = int(self.parallel_config.pipeline_parallel_size)
            return 2 if self.scheduler_config.async_scheduling else stages

        # -- booting -----------------------------------------------------------------------

        def get_kv_cache_specs(self) -> list[dict[str, Any]]:
            return [stand.kv_cache_specs(self.vllm_config)]

        def determine_available_memory(self) -> list[int]:
            return [stand.kv_cache_bytes(self.vllm_config)]

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
                return self._result(EMPTY_MODEL_RUNNER_OUTPUT, stand.begin(scheduled), non_block)
            self._at_s = stand.begin(scheduled)
            self._output = self._sampled(scheduled)
            # The forward pass has no result; vLLM waits for the step in `sample_tokens`.
            return _UnderWay(stand, None, self._at_s) if non_block else None

        def sample_tokens(self, grammar_output: Any, non_block: bool = False) -> Any:
            output, self._output = self._output, None
            return self._result(output, self._at_s, non_block)

        def _result(self, value: Any, at_s: float, non_block: bool) -> Any:
            if non_block:
                return _UnderWay(stand, value, at_s)
            stand.wait(at_s)
            return value

        def _sampled(self, scheduled: Any) -> Any:
            prompt_tokens, handed = self._prompt_tokens, scheduled.num_scheduled_tokens
            for name in scheduled.finished_req_ids:
                prompt_tokens.pop(name, None)
            names, tokens = [], []
            for new in scheduled.scheduled_new_reqs:
                name, whole = new.req_id, len(new.prompt_token_ids)
                prompt_tokens[name] = whole
                names.append(name)
                after = new.num_computed_tokens + handed[name]
                tokens.append([_id(after)] if after >= whole else [])
            cached = scheduled.scheduled_cached_reqs
            for name, computed, had in zip(
                cached.req_ids, cached.num_computed_tokens, cached.num_output_tokens, strict=True
            ):
                names.append(name)
                # Once all its tokens are computed (or about to be), the next token comes out.
                after = computed + handed[name]
                tokens.append([_id(after)] if after >= prompt_tokens[name] + had else [])
            return ModelRunnerOutput(
                req_ids=names,
                req_id_to_index={name: i for i, name in enumerate(names)},
                sampled_token_ids=tokens,
            )

    return Simulated


def _id(position: int) -> int:
    return _FIRST_ID + position % _IDS


class _UnderWay(Future[Any]):
    """A result that is done once the device is done, or once it was waited for."""

    def __init__(self, stand: Stand, value: Any, at_s: float) -> None:
        super().__init__()
        self._stand, self._value, self._at_s = stand, value, at_s

    def done(self) -> bool:
        return super().done() or self._stand.there(self._at_s)

    def result(self, timeout: float | None = None) -> Any:
        if not super().done():
            # The forward pass alone has no value, and is not waited for.
            if self._value is not None:
                self._stand.wait(self._at_s)
            self.set_result(self._value)
        return super().result(timeout)
