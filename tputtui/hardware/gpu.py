"""The figures of one GPU at one moment. Values only; NVML and AMD SMI fill in the same ones."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class GpuProcess:
    """One process on one GPU.

    `name` is the kernel's (15 characters at most), empty if the process is invisible from here.
    `ours`: whether it is this process or descends from it; None if that is unknown.
    """

    pid: int
    name: str = ""
    mem_bytes: float | None = None
    ours: bool | None = None


@dataclass(frozen=True, slots=True)
class MigInstance:
    """A MIG instance, which is a part of a GPU; `name` is its profile, such as 1g.10gb."""

    name: str
    mem_used_bytes: float | None = None
    mem_total_bytes: float | None = None


@dataclass(frozen=True, slots=True)
class GpuSample:
    """One GPU at one moment; None in a field means that the driver does not offer it.

    Traffic is seen from the GPU (rx: into it).
    """

    index: int
    name: str
    visible: bool = True
    """False for a GPU that CUDA_VISIBLE_DEVICES leaves out."""
    util_frac: float | None = None
    """Share of the time in which a kernel ran."""
    mem_used_bytes: float | None = None
    """Memory in use, with the driver's reserve, so total - used is free."""
    mem_total_bytes: float | None = None
    power_w: float | None = None
    """An average by the driver, over about a second on most boards."""
    power_limit_w: float | None = None
    temp_c: float | None = None
    sm_clock_mhz: float | None = None
    sm_clock_max_mhz: float | None = None
    mem_clock_mhz: float | None = None
    throttle: tuple[str, ...] = ()
    """Reasons why the clocks are held down; empty if neither heat nor power does."""
    energy_j: float | None = None
    """Joules since the driver was loaded; the difference of two samples is the energy between."""
    mem_ours_bytes: float | None = None
    """Memory of this process and its descendants."""
    mem_others_bytes: float | None = None
    """Memory of all other processes."""
    process_count: int | None = None
    processes: tuple[GpuProcess, ...] = ()
    """The biggest of all `process_count` processes."""
    pcie_rx_bytes_per_s: float | None = None
    pcie_tx_bytes_per_s: float | None = None
    nvlink_rx_bytes_per_s: float | None = None
    nvlink_tx_bytes_per_s: float | None = None
    ecc_corrected: int | None = None
    """ECC errors since the driver was loaded."""
    ecc_uncorrected: int | None = None
    """ECC errors since the driver was loaded."""
    xid: int | None = None
    """The last fault (XID) since the watch began; 0 before any."""
    mig: bool | None = None
    """Whether MIG is on."""
    mig_instances: tuple[MigInstance, ...] = ()
    """The parts into which MIG has split the GPU."""

    @property
    def lost(self) -> bool:
        """Whether it offers no figure at all: it fell off the bus, or is being reset."""
        figures = (self.util_frac, self.mem_used_bytes, self.power_w, self.temp_c)
        return all(value is None for value in figures)
