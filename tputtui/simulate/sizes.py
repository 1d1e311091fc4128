"""Parameters and dimensions of a model. Values only; `engine/vllm/model` computes them."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Sizes"]


@dataclass(frozen=True, slots=True)
class Sizes:
    """The sizes of a whole model; `ranks` and `stages` determine the part on one device."""

    parameters: float
    """Number of all parameters."""
    embedding: float
    """Parameters of the input embedding, of which a step reads only a few rows."""
    expert_parameters: float
    """Parameters in routed experts."""
    experts: int
    """Experts in a layer; 0 without experts."""
    experts_used: int
    """Experts that a token passes through; 0 without experts."""
    head_parameters: float
    """Parameters of the output head, which only sampled tokens pass through."""
    weight_bytes: float
    """Bytes of all parameters."""
    matrix_bytes: float
    """Bytes of one parameter of a matrix."""
    fp8_matrices: bool
    """Whether matrices are multiplied in fp8."""
    kv_bytes: float
    """KV bytes of one token that attention reads, over all layers and heads."""
    windowed: float
    """Share of `kv_bytes` in layers that see only the last `window` tokens."""
    window: int
    """Tokens in the sliding window; 0 without one."""
    attention_width: float
    """Query heads × head size, summed over all layers; the mean of keys' and values' sizes."""
    layers: int
    hidden: int
    intermediate: int
    """The largest inner size of a layer."""
    vocabulary: int
    dtype_bytes: int
    """Bytes of one activation."""
    ranks: int = 1
    """Tensor-parallel size."""
    kv_ranks: int = 1
    """Ranks that the KV cache is split over; fewer than `ranks` if there are fewer KV heads."""
    stages: int = 1
    """Pipeline-parallel size."""
    windowed_width: float = 0.0
    """`attention_width` of the layers with a window."""
    compressed_width: float = 0.0
    """The same as `attention_width` for a decode on a compressed KV cache (MLA), where every head
    multiplies with the whole of what is cached; 0 without one."""
    state_bytes: float = 0.0
    """Bytes that layers without attention (Mamba, gated delta nets) keep of one sequence, on all
    ranks, whatever its length; 0 without such layers."""
    state_values: float = 0.0
    """Values in these states, without the inputs of convolutions."""

    @property
    def read_bytes(self) -> float:
        """Bytes of weights that every step reads: all except the embedding and the experts."""
        rows = self.embedding * self.dtype_bytes
        return self.weight_bytes - rows - self.expert_parameters * self.matrix_bytes

    @property
    def active_parameters(self) -> float:
        """Parameters that a token is multiplied with, without the output head."""
        share = self.experts_used / self.experts if self.experts else 0.0
        dense = self.parameters - self.embedding - self.head_parameters - self.expert_parameters
        return dense + self.expert_parameters * share

    def touched(self, tokens: int) -> float:
        """The share of experts that `tokens` tokens pass through, if all are equally likely."""
        if not self.experts:
            return 0.0
        missed = 1 - self.experts_used / self.experts
        return float(1 - missed**tokens)
