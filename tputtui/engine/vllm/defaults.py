"""vLLM's defaults for a device that is not in this machine. Engine thread.

The default of a missing argument depends on the device's name and memory, on the length, on chunked
prefill, on `--performance-mode`. The rule is vLLM's, so vLLM computes it, given another device.
"""

from __future__ import annotations

from typing import Any

from tputtui.engine.vllm.states import lay_out
from tputtui.simulate.devices import Device

__all__ = ["derive_as_on", "restore"]


def derive_as_on(device: Device, arguments: Any) -> None:
    """Make these EngineArgs derive sequences and batched tokens as on `device`.

    Read in vLLM 0.32: of the derivation, only `EngineArgs.get_batch_defaults` asks
    `current_platform`.
    """
    from vllm.engine import arg_utils

    real = arg_utils.current_platform
    derive = arguments.get_batch_defaults

    def as_there(*given: Any, **named: Any) -> Any:
        arg_utils.current_platform = _Platform(device, real)
        try:
            return derive(*given, **named)
        finally:
            arg_utils.current_platform = real

    # Set on the instance, so other engines' arguments stay untouched.
    arguments.get_batch_defaults = as_there


def restore(config: Any, arguments: Any) -> None:
    """Give a model back what these EngineArgs derived for it.

    Read in vLLM 0.32: its platform for CPUs chunks and shares none of the prompts of a model with a
    compressed KV cache (MLA), has blocks of 16 tokens for it, whatever was asked for, and keeps
    states (Mamba, gated delta nets) in float32. None of its devices does.
    """
    model, cache = config.model_config, config.cache_config
    if model.use_mla:
        scheduler = config.scheduler_config
        scheduler.enable_chunked_prefill = bool(arguments.enable_chunked_prefill)
        scheduler.max_num_batched_tokens = int(arguments.max_num_batched_tokens)
        cache.enable_prefix_caching = bool(arguments.enable_prefix_caching)
        cache.block_size = int(arguments.block_size or cache.block_size)
    if model.is_hybrid:
        from vllm.model_executor.models.config import MODELS_CONFIG_MAP

        cache.mamba_ssm_cache_dtype = arguments.mamba_ssm_cache_dtype
        if (own := MODELS_CONFIG_MAP.get(model.architecture)) is not None:
            own.verify_and_update_config(config)
        lay_out(config)


class _Platform:
    """The platform that vLLM runs on, with the properties of another device."""

    def __init__(self, device: Device, real: Any) -> None:
        self._device, self._real = device, real

    def get_device_total_memory(self, device_id: int = 0) -> int:
        return int(self._device.memory_gib * 2**30)

    def get_device_name(self, device_id: int = 0) -> str:
        return self._device.title

    def is_cpu(self) -> bool:
        return False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)
