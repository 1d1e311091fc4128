"""AMD GPUs, through a stub with the names and the answers of amdsmi of several releases."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tputtui.hardware.amd import AmdReader
from tputtui.hardware.nvml import NO_DRIVER, NvmlReader
from tputtui.hardware.vendors import GpuReader

GIB = 2**30


class AmdSmiError(Exception):
    pass


class FakeAmdSmi:
    """Two MI300Xs behind amdsmi's names; `answers` overrides one query of one GPU."""

    AmdSmiClkType = SimpleNamespace(GFX=1, MEM=5)
    AmdSmiTemperatureType = SimpleNamespace(EDGE=0, HOTSPOT=1, VRAM=2)
    AmdSmiTemperatureMetric = SimpleNamespace(CURRENT=0)

    def __init__(self) -> None:
        self.answers: dict[object, object] = {}
        self.opened = 0
        self.failing: Exception | None = None

    def told(self, query: str, gpu: str | None, value: object) -> Any:
        value = self.answers.get((query, gpu), self.answers.get(query, value))
        if isinstance(value, Exception):
            raise value
        return value

    def amdsmi_init(self) -> None:
        if self.failing:
            raise self.failing
        self.opened += 1

    def amdsmi_shut_down(self) -> None:
        self.opened -= 1

    def amdsmi_get_processor_handles(self) -> Any:
        return self.told("handles", None, ["gpu0", "gpu1"])

    def amdsmi_get_gpu_driver_info(self, gpu: str) -> Any:
        return {"driver_name": "amdgpu", "driver_version": "6.12.12"}

    def amdsmi_get_gpu_asic_info(self, gpu: str) -> Any:
        return self.told("asic", gpu, {"market_name": "AMD Instinct MI300X"})

    def amdsmi_get_gpu_board_info(self, gpu: str) -> Any:
        return {"product_name": "AMD Instinct MI300X OAM"}

    def amdsmi_get_gpu_activity(self, gpu: str) -> Any:
        told = {"gfx_activity": 93, "umc_activity": 40, "mm_activity": "N/A"}
        return self.told("activity", gpu, told)

    def amdsmi_get_gpu_vram_usage(self, gpu: str) -> Any:
        return self.told("vram", gpu, {"vram_total": 196592, "vram_used": 102400})

    def amdsmi_get_power_info(self, gpu: str) -> Any:
        told = {"socket_power": 712, "current_socket_power": 712, "average_socket_power": "N/A"}
        return self.told("power", gpu, told)

    def amdsmi_get_power_cap_info(self, gpu: str) -> Any:
        return self.told("cap", gpu, {"power_cap": 750_000_000})

    def amdsmi_get_temp_metric(self, gpu: str, kind: int, metric: int) -> Any:
        if kind == self.AmdSmiTemperatureType.EDGE:
            raise AmdSmiError("not supported")
        return self.told("temperature", gpu, 61)

    def amdsmi_get_clock_info(self, gpu: str, kind: int) -> Any:
        told = {"clk": 2100, "max_clk": 2100} if kind == 1 else {"clk": 1300, "max_clk": 1300}
        return self.told("clock", gpu, told)

    def amdsmi_get_gpu_total_ecc_count(self, gpu: str) -> Any:
        return self.told("ecc", gpu, {"correctable_count": 4, "uncorrectable_count": 1})

    def amdsmi_get_energy_count(self, gpu: str) -> Any:
        told = {"energy_accumulator": 1_000_000, "counter_resolution": 15.3, "timestamp": 1}
        return self.told("energy", gpu, told)

    def amdsmi_get_violation_status(self, gpu: str) -> Any:
        told = {"active_ppt_pwr": gpu == "gpu1", "active_socket_thrm": "N/A"}
        return self.told("violation", gpu, told)

    def amdsmi_get_gpu_process_list(self, gpu: str) -> Any:
        ours = {"name": "python", "pid": os.getpid(), "memory_usage": {"vram_mem": 90 * GIB}}
        bystander = {"name": "rvs", "pid": 1, "memory_usage": {"vram_mem": 0}}
        return self.told("processes", gpu, [ours, bystander])


@pytest.fixture
def smi() -> FakeAmdSmi:
    return FakeAmdSmi()


def reader(smi: FakeAmdSmi, **environ: str) -> AmdReader:
    return AmdReader(smi, environ)


def test_two_gpus_in_plain_units(smi: FakeAmdSmi) -> None:
    read = reader(smi)
    first, second = read.read()
    assert (read.status, read.driver_version) == ("ok", "6.12.12")
    assert (first.index, first.name, second.index) == (0, "AMD Instinct MI300X", 1)
    assert first.util_frac == 0.93
    assert (first.mem_used_bytes, first.mem_total_bytes) == (100 * GIB, 196592 * 2**20)
    assert (first.power_w, first.power_limit_w, first.temp_c) == (712, 750.0, 61)
    assert (first.sm_clock_mhz, first.sm_clock_max_mhz, first.mem_clock_mhz) == (2100, 2100, 1300)
    assert (first.ecc_corrected, first.ecc_uncorrected) == (4, 1)
    assert first.energy_j == pytest.approx(15.3)
    assert (first.mem_ours_bytes, first.mem_others_bytes) == (90 * GIB, 0)
    # Who holds nothing on it does not use it.
    assert (first.process_count, [each.ours for each in first.processes]) == (1, [True])


