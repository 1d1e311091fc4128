"""The hardware room without a GPU: stubs for NVML and psutil, and readers that hang on demand."""

from __future__ import annotations

import itertools
import logging
import subprocess
import sys
import threading
from collections import namedtuple
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

import pytest

from tests import PATIENCE_S
from tputtui.hardware import GpuSample, HardwareSampler, HostSample
from tputtui.hardware.nvml import NvmlReader
from tputtui.hardware.queries import Queries
from tputtui.hardware.system import HostReader
from tputtui.hardware.traffic import Traffic

GIB = 1024**3


# --- GPUs -------------------------------------------------------------------------------------


class NVMLError(Exception):
    def __init__(self, value: int) -> None:
        super().__init__({3: "Not Supported", 15: "GPU is lost"}.get(value, f"error {value}"))
        self.value = value


T = TypeVar("T")


class FakeNvml:
    """Two H200s behind pynvml's names; `answers` overrides one query of one GPU."""

    NVMLError = NVMLError
    NVML_ERROR_DRIVER_NOT_LOADED = 9
    NVML_ERROR_LIBRARY_NOT_FOUND = 12
    NVML_TEMPERATURE_GPU = 0
    NVML_CLOCK_SM = 1
    NVML_CLOCK_MEM = 2
    nvmlClocksEventReasonGpuIdle = 0x01
    nvmlClocksEventReasonSwPowerCap = 0x04
    nvmlClocksEventReasonHwSlowdown = 0x08
    nvmlClocksEventReasonSwThermalSlowdown = 0x20
    nvmlClocksThrottleReasonHwThermalSlowdown = 0x40  # only under its older name here
    nvmlClocksEventReasonHwPowerBrakeSlowdown = 0x80

    def __init__(self, uuids: tuple[str, ...] = ("GPU-aaaa-1", "GPU-bbbb-2")) -> None:
        self.uuids = uuids
        self.open_count = 0
        self.init_error: int | None = None
        self.count_error: int | None = None
        self.lost: set[int] = set()
        self.unsupported: set[tuple[int, str]] = set()
        self.reasons = 0

    def answer(self, handle: tuple[str, int], query: str, value: T) -> T:
        index = handle[1]
        if index in self.lost:
            raise NVMLError(15)
        if (index, query) in self.unsupported:
            raise NVMLError(3)
        return value

    def nvmlInit(self) -> None:
        if self.init_error is not None:
            raise NVMLError(self.init_error)
        self.open_count += 1

    def nvmlShutdown(self) -> None:
        self.open_count -= 1

    def nvmlSystemGetDriverVersion(self) -> bytes:
        return b"580.65.06"

    def nvmlDeviceGetCount(self) -> int:
        if self.count_error is not None:
            raise NVMLError(self.count_error)
        return len(self.uuids)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> tuple[str, int]:
        return self.answer(("gpu", index), "handle", ("gpu", index))

    def nvmlDeviceGetName(self, handle: tuple[str, int]) -> bytes | str:
        return self.answer(handle, "name", b"NVIDIA H200" if handle[1] == 0 else "NVIDIA H200 NVL")

    def nvmlDeviceGetUUID(self, handle: tuple[str, int]) -> str:
        return self.answer(handle, "uuid", self.uuids[handle[1]])

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> tuple[str, int]:
        if uuid != "MIG-cccc":
            raise NVMLError(6)
        return ("mig", 1)

    def nvmlDeviceGetDeviceHandleFromMigDeviceHandle(
        self, handle: tuple[str, int]
    ) -> tuple[str, int]:
        return ("gpu", handle[1])

    def nvmlDeviceGetIndex(self, handle: tuple[str, int]) -> int:
        return handle[1]

    def nvmlDeviceGetUtilizationRates(self, handle: tuple[str, int]) -> Any:
        return self.answer(handle, "util", SimpleNamespace(gpu=87, memory=40))

    def nvmlDeviceGetMemoryInfo(self, handle: tuple[str, int]) -> Any:
        memory = SimpleNamespace(used=100 * GIB, free=41 * GIB, total=141 * GIB)
        return self.answer(handle, "memory", memory)

    def nvmlDeviceGetPowerUsage(self, handle: tuple[str, int]) -> int:
        return self.answer(handle, "power", 612_500)

    def nvmlDeviceGetEnforcedPowerLimit(self, handle: tuple[str, int]) -> int:
        return self.answer(handle, "limit", 700_000)

    def nvmlDeviceGetTemperatureV(self, handle: tuple[str, int], sensor: int) -> int:
        return self.answer(handle, "temperature", 64 + sensor)

    def nvmlDeviceGetTemperature(self, handle: tuple[str, int], sensor: int) -> int:
        return self.answer(handle, "older temperature", 65 + sensor)

    def nvmlDeviceGetClockInfo(self, handle: tuple[str, int], clock: int) -> int:
        return self.answer(handle, "clock", {1: 1755, 2: 3201}[clock])

    def nvmlDeviceGetMaxClockInfo(self, handle: tuple[str, int], clock: int) -> int:
        return self.answer(handle, "max clock", {1: 1980, 2: 3201}[clock])

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: tuple[str, int]) -> int:
        return self.answer(handle, "energy", 123_456_789)

    def nvmlDeviceGetCurrentClocksEventReasons(self, handle: tuple[str, int]) -> int:
        return self.answer(handle, "reasons", self.reasons)

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, handle: tuple[str, int]) -> int:
        return self.answer(handle, "older reasons", self.reasons)


