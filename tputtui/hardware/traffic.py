"""Traffic over PCIe and NVLink into and out of each GPU. Runs on the GPU thread."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from tputtui.hardware.queries import Queries

_ALL_LINKS = 0xFFFFFFFF
"""The scope of a field that sums over all links; without a scope NVML reads link 0 only."""


class Flow(NamedTuple):
    """Bytes per second into (rx) and out of (tx) one GPU; None if the driver does not offer it."""

    pcie_rx: float | None = None
    pcie_tx: float | None = None
    nvlink_rx: float | None = None
    nvlink_tx: float | None = None


class Traffic:
    """Reads traffic from an open NVML; `clock` is in seconds.

    NVML measures PCIe during the call, for about 20 ms a direction. So each reading asks one GPU,
    round robin, and the others keep their last values. (NVML's byte counters would cost nothing,
    but wrap at an undocumented width: at tens of GB/s several times between two readings.)
    The driver counts NVLink bytes, so that rate is exact over the time between two readings.
    """

    def __init__(self, nvml: Queries, clock: Callable[[], float]) -> None:
        self._nvml = nvml
        self._clock = clock
        self._asked = -1
        self._pcie: dict[int, tuple[float | None, float | None]] = {}
        self._links: dict[int, tuple[float, tuple[int, int]]] = {}

    def read(self, gpus: Sequence[Any]) -> list[Flow]:
        """The flow of each GPU; a handle of None is a lost GPU."""
        if gpus:
            self._asked = (self._asked + 1) % len(gpus)
            self._pcie[self._asked] = self._ask_pcie(gpus[self._asked])
        flows = []
        for index, gpu in enumerate(gpus):
            if gpu is None:
                self._pcie.pop(index, None)
            rx, tx = self._pcie.get(index, (None, None))
            flows.append(Flow(rx, tx, *self._nvlink(index, gpu)))
        return flows

    def _ask_pcie(self, gpu: Any) -> tuple[float | None, float | None]:
        rx, tx = (
            self._nvml.ask("nvmlDeviceGetPcieThroughput", gpu, self._nvml.constant(counter))
            for counter in ("NVML_PCIE_UTIL_RX_BYTES", "NVML_PCIE_UTIL_TX_BYTES")
        )
        # NVML's unit is KB/s.
        return (None if rx is None else rx * 1000, None if tx is None else tx * 1000)

    def _nvlink(self, index: int, gpu: Any) -> tuple[float | None, float | None]:
        before = self._links.pop(index, None)
        fields = [
            (self._nvml.constant(f"NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_{way}"), _ALL_LINKS)
            for way in ("RX", "TX")
        ]
        answers = self._nvml.ask("nvmlDeviceGetFieldValues", gpu, fields)
        if answers is None or any(field.nvmlReturn != 0 for field in answers):
            return None, None
        now_s = self._clock()
        rx_kib, tx_kib = (int(field.value.ullVal) for field in answers)
        self._links[index] = now_s, (rx_kib, tx_kib)
        if before is None or now_s <= before[0]:
            return None, None
        took_s = now_s - before[0]
        # A counter that has decreased was reset, so the traffic is unknown.
        rx, tx = (
            round((new - old) * 1024 / took_s) if new >= old else None
            for new, old in zip((rx_kib, tx_kib), before[1], strict=True)
        )
        return rx, tx
