"""XIDs: faults of a GPU that the driver reports, as NVML's events. Runs on the GPU thread."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

from tputtui.hardware.queries import Queries

_AT_ONCE = 64
"""Events taken at one reading, however many there are."""

# From NVIDIA's catalogue of XIDs: what serving meets, in a few words.
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
    """What an XID means, in a few words; empty for one that is not known here."""
    return _WORDS.get(xid, "")


class XidWatch:
    """The last XID of each GPU, from when this is made to `close()`."""

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
        """By index of the GPU, 0 before there was one; without those that cannot be watched."""
        for _ in range(_AT_ONCE):
            # Without waiting: that there is none is a failure in NVML's eyes, too.
            event = self._nvml.ask("nvmlEventSetWait", self._events, 0)
            if event is None:
                break
            index = self._indices.get(_address(event.device))
            if index is not None and event.eventType & self._kind:
                self._last[index] = int(event.eventData)
        return self._last

    def close(self) -> None:
        """Watch no longer."""
        self._nvml.did("nvmlEventSetFree", self._events)


def _address(gpu: Any) -> int | None:
    """What tells a handle from others: a GPU that has just been lost tells its index no more."""
    return ctypes.cast(gpu, ctypes.c_void_p).value