def gpu_reader(nvml: FakeNvml, **environ: str) -> NvmlReader:
    return NvmlReader(nvml=nvml, environ=environ)


def test_the_stub_has_only_names_that_pynvml_has() -> None:
    pynvml = pytest.importorskip("pynvml")
    names = [name for name in dir(FakeNvml) if name.lower().startswith("nvml")]
    assert [name for name in names if not hasattr(pynvml, name)] == []
    assert pynvml.NVML_ERROR_LIBRARY_NOT_FOUND == FakeNvml.NVML_ERROR_LIBRARY_NOT_FOUND
    assert pynvml.NVML_ERROR_DRIVER_NOT_LOADED == FakeNvml.NVML_ERROR_DRIVER_NOT_LOADED


def test_this_machine_reads_calmly_with_the_real_pynvml() -> None:
    reader = NvmlReader()
    gpus = reader.read()
    reader.close()
    if gpus:
        assert reader.status == "ok"
    else:
        assert reader.status == "no NVIDIA driver" or reader.status.startswith("NVML: ")


@pytest.mark.parametrize(
    ("code", "status"),
    [(12, "no NVIDIA driver"), (9, "no NVIDIA driver"), (999, "NVML: error 999")],
)
def test_nvml_that_does_not_open_says_why(code: int, status: str) -> None:
    nvml = FakeNvml()
    nvml.init_error = code
    reader = gpu_reader(nvml)
    assert reader.read() == ()
    assert reader.status == status
    assert reader.driver_version is None


def test_missing_pynvml_is_calm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    reader = NvmlReader()
    assert reader.read() == ()
    assert reader.status == "NVML: the Python package nvidia-ml-py is not installed"


def test_a_driver_without_gpus_says_so() -> None:
    reader = gpu_reader(FakeNvml(uuids=()))
    assert reader.read() == ()
    assert reader.status == "NVML: no GPU found"
    assert reader.driver_version == "580.65.06"


def test_two_gpus_in_plain_units() -> None:
    nvml = FakeNvml()
    nvml.reasons = 0x01  # idle is no throttling
    reader = gpu_reader(nvml)
    first, second = reader.read()
    assert first == GpuSample(
        index=0,
        name="NVIDIA H200",
        visible=True,
        util_frac=0.87,
        mem_used_bytes=100 * GIB,
        mem_total_bytes=141 * GIB,
        power_w=612.5,
        power_limit_w=700.0,
        temp_c=64,
        sm_clock_mhz=1755,
        sm_clock_max_mhz=1980,
        mem_clock_mhz=3201,
        throttle=(),
        energy_j=123_456.789,
    )
    assert (second.index, second.name) == (1, "NVIDIA H200 NVL")
    assert (reader.status, reader.driver_version) == ("ok", "580.65.06")