def test_limits_are_watched_on_one_gpu_at_each_reading(smi: FakeAmdSmi) -> None:
    read = reader(smi)
    assert [gpu.throttle for gpu in read.read()] == [(), ()]
    assert [gpu.throttle for gpu in read.read()] == [(), ("power cap",)]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("activity", "util_frac"),
        ("vram", "mem_used_bytes"),
        ("power", "power_w"),
        ("cap", "power_limit_w"),
        ("temperature", "temp_c"),
        ("clock", "sm_clock_mhz"),
        ("ecc", "ecc_uncorrected"),
        ("energy", "energy_j"),
        ("processes", "process_count"),
    ],
)
@pytest.mark.parametrize(
    "answer", [AmdSmiError("no"), TypeError("another signature"), {}, None, "N/A"], ids=repr
)
def test_a_query_that_fails_empties_its_own_field_only(
    smi: FakeAmdSmi, query: str, field: str, answer: object
) -> None:
    whole = reader(FakeAmdSmi()).read()
    smi.answers[query, "gpu1"] = answer
    first, second = reader(smi).read()
    assert first == whole[0]
    assert getattr(second, field) is None
    assert second.name == "AMD Instinct MI300X"


def test_keys_of_older_releases_are_known(smi: FakeAmdSmi) -> None:
    smi.answers |= {
        "power": {"current_socket_power": 0xFFFF, "average_socket_power": 300},
        "cap": {"power_cap": 560},
        "clock": {"cur_clk": 1700, "max_clk": 1700},
        "energy": {"power": 2_000_000, "counter_resolution": 15.3},
        "asic": {"market_name": "N/A"},
        "activity": {"gfx_activity": 0xFFFF},
    }
    gpu = reader(smi).read()[0]
    assert (gpu.power_w, gpu.power_limit_w, gpu.sm_clock_mhz) == (300, 560, 1700)
    assert gpu.energy_j == pytest.approx(30.6)
    assert gpu.name == "AMD Instinct MI300X OAM"
    assert gpu.util_frac is None


def test_hips_variable_marks_which_are_used(smi: FakeAmdSmi) -> None:
    assert [gpu.visible for gpu in reader(smi).read()] == [True, True]
    assert [gpu.visible for gpu in reader(smi, HIP_VISIBLE_DEVICES="1").read()] == [False, True]
    assert [gpu.visible for gpu in reader(smi, CUDA_VISIBLE_DEVICES="0").read()] == [True, False]


def test_a_driver_that_is_not_there_says_why_and_is_tried_again(smi: FakeAmdSmi) -> None:
    smi.failing = AmdSmiError("Error code:\n\t34 | DRIVER_NOT_LOADED")
    read = reader(smi)
    assert read.read() == ()
    assert read.status == "AMD SMI: Error code: 34 | DRIVER_NOT_LOADED"
    smi.failing = None
    assert len(read.read()) == 2
    smi.answers["handles"] = AmdSmiError("gone")
    assert read.read() == ()
    assert (read.status, smi.opened) == ("AMD SMI: gone", 0)
    read.close()
    assert smi.opened == 0


def test_without_the_package_nothing_is_looked_for_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "amdsmi", None)
    read = AmdReader()
    assert read.read() == ()
    assert not read.installed
    monkeypatch.setitem(sys.modules, "amdsmi", FakeAmdSmi())
    assert read.read() == ()


def test_a_package_without_its_library_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As amdsmi 7.0 fails where there is no ROCm.
    (tmp_path / "amdsmi.py").write_text("raise KeyError('libamd_smi.so')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "amdsmi", raising=False)
    read = AmdReader()
    assert read.read() == read.read() == ()
    assert read.installed
    assert read.status == "AMD SMI: its library cannot be loaded"


# -- either ------------------------------------------------------------------------------------


class Nvml(NvmlReader):
    """An NVML reader that has found so much."""

    def __init__(self, status: str, gpus: tuple[Any, ...] = ()) -> None:
        self.status, self.found, self.driver_version = status, gpus, None
        self.closed = False

    def read(self) -> tuple[Any, ...]:
        return self.found

    def close(self) -> None:
        self.closed = True


def test_amds_are_read_where_there_is_no_nvidia_driver(smi: FakeAmdSmi) -> None:
    nvml = Nvml(NO_DRIVER)
    both = GpuReader(nvml=nvml, amd=reader(smi))
    assert [gpu.name for gpu in both.read()] == ["AMD Instinct MI300X"] * 2
    assert (both.status, both.driver_version) == ("ok", "6.12.12")
    both.close()
    assert (smi.opened, nvml.closed) == (0, True)


def test_amds_are_not_asked_for_where_nvml_has_something_to_say(smi: FakeAmdSmi) -> None:
    for status, gpus in (("ok", ("a GPU",)), ("NVML: Unknown Error", ())):
        both = GpuReader(nvml=Nvml(status, gpus), amd=reader(smi))
        assert (both.read(), both.status) == (gpus, status)
    assert smi.opened == 0


def test_neither_driver_is_a_sentence(smi: FakeAmdSmi, monkeypatch: pytest.MonkeyPatch) -> None:
    smi.failing = AmdSmiError("no driver")
    both = GpuReader(nvml=Nvml(NO_DRIVER), amd=reader(smi))
    assert both.read() == ()
    assert both.status == "no NVIDIA driver; AMD SMI: no driver"
    monkeypatch.setitem(sys.modules, "amdsmi", None)
    both = GpuReader(nvml=Nvml(NO_DRIVER))
    assert (both.read(), both.status) == ((), NO_DRIVER)
