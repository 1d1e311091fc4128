"""Computes a model's sizes from vLLM's configuration, without loading weights.

The parameters are counted in transformers' own model, built on torch's `meta` device, where it
takes no memory. Engine thread; importing this module imports neither library.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from tputtui.engine.vllm.states import state_of, state_spec
from tputtui.errors import UsageError
from tputtui.simulate.sizes import Sizes

__all__ = ["check_supported", "check_text_only", "kv_cache_specs", "sizes_of"]

_FP8_BITS: dict[str, float] = {
    "fp8": 8, "fp8_per_tensor": 8, "fp8_per_block": 8, "fp8_per_channel": 8, "fbgemm_fp8": 8,
    "modelopt": 8, "mxfp8": 8.25, "modelopt_mxfp8": 8.25,
}  # fmt: skip
_WEIGHT_ONLY_BITS: dict[str, float] = {
    "awq": 4.25, "auto_awq": 4.25, "awq_marlin": 4.25, "gptq": 4.25, "auto_gptq": 4.25,
    "gptq_marlin": 4.25, "mxfp4": 4.25, "gpt_oss_mxfp4": 4.25, "modelopt_fp4": 4.5,
    "int8_per_channel_weight_only": 8,
}  # fmt: skip
"""Bits per parameter of a matrix, scales included. Only _FP8_BITS also multiply in fp8."""
_USED = re.compile(r"expert.*(per_tok|top_?k)|(top_?k|selected|active).*expert")
_MORE_THAN_TEXT = ("vision", "audio", "image", "video", "speech")
_FULL, _WINDOWED = "full_attention", "sliding_attention"


def sizes_of(config: Any) -> Sizes:
    """The sizes of the model of a `VllmConfig`, which is supported.

    Raises UsageError for layers or matrices that are not.
    """
    model, parallel = config.model_config, config.parallel_config
    text = model.hf_text_config
    dtype_bytes = model.dtype.itemsize
    counted = _Counted(model.hf_config)
    bits, fp8 = _matrices(model)
    matrices = counted.parameters - counted.embedding - counted.head - counted.vectors
    layers, ranks = _layers(model), int(parallel.tensor_parallel_size)
    windowed = [layer for layer in layers if layer.windowed]
    kv_values = sum(layer.kv_values for layer in layers)
    states = sum(layer.state for layer in layers)
    if states and parallel.pipeline_parallel_size > 1:
        raise _unsuitable(model.model, "has stages of a pipeline that differ in their layers")
    if not kv_values:
        raise _unsuitable(model.model, "has no attention")
    state = state_of(config) if states else None
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
        kv_bytes=float(kv_values * _kv_dtype(config).itemsize),
        windowed=sum(layer.kv_values for layer in windowed) / kv_values,
        window=model.get_sliding_window() or 0,
        attention_width=float(sum(layer.width for layer in layers)),
        windowed_width=float(sum(layer.width for layer in windowed)),
        compressed_width=float(sum(layer.compressed_width for layer in layers)),
        layers=sum(bool(layer.kv_heads or layer.state) for layer in layers),
        hidden=int(text.hidden_size),
        intermediate=_widest(text),
        vocabulary=model.get_vocab_size(),
        dtype_bytes=dtype_bytes,
        ranks=ranks,
        kv_ranks=min(ranks, *(layer.kv_heads for layer in layers if layer.kv_heads)),
        stages=int(parallel.pipeline_parallel_size),
        state_bytes=float(states * ranks * state.bytes) if state else 0.0,
        state_values=float(states * ranks * state.values) if state else 0.0,
    )


def check_supported(model: Any) -> None:
    """Raise UsageError for a `ModelConfig` that the simulation would get wrong."""
    why = ""
    if model.is_multimodal_model:
        why = "takes more than text"
    elif model.runner_type != "generate":
        why = "generates no text"
    elif hasattr(model.hf_text_config, "index_topk"):
        why = "attends to a part of its KV cache only (sparse attention)"
    elif getattr(model, "is_attention_free", False):
        why = "has no attention"
    elif model.is_encoder_decoder:
        why = "has an encoder"
    if why:
        raise _unsuitable(model.model, why)


def check_text_only(model: str) -> None:
    """Raise UsageError if a model's configuration shows that it takes more than text.

    vLLM itself detects this only if the packages that such models need are installed.
    """
    from transformers import PretrainedConfig

    try:
        settings, _ = PretrainedConfig.get_config_dict(model)
    except Exception:
        # vLLM has already reported what is wrong with the configuration.
        return
    if any(name.startswith(_MORE_THAN_TEXT) and name.endswith("_config") for name in settings):
        raise _unsuitable(model, "takes more than text")


def kv_cache_specs(config: Any) -> dict[str, Any]:
    """vLLM's `KVCacheSpec` of each layer on one device that has a KV cache of its own."""
    from vllm.v1.kv_cache_interface import FullAttentionSpec, MLAAttentionSpec, SlidingWindowSpec

    model, parallel = config.model_config, config.parallel_config
    layers = _layers(model)[: model.get_num_layers(parallel)]
    specs: dict[str, Any] = {}
    if any(layer.state for layer in layers):
        state = state_spec(config)
        specs = {f"layer.{i}": state for i, layer in enumerate(layers) if layer.state}
    for i, layer in enumerate(layers):
        if not layer.cached:
            continue
        common = {
            "block_size": config.cache_config.block_size,
            "num_kv_heads": max(1, layer.kv_heads // int(parallel.tensor_parallel_size)),
            "head_size": layer.head_size,
            "dtype": _kv_dtype(config),
        }
        if layer.compressed_width:
            spec: Any = MLAAttentionSpec(**common)
        elif layer.windowed:
            spec = SlidingWindowSpec(**common, sliding_window=model.get_sliding_window())
        else:
            spec = FullAttentionSpec(**common)
        specs[f"layer.{i}"] = spec
    return specs


# -- inside ------------------------------------------------------------------------------------


def _unsuitable(model: str, why: str) -> UsageError:
    return UsageError(
        f"{model} {why}, which no cost is known of.",
        "Decoders of text can be: Llama, Qwen, Mistral, Gemma, mixtures of experts, hybrids.",
    )


class _Layer(NamedTuple):
    """The attention of one layer.

    cached: whether it has a KV cache of its own; if not, it reads that of an earlier layer.
    head_size: of the keys in the cache. kv_values: what the cache has of a token.
    width, compressed_width: as in `Sizes`, of this layer. state: whether it has a state instead.
    """

    windowed: bool
    cached: bool
    kv_heads: int
    head_size: int
    kv_values: int
    width: float
    compressed_width: float = 0.0
    state: bool = False


_BARE = _Layer(False, False, 0, 0, 0, 0.0)
"""Where a layer is one half of what it is elsewhere (Nemotron-H)."""
_STATE = _BARE._replace(state=True)
_NO_ATTENTION = {"linear_attention": _STATE, "conv": _STATE, "mlp": _BARE, "moe": _BARE}
"""Layers by their kind."""


def _layers(model: Any) -> list[_Layer]:
    """The attention of each layer. Raises UsageError for a kind that no cost is known of."""
    text, window = model.hf_text_config, model.get_sliding_window()
    count = int(text.num_hidden_layers)
    kinds = list(getattr(text, "layer_types", None) or [_WINDOWED] * count)
    if model.use_mla:
        compressed = _compressed(text)
        return [_NO_ATTENTION.get(kind, compressed) for kind in kinds[:count]]
    if strange := sorted(set(kinds) - {_FULL, _WINDOWED, *_NO_ATTENTION}):
        raise _unsuitable(model.model, f"has layers of {strange[0]}")
    if model.is_hybrid and not any(_NO_ATTENTION.get(kind, _BARE).state for kind in kinds):
        raise _unsuitable(model.model, "has layers that are not attention")
    # The last layers of Gemma 3n and 4 read the KV cache of an earlier layer of their kind.
    own_caches = count - int(getattr(text, "num_kv_shared_layers", 0) or 0)
    layers = []
    for i, kind in enumerate(kinds[:count]):
        if kind in _NO_ATTENTION:
            layers.append(_NO_ATTENTION[kind])
            continue
        kv_heads, head_size = _heads_of_layer(model, i, full=kind == _FULL)
        # Without a window (--disable-sliding-window) such a layer has full attention.
        windowed = kind == _WINDOWED and bool(window)
        width = int(text.num_attention_heads) * head_size
        kv_values = 2 * kv_heads * head_size
        layers.append(_Layer(windowed, i < own_caches, kv_heads, head_size, kv_values, width))
    return layers


def _compressed(text: Any) -> _Layer:
    """A layer of multi-head latent attention, as vLLM computes it: prompts with keys and values of
    each head, decodes on the latent vectors that the cache has, which all heads share.

    DeepSeek-AI, "DeepSeek-V2", arXiv:2405.04434, section 2.1.
    """
    latent, rotated = int(text.kv_lora_rank), int(text.qk_rope_head_dim)
    keys, values = int(text.qk_nope_head_dim) + rotated, int(text.v_head_dim)
    heads, cached = int(text.num_attention_heads), latent + rotated
    # Half of the two products: scores over keys, and a weighted sum of values.
    width, compressed_width = heads * (keys + values) / 2, heads * (cached + latent) / 2
    return _Layer(False, True, 1, cached, cached, width, compressed_width)


def _heads_of_layer(model: Any, index: int, *, full: bool) -> tuple[int, int]:
    """Number and size of the key and value heads of one layer; they may depend on its kind."""
    text = model.hf_text_config
    kv_heads, head_size = model.get_total_num_kv_heads(), model.get_head_size()
    if "global_head_dim" not in vars(text) and not getattr(text, "is_heterogeneous", False):
        return int(kv_heads), int(head_size)
    each = getattr(text, "per_layer_config", None)
    if each is not None:
        own = each[index]
        return int(own.num_key_value_heads), int(own.head_dim)
    # The names in transformers before 5.
    if not full:
        return int(text.num_key_value_heads), int(text.head_dim)
    more = getattr(text, "attention_k_eq_v", True) and text.num_global_key_value_heads
    return int(more or text.num_key_value_heads), int(text.global_head_dim)


def _widest(text: Any) -> int:
    """The largest inner size of the layers; the configuration has one for all or one for each."""
    size = getattr(text, "intermediate_size", 0) or 4 * text.hidden_size
    return int(max(size) if isinstance(size, list | tuple) else size)


def _kv_dtype(config: Any) -> Any:
    import torch

    name, model = str(config.cache_config.cache_dtype), config.model_config
    if name == "auto":
        return model.dtype
    if name.startswith(("fp8", "int8")):
        return torch.uint8
    dtype = getattr(torch, {"half": "float16", "float": "float32"}.get(name, name), None)
    if not isinstance(dtype, torch.dtype):
        raise UsageError(f"A KV cache of {name} cannot be simulated.", "Known: auto, fp8.")
    return dtype


def _matrices(model: Any) -> tuple[float, bool]:
    """Bits per parameter of a matrix, and whether it is multiplied in fp8.

    Raises UsageError for an unknown quantization.
    """
    name = model.quantization
    if not name:
        return 8.0 * model.dtype.itemsize, False
    given = getattr(model.hf_config, "quantization_config", None) or {}
    groups = given.get("config_groups") or {}
    if precisions := {_bits_of_group(group) for group in groups.values()}:
        precisions.discard(None)
        if len(precisions) > 1:
            raise UsageError(
                f"{model.model} has matrices of more than one precision, which cannot be simulated."
            )
        for precision in precisions:
            if precision is not None:
                return precision
    if name in _FP8_BITS:
        return _FP8_BITS[name], True
    if name in _WEIGHT_ONLY_BITS:
        return _bits_of_method(given) or _WEIGHT_ONLY_BITS[name], False
    known = ", ".join((*_FP8_BITS, *_WEIGHT_ONLY_BITS))
    raise UsageError(f"The quantization {name} cannot be simulated.", f"Known: {known}.")


def _bits_of_group(group: Mapping[str, Any] | None) -> tuple[float, bool] | None:
    """The same for a group of compressed-tensors or ModelOpt; None if weights are unquantized."""
    weights, inputs = ((group or {}).get(key) or {} for key in ("weights", "input_activations"))
    bits = weights.get("num_bits")
    if not bits:
        return None
    total = float(bits)
    # Scales for each channel or block of 128 × 128 are negligible.
    if (size := weights.get("group_size")) and size > 0:
        total += _scale_bits(weights) / size
        # The zero point of an asymmetric group, spread over its values.
        total += 0 if weights.get("symmetric", True) else bits / size
    return total, bits == 8 and weights.get("type") == inputs.get("type") == "float"


def _scale_bits(weights: Mapping[str, Any]) -> int:
    """Bits of a group's scale: as configured, else by its format (NVFP4 and MX: one byte)."""
    dtype = str(weights.get("scale_dtype") or "")
    if match := re.search(r"(?:float|int|bfloat|f)(\d+)", dtype):
        return int(match[1])
    return 8 if weights.get("type") == "float" else 16


def _bits_of_method(given: Mapping[str, Any]) -> float | None:
    """Bits per parameter of a method with its own bits and group size (AWQ, GPTQ); None without.

    Each group has a zero point.
    """
    bits = given.get("bits") or given.get("w_bit")
    if not bits:
        return None
    size = given.get("group_size") or given.get("q_group_size") or 0
    # -1: one scale for each channel, which is negligible.
    return float(bits) + ((16 + bits) / size if size > 0 else 0)


def _experts_used(text: Any) -> int:
    known = ("num_experts_per_tok", "num_experts_per_token", "top_k_experts", "moe_top_k", "top_k")
    # Other models use other names; the pattern matches counts of experts for each token.
    others = [name for name in vars(text) if _USED.search(name)]
    for name in (*known, *others):
        count = getattr(text, name, None)
        if isinstance(count, int) and count > 0:
            return count
    raise UsageError("How many experts a token goes through is not in the model's configuration.")


class _Counted:
    """Numbers of a model's parameters by their role.

    vectors: norms and biases, which are never quantized.
    """

    def __init__(self, hf_config: Any) -> None:
        self.parameters = self.embedding = self.head = self.experts = self.vectors = 0
        looked_up = 0
        for name, parameter in _parameters(hf_config):
            count = parameter.numel()
            self.parameters += count
            if "embed_tokens_per_layer" in name:
                looked_up += count
            elif "embed_tokens" in name or "wte" in name or name.endswith("embeddings.weight"):
                self.embedding += count
            elif "lm_head" in name or "embed_out" in name:
                self.head += count
            elif parameter.dim() < 2:
                self.vectors += count
            elif ".experts." in name:
                self.experts += count
        if not self.head:
            # Tied: one table in memory is both the embedding and the output head.
            self.head, self.embedding = self.embedding, 0
        # Embedding tables of single layers are never the output head.
        self.embedding += looked_up


def _parameters(hf_config: Any) -> Iterator[tuple[str, Any]]:
    import torch
    from transformers import AutoModelForCausalLM

    try:
        with torch.device("meta"):
            model: Any = AutoModelForCausalLM.from_config(hf_config)
    except (ValueError, ImportError, KeyError) as error:
        raise UsageError(
            f"transformers does not know the model type {hf_config.model_type!r}, so its "
            "parameters cannot be counted.",
            "A model that transformers knows can be simulated.",
        ) from error
    yield from model.named_parameters()
