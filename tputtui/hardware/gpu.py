"""Read every NVIDIA GPU of the machine through NVML.

A driver that offers no such figure, a lost device and a machine without a GPU are ordinary states:
they show as None in a field, Nones in a sample, and an empty reading with a sentence in `status`.
Runs on the sampler's GPU thread; pynvml is imported by the first read, since that takes a while.
"""

from __future__ import annotations

import contextlib
import importlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# NVML's clocks-event reasons that mean heat or power. Hardware slowdown stands apart: it is set
# together with either of the hardware causes, and alone says only that there was one.
_THROTTLE_WORDS = (
    ("SwPowerCap", "power cap"),
    ("HwPowerBrakeSlowdown", "power brake"),
    ("SwThermalSlowdown", "thermal"),
    ("HwThermalSlowdown", "hw thermal"),
)
_HW_CAUSES = {"power brake", "hw thermal"}


@dataclass(frozen=True, slots=True)
class GpuSample:
    """One GPU at one moment; None in a field means that the driver does not offer it.

    Memory in use counts what the driver reserves, so total - used is what is free. Power is what
    the driver averages (about a second on most boards); `energy_j` counts joules since the driver
    was loaded, so the difference of two samples is the energy between them. `throttle` is empty
    when neither heat nor power holds the clocks down. `visible` is False for a GPU that
    CUDA_VISIBLE_DEVICES leaves out.
    """

    index: int
    name: str
    visible: bool = True
    util_frac: float | None = None
    mem_used_bytes: float | None = None
    mem_total_bytes: float | None = None
    power_w: float | None = None
    power_limit_w: float | None = None
    temp_c: float | None = None
    sm_clock_mhz: float | None = None
    sm_clock_max_mhz: float | None = None
    mem_clock_mhz: float | None = None
    throttle: tuple[str, ...] = ()
    energy_j: float | None = None


