"""KV cache size of a device that is not in this machine. Pure."""

from __future__ import annotations

from tputtui.errors import EngineError
from tputtui.simulate.devices import Device
from tputtui.simulate.sizes import Sizes

__all__ = ["kv_bytes_available"]

_GIB = 2**30
_OTHER = 1.0 * _GIB
"""Bytes of libraries, their workspaces and gaps: the unexplained rest in three start logs of vLLM
(Llama 3.1 8B on an A100 40GB, an A100 80GB and a card with 24GB: 1.0, 2.0 and 0.9 GiB)."""


def kv_bytes_available(
    device: Device, sizes: Sizes, utilization: float, max_num_seqs: int, max_num_batched_tokens: int
) -> int:
    """Bytes left on each device for its KV cache: memory × utilization - weights - activations.

    vLLM measures the peak of the activations; here it is estimated by the widest layer for a full
    step, the logits of every sequence in float32, and a constant rest. Raises EngineError if
    nothing is left.
    """
    weights = sizes.weight_bytes / sizes.ranks / sizes.stages
    wide = 4 * sizes.hidden + 3 * sizes.intermediate / sizes.ranks
    activations = max_num_batched_tokens * wide * sizes.dtype_bytes
    logits = 4 * max_num_seqs * sizes.vocabulary
    taken = weights + activations + logits + _OTHER
    left = device.memory_gib * _GIB * utilization - taken
    if left <= 0:
        needed = taken / _GIB
        raise EngineError(
            f"The model needs {needed:.0f} GiB on each of {sizes.ranks * sizes.stages} × "
            f"{device.title}, of which {device.memory_gib * utilization:.0f} GiB can be used.",
            "A greater --tensor-parallel-size, a quantization, or a device with more memory.",
        )
    return int(left)
