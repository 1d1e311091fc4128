"""XIDs: faults of a GPU that the driver reports as NVML events. Runs on the GPU thread."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

from tputtui.hardware.queries import Queries

_AT_ONCE = 64
"""The most events that one reading takes."""

# The XIDs of NVIDIA's catalogue that occur while serving, in a few words.
_WORDS = {
    13: "graphics engine exception",
    31: "memory page fault",
    43: "channel reset after a fault of the program",
    45: "channels removed after a fault",
    48: "double-bit ECC error",
    63: "row remapped",
    64: "row remapping failed",
    74: "NVLink error",
    79: "fallen off the bus",
    92: "many corrected ECC errors",
    94: "contained memory error",
    95: "uncontained memory error",
    109: "context switch timed out",
    119: "GSP does not answer",
    120: "GSP error",
    140: "unrecovered ECC error",
}


def xid_words(xid: int) -> str:
    """The meaning of an XID in a few words; empty for an unknown one."""
    return _WORDS.get(xid, "")


class XidWatch:
    """The last XID of each GPU, from the creation of this object to `close()`."""

    def __init__(self, nvml: Queries, gpus: Sequence[Any]) -> None:
        self._nvml = nvml
        self._kind = nvml.constant("nvmlEventTypeXidCriticalError")
        self._events = nvml.ask("nvmlEventSetCreate")
        self._last: dict[int, int] = {}
        self._indices: dict[int | None, int] = {}
        for index, gpu in enumerate(gpus):
            if nvml.did("nvmlDeviceRegisterEvents", gpu, self._kind, self._events):
                self._last[index] = 0
                self._indices[_address(gpu)] = index

    def read(self) -> dict[int, int]:
        """The last XID by GPU index, 0 before any; without GPUs that cannot be watched."""
        for _ in range(_AT_ONCE):
            # A timeout of 0: NVML reports "no event" as a failure, which yields None.
            event = self._nvml.ask("nvmlEventSetWait", self._events, 0)
            if event is None:
                break
            index = self._indices.get(_address(event.device))
            if index is not None and event.eventType & self._kind:
                self._last[index] = int(event.eventData)
        return self._last

    def close(self) -> None:
        """Stop watching."""
        self._nvml.did("nvmlEventSetFree", self._events)


def _address(gpu: Any) -> int | None:
    """The address that identifies a handle: NVML gives no index for a GPU that was just lost."""
    return ctypes.cast(gpu, ctypes.c_void_p).value
