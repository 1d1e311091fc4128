"""Reads the figures of each NVIDIA GPU from an open NVML. Runs on the GPU thread.

A figure that the driver does not offer and a lost device are ordinary states: the figure is None,
and a lost device has None in every figure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tputtui.hardware.gpu import GpuSample, MigInstance
from tputtui.hardware.queries import Queries
from tputtui.hardware.traffic import Flow, Traffic
from tputtui.hardware.users import Listed, Usage, Users
from tputtui.hardware.visible import visible_indices
from tputtui.hardware.xid import XidWatch

# NVML's clocks-event reasons that mean heat or power. HwSlowdown is no entry: it is set together
# with a hardware cause; alone it only means that there was one.
_THROTTLE_WORDS = (
    ("SwPowerCap", "power cap"),
    ("HwPowerBrakeSlowdown", "power brake"),
    ("SwThermalSlowdown", "thermal"),
    ("HwThermalSlowdown", "hw thermal"),
)
_HW_CAUSES = {"power brake", "hw thermal"}


class NvidiaGpus:
    """The `count` GPUs of an open NVML, in its (PCI) order."""

    def __init__(
        self,
        nvml: Queries,
        count: int,
        environ: Mapping[str, str],
        clock: Callable[[], float],
        users: Users,
    ) -> None:
        self.count = count
        self._nvml = nvml
        self._users = users
        handles = [nvml.ask("nvmlDeviceGetHandleByIndex", index) for index in range(count)]
        names = [text(nvml.ask("nvmlDeviceGetName", handle)) for handle in handles]
        uuids = [text(nvml.ask("nvmlDeviceGetUUID", handle)) for handle in handles]
        self._names = tuple(name or f"GPU {index}" for index, name in enumerate(names))
        self._visible = visible_indices(
            environ.get("CUDA_VISIBLE_DEVICES"), uuids, self._mig_parent
        )
        self._traffic = Traffic(nvml, clock)
        self._xids = XidWatch(nvml, handles)

    def read(self) -> tuple[GpuSample, ...]:
        """One sample for each GPU."""
        # New handles at each read: a handle from before a device was lost or reset stays dead.
        gpus = [self._nvml.ask("nvmlDeviceGetHandleByIndex", index) for index in range(self.count)]
        usage = self._users.by_gpu([self._listed(gpu) for gpu in gpus])
        flows = self._traffic.read(gpus)
        xids = self._xids.read()
        return tuple(
            self._sample(index, gpu, usage[index], flows[index], xids.get(index))
            for index, gpu in enumerate(gpus)
        )

    def close(self) -> None:
        """Stop watching XIDs. Call it before NVML is shut down."""
        self._xids.close()

    def _mig_parent(self, uuid: str) -> int | None:
        """The index of the GPU that a MIG instance is part of; None if unknown."""
        instance = self._nvml.ask("nvmlDeviceGetHandleByUUID", uuid)
        parent = self._nvml.ask("nvmlDeviceGetDeviceHandleFromMigDeviceHandle", instance)
        index: int | None = self._nvml.ask("nvmlDeviceGetIndex", parent)
        return index

    def _listed(self, gpu: Any) -> Listed | None:
        # Versioned names: without a version, pynvml raises another error with an older driver.
        running = self._nvml.ask(
            "nvmlDeviceGetComputeRunningProcesses_v3",
            gpu,
            older="nvmlDeviceGetComputeRunningProcesses_v2",
        )
        return None if running is None else [(each.pid, each.usedGpuMemory, "") for each in running]

    def _sample(self, index: int, gpu: Any, usage: Usage, flow: Flow, xid: int | None) -> GpuSample:
        ask, constant = self._nvml.ask, self._nvml.constant
        name, visible = self._names[index], index in self._visible
        if gpu is None:
            return GpuSample(index=index, name=name, visible=visible, xid=xid)
        util = ask("nvmlDeviceGetUtilizationRates", gpu)
        memory = ask("nvmlDeviceGetMemoryInfo", gpu)
        mig = ask("nvmlDeviceGetMigMode", gpu)
        sm, volatile = constant("NVML_CLOCK_SM"), constant("NVML_VOLATILE_ECC")
        return GpuSample(
            index=index,
            name=name,
            visible=visible,
            util_frac=None if util is None else util.gpu / 100,
            mem_used_bytes=None if memory is None else memory.used,
            mem_total_bytes=None if memory is None else memory.total,
            power_w=_milli(ask("nvmlDeviceGetPowerUsage", gpu)),
            power_limit_w=_milli(ask("nvmlDeviceGetEnforcedPowerLimit", gpu)),
            temp_c=ask(
                "nvmlDeviceGetTemperatureV",
                gpu,
                constant("NVML_TEMPERATURE_GPU"),
                older="nvmlDeviceGetTemperature",
            ),
            sm_clock_mhz=ask("nvmlDeviceGetClockInfo", gpu, sm),
            sm_clock_max_mhz=ask("nvmlDeviceGetMaxClockInfo", gpu, sm),
            mem_clock_mhz=ask("nvmlDeviceGetClockInfo", gpu, constant("NVML_CLOCK_MEM")),
            throttle=self._throttle(gpu),
            energy_j=_milli(ask("nvmlDeviceGetTotalEnergyConsumption", gpu)),
            mem_ours_bytes=usage.ours_bytes,
            mem_others_bytes=usage.others_bytes,
            process_count=usage.processes,
            processes=usage.biggest,
            pcie_rx_bytes_per_s=flow.pcie_rx,
            pcie_tx_bytes_per_s=flow.pcie_tx,
            nvlink_rx_bytes_per_s=flow.nvlink_rx,
            nvlink_tx_bytes_per_s=flow.nvlink_tx,
            # Volatile: since the driver was loaded. Errors over the whole life of a board say
            # nothing about this run.
            ecc_corrected=ask(
                "nvmlDeviceGetTotalEccErrors",
                gpu,
                constant("NVML_MEMORY_ERROR_TYPE_CORRECTED"),
                volatile,
            ),
            ecc_uncorrected=ask(
                "nvmlDeviceGetTotalEccErrors",
                gpu,
                constant("NVML_MEMORY_ERROR_TYPE_UNCORRECTED"),
                volatile,
            ),
            xid=xid,
            mig=None if mig is None else bool(mig[0]),
            mig_instances=self._instances(gpu) if mig is not None and mig[0] else (),
        )

    def _throttle(self, gpu: Any) -> tuple[str, ...]:
        reasons: int | None = self._nvml.ask(
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
        bit = self._nvml.constant(f"nvmlClocksEventReason{reason}")
        older = self._nvml.constant(f"nvmlClocksThrottleReason{reason}")
        return int(bit or older or 0)

    def _instances(self, gpu: Any) -> tuple[MigInstance, ...]:
        instances = []
        for slot in range(self._nvml.ask("nvmlDeviceGetMaxMigDeviceCount", gpu) or 0):
            instance = self._nvml.ask("nvmlDeviceGetMigDeviceHandleByIndex", gpu, slot)
            if instance is None:
                continue  # an empty slot
            # "NVIDIA H100 80GB HBM3 MIG 1g.10gb"
            name = text(self._nvml.ask("nvmlDeviceGetName", instance)).rpartition("MIG ")[2]
            memory = self._nvml.ask("nvmlDeviceGetMemoryInfo", instance)
            instances.append(
                MigInstance(
                    name=name or f"slot {slot}",
                    mem_used_bytes=None if memory is None else memory.used,
                    mem_total_bytes=None if memory is None else memory.total,
                )
            )
        return tuple(instances)


def text(value: bytes | str | None) -> str:
    """NVML's text, which some pynvml releases return as bytes; "" for None."""
    return value.decode(errors="replace") if isinstance(value, bytes) else value or ""


def _milli(value: float | None) -> float | None:
    return None if value is None else value / 1000