def test_a_query_that_is_not_offered_empties_its_own_field_only() -> None:
    nvml = FakeNvml()
    whole = gpu_reader(nvml).read()
    nvml.unsupported = {(1, "energy"), (1, "memory")}
    first, second = gpu_reader(nvml).read()
    assert first == whole[0]
    assert (second.energy_j, second.mem_used_bytes, second.mem_total_bytes) == (None, None, None)
    assert (second.util_frac, second.power_w) == (0.87, 612.5)


def test_older_drivers_and_older_pynvml_answer_under_their_older_names() -> None:
    class OlderNvml(FakeNvml):
        nvmlDeviceGetTemperatureV = None

    nvml = OlderNvml()
    nvml.reasons = 0x04
    nvml.unsupported = {(0, "reasons")}
    gpu = gpu_reader(nvml).read()[0]
    assert (gpu.temp_c, gpu.throttle) == (65, ("power cap",))


def test_a_lost_gpu_keeps_its_place_and_its_name() -> None:
    nvml = FakeNvml()
    reader = gpu_reader(nvml)
    before = reader.read()
    nvml.lost = {1}
    assert reader.read() == (before[0], GpuSample(index=1, name="NVIDIA H200 NVL"))
    assert reader.status == "ok"
    nvml.lost = set()
    assert reader.read() == before


def test_a_gpu_lost_from_the_start_still_shows() -> None:
    nvml = FakeNvml()
    nvml.lost = {1}
    assert gpu_reader(nvml).read()[1] == GpuSample(index=1, name="GPU 1")


def test_nvml_that_goes_away_is_opened_again() -> None:
    nvml = FakeNvml()
    reader = gpu_reader(nvml)
    assert len(reader.read()) == 2
    nvml.count_error = 1
    assert reader.read() == ()
    assert reader.status == "NVML: error 1"
    assert nvml.open_count == 0
    nvml.count_error = None
    assert len(reader.read()) == 2
    assert reader.status == "ok"
    reader.close()
    reader.close()
    assert nvml.open_count == 0


@pytest.mark.parametrize(
    ("reasons", "words"),
    [
        (0x04, ("power cap",)),
        (0x24, ("power cap", "thermal")),
        (0x08, ("hw slowdown",)),
        (0x48, ("hw thermal",)),
        (0x88, ("power brake",)),
        (0x110, ()),
    ],
)
def test_throttle_words_are_those_of_heat_and_power(reasons: int, words: tuple[str, ...]) -> None:
    nvml = FakeNvml()
    nvml.reasons = reasons
    assert gpu_reader(nvml).read()[0].throttle == words


@pytest.mark.parametrize(
    ("setting", "visible"),
    [
        (None, [True, True]),
        ("0,1", [True, True]),
        (" 1 ", [False, True]),
        ("", [False, False]),
        ("-1", [False, False]),
        ("1,-1,0", [False, True]),
        ("7,0", [False, False]),
        ("GPU-bbbb-2", [False, True]),
        ("GPU-aa", [True, False]),
        ("GPU-cc", [False, False]),
        ("MIG-cccc", [False, True]),
        ("MIG-dddd", [False, False]),
    ],
)
def test_cuda_visible_devices_marks_and_hides_nothing(
    setting: str | None, visible: list[bool]
) -> None:
    environ = {} if setting is None else {"CUDA_VISIBLE_DEVICES": setting}
    gpus = gpu_reader(FakeNvml(), **environ).read()
    assert [gpu.visible for gpu in gpus] == visible


