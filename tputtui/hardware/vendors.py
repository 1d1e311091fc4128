"""The GPUs of a machine: read through NVML, or through AMD SMI without an NVIDIA driver."""

from __future__ import annotations

import time
from collections.abc import Callable

from tputtui.hardware.amd import AmdReader
from tputtui.hardware.gpu import GpuSample
from tputtui.hardware.nvml import NO_DRIVER, NvmlReader
from tputtui.hardware.users import Users


class GpuReader:
    """Reads the driver that is installed; one thread at a time may use it.

    `status` is "ok", or why there are no figures. Without AMD SMI's package it is NVML's status.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        *,
        nvml: NvmlReader | None = None,
        amd: AmdReader | None = None,
    ) -> None:
        users = Users()
        self._nvml = nvml or NvmlReader(clock=clock, users=users)
        self._amd = amd or AmdReader(users=users)
        self.status = self._nvml.status
        self.driver_version: str | None = None

    def read(self) -> tuple[GpuSample, ...]:
        """One sample per GPU; () if there is none."""
        gpus = self._nvml.read()
        self.status, self.driver_version = self._nvml.status, self._nvml.driver_version
        if self.status != NO_DRIVER:
            return gpus
        gpus = self._amd.read()
        if self._amd.installed:
            self.status = "ok" if gpus else f"{NO_DRIVER}; {self._amd.status}"
            self.driver_version = self._amd.driver_version
        return gpus

    def close(self) -> None:
        """Close the drivers; a later `read()` opens them again."""
        self._nvml.close()
        self._amd.close()
