"""The machine's panel, at every size with any number of GPUs: nothing overflows, nothing is cut."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from tputtui.hardware import GpuProcess, GpuSample, HardwareSample, HostSample, MigInstance
from tputtui.ui.panels.machine import machine

GIB = 2**30
HOST = HostSample(
    cpu_frac=0.97, cores=192, mem_used_bytes=300 * GIB, mem_total_bytes=2000 * GIB,
    process_cpu_cores=11.9, process_rss_bytes=9 * GIB, load1=2.0,
)  # fmt: skip

BOOTING = SimpleNamespace(facts=None)


def gpu(index: int = 0, **others: Any) -> GpuSample:
    figures: dict[str, Any] = {
        "name": "NVIDIA H100 80GB HBM3", "util_frac": 0.93, "mem_used_bytes": 71 * GIB,
        "mem_total_bytes": 80 * GIB, "power_w": 612.0, "power_limit_w": 700.0, "temp_c": 64.0,
        "sm_clock_mhz": 1755.0, "mem_clock_mhz": 2619.0, "mem_ours_bytes": 60 * GIB,
        "mem_others_bytes": 11 * GIB, "process_count": 2, "ecc_corrected": 3, "ecc_uncorrected": 0,
        "xid": 0, "pcie_rx_bytes_per_s": 1.2e9, "pcie_tx_bytes_per_s": 3e8,
        "nvlink_rx_bytes_per_s": 131e9, "nvlink_tx_bytes_per_s": 9.5e9, "mig": False,
        "processes": (
            GpuProcess(4711, "VLLM::Worker_TP", 60 * GIB, True),
            GpuProcess(99, "jupyter", 11 * GIB, False),
        ),
    }  # fmt: skip
    return GpuSample(index=index, **(figures | others))


FULL = [
    gpu(0, util_frac=1.0, power_w=1012.0, temp_c=101.0),
    gpu(1, throttle=("power cap", "thermal")),
    gpu(2, ecc_uncorrected=123_456, xid=119),
    GpuSample(index=3, name="GPU 3"),
    gpu(4, mig=True, mig_instances=tuple(MigInstance("1g.10gb", GIB, 10 * GIB) for _ in range(7))),
    gpu(5, power_w=None, nvlink_rx_bytes_per_s=None, nvlink_tx_bytes_per_s=None),
    gpu(6, util_frac=None, mem_ours_bytes=None, mem_others_bytes=None),
    gpu(7, mem_used_bytes=900 * 2**20, mem_total_bytes=288 * GIB, xid=79),
]


def machine_of(
    gpus: Iterable[GpuSample],
    width: int,
    height: int,
    *,
    age_s: float = 0.0,
    status: str = "ok",
    host: HostSample = HOST,
) -> list[list[tuple[str, str]]]:
    sample = HardwareSample(
        t_s=100.0, gpus=tuple(gpus), gpu_status=status, gpu_t_s=100.0, host=host, host_t_s=100.0
    )
    frame: Any = SimpleNamespace(hardware=sample, t_s=100.0 + age_s, status=BOOTING)
    return machine(frame, width, height)


def text(rows: list[list[tuple[str, str]]]) -> list[str]:
    return ["".join(piece for piece, _ in row) for row in rows]


def styled(rows: list[list[tuple[str, str]]], style: str) -> list[str]:
    """All that is shown in that style."""
    return [piece.strip() for row in rows for piece, name in row if name == style]


SIZES = [(38, 5), (38, 18), (58, 7), (58, 21), (78, 21), (118, 36), (198, 46)]


@pytest.mark.parametrize("count", [1, 2, 8, 16])
@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize("age_s", [0.0, 12.0])
def test_it_is_as_large_as_it_may_be_and_every_gpu_is_in_it(
    count: int, width: int, height: int, age_s: float
) -> None:
    gpus = [replace(FULL[n % 8], index=n) for n in range(count)]
    rows = machine_of(gpus, width, height, age_s=age_s)
    assert len(rows) <= height
    assert {len(line) for line in text(rows)} == {width}
    assert text(rows)[-1].startswith("memory")
    shown = "\n".join(text(rows))
    # Numbers are whole, or not there.
    assert "…" not in re.sub("… and", "", shown)
    if "press 4" not in shown:
        whole = [re.fullmatch(r"(?:GPU )?(\d+) *", piece) for row in rows for piece, _ in row]
        assert {int(found[1]) for found in whole if found} == set(range(count))
    assert ("stale" in shown) == (age_s > 0)


@pytest.mark.parametrize(
    ("count", "width", "height", "rows"),
    [
        (1, 38, 5, 3),
        (2, 38, 5, 2),
        (2, 58, 7, 4),
        (8, 58, 21, 16),
        (8, 38, 10, 8),
        (16, 58, 18, 16),
    ],
)
def test_two_rows_each_then_one(count: int, width: int, height: int, rows: int) -> None:
    found = text(machine_of([gpu(n) for n in range(count)], width, height))[:-2]
    assert len(found) == rows
    assert sum(bool(re.match(r"(GPU )?\d", line)) for line in found) == count


def test_then_cells_as_wide_as_there_is_room_for() -> None:
    rows = text(machine_of(FULL, 58, 7))[:-2]
    assert rows == [
        "0  100% 71.0G 101°   1012W   1   93% 71.0G 64°C pwr cap   ",
        "2   93% 71.0G 64°C XID 119   3     –     –    – lost      ",
        "4   93% 71.0G 64°C    612W   5   93% 71.0G 64°C      –W   ",
        "6     – 71.0G 64°C    612W   7   93%  900M 64°C XID 79    ",
    ]
    # At 80×24: three rows for eight GPUs.
    rows = text(machine_of(FULL, 38, 5))[:-2]
    assert rows == [
        "0  100%  89% 1   93% cap  2   93% XID ",
        "3     – lost 4   93%  89% 5   93%  89%",
        "6     –  89% 7   93% XID              ",
    ]


def test_and_only_then_some_are_left_out_and_counted() -> None:
    rows = text(machine_of([gpu(n) for n in range(16)], 38, 5))[:-2]
    assert [len(row) for row in rows] == [38] * 3
    assert rows[0].startswith("0 ")
    assert rows[-1].strip() == "… and 10 more: press 4"
    rows = text(machine_of([gpu(n) for n in range(16)], 38, 3))
    assert rows[0].strip() == "16 GPUs: press 4"


def test_one_row_keeps_every_figure_in_its_place() -> None:
    quiet = gpu(1, util_frac=0.0, power_w=71.0, temp_c=9.0, mem_used_bytes=0, sm_clock_mhz=210.0)
    rows = text(machine_of([FULL[0], quiet, gpu(12, throttle=("hw thermal",))], 38, 5))
    assert rows[:3] == [
        "0  100% 71.0G/80.0G 1012W 101° 1755MHz",
        "1    0%    0M/80.0G   71W  9°C  210MHz",
        "12  93% 71.0G/80.0G  612W 64°C hw heat",
    ]


def test_room_for_more_is_used_for_more() -> None:
    rows = text(machine_of([FULL[2]], 78, 21))
    assert [row.rstrip() for row in rows[:-2]] == [
        "GPU 2  93%  mem 71.0G/80.0G  89%  NVIDIA H100 80GB HBM3",
        "      612/700 W   64 °C  1755 MHz  XID 119  123,456 uncorrected ECC",
        "      ours  60.0G  others  11.0G  2 processes",
        "      ECC 123,456 uncorrected  3 corrected  XID 119 GSP does not answer",
        "      GB/s PCIe 1.20 in  0.30 out NVLink  131 in  9.50 out",
        "         4711  60.0G  ours    VLLM::Worker_TP",
        "           99  11.0G  others' jupyter",
    ]
    assert [row.rstrip() for row in text(machine_of([FULL[4]], 58, 21))[5:8]] == [
        "      MIG 1g.10gb  1.0G/10.0G 1g.10gb  1.0G/10.0G",
        "          1g.10gb  1.0G/10.0G 1g.10gb  1.0G/10.0G",
        "          1g.10gb  1.0G/10.0G 1g.10gb  1.0G/10.0G",
    ]


def test_in_a_narrow_panel_what_is_wrong_leaves_room_for_power_and_temperature() -> None:
    rows = text(machine_of([gpu(2, ecc_uncorrected=2, throttle=("power cap",))], 38, 5))
    assert rows[1].rstrip() == "      612/700 W   64 °C  ECC 2"
    rows = text(machine_of([gpu(2, ecc_uncorrected=2, throttle=("power cap",))], 58, 7))
    assert rows[1].rstrip() == "      612/700 W   64 °C  2 uncorrected ECC  power cap"


def test_a_wide_screen_has_them_side_by_side_where_that_shows_more() -> None:
    rows = text(machine_of([gpu(n) for n in range(8)], 198, 46))
    assert re.findall(r"GPU \d", rows[0]) == ["GPU 0", "GPU 1"]
    assert sum("VLLM::Worker_TP" in row for row in rows) == 4
    alone = text(machine_of([gpu(0), gpu(1)], 198, 46))
    assert re.findall(r"GPU \d", alone[0]) == ["GPU 0"]


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_faults_are_words_in_the_style_of_faults(width: int, height: int) -> None:
    def bad(*gpus: GpuSample) -> str:
        return " ".join(styled(machine_of(gpus, width, height), "bad"))

    assert "XID 79" in bad(gpu(0, xid=79))
    assert "ECC" in bad(gpu(0, ecc_uncorrected=1))
    assert "lost" in bad(GpuSample(index=0, name="GPU 0"))
    assert bad(gpu(0), gpu(1, throttle=("power cap",)), gpu(2, ecc_corrected=9)) == ""
    assert "power cap" in " ".join(
        styled(machine_of([gpu(0, throttle=("power cap",))], width, height), "warn")
    )


def test_stale_is_said_and_nothing_shown_as_if_it_were_now() -> None:
    rows = machine_of([gpu(0), gpu(1, throttle=("thermal",))], 58, 21, age_s=12.4)
    assert text(rows)[-3].strip() == "GPU figures are stale: no answer from the driver for 12 s"
    assert styled(rows[:-3], "warn") == styled(rows[:-3], "value") == []
    assert text(machine_of([gpu(0)], 38, 5, age_s=12.4))[-3].strip() == (
        "GPUs stale: no answer for 12 s"
    )
    assert not any("stale" in row for row in text(machine_of([gpu(0)], 58, 7, age_s=2.9)))


def test_no_gpu_is_a_calm_state() -> None:
    rows = text(machine_of([], 38, 5, status="no NVIDIA driver"))
    assert rows[0].strip() == "GPU       no NVIDIA driver"
    unread: Any = SimpleNamespace(hardware=None, t_s=0.0, status=BOOTING)
    assert text(machine(unread, 38, 5))[0].startswith("reading")


@pytest.mark.parametrize("width", [38, 58, 98])
def test_other_processes_that_take_the_cores_are_named(width: int) -> None:
    alone, *_ = text(machine_of([], width, 9))[1:]
    shared = replace(HOST, process_cpu_cores=HOST.cores - 1.0, others_cpu_cores=1.0)
    told = next(r for r in text(machine_of([], width, 9, host=shared)) if r.startswith("CPU"))
    assert (f"others 1.0 of {HOST.cores} cores" if width > 40 else "others 1.0") in told
    assert "…" not in told
    assert "others" not in alone
    assert len(told) == width