class Links:
    """NVML with counters that a test sets, in KiB; PCIe in KB/s."""

    NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_TX = 138
    NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_RX = 139
    NVML_PCIE_UTIL_TX_BYTES = 0
    NVML_PCIE_UTIL_RX_BYTES = 1

    def __init__(self) -> None:
        self.rx_kib, self.tx_kib = 5000, 9000
        self.asked: list[str] = []

    def nvmlDeviceGetFieldValues(self, gpu: str, fields: list[tuple[int, int]]) -> list[Any]:
        assert fields == [(139, 0xFFFFFFFF), (138, 0xFFFFFFFF)]
        values = (self.rx_kib, self.tx_kib)
        return [
            SimpleNamespace(nvmlReturn=0, value=SimpleNamespace(ullVal=value)) for value in values
        ]

    def nvmlDeviceGetPcieThroughput(self, gpu: str, counter: int) -> int:
        self.asked.append(gpu)
        return 300 + counter


def test_links_are_rates_of_counters_that_only_grow() -> None:
    links, times_s = Links(), iter([10.0, 12.0, 13.0, 13.0, 14.0])
    traffic = Traffic(Queries(links, NVMLError), lambda: next(times_s))
    assert traffic.read(["a"])[0][2:] == (None, None)
    links.rx_kib, links.tx_kib = 9000, 9000
    assert traffic.read(["a"])[0][2:] == (2000 * 1024, 0)
    links.rx_kib, links.tx_kib = 100, 9500  # one was reset
    assert traffic.read(["a"])[0][2:] == (None, 500 * 1024)
    assert traffic.read(["a"])[0][2:] == (None, None)  # at the same moment
    assert traffic.read(["a"])[0][2:] == (0, 0)


def test_pcie_is_asked_of_one_gpu_in_turn_and_forgotten_of_one_that_is_lost() -> None:
    links = Links()
    traffic = Traffic(Queries(links, NVMLError), lambda: 0.0)
    traffic.read(["a", "b"])
    flows = traffic.read(["a", "b"])
    assert links.asked == ["a", "a", "b", "b"]
    assert [flow[:2] for flow in flows] == [(301_000, 300_000)] * 2
    assert [flow[:2] for flow in traffic.read([None, "b"])] == [(None, None), (301_000, 300_000)]
    assert traffic.read([]) == []


# --- the host ---------------------------------------------------------------------------------

CpuTimes = namedtuple(
    "CpuTimes", ["user", "system", "idle", "iowait", "guest"], defaults=[0.0, 0.0, 0.0]
)


class FakePsutil:
    """A machine of 8 cores and 64 GiB whose counters a test sets."""

    def __init__(self) -> None:
        self.machine = CpuTimes(100.0, 10.0, 800.0, 5.0, 20.0)
        self.user_s = 7.0
        self.system_s = 1.0
        self.children: list[Any] = []
        self.Error = ProcessLookupError

    def Process(self) -> Any:
        return SimpleNamespace(
            cpu_times=lambda: SimpleNamespace(user=self.user_s, system=self.system_s),
            memory_info=lambda: SimpleNamespace(rss=3 * GIB),
            children=lambda recursive: list(self.children),
        )

    def cpu_times(self) -> CpuTimes:
        return self.machine

    def cpu_count(self) -> int:
        return 8

    def virtual_memory(self) -> Any:
        return SimpleNamespace(total=64 * GIB, available=44 * GIB)


def host_reader(
    tmp_path: Path, ps: FakePsutil | None = None, clock: Callable[[], float] = lambda: 0.0
) -> HostReader:
    return HostReader(
        clock, ps=ps or FakePsutil(), cgroup_mount=tmp_path, cgroup_file=tmp_path / "self-cgroup"
    )


def write_cgroup(group: Path, limit: str, current_bytes: int, inactive_bytes: int = 0) -> None:
    group.mkdir(parents=True, exist_ok=True)
    (group / "memory.max").write_text(f"{limit}\n")
    (group / "memory.current").write_text(f"{current_bytes}\n")
    (group / "memory.stat").write_text(f"anon 5\ninactive_file {inactive_bytes}\nfile 9\n")


