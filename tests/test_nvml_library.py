"""NVML for real: a stub of the driver's library, compiled here and loaded by pynvml's ctypes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests import PATIENCE_S
from tputtui.hardware import GpuSample, MigInstance

GIB = 2**30
STUB = Path(__file__).with_name("nvml") / "libnvidia-ml.c"


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What `tests/nvml/probe.py` printed."""
    pytest.importorskip("pynvml")
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler here to make the stub of libnvidia-ml.so.1 with")
    folder = tmp_path_factory.mktemp("nvml")
    library = folder / "libnvidia-ml.so.1"
    subprocess.run([compiler, "-shared", "-fPIC", "-w", "-o", library, STUB], check=True)
    hang = folder / "hang"
    done = subprocess.run(
        [sys.executable, "-m", "tests.nvml.probe", hang],
        cwd=Path(__file__).parents[1],
        env=os.environ | {"LD_LIBRARY_PATH": str(folder), "STUB_NVML_HANG": str(hang)},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 0, done.stderr
    seen: dict[str, Any] = json.loads(done.stdout)
    return seen


@pytest.fixture(scope="module")
def gpus(seen: dict[str, Any]) -> tuple[GpuSample, ...]:
    """The last of ten readings: every GPU's turn has come."""
    return msgspec.convert(seen["last"], tuple[GpuSample, ...])


def test_all_eight_are_there_in_their_order(
    seen: dict[str, Any], gpus: tuple[GpuSample, ...]
) -> None:
    assert (seen["status"], seen["driver"]) == ("ok", "580.65.06")
    assert [gpu.index for gpu in gpus] == list(range(8))
    assert [gpu.visible for gpu in gpus] == [True] * 3 + [False] * 5


def test_one_in_order_tells_everything(gpus: tuple[GpuSample, ...]) -> None:
    gpu = gpus[3]
    assert (gpu.name, gpu.util_frac) == ("NVIDIA H100 80GB HBM3", 0.3)
    assert (gpu.mem_used_bytes, gpu.mem_total_bytes) == (24 * GIB, 80 * GIB)
    assert (gpu.power_w, gpu.power_limit_w) == (600.503, 700.0)
    assert (gpu.temp_c, gpu.sm_clock_mhz, gpu.mem_clock_mhz) == (63, 1755, 2619)
    assert (gpu.energy_j, gpu.throttle) == (1234.57, ())
    assert (gpu.ecc_corrected, gpu.ecc_uncorrected) == (0, 0)
    assert (gpu.mig, gpu.mig_instances, gpu.lost) == (False, (), False)


def test_memory_is_told_apart_by_who_holds_it(gpus: tuple[GpuSample, ...]) -> None:
    own, untold, idle = gpus[0], gpus[1], gpus[5]
    # Others': init, and one that is not to be seen from here.
    assert (own.mem_ours_bytes, own.mem_others_bytes) == (60 * GIB, 3 * GIB)
    assert own.process_count == 3
    assert [(p.ours, p.mem_bytes) for p in own.processes] == [
        (True, 60 * GIB),
        (False, 2 * GIB),
        (False, GIB),
    ]
    assert own.processes[0].name.startswith("python")
    assert (own.processes[1].pid, own.processes[2].name) == (1, "")
    assert (untold.mem_ours_bytes, untold.mem_others_bytes, untold.process_count) == (0, None, 1)
    assert (idle.mem_ours_bytes, idle.mem_others_bytes, idle.process_count) == (0, 0, 0)


def test_nvlink_is_a_rate_over_all_links_and_the_time_between(seen: dict[str, Any]) -> None:
    first = msgspec.convert(seen["first"], tuple[GpuSample, ...])
    second = msgspec.convert(seen["second"], tuple[GpuSample, ...])
    assert {gpu.nvlink_rx_bytes_per_s for gpu in first} == {None}
    # 2,000 KiB in and 1,000 KiB out, times its number from 1, in 2 s.
    for gpu in (second[0], second[4]):
        assert gpu.nvlink_rx_bytes_per_s == 1000 * 1024 * (gpu.index + 1)
        assert gpu.nvlink_tx_bytes_per_s == 500 * 1024 * (gpu.index + 1)


def test_pcie_is_measured_on_one_gpu_at_each_reading(
    seen: dict[str, Any], gpus: tuple[GpuSample, ...]
) -> None:
    first = msgspec.convert(seen["first"], tuple[GpuSample, ...])
    second = msgspec.convert(seen["second"], tuple[GpuSample, ...])
    assert [gpu.pcie_rx_bytes_per_s is not None for gpu in first] == [True] + [False] * 7
    assert [gpu.pcie_rx_bytes_per_s is not None for gpu in second] == [True] * 2 + [False] * 6
    assert (gpus[5].pcie_rx_bytes_per_s, gpus[5].pcie_tx_bytes_per_s) == (1000005e3, 2000005e3)


def test_errors_and_faults_are_those_of_the_gpu_that_had_them(gpus: tuple[GpuSample, ...]) -> None:
    assert (gpus[2].ecc_corrected, gpus[2].ecc_uncorrected) == (17, 2)
    assert gpus[2].throttle == ("power cap",)
    assert [gpu.xid for gpu in gpus] == [0, 0, 0, 74, 0, 0, None, None]


def test_mig_instances_have_profile_and_memory(gpus: tuple[GpuSample, ...]) -> None:
    cut = gpus[4]
    assert (cut.mig, cut.util_frac) == (True, None)
    assert cut.mig_instances == (
        MigInstance("1g.10gb", GIB, 10 * GIB),
        MigInstance("3g.40gb", GIB, 40 * GIB),
    )


def test_what_one_does_not_offer_is_missing_there_alone(gpus: tuple[GpuSample, ...]) -> None:
    powerless, old = gpus[5], gpus[7]
    assert (powerless.power_w, powerless.power_limit_w, powerless.energy_j) == (None, None, None)
    assert (powerless.nvlink_rx_bytes_per_s, powerless.nvlink_tx_bytes_per_s) == (None, None)
    assert (powerless.util_frac, powerless.temp_c) == (0.5, 65)
    assert (old.temp_c, old.throttle, old.process_count) == (50, ("thermal",), None)
    assert (old.pcie_rx_bytes_per_s, old.ecc_corrected, old.mig) == (None, None, None)


def test_one_that_is_lost_keeps_its_place(gpus: tuple[GpuSample, ...]) -> None:
    assert gpus[6] == GpuSample(index=6, name="GPU 6", visible=False)
    assert gpus[6].lost
    assert [gpu.index for gpu in gpus if gpu.lost] == [6]


def test_a_call_that_hangs_leaves_what_was_read_last_stale_and_stalls_nothing(
    seen: dict[str, Any],
) -> None:
    hang = seen["hang"]
    assert (hang["gpus"], hang["age_s"], hang["stale"]) == (8, 10.0, True)
    # It comes back by itself; and one that does not holds up no end.
    assert not hang["stale_afterwards"]
    assert not hang["stopped"]
