"""Reads the figures of one GPU from AMD SMI. Runs on the GPU thread.

Its answers are dictionaries whose keys differ between releases (those of ROCm 6.0 to 7.0 are known
here). "N/A" or the greatest number stands for a figure that is not offered.
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
    """A dictionary of AMD SMI's; a failed answer, which is no dictionary, counts as empty."""

    def __init__(self, answer: Any) -> None:
        self._values: Mapping[str, Any] = answer if isinstance(answer, Mapping) else {}

    def get(self, key: str) -> Any:
        """The value of a key, of any type; None without one."""
        return self._values.get(key)

    def number(self, *keys: str) -> float | None:
        """The number under the first key that has one; None without one."""
        for value in map(self._values.get, keys):
            offered = isinstance(value, int | float) and not isinstance(value, bool)
            if offered and value not in _NOT_OFFERED:
                return value
        return None

    def text(self, key: str) -> str:
        """The printable text of a key; empty without one."""
        value = self._values.get(key)
        return printable(value) if isinstance(value, str) and value != "N/A" else ""


def sampled(smi: Queries, gpu: Any, usage: Usage, bare: GpuSample) -> GpuSample:
    """`bare` with the figures that the GPU offers."""

    def ask(query: str, *args: Any) -> Answer:
        return Answer(smi.ask(query, gpu, *args))

    memory, power = ask("amdsmi_get_gpu_vram_usage"), ask("amdsmi_get_power_info")
    clock = ask("amdsmi_get_clock_info", smi.constant("AmdSmiClkType.GFX"))
    mem_clock = ask("amdsmi_get_clock_info", smi.constant("AmdSmiClkType.MEM"))
    errors = ask("amdsmi_get_gpu_total_ecc_count")
    util = ask("amdsmi_get_gpu_activity").number("gfx_activity")
    return replace(
        bare,
        util_frac=None if util is None else util / 100,
        mem_used_bytes=_times(memory.number("vram_used"), _MIB),
        mem_total_bytes=_times(memory.number("vram_total"), _MIB),
        # The keys of ROCm 7, of the MI300 before ROCm 7, and of older boards.
        power_w=power.number("socket_power", "current_socket_power", "average_socket_power"),
        power_limit_w=_watts(ask("amdsmi_get_power_cap_info").number("power_cap")),
        temp_c=_temperature(smi, gpu),
        sm_clock_mhz=clock.number("clk", "cur_clk"),
        sm_clock_max_mhz=clock.number("max_clk"),
        mem_clock_mhz=mem_clock.number("clk", "cur_clk"),
        energy_j=_energy(ask("amdsmi_get_energy_count")),
        mem_ours_bytes=usage.ours_bytes,
        mem_others_bytes=usage.others_bytes,
        process_count=usage.processes,
        processes=usage.biggest,
        ecc_corrected=_count(errors.number("correctable_count")),
        ecc_uncorrected=_count(errors.number("uncorrectable_count")),
    )


def listed(smi: Queries, gpu: Any) -> Listed | None:
    """The processes on a GPU; None if AMD SMI does not list them."""
    answers = smi.ask("amdsmi_get_gpu_process_list", gpu)
    if not isinstance(answers, list):
        return None
    processes = []
    for process in (Answer(each) for each in answers):
        pid = process.get("pid")
        size = Answer(process.get("memory_usage")).number("vram_mem")
        # A process that has opened the driver is listed for every GPU, mostly with no memory.
        if isinstance(pid, int) and size != 0:
            processes.append((pid, size, process.text("name")))
    return processes


def _temperature(smi: Queries, gpu: Any) -> float | None:
    """Temperature of the edge of the die, in °C; Instinct boards offer only the hottest spot."""
    now = smi.constant("AmdSmiTemperatureMetric.CURRENT")
    for place in ("EDGE", "HOTSPOT", "JUNCTION"):
        kind = smi.constant(f"AmdSmiTemperatureType.{place}")
        answer = {"temp": smi.ask("amdsmi_get_temp_metric", gpu, kind, now)}
        if (temp_c := Answer(answer).number("temp")) is not None:
            return temp_c
    return None


def _energy(answer: Answer) -> float | None:
    """Energy in J: steps of a counter × microjoules a step."""
    steps = answer.number("energy_accumulator", "power")
    step_uj = answer.number("counter_resolution")
    return None if steps is None or step_uj is None else steps * step_uj / 1e6


def _watts(value: float | None) -> float | None:
    """The power cap in W. By amdsmi.h it is in µW on Linux and in W on a hypervisor's host."""
    return value / 1e6 if value is not None and value > 10_000 else value


def _times(value: float | None, unit: int) -> float | None:
    return None if value is None else value * unit


def _count(value: float | None) -> int | None:
    return None if value is None else int(value)