def test_rates_are_differences_between_two_reads(tmp_path: Path) -> None:
    ps = FakePsutil()
    times_s = iter([10.0, 12.0])
    reader = host_reader(tmp_path, ps, lambda: next(times_s))
    first = reader.read()
    assert (first.cpu_frac, first.process_cpu_cores) == (None, None)
    # 16 core-seconds: 3 user (of them 2 in guests), 1 system, 10 idle, 2 waiting for a disk.
    ps.machine = CpuTimes(103.0, 11.0, 810.0, 7.0, 22.0)
    ps.user_s, ps.system_s = 10.0, 1.8
    second = reader.read()
    assert second.cpu_frac == pytest.approx(0.25)
    assert second.process_cpu_cores == pytest.approx(1.9)
    assert (second.cores, second.process_rss_bytes) == (8, 3 * GIB)
    assert second.load1 >= 0.0


def test_other_processes_that_take_the_cores_are_told_once_it_is_sure(tmp_path: Path) -> None:
    ps, now_s = FakePsutil(), 0.0
    ps.machine = CpuTimes(0.0, 0.0, 0.0)
    reader = host_reader(tmp_path, ps, lambda: now_s)
    ours_s = ps.user_s
    seen = []

    def seconds(count: int, ours: float, others: float) -> None:
        nonlocal now_s, ours_s
        for _ in range(count):
            now_s += 1.0
            ours_s += ours
            ps.user_s = ours_s
            busy = ps.machine.user + ours + others
            ps.machine = CpuTimes(busy, 0.0, ps.machine.idle + 8.0 - ours - others)
            seen.append(reader.read())

    reader.read()
    seconds(10, 6.0, 0.1)
    assert not seen[-1].crowded
    assert seen[-1].others_cpu_cores == pytest.approx(0.1)
    # Cores are left over: nobody is in anybody's way.
    seconds(20, 3.0, 3.0)
    assert seen[-1].others_cpu_cores == pytest.approx(3.0, rel=0.05)
    assert not seen[-1].crowded
    # One core of eight is wanted by others while ours would have all: soon, not at once.
    seconds(30, 7.9, 0.1)
    assert not seen[-1].crowded
    first = len(seen)
    seconds(20, 7.0, 1.0)
    assert not seen[first].crowded
    assert seen[-1].crowded
    assert seen[-1].others_cpu_cores == pytest.approx(1.0, rel=0.05)


def test_what_children_use_is_ours_and_one_that_goes_is_no_negative_use(tmp_path: Path) -> None:
    ps = FakePsutil()
    times_s = iter([10.0, 20.0, 30.0])
    reader = host_reader(tmp_path, ps, lambda: next(times_s))
    spent = SimpleNamespace(user=4.0, system=1.0)
    child = SimpleNamespace(
        cpu_times=lambda: spent, memory_info=lambda: SimpleNamespace(rss=2 * GIB)
    )
    ps.children = [child]
    reader.read()
    spent.user = 14.0
    second = reader.read()
    assert second.process_cpu_cores == pytest.approx(1.0)
    assert second.process_rss_bytes == 5 * GIB
    ps.children = []
    third = reader.read()
    assert (third.process_cpu_cores, third.process_rss_bytes) == (0.0, 3 * GIB)


def test_two_reads_at_one_moment_have_no_rate(tmp_path: Path) -> None:
    reader = host_reader(tmp_path)
    reader.read()
    again = reader.read()
    assert (again.cpu_frac, again.process_cpu_cores) == (None, None)


def memory_gib(sample: HostSample) -> tuple[float, float]:
    return sample.mem_used_bytes / GIB, sample.mem_total_bytes / GIB


def test_memory_without_a_cgroup_is_the_machines(tmp_path: Path) -> None:
    assert memory_gib(host_reader(tmp_path).read()) == (20, 64)


def test_a_container_limit_below_the_machine_is_the_total(tmp_path: Path) -> None:
    (tmp_path / "self-cgroup").write_text("0::/\n")
    write_cgroup(tmp_path, str(16 * GIB), 10 * GIB, inactive_bytes=4 * GIB)
    assert memory_gib(host_reader(tmp_path).read()) == (6, 16)


@pytest.mark.parametrize("limit", ["max", str(128 * GIB), "garbage", ""])
def test_a_limit_that_does_not_bind_is_ignored(tmp_path: Path, limit: str) -> None:
    write_cgroup(tmp_path, limit, 10 * GIB)
    assert memory_gib(host_reader(tmp_path).read()) == (20, 64)


