"""What a model weighs and computes, read off vLLM's configuration; no weights are loaded.

The parameters are counted on transformers' own model, built on torch's `meta` device, where it
takes no memory. Engine thread; importing this imports neither.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tputtui.errors import UsageError
from tputtui.simulate.sizes import Sizes

__all__ = ["kv_cache_specs", "sizes_of"]

_FP8_BITS: dict[str, float] = {
    "fp8": 8, "fp8_per_tensor": 8, "fp8_per_block": 8, "fp8_per_channel": 8, "fbgemm_fp8": 8,
    "modelopt": 8, "mxfp8": 8.25, "modelopt_mxfp8": 8.25,
}  # fmt: skip
_WEIGHT_ONLY_BITS: dict[str, float] = {
    "awq": 4.25, "auto_awq": 4.25, "awq_marlin": 4.25, "gptq": 4.25, "auto_gptq": 4.25,
    "gptq_marlin": 4.25, "mxfp4": 4.25, "gpt_oss_mxfp4": 4.25, "modelopt_fp4": 4.5,
    "int8_per_channel_weight_only": 8,
}  # fmt: skip
"""Bits of one parameter of a matrix, scales included; the first are multiplied as fp8 as well."""
_FULL, _WINDOWED = "full_attention", "sliding_attention"


def sizes_of(config: Any) -> Sizes:
    """The sizes of the model of a `VllmConfig`. Raises UsageError for one that is not known."""
    model, parallel = config.model_config, config.parallel_config
    _check(model)
    text = model.hf_text_config
    dtype_bytes = model.dtype.itemsize
    counted = _Counted(model.hf_config)
    bits, fp8 = _matrices(model)
    matrices = counted.parameters - counted.embedding - counted.head - counted.vectors
    kv_heads, head_size = model.get_total_num_kv_heads(), model.get_head_size()
    layers, ranks = int(text.num_hidden_layers), int(parallel.tensor_parallel_size)
    kinds = _layer_kinds(model)
    return Sizes(
        parameters=counted.parameters,
        embedding=counted.embedding,
        expert_parameters=counted.experts,
        experts=model.get_num_experts() if counted.experts else 0,
        experts_used=_experts_used(text) if counted.experts else 0,
        head_parameters=counted.head,
        weight_bytes=matrices * bits / 8 + (counted.parameters - matrices) * dtype_bytes,
        matrix_bytes=bits / 8,
        fp8_matrices=fp8,
        kv_bytes=2.0 * kv_heads * head_size * _kv_dtype(config).itemsize * layers,
        windowed=kinds.count(_WINDOWED) / len(kinds),
        window=model.get_sliding_window() or 0,
        attention_width=float(text.num_attention_heads * head_size * layers),
        layers=layers,
        hidden=int(text.hidden_size),
        intermediate=int(getattr(text, "intermediate_size", 0) or 4 * text.hidden_size),
        vocabulary=model.get_vocab_size(),
        dtype_bytes=dtype_bytes,
        ranks=ranks,
        kv_ranks=min(ranks, kv_heads),
        stages=int(parallel.pipeline_parallel_size),
    )


def kv_cache_specs(config: Any) -> dict[str, Any]:
    """vLLM's `KVCacheSpec` of each layer that one device has."""
    from vllm.v1.kv_cache_interface import FullAttentionSpec, SlidingWindowSpec

    model, parallel = config.model_config, config.parallel_config
    common = {
        "block_size": config.cache_config.block_size,
        "num_kv_heads": model.get_num_kv_heads(parallel),
        "head_size": model.get_head_size(),
        "dtype": _kv_dtype(config),
    }
    specs = {
        _FULL: FullAttentionSpec(**common),
        _WINDOWED: SlidingWindowSpec(**common, sliding_window=model.get_sliding_window() or 0),
    }
    kinds = _layer_kinds(model)[: model.get_num_layers(parallel)]
    return {f"layer.{i}": specs[kind] for i, kind in enumerate(kinds)}


# -- inside ------------------------------------------------------------------------------------


