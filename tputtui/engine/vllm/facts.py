"""Reads an engine's properties from vLLM's own configuration. Engine thread."""

from __future__ import annotations

import hashlib
import json
import math
from typing import Any

__all__ = [
    "block_bytes",
    "block_tokens",
    "config_sha256",
    "device",
    "request_blocks",
    "revision",
    "state_blocks",
]


def block_bytes(groups: Any) -> int:
    """Bytes of one block on one device, over all layers that share it."""

    def of(group: Any) -> int:
        spec = group.kv_cache_spec
        # A spec of differing layers already holds the sum of their pages.
        layers = 1 if hasattr(spec, "kv_cache_specs") else len(group.layer_names)
        return int(spec.page_size_bytes) * layers

    return max(map(of, groups), default=0)


def block_tokens(config: Any, scheduler: Any) -> float:
    """Tokens that a block of the KV cache stands for.

    Where layers of several kinds have blocks of their own (windows, states), that depends on how
    long requests are: then as vLLM counts its cache, with all of the greatest length.
    """
    cache, specs = config.cache_config, _specs(scheduler)
    counted = getattr(cache, "kv_cache_size_tokens", None)
    bounded = any(_is_state(spec) or getattr(spec, "sliding_window", None) for spec in specs)
    if (len(specs) > 1 or bounded) and counted and cache.num_gpu_blocks > 1:
        return float(counted / (cache.num_gpu_blocks - 1))
    return float(cache.block_size / len(specs))


def request_blocks(config: Any, scheduler: Any) -> tuple[int, ...]:
    """Blocks that a request of the greatest length takes of each kind of attention, as vLLM counts.

    A window takes no more of them for a longer one.
    """
    return tuple(_most(spec, config) for spec in _specs(scheduler) if not _is_state(spec))


def state_blocks(config: Any, scheduler: Any) -> int:
    """Blocks that any request takes for the states of layers without attention.

    One more than vLLM counts for each kind: a hit within a block is copied (read in 0.32,
    `MambaManager.get_num_blocks_to_allocate`).
    """
    return sum(_most(spec, config) + 1 for spec in _specs(scheduler) if _is_state(spec))


def _specs(scheduler: Any) -> list[Any]:
    return [group.kv_cache_spec for group in scheduler.kv_cache_config.kv_cache_groups]


def _is_state(spec: Any) -> bool:
    return hasattr(spec, "mamba_cache_mode")


def _most(spec: Any, config: Any) -> int:
    longest, block_size = int(config.model_config.max_model_len), config.cache_config.block_size
    try:
        return -(-int(spec.max_memory_usage_bytes(config)) // int(spec.page_size_bytes))
    except (AttributeError, TypeError):
        # A vLLM that counts otherwise: no less than this is safe.
        return math.ceil(longest / int(block_size))


def revision(model_config: Any) -> str:
    """The hub's commit of the model; empty for a local folder."""
    commit = getattr(model_config.hf_config, "_commit_hash", None)
    return str(commit or model_config.revision or "")


def config_sha256(hf_config: Any) -> str:
    """A hash of the model's configuration; the path of the model does not affect it."""
    settings = {
        name: value
        for name, value in hf_config.to_diff_dict().items()
        if name not in ("_name_or_path", "transformers_version")
    }
    text = json.dumps(settings, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def device(torch: Any, config: Any) -> str:
    """The accelerator's name, or the kind of device."""
    kind = str(config.device_config.device_type)
    if kind == "cuda" and torch.cuda.is_available():
        return str(torch.cuda.get_device_name())
    return kind
