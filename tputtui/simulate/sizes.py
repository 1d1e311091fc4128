"""What a model weighs and computes. Values only; who reads them off a model is in the engine."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Sizes"]


@dataclass(frozen=True, slots=True)
class Sizes:
    """A model, all of it; what a device has of it is a matter of `ranks` and `stages`.

    parameters, embedding: how many there are, and of those in the input embedding, of which a step
    reads a few rows only. expert_parameters: those in routed experts; experts, experts_used: how
    many a layer has, and how many a token goes through (0 where there are none).
    weight_bytes: of all parameters; of a matrix one parameter takes `matrix_bytes`.
    head_parameters: of the output head, which is applied to sampled tokens only.
    kv_bytes: of one token, as all layers and heads read it. windowed: the share of that which is of
    layers that see the last `window` tokens only. attention_width: query heads × head size, over
    all layers; windowed_width: over those with a window.
    ranks: of tensor parallelism. kv_ranks: what the KV cache is split by, less where heads are
    fewer. stages: of pipeline parallelism.
    """

    parameters: float
    embedding: float
    expert_parameters: float
    experts: int
    experts_used: int
    head_parameters: float
    weight_bytes: float
    matrix_bytes: float
    fp8_matrices: bool
    kv_bytes: float
    windowed: float
    window: int
    attention_width: float
    layers: int
    hidden: int
    intermediate: int
    vocabulary: int
    dtype_bytes: int
    ranks: int = 1
    kv_ranks: int = 1
    stages: int = 1
    windowed_width: float = 0.0

    @property
    def read_bytes(self) -> float:
        """Of the weights that every step reads whole: all but the embedding and the experts."""
        rows = self.embedding * self.dtype_bytes
        return self.weight_bytes - rows - self.expert_parameters * self.matrix_bytes

    @property
    def active_parameters(self) -> float:
        """Those that a token is multiplied with, the output head left out."""
        share = self.experts_used / self.experts if self.experts else 0.0
        dense = self.parameters - self.embedding - self.head_parameters - self.expert_parameters
        return dense + self.expert_parameters * share

    def touched(self, tokens: int) -> float:
        """The share of experts that `tokens` tokens go through, were each as likely."""
        if not self.experts:
            return 0.0
        missed = 1 - self.experts_used / self.experts
        return float(1 - missed**tokens)
