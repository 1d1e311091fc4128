"""Layers with a state of fixed size instead of a KV cache (Mamba, gated delta nets), as vLLM lays
them out: a state takes a block of the KV cache, so blocks are as large as a state.

Engine thread; importing this module does not import vLLM.
"""

from __future__ import annotations

import dataclasses
from math import prod
from typing import Any, NamedTuple

from tputtui.errors import UsageError

__all__ = ["State", "lay_out", "state_of", "state_spec"]


_MAMBA_2 = ("mamba_n_heads", "mamba_num_heads")
"""Names of what only configurations of models with Mamba 2 have."""
_CHECKPOINT: dict[str, Any] = {
    "num_prefill_checkpoint_blocks": 1,
    "prefill_checkpoint_alignment": 1,
}


class State(NamedTuple):
    """What one layer keeps of a sequence on one device: shapes and types of its tensors."""

    shapes: tuple[tuple[int, ...], ...]
    dtypes: tuple[Any, ...]

    @property
    def bytes(self) -> int:
        """Bytes of all tensors."""
        pairs = zip(self.shapes, self.dtypes, strict=True)
        return sum(prod(shape) * int(dtype.itemsize) for shape, dtype in pairs)

    @property
    def values(self) -> int:
        """Values of the largest tensor: the state proper, beside the inputs of a convolution."""
        return max(prod(shape) for shape in self.shapes)


def state_of(config: Any) -> State:
    """The state of a layer of the model of a `VllmConfig`, which has some.

    Raises UsageError where vLLM does not tell it.
    """
    from vllm.model_executor.models import ModelRegistry

    model = config.model_config
    known, _ = ModelRegistry.resolve_model_cls(model.architecture, model_config=model)
    if not hasattr(known, "get_mamba_state_shape_from_config"):
        raise UsageError(
            f"How large the states of {model.model} are is not in this vLLM.",
            "Qwen3-Next, Granite 4 and Nemotron 3 can be simulated.",
        )
    try:
        shapes = known.get_mamba_state_shape_from_config(config)
        dtypes = tuple(known.get_mamba_state_dtype_from_config(config))
    except (AttributeError, TypeError) as error:
        raise UsageError(
            f"The configuration of {model.model} does not tell how large its states are.",
            str(error),
        ) from error
    return State(tuple(tuple(int(size) for size in shape) for shape in shapes), dtypes)


def state_spec(config: Any) -> Any:
    """vLLM's `KVCacheSpec` of such a layer, after `lay_out`."""
    from vllm.v1.kv_cache_interface import MambaSpec

    cache, state = config.cache_config, state_of(config)
    text = config.model_config.hf_text_config
    # Read in 0.32: Mamba 2 keeps one state more of a prompt, at any token (`MambaMixer2`).
    known = {each.name for each in dataclasses.fields(MambaSpec)}
    mamba_2 = known & _CHECKPOINT.keys() and any(hasattr(text, name) for name in _MAMBA_2)
    return MambaSpec(
        shapes=state.shapes,
        dtypes=state.dtypes,
        block_size=cache.mamba_block_size,
        page_size_padded=cache.mamba_page_size_padded,
        mamba_cache_mode=cache.mamba_cache_mode,
        **(_CHECKPOINT if mamba_2 else {}),
    )


def lay_out(config: Any) -> None:
    """Make the blocks of a `VllmConfig` as large as a state.

    vLLM does so in its workers, which know the kernels. Raises UsageError as `state_of` does, and
    where this vLLM does it elsewhere.
    """
    from vllm.platforms import current_platform

    state_of(config)
    # A platform has None for whatever it does not know.
    if (align := getattr(current_platform, "_align_hybrid_block_size", None)) is None:
        raise UsageError(
            "Models with states cannot be simulated on this vLLM.", "On 0.32 they can."
        )
    align(config, _Kernels)
    config.validate_block_size()


class _Kernels:
    """An attention backend as far as the layout asks for it: that of most GPUs (FlashAttention)."""

    @staticmethod
    def get_supported_kernel_block_sizes() -> list[Any]:
        from vllm.v1.attention.backend import MultipleOf

        return [MultipleOf(16)]

    @staticmethod
    def customize_spec(spec: Any) -> Any:
        return spec
