"""What is known of one GPU at one moment. Values only; NVML and AMD SMI fill them in alike."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class GpuProcess:
    """One process on one GPU.

    `name` is the kernel's (15 characters at most), empty for a process that cannot be seen from
    here. `ours` says whether it is this process or descends from it; None when that cannot be told.
    """

    pid: int
    name: str = ""
    mem_bytes: float | None = None
    ours: bool | None = None


@dataclass(frozen=True, slots=True)
class MigInstance:
    """A part of a GPU that MIG has cut off; `name` is its profile, such as 1g.10gb."""

    name: str
    mem_used_bytes: float | None = None
    mem_total_bytes: float | None = None


@dataclass(frozen=True, slots=True)
class GpuSample:
    """One GPU at one moment; None in a field means that the driver does not offer it.

    Memory in use counts what the driver reserves, so total - used is what is free; `mem_ours_bytes`
    and `mem_others_bytes` are what this process with its descendants holds, and what others do.
    `processes` are the biggest of `process_count`.
    Power is what the driver averages (about a second on most boards); `energy_j` counts joules
    since the driver was loaded, so the difference of two samples is the energy between them.
    `throttle` is empty when neither heat nor power holds the clocks down. `visible` is False for a
    GPU that CUDA_VISIBLE_DEVICES leaves out.
    Traffic is seen from the GPU (rx: into it). ECC errors are counted since the driver was loaded.
    `xid` is the last fault that the driver reported since it is watched, 0 before there is one.
    `mig` says whether MIG is on; `mig_instances` are what it has been cut into.
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
    mem_ours_bytes: float | None = None
    mem_others_bytes: float | None = None
    process_count: int | None = None
    processes: tuple[GpuProcess, ...] = ()
    pcie_rx_bytes_per_s: float | None = None
    pcie_tx_bytes_per_s: float | None = None
    nvlink_rx_bytes_per_s: float | None = None
    nvlink_tx_bytes_per_s: float | None = None
    ecc_corrected: int | None = None
    ecc_uncorrected: int | None = None
    xid: int | None = None
    mig: bool | None = None
    mig_instances: tuple[MigInstance, ...] = ()

    @property
    def lost(self) -> bool:
        """Whether it tells nothing at all: fallen off the bus, or being reset."""
        told = (self.util_frac, self.mem_used_bytes, self.power_w, self.temp_c)
        return all(value is None for value in told)