def _check(model: Any) -> None:
    """Raise UsageError for what would be simulated wrongly."""
    why = ""
    if model.is_multimodal_model:
        why = "takes more than text"
    elif model.runner_type != "generate":
        why = "generates no text"
    elif model.use_mla:
        why = "compresses its KV cache (MLA)"
    elif getattr(model, "is_hybrid", False) or getattr(model, "is_attention_free", False):
        why = "has layers that are not attention"
    elif model.is_encoder_decoder:
        why = "has an encoder"
    if why:
        raise UsageError(
            f"{model.model} {why}, which no cost is known of.",
            "Plain decoders can be: Llama, Qwen, Mistral, Gemma, mixtures of experts.",
        )


def _layer_kinds(model: Any) -> list[str]:
    """Full or windowed attention, layer by layer. Raises UsageError for any other."""
    text = model.hf_text_config
    kinds = getattr(text, "layer_types", None)
    if not kinds:
        kind = _WINDOWED if model.get_sliding_window() else _FULL
        kinds = [kind] * int(text.num_hidden_layers)
    if strange := sorted(set(kinds) - {_FULL, _WINDOWED}):
        raise UsageError(f"{model.model} has layers of {strange[0]}, which no cost is known of.")
    return list(kinds)


def _kv_dtype(config: Any) -> Any:
    import torch

    name, model = str(config.cache_config.cache_dtype), config.model_config
    if name == "auto":
        return model.dtype
    if name.startswith(("fp8", "int8")):
        return torch.uint8
    found = getattr(torch, {"half": "float16", "float": "float32"}.get(name, name), None)
    if not isinstance(found, torch.dtype):
        raise UsageError(f"A KV cache of {name} cannot be simulated.", "Known: auto, fp8.")
    return found


def _matrices(model: Any) -> tuple[float, bool]:
    """Bits of a matrix's parameter, and whether it is multiplied as fp8.

    Raises UsageError for a quantization that is not known.
    """
    name = model.quantization
    if not name:
        return 8.0 * model.dtype.itemsize, False
    given = getattr(model.hf_config, "quantization_config", None) or {}
    for group in (given.get("config_groups") or {}).values():
        weights, inputs = ((group or {}).get(key) or {} for key in ("weights", "input_activations"))
        if bits := weights.get("num_bits"):
            scale = 16 / weights["group_size"] if weights.get("group_size") else 0
            return float(bits) + scale, bits == 8 and inputs.get("type") == "float"
    if name in _FP8_BITS:
        return _FP8_BITS[name], True
    if name in _WEIGHT_ONLY_BITS:
        return _WEIGHT_ONLY_BITS[name], False
    known = ", ".join((*_FP8_BITS, *_WEIGHT_ONLY_BITS))
    raise UsageError(f"The quantization {name} cannot be simulated.", f"Known: {known}.")


def _experts_used(text: Any) -> int:
    for name in ("num_experts_per_tok", "num_experts_per_token", "moe_top_k", "top_k"):
        if found := getattr(text, name, None):
            return int(found)
    raise UsageError("How many experts a token goes through is not in the model's configuration.")


class _Counted:
    """Parameters of a model by what they are.

    vectors: norms and biases, which no quantization touches.
    """

    def __init__(self, hf_config: Any) -> None:
        self.parameters = self.embedding = self.head = self.experts = self.vectors = 0
        for name, parameter in _parameters(hf_config):
            count = parameter.numel()
            self.parameters += count
            if "embed_tokens" in name or "wte" in name:
                self.embedding += count
            elif "lm_head" in name or "embed_out" in name:
                self.head += count
            elif parameter.dim() < 2:
                self.vectors += count
            elif ".experts." in name:
                self.experts += count
        if not self.head:
            # Tied: the same table is a matrix at the end, and lies in memory once.
            self.head, self.embedding = self.embedding, 0


def _parameters(hf_config: Any) -> Iterator[tuple[str, Any]]:
    import torch
    from transformers import AutoModelForCausalLM

    try:
        with torch.device("meta"):
            model: Any = AutoModelForCausalLM.from_config(hf_config)  # type: ignore[no-untyped-call]
    except (ValueError, ImportError, KeyError) as error:
        raise UsageError(
            f"transformers does not know the model type {hf_config.model_type!r}, so its "
            "parameters cannot be counted.",
            "A model that transformers knows can be simulated.",
        ) from error
    yield from model.named_parameters()
