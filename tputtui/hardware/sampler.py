"""Keep the newest hardware figures at hand, taken once a period.

Two daemon threads, one inside the GPU driver and one inside /proc, so that a hung driver call
stalls nobody else: past a deadline what was read last is told to be stale, and that is all. Each
swaps one reference of its own; `latest()` may be called from any thread and takes no lock.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from tputtui.hardware.gpu import GpuSample
from tputtui.hardware.system import HostReader, HostSample
from tputtui.hardware.vendors import GpuReader

_DEADLINE_S = 3.0
"""So soon after a reading of the GPUs the next must be there."""

_log = logging.getLogger(__name__)


class _GpuSource(Protocol):
    status: str
    driver_version: str | None

    def read(self) -> tuple[GpuSample, ...]: ...

    def close(self) -> None: ...


class _HostSource(Protocol):
    def read(self) -> HostSample: ...


@dataclass(frozen=True, slots=True)
class HardwareSample:
    """The newest figures of both threads, each with the time it was taken.

    Times are in seconds of the sampler's clock; `t_s` is the later of the two. A part that was
    never read has None for its time; `gpu_status` says why `gpus` is empty. `driver` is the GPU
    driver's version.
    """

    t_s: float
    gpus: tuple[GpuSample, ...]
    gpu_status: str
    gpu_t_s: float | None
    host: HostSample | None
    host_t_s: float | None
    driver: str | None = None

    def gpu_age_s(self, now_s: float) -> float | None:
        """How old the GPU part is; None before the first reading."""
        return None if self.gpu_t_s is None else now_s - self.gpu_t_s

    def gpus_stale(self, now_s: float) -> bool:
        """Whether the driver has not answered within its deadline: what is shown is of before."""
        age_s = self.gpu_age_s(now_s)
        return bool(self.gpus) and age_s is not None and age_s > _DEADLINE_S


@dataclass(frozen=True, slots=True)
class _GpuPart:
    t_s: float
    gpus: tuple[GpuSample, ...]
    status: str
    driver: str | None = None


@dataclass(frozen=True, slots=True)
class _HostPart:
    t_s: float
    host: HostSample


class HardwareSampler:
    """Reads GPUs and host every `period_s` from `start()` to `stop()`; one run per sampler.

    The readers are opened, used and closed on the sampler's threads only.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        *,
        gpu_reader: _GpuSource | None = None,
        host_reader: _HostSource | None = None,
        period_s: float = 1.0,
    ) -> None:
        self.period_s = period_s
        self._clock = clock
        self._gpu_reader = gpu_reader or GpuReader(clock)
        self._host_reader = host_reader or HostReader(clock)
        self._started_s = 0.0
        self._gpu_part: _GpuPart | None = None
        self._host_part: _HostPart | None = None
        self._stopping = threading.Event()
        self._threads = (
            threading.Thread(target=self._run_host, name="tputtui-host", daemon=True),
            threading.Thread(target=self._run_gpu, name="tputtui-gpu", daemon=True),
        )

    def start(self) -> None:
        """Start both threads; RuntimeError when called a second time."""
        self._started_s = self._clock()
        for thread in self._threads:
            thread.start()

    def stop(self, timeout_s: float = 1.0) -> bool:
        """End both threads; False when one (a hung driver call) did not end within `timeout_s`.

        A thread left behind is a daemon: it does not hold up the end of the process.
        """
        self._stopping.set()
        deadline_s = self._clock() + timeout_s
        for thread in self._threads:
            if thread.is_alive():
                thread.join(min(timeout_s, max(0.0, deadline_s - self._clock())))
        return not any(thread.is_alive() for thread in self._threads)

    def latest(self) -> HardwareSample | None:
        """The newest figures; None before the first reading of either thread."""
        gpu, host = self._gpu_part, self._host_part
        times_s = [part.t_s for part in (gpu, host) if part is not None]
        if not times_s:
            return None
        return HardwareSample(
            t_s=max(times_s),
            gpus=gpu.gpus if gpu else (),
            gpu_status=gpu.status if gpu else self._waiting(),
            gpu_t_s=gpu.t_s if gpu else None,
            host=host.host if host else None,
            host_t_s=host.t_s if host else None,
            driver=gpu.driver if gpu else None,
        )

    def _waiting(self) -> str:
        """What there is to say before the first reading of the GPUs."""
        if self._clock() - self._started_s > _DEADLINE_S:
            return "the GPU driver does not answer"
        return "waiting for the GPU driver"

    def _run_gpu(self) -> None:
        try:
            self._repeat(self._read_gpu)
        finally:
            self._gpu_reader.close()

    def _run_host(self) -> None:
        self._repeat(self._read_host)

    def _repeat(self, read: Callable[[], None]) -> None:
        failing = False
        while not self._stopping.is_set():
            try:
                read()
                failing = False
            except Exception:
                # Once per run of failures: a period is short, and the log is for people.
                if not failing:
                    _log.exception("hardware reading failed; it is tried again every period")
                failing = True
            self._stopping.wait(self.period_s)

    def _read_gpu(self) -> None:
        try:
            gpus = self._gpu_reader.read()
        except Exception as error:
            self._gpu_part = _GpuPart(self._clock(), (), f"GPU driver: {error}")
            raise
        reader = self._gpu_reader
        self._gpu_part = _GpuPart(self._clock(), gpus, reader.status, reader.driver_version)

    def _read_host(self) -> None:
        host = self._host_reader.read()
        self._host_part = _HostPart(self._clock(), host)