def test_the_tightest_limit_on_the_way_up_binds(tmp_path: Path) -> None:
    (tmp_path / "self-cgroup").write_text("4:memory:/v1/only\n0::/pod/box\n")
    write_cgroup(tmp_path / "pod", str(8 * GIB), 7 * GIB)
    write_cgroup(tmp_path / "pod" / "box", str(32 * GIB), 5 * GIB)
    assert memory_gib(host_reader(tmp_path).read()) == (7, 8)


def test_a_cgroup_outside_the_container_falls_back_to_the_mount(tmp_path: Path) -> None:
    (tmp_path / "self-cgroup").write_text("0::/../../elsewhere\n")
    write_cgroup(tmp_path, str(16 * GIB), 2 * GIB)
    assert memory_gib(host_reader(tmp_path).read()) == (2, 16)


def test_a_usage_below_its_cache_is_no_negative_use(tmp_path: Path) -> None:
    write_cgroup(tmp_path, str(16 * GIB), 1 * GIB, inactive_bytes=2 * GIB)
    assert memory_gib(host_reader(tmp_path).read()) == (0, 16)


def test_this_machine_reads_with_the_real_psutil() -> None:
    times_s = itertools.count(0.0)
    reader = HostReader(lambda: next(times_s))
    reader.read()
    host = reader.read()
    assert 0 < host.mem_used_bytes <= host.mem_total_bytes
    assert host.cores >= 1
    assert host.process_rss_bytes > 0
    assert host.process_cpu_cores is not None
    assert host.cpu_frac is None or 0.0 <= host.cpu_frac <= 1.0


# --- the sampler ------------------------------------------------------------------------------

GPU = GpuSample(index=0, name="NVIDIA H200", util_frac=0.5)
HOST = HostSample(
    cpu_frac=0.25,
    cores=8,
    mem_used_bytes=20 * GIB,
    mem_total_bytes=64 * GIB,
    process_cpu_cores=1.9,
    process_rss_bytes=3 * GIB,
    load1=2.0,
)


class FakeGpus:
    """Counts its reads; hangs while `hang` is set, fails while `error` is."""

    def __init__(self) -> None:
        self.status = "ok"
        self.driver_version = "580.65.06"
        self.error: Exception | None = None
        self.hang = False
        self.hung = threading.Event()
        self.release = threading.Event()
        self.closed = threading.Event()
        self.reads = Counter()

    def read(self) -> tuple[GpuSample, ...]:
        if self.hang:
            self.hung.set()
            self.release.wait(PATIENCE_S)
        self.reads.add()
        if self.error is not None:
            raise self.error
        return (GPU,)

    def close(self) -> None:
        self.closed.set()


class FakeHost:
    def __init__(self) -> None:
        self.error: Exception | None = None
        self.reads = Counter()

    def read(self) -> HostSample:
        self.reads.add()
        if self.error is not None:
            raise self.error
        return HOST


class Counter:
    """A count that another thread can wait for."""

    def __init__(self) -> None:
        self.n = 0
        self._changed = threading.Condition()

    def add(self) -> None:
        with self._changed:
            self.n += 1
            self._changed.notify_all()

    def wait_for_more(self, n: int) -> None:
        with self._changed:
            goal = self.n + n
            assert self._changed.wait_for(lambda: self.n >= goal, PATIENCE_S)


class Bench:
    """A sampler on fakes; `now_s` is its clock."""

    def __init__(self) -> None:
        self.gpus = FakeGpus()
        self.host = FakeHost()
        self.now_s = 100.0
        self.sampler = HardwareSampler(
            lambda: self.now_s, gpu_reader=self.gpus, host_reader=self.host, period_s=0.001
        )

    def settle(self) -> None:
        """Wait until each thread has passed on what it read after this call."""
        self.gpus.reads.wait_for_more(2)
        self.host.reads.wait_for_more(2)


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.gpus.release.set()
    bench.sampler.stop(PATIENCE_S)


def test_nothing_is_known_before_the_first_reading(bench: Bench) -> None:
    assert bench.sampler.latest() is None


