"""What AMD SMI tells of one GPU. Runs on the GPU thread.

Its answers are dictionaries whose keys have changed from release to release (those of ROCm 6.0 to
7.0 are known here), and in which "N/A" or the greatest number stands for what is not offered.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tputtui.hardware.gpu import GpuSample
from tputtui.hardware.queries import Queries
from tputtui.hardware.users import Listed, Usage, printable

__all__ = ["Answer", "listed", "sampled"]

_NOT_OFFERED = (0xFFFF, 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF)
_MIB = 2**20


class Answer:
    """A dictionary of AMD SMI's; what is none (an answer that failed) tells nothing."""

    def __init__(self, told: Any) -> None:
        self._told: Mapping[str, Any] = told if isinstance(told, Mapping) else {}

    def get(self, key: str) -> Any:
        """What stands there, whatever it is."""
        return self._told.get(key)

    def number(self, *keys: str) -> float | None:
        """The first of the keys under which there is one."""
        for value in map(self._told.get, keys):
            offered = isinstance(value, int | float) and not isinstance(value, bool)
            if offered and value not in _NOT_OFFERED:
                return value
        return None

    def text(self, key: str) -> str:
        """Printable text, empty where there is none."""
        value = self._told.get(key)
        return printable(value) if isinstance(value, str) and value != "N/A" else ""


def sampled(smi: Queries, gpu: Any, usage: Usage, bare: GpuSample) -> GpuSample:
    """`bare` with what the GPU tells of itself."""

    def told(query: str, *args: Any) -> Answer:
        return Answer(smi.ask(query, gpu, *args))

    memory, power = told("amdsmi_get_gpu_vram_usage"), told("amdsmi_get_power_info")
    clock = told("amdsmi_get_clock_info", smi.constant("AmdSmiClkType.GFX"))
    mem_clock = told("amdsmi_get_clock_info", smi.constant("AmdSmiClkType.MEM"))
    errors = told("amdsmi_get_gpu_total_ecc_count")
    util = told("amdsmi_get_gpu_activity").number("gfx_activity")
    return replace(
        bare,
        util_frac=None if util is None else util / 100,
        mem_used_bytes=_times(memory.number("vram_used"), _MIB),
        mem_total_bytes=_times(memory.number("vram_total"), _MIB),
        # ROCm 7; the MI300 before; older boards.
        power_w=power.number("socket_power", "current_socket_power", "average_socket_power"),
        power_limit_w=_watts(told("amdsmi_get_power_cap_info").number("power_cap")),
        temp_c=_temperature(smi, gpu),
        sm_clock_mhz=clock.number("clk", "cur_clk"),
        sm_clock_max_mhz=clock.number("max_clk"),
        mem_clock_mhz=mem_clock.number("clk", "cur_clk"),
        energy_j=_energy(told("amdsmi_get_energy_count")),
        mem_ours_bytes=usage.ours_bytes,
        mem_others_bytes=usage.others_bytes,
        process_count=usage.processes,
        processes=usage.biggest,
        ecc_corrected=_count(errors.number("correctable_count")),
        ecc_uncorrected=_count(errors.number("uncorrectable_count")),
    )


def listed(smi: Queries, gpu: Any) -> Listed | None:
    """The processes on a GPU; None where they cannot be had."""
    told = smi.ask("amdsmi_get_gpu_process_list", gpu)
    if not isinstance(told, list):
        return None
    found = []
    for process in (Answer(each) for each in told):
        pid = process.get("pid")
        size = Answer(process.get("memory_usage")).number("vram_mem")
        # Whoever has opened the driver is listed for every GPU, with nothing on most of them.
        if isinstance(pid, int) and size != 0:
            found.append((pid, size, process.text("name")))
    return found


def _temperature(smi: Queries, gpu: Any) -> float | None:
    """Of the edge of the die; Instinct boards have only the hottest spot."""
    now = smi.constant("AmdSmiTemperatureMetric.CURRENT")
    for place in ("EDGE", "HOTSPOT", "JUNCTION"):
        kind = smi.constant(f"AmdSmiTemperatureType.{place}")
        answer = {"temp": smi.ask("amdsmi_get_temp_metric", gpu, kind, now)}
        if (found := Answer(answer).number("temp")) is not None:
            return found
    return None


def _energy(told: Answer) -> float | None:
    """Steps of a counter, of so many microjoules each."""
    steps = told.number("energy_accumulator", "power")
    step_uj = told.number("counter_resolution")
    return None if steps is None or step_uj is None else steps * step_uj / 1e6


def _watts(value: float | None) -> float | None:
    """amdsmi.h has the cap in microwatts on Linux, in watts on a hypervisor's host."""
    return value / 1e6 if value is not None and value > 10_000 else value


def _times(value: float | None, unit: int) -> float | None:
    return None if value is None else value * unit


def _count(value: float | None) -> int | None:
    return None if value is None else int(value)
