"""The time of a step on a device, by the roofline of its datasheet. Pure.

Williams, Waterman, Patterson, "Roofline: an insightful visual performance model for multicore
architectures", CACM 52(4), 2009: arithmetic and memory reads overlap, so a part of the step takes
the longer of both. The parts (matrices, attention, communication) follow one another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from tputtui.simulate.devices import Device
from tputtui.simulate.sizes import Sizes
from tputtui.simulate.work import Work

__all__ = ["Cost", "Roofline"]

COMPUTE_REACHED, BANDWIDTH_REACHED = 0.7, 0.8
"""Shares of the datasheet's peaks that large matrix products and reads reach: assumptions."""
ATTENTION_REACHED = 0.5
"""Share of the peak rate that the attention of a prefill reaches: an assumption."""
STATE_PRODUCTS = 3
"""Products for each value of a state and token: with the key, the update, with the query (Yang,
Kautz, Hatamizadeh, "Gated delta networks", arXiv:2412.06464, equation 10)."""
LINK_REACHED = 0.7
LAYER_S = 12e-6
"""Time to start and end a layer's kernels in a CUDA graph: an assumption."""
STEP_S = 0.3e-3
"""Time of sampling and of copies to and from the host: an assumption."""
HOP_S = 8e-6
"""Time of an all-reduce with almost no data: an assumption."""
HOST_S, HOST_SEQUENCE_S = 0.5e-3, 12e-6
"""Time of vLLM's Python for a step and for a sequence in it, on a server's CPU: assumptions."""


class Cost(Protocol):
    """The times of steps and requests, in s."""

    def device_s(self, work: Work) -> float:
        """Time of the device for a step."""

    def host_s(self, work: Work) -> float:
        """Time of vLLM's Python for a step."""

    def submit_s(self) -> float:
        """Time of vLLM's Python to accept one request."""

    @property
    def spread(self) -> Sequence[float]:
        """Equally likely factors by which steps of the same work differ; 1 on average."""


@dataclass(frozen=True, slots=True)
class Roofline:
    """Times by a datasheet, on ranks × stages copies of `device`."""

    device: Device
    sizes: Sizes

    def device_s(self, work: Work) -> float:
        """Time of all pipeline stages together, in s."""
        if not work.tokens:
            return 0.0
        return (
            STEP_S
            + self.sizes.layers * LAYER_S
            + self._matrices_s(work)
            + self._attention_s(work)
            + self._states_s(work)
            + self._communication_s(work)
        )

    def host_s(self, work: Work) -> float:
        """An assumption: no datasheet contains it."""
        return HOST_S + HOST_SEQUENCE_S * work.sequences

    def submit_s(self) -> float:
        """Zero: other threads of a server do this work."""
        return 0.0

    @property
    def spread(self) -> Sequence[float]:
        """Always 1: no datasheet contains the spread."""
        return (1.0,)

    # -- parts -----------------------------------------------------------------------------

    @property
    def _bytes_per_s(self) -> float:
        return self.device.bandwidth_gbs * 1e9 * BANDWIDTH_REACHED

    def _matrices_s(self, work: Work) -> float:
        sizes, device = self.sizes, self.device
        peak = device.fp8_tflops if sizes.fp8_matrices and device.fp8_tflops else device.bf16_tflops
        products = sizes.active_parameters * work.tokens + sizes.head_parameters * work.sequences
        compute_s = 2 * products / (peak * 1e12 * COMPUTE_REACHED)
        experts = sizes.expert_parameters * sizes.matrix_bytes * sizes.touched(work.tokens)
        memory_s = (sizes.read_bytes + experts) / self._bytes_per_s
        return max(compute_s, memory_s) / sizes.ranks

    def _attention_s(self, work: Work) -> float:
        sizes = self.sizes
        seen = work.decode_context
        windowed = min(seen, work.decodes * sizes.window)
        read = sizes.kv_bytes * (seen * (1 - sizes.windowed) + windowed * sizes.windowed)
        rate = self.device.bf16_tflops * 1e12 * ATTENTION_REACHED
        # Without a compressed cache, reading it takes longer than its arithmetic on every device.
        decode_s = max(
            read / self._bytes_per_s / sizes.kv_ranks,
            4 * sizes.compressed_width * seen / rate / sizes.ranks,
        )
        # Two products: the scores, and the weighted sum of values.
        near = min(work.prefill_pairs, float(work.prefill_tokens) * sizes.window)
        full_width = sizes.attention_width - sizes.windowed_width
        products = full_width * work.prefill_pairs + sizes.windowed_width * near
        return decode_s + 4 * products / rate / sizes.ranks

    def _states_s(self, work: Work) -> float:
        """Layers without attention: each sequence's state is read and written once in a step."""
        sizes = self.sizes
        moved_s = 2 * sizes.state_bytes * work.sequences / self._bytes_per_s
        rate = self.device.bf16_tflops * 1e12 * ATTENTION_REACHED
        products_s = 2 * STATE_PRODUCTS * sizes.state_values * work.tokens / rate
        return max(moved_s, products_s) / sizes.ranks

    def _communication_s(self, work: Work) -> float:
        sizes, ranks = self.sizes, self.sizes.ranks
        if ranks == 1:
            return 0.0
        # Two all-reduces per layer; a ring sends 2 (n - 1) / n of the data over each link.
        sent = 2 * (ranks - 1) / ranks * work.tokens * sizes.hidden * sizes.dtype_bytes
        return 2 * sizes.layers * (HOP_S + sent / (self.device.link_gbs * 1e9 * LINK_REACHED))