def test_latest_joins_both_parts_with_their_times(bench: Bench) -> None:
    bench.sampler.start()
    bench.settle()
    sample = bench.sampler.latest()
    assert sample is not None
    assert (sample.gpus, sample.gpu_status, sample.host) == ((GPU,), "ok", HOST)
    assert (sample.t_s, sample.gpu_t_s, sample.host_t_s) == (100.0, 100.0, 100.0)
    assert sample.gpu_age_s(103.5) == 3.5


def test_stop_ends_both_threads_and_closes_nvml_on_its_own(bench: Bench) -> None:
    bench.sampler.start()
    bench.settle()
    assert bench.sampler.stop(PATIENCE_S)
    assert bench.gpus.closed.is_set()


def test_stop_does_not_wait_for_the_period_to_pass() -> None:
    gpus, host = FakeGpus(), FakeHost()
    sampler = HardwareSampler(
        lambda: 0.0, gpu_reader=gpus, host_reader=host, period_s=100 * PATIENCE_S
    )
    sampler.start()
    assert sampler.stop(PATIENCE_S)


def test_stop_before_start_is_harmless(bench: Bench) -> None:
    assert bench.sampler.stop(PATIENCE_S)


def test_a_hung_driver_leaves_the_host_running_and_the_gpu_part_aging(bench: Bench) -> None:
    bench.sampler.start()
    bench.settle()
    bench.gpus.hang = True
    assert bench.gpus.hung.wait(PATIENCE_S)
    bench.now_s = 110.0
    bench.host.reads.wait_for_more(2)
    sample = bench.sampler.latest()
    assert sample is not None
    assert (sample.t_s, sample.host_t_s, sample.gpu_t_s) == (110.0, 110.0, 100.0)
    assert sample.gpu_age_s(bench.now_s) == 10.0
    assert sample.gpus == (GPU,)
    assert sample.gpus_stale(bench.now_s)
    assert not sample.gpus_stale(103.0)


def test_a_driver_that_hangs_from_the_start_shows_as_waiting(bench: Bench) -> None:
    bench.gpus.hang = True
    bench.sampler.start()
    bench.host.reads.wait_for_more(2)
    sample = bench.sampler.latest()
    assert sample is not None
    assert (sample.gpus, sample.gpu_status, sample.gpu_t_s) == (
        (),
        "waiting for the GPU driver",
        None,
    )
    assert sample.gpu_age_s(bench.now_s) is None
    bench.now_s = 104.0
    late = bench.sampler.latest()
    assert late is not None
    assert late.gpu_status == "the GPU driver does not answer"


def test_stop_returns_in_time_while_nvml_hangs(bench: Bench) -> None:
    bench.gpus.hang = True
    bench.sampler.start()
    assert bench.gpus.hung.wait(PATIENCE_S)
    assert not bench.sampler.stop(timeout_s=0.01)
    assert not bench.gpus.release.is_set()
    bench.gpus.release.set()
    assert bench.gpus.closed.wait(PATIENCE_S)


def test_an_unforeseen_failure_is_said_logged_once_and_got_over(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.gpus.error = OSError("driver torn out")
    bench.host.error = OSError("no /proc")
    with caplog.at_level(logging.ERROR):
        bench.sampler.start()
        bench.settle()
    sample = bench.sampler.latest()
    assert sample is not None
    assert (sample.gpus, sample.gpu_status) == ((), "GPU driver: driver torn out")
    assert (sample.host, sample.host_t_s) == (None, None)
    logged = [str(record.exc_info[1]) for record in caplog.records if record.exc_info]
    assert sorted(logged) == ["driver torn out", "no /proc"]

    bench.gpus.error = bench.host.error = None
    bench.settle()
    sample = bench.sampler.latest()
    assert sample is not None
    assert (sample.gpu_status, sample.host) == ("ok", HOST)


def test_importing_the_room_loads_no_driver() -> None:
    code = (
        "import sys, tputtui.hardware as hardware;"
        "hardware.HardwareSampler();"
        "sys.exit(', '.join({'pynvml', 'amdsmi', 'psutil'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
