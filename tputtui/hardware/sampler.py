"""Keeps the newest hardware figures, read once a period.

Two daemon threads read, one from the GPU driver and one from /proc, so a hung driver call stalls
nothing else: past a deadline the last figures only count as stale. Each thread swaps one reference
of its own; any thread may call `latest()`, which takes no lock.
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
"""The longest time between two readings of the GPUs before the last one counts as stale, in s."""

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
    """The newest figures of both threads. Times are in s on the sampler's clock."""

    t_s: float
    """When the newer part was read."""
    gpus: tuple[GpuSample, ...]
    gpu_status: str
    """"ok", or why `gpus` is empty."""
    gpu_t_s: float | None
    """When the GPUs were read; None before the first reading."""
    host: HostSample | None
    """None before the first reading."""
    host_t_s: float | None
    """When the host was read; None before the first reading."""
    driver: str | None = None
    """Version of the GPU driver; None if not known."""

    def gpu_age_s(self, now_s: float) -> float | None:
        """Age of the GPU figures in s; None before the first reading."""
        return None if self.gpu_t_s is None else now_s - self.gpu_t_s

    def gpus_stale(self, now_s: float) -> bool:
        """Whether the driver has missed its deadline, so the GPU figures are old."""
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
        """End both threads; False if one (a hung driver call) did not end within `timeout_s`.

        A thread that still runs is a daemon, so it does not delay the end of the process.
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

    def look_once(self, timeout_s: float) -> HardwareSample | None:
        """Start, wait for the first reading of the GPUs, and stop; the newest figures then.

        timeout_s: how long to wait for a driver. For a sampler that was not started.
        """
        self.start()
        try:
            deadline_s = self._clock() + timeout_s
            while self._gpu_part is None and self._clock() < deadline_s:
                time.sleep(0.02)
            return self.latest()
        finally:
            self.stop()

    def _waiting(self) -> str:
        """The status before the first reading of the GPUs."""
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
                # Logged once for a series of failures: periods are short.
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
