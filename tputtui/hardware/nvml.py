"""Open NVML and read every NVIDIA GPU of the machine through it.

A machine without a GPU and a driver that does not answer are ordinary states: the reading is empty,
and `status` holds a sentence.
Runs on the sampler's GPU thread; the first read imports pynvml, since the import takes a while.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import time
from collections.abc import Callable, Mapping
from typing import Any

from tputtui.hardware.gpu import GpuSample
from tputtui.hardware.nvidia import NvidiaGpus, text
from tputtui.hardware.queries import Queries
from tputtui.hardware.users import Users

NO_DRIVER = "no NVIDIA driver"


class NvmlReader:
    """NVML opened on the first read; one thread at a time may use it.

    `status` is "ok", NO_DRIVER, or "NVML: " and the driver's own words. After a failed reading the
    next `read()` tries anew, so it notices a driver that comes back.
    """

    def __init__(
        self,
        nvml: Any = None,
        environ: Mapping[str, str] = os.environ,
        *,
        clock: Callable[[], float] = time.monotonic,
        users: Users | None = None,
    ) -> None:
        """Take `nvml` (a module shaped like pynvml) instead of importing pynvml."""
        # Any: pynvml carries no types.
        self._nvml = nvml
        self._environ = environ
        self._clock = clock
        self._users = users or Users()
        self._opened = False
        self._gpus: NvidiaGpus | None = None
        self.status = "waiting for NVML"
        self.driver_version: str | None = None

    def read(self) -> tuple[GpuSample, ...]:
        """One sample per GPU in NVML (PCI) order; () if there is none, and `status` says why."""
        if self._nvml is None:
            try:
                self._nvml = importlib.import_module("pynvml")
            except ImportError:
                self.status = "NVML: the Python package nvidia-ml-py is not installed"
                return ()
        nvml = self._nvml
        try:
            if not self._opened:
                nvml.nvmlInit()
                self._opened = True
            # Called at each read: it fails if NVML as a whole is gone, not for one lost device.
            count: int = nvml.nvmlDeviceGetCount()
        except nvml.NVMLError as error:
            self.close()
            self.status = self._sentence(error)
            return ()
        self.status = "ok" if count else "NVML: no GPU found"
        return self._open_gpus(count).read()

    def close(self) -> None:
        """Close NVML; a later `read()` opens it again."""
        self._forget()
        if self._opened:
            self._opened = False
            with contextlib.suppress(self._nvml.NVMLError):
                self._nvml.nvmlShutdown()

    def _open_gpus(self, count: int) -> NvidiaGpus:
        """The GPUs, whose constant properties are read anew only if their number has changed."""
        if self._gpus is None or self._gpus.count != count:
            self._forget()
            queries = Queries(self._nvml, self._nvml.NVMLError)
            self.driver_version = text(queries.ask("nvmlSystemGetDriverVersion")) or None
            self._gpus = NvidiaGpus(queries, count, self._environ, self._clock, self._users)
        return self._gpus

    def _forget(self) -> None:
        gpus, self._gpus = self._gpus, None
        if gpus is not None:
            gpus.close()

    def _sentence(self, error: Any) -> str:
        absent = (self._nvml.NVML_ERROR_LIBRARY_NOT_FOUND, self._nvml.NVML_ERROR_DRIVER_NOT_LOADED)
        return NO_DRIVER if error.value in absent else f"NVML: {error}"