class GpuReader:
    """NVML opened on the first read; one thread at a time may use it.

    `status` is "ok", "no NVIDIA driver", or "NVML: " and the driver's own words. A reading that
    failed is tried anew by the next `read()`, so a driver that comes back is picked up.
    """

    def __init__(self, nvml: Any = None, environ: Mapping[str, str] = os.environ) -> None:
        """Take `nvml` (a module shaped like pynvml) instead of importing pynvml."""
        # Any: pynvml carries no types.
        self._nvml = nvml
        self._environ = environ
        self._names: tuple[str, ...] | None = None  # None while NVML is not open
        self._visible: frozenset[int] = frozenset()
        self.status = "waiting for NVML"
        self.driver_version: str | None = None

    def read(self) -> tuple[GpuSample, ...]:
        """One sample per GPU in NVML (PCI) order; () when there is none, and `status` says why."""
        if self._nvml is None:
            try:
                self._nvml = importlib.import_module("pynvml")
            except ImportError:
                self.status = "NVML: the Python package nvidia-ml-py is not installed"
                return ()
        nvml = self._nvml
        try:
            if self._names is None:
                nvml.nvmlInit()
                self._names = ()
                self.driver_version = _text(self._ask("nvmlSystemGetDriverVersion")) or None
            # Asked on every read: it fails when NVML as a whole is gone, not for one lost device.
            count: int = nvml.nvmlDeviceGetCount()
        except nvml.NVMLError as error:
            self.close()
            self.status = self._sentence(error)
            return ()
        if len(self._names) != count:
            self._identify(count)
        self.status = "ok" if count else "NVML: no GPU found"
        return tuple(self._sample(index, name) for index, name in enumerate(self._names))

    def close(self) -> None:
        """Give NVML back; a later `read()` opens it again."""
        if self._names is not None:
            self._names = None
            with contextlib.suppress(self._nvml.NVMLError):
                self._nvml.nvmlShutdown()

    def _sentence(self, error: Any) -> str:
        absent = (self._nvml.NVML_ERROR_LIBRARY_NOT_FOUND, self._nvml.NVML_ERROR_DRIVER_NOT_LOADED)
        return "no NVIDIA driver" if error.value in absent else f"NVML: {error}"

    def _identify(self, count: int) -> None:
        """Learn what stays the same while NVML is open: the names, and which GPUs CUDA shows."""
        handles = [self._ask("nvmlDeviceGetHandleByIndex", index) for index in range(count)]
        names = [_text(self._ask("nvmlDeviceGetName", handle)) for handle in handles]
        uuids = [_text(self._ask("nvmlDeviceGetUUID", handle)) for handle in handles]
        self._names = tuple(name or f"GPU {index}" for index, name in enumerate(names))
        self._visible = _visible_indices(
            self._environ.get("CUDA_VISIBLE_DEVICES"), uuids, self._mig_parent
        )

    def _mig_parent(self, uuid: str) -> int | None:
        """The index of the GPU that a MIG instance is cut from."""
        instance = self._ask("nvmlDeviceGetHandleByUUID", uuid)
        parent = self._ask("nvmlDeviceGetDeviceHandleFromMigDeviceHandle", instance)
        index: int | None = self._ask("nvmlDeviceGetIndex", parent)
        return index

    def _sample(self, index: int, name: str) -> GpuSample:
        nvml = self._nvml
        visible = index in self._visible
        # A handle for each read: one taken before a device was lost or reset stays dead.
        gpu = self._ask("nvmlDeviceGetHandleByIndex", index)
        if gpu is None:
            return GpuSample(index=index, name=name, visible=visible)
        util = self._ask("nvmlDeviceGetUtilizationRates", gpu)
        memory = self._ask("nvmlDeviceGetMemoryInfo", gpu)
        return GpuSample(
            index=index,
            name=name,
            visible=visible,
            util_frac=None if util is None else util.gpu / 100,
            mem_used_bytes=None if memory is None else memory.used,
            mem_total_bytes=None if memory is None else memory.total,
            power_w=_milli(self._ask("nvmlDeviceGetPowerUsage", gpu)),
            power_limit_w=_milli(self._ask("nvmlDeviceGetEnforcedPowerLimit", gpu)),
            temp_c=self._ask(
                "nvmlDeviceGetTemperatureV",
                gpu,
                nvml.NVML_TEMPERATURE_GPU,
                older="nvmlDeviceGetTemperature",
            ),
            sm_clock_mhz=self._ask("nvmlDeviceGetClockInfo", gpu, nvml.NVML_CLOCK_SM),
            sm_clock_max_mhz=self._ask("nvmlDeviceGetMaxClockInfo", gpu, nvml.NVML_CLOCK_SM),
            mem_clock_mhz=self._ask("nvmlDeviceGetClockInfo", gpu, nvml.NVML_CLOCK_MEM),
            throttle=self._throttle(gpu),
            energy_j=_milli(self._ask("nvmlDeviceGetTotalEnergyConsumption", gpu)),
        )

    def _throttle(self, gpu: Any) -> tuple[str, ...]:
        reasons: int | None = self._ask(
            "nvmlDeviceGetCurrentClocksEventReasons",
            gpu,
            older="nvmlDeviceGetCurrentClocksThrottleReasons",
        )
        if not reasons:
            return ()
        words = [word for reason, word in _THROTTLE_WORDS if reasons & self._reason_bit(reason)]
        if reasons & self._reason_bit("HwSlowdown") and _HW_CAUSES.isdisjoint(words):
            words.append("hw slowdown")
        return tuple(words)

    def _reason_bit(self, reason: str) -> int:
        older: int = getattr(self._nvml, f"nvmlClocksThrottleReason{reason}", 0)
        bit: int = getattr(self._nvml, f"nvmlClocksEventReason{reason}", older)
        return bit

    def _ask(self, query: str, *args: Any, older: str | None = None) -> Any:
        """What NVML answers, else what it answers to the `older` name, else None.

        A query on None (a handle that could not be had) is None as well.
        """
        if any(arg is None for arg in args):
            return None
        for name in (query, older):
            function = getattr(self._nvml, name, None) if name else None
            if function is not None:
                with contextlib.suppress(self._nvml.NVMLError):
                    return function(*args)
        return None


def _visible_indices(
    setting: str | None, uuids: Sequence[str], mig_parent: Callable[[str], int | None]
) -> frozenset[int]:
    """The GPUs that CUDA shows under CUDA_VISIBLE_DEVICES: all when unset, none when empty.

    Entries are indices (in PCI order, as vLLM asks for), GPU UUIDs or the beginnings of them, or
    MIG instances; as in CUDA, the first entry that names nothing ends the list.
    """
    if setting is None:
        return frozenset(range(len(uuids)))
    shown: set[int] = set()
    for entry in (part.strip() for part in setting.split(",")):
        index: int | None = None
        if entry.isdecimal():
            index = int(entry) if int(entry) < len(uuids) else None
        elif entry.startswith("MIG-"):
            index = mig_parent(entry)
        elif entry.startswith("GPU-"):
            index = next((i for i, uuid in enumerate(uuids) if uuid.startswith(entry)), None)
        if index is None:
            break
        shown.add(index)
    return frozenset(shown)


def _text(value: bytes | str | None) -> str:
    """NVML's text, which some pynvml releases hand out as bytes; "" for None."""
    return value.decode(errors="replace") if isinstance(value, bytes) else value or ""


def _milli(value: float | None) -> float | None:
    return None if value is None else value / 1000
