"""Read every AMD GPU of the machine through AMD SMI, if its Python package is there.

`amdsmi` comes with ROCm and is no dependency: it is imported by the first read, on the sampler's
GPU thread.
"""

from __future__ import annotations

import contextlib
import importlib
import os
from collections.abc import Mapping
from typing import Any

from tputtui.hardware.amd_gpu import Answer, listed, sampled
from tputtui.hardware.gpu import GpuSample
from tputtui.hardware.queries import Queries
from tputtui.hardware.users import Users
from tputtui.hardware.visible import visible_indices

# What AMD calls violations: a limit holds the clocks down at this moment.
_THROTTLE_WORDS = (
    ("active_ppt_pwr", "power cap"),
    ("active_socket_thrm", "thermal"),
    ("active_vr_thrm", "vr thermal"),
    ("active_hbm_thrm", "memory thermal"),
    ("active_prochot_thrm", "hw thermal"),
)


class AmdReader:
    """AMD SMI opened on the first read; one thread at a time may use it.

    `status` is "ok", or "AMD SMI: " and why not. `installed` is False once its package was looked
    for in vain; it is not looked for again. A reading that failed is tried anew by the next.
    """

    def __init__(
        self,
        amdsmi: Any = None,
        environ: Mapping[str, str] = os.environ,
        *,
        users: Users | None = None,
    ) -> None:
        """Take `amdsmi` (a module shaped like it) instead of importing it."""
        self._environ = environ
        self._users = users or Users()
        self._smi: Any = amdsmi
        self._looked = amdsmi is not None
        self._opened = False
        self._names: dict[int, str] = {}
        self._turn = -1
        self._throttles: dict[int, tuple[str, ...]] = {}
        self.installed = True
        self.status = "waiting for AMD SMI"
        self.driver_version: str | None = None

    def read(self) -> tuple[GpuSample, ...]:
        """One sample per GPU in AMD SMI's order; () when there is none, and `status` says why."""
        if not self._looked:
            self._look()
        smi = self._smi
        if smi is None:
            return ()
        try:
            if not self._opened:
                smi.amdsmi_init()
                self._opened = True
            gpus = list(smi.amdsmi_get_processor_handles())
        except Exception as error:
            self.close()
            self.status = _sentence(error)
            return ()
        self.status = "ok" if gpus else "AMD SMI: no GPU found"
        # Exception: a release with another signature raises whatever Python does.
        queries = Queries(smi, Exception)
        uuids = [f"{queries.ask('amdsmi_get_gpu_device_uuid', gpu) or ''}" for gpu in gpus]
        visible = visible_indices(self._setting(), uuids)
        usage = self._users.by_gpu([listed(queries, gpu) for gpu in gpus])
        self._look_at_limits(queries, gpus)
        if gpus and self.driver_version is None:
            driver = Answer(queries.ask("amdsmi_get_gpu_driver_info", gpus[0]))
            self.driver_version = driver.text("driver_version") or None
        return tuple(
            sampled(
                queries,
                gpu,
                usage[index],
                GpuSample(
                    index=index,
                    name=self._name(queries, gpu, index),
                    visible=index in visible,
                    throttle=self._throttles.get(index, ()),
                ),
            )
            for index, gpu in enumerate(gpus)
        )

    def close(self) -> None:
        """Give AMD SMI back; a later `read()` opens it again."""
        self._names.clear()
        if self._opened:
            self._opened = False
            with contextlib.suppress(Exception):
                self._smi.amdsmi_shut_down()

    def _look(self) -> None:
        self._looked = True
        try:
            self._smi = importlib.import_module("amdsmi")
        except ModuleNotFoundError as error:
            self.installed = error.name != "amdsmi"
            self.status = _sentence(error)
        except Exception:
            # It loads ROCm's library as it is imported, and raises what it likes without one.
            self.status = "AMD SMI: its library cannot be loaded"

    def _name(self, smi: Queries, gpu: Any, index: int) -> str:
        if index not in self._names:
            asic = Answer(smi.ask("amdsmi_get_gpu_asic_info", gpu))
            board = Answer(smi.ask("amdsmi_get_gpu_board_info", gpu))
            name = asic.text("market_name") or board.text("product_name")
            self._names[index] = name or f"GPU {index}"
        return self._names[index]

    def _setting(self) -> str | None:
        """Which GPUs HIP shows; vLLM sets either of the first two."""
        names = ("HIP_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES")
        return next((self._environ[name] for name in names if name in self._environ), None)

    def _look_at_limits(self, smi: Queries, gpus: list[Any]) -> None:
        """AMD SMI watches for 0.1 s before it tells: one GPU at each reading, in turn."""
        if not gpus:
            return
        self._turn = (self._turn + 1) % len(gpus)
        told = Answer(smi.ask("amdsmi_get_violation_status", gpus[self._turn]))
        self._throttles[self._turn] = tuple(
            word for key, word in _THROTTLE_WORDS if told.get(key) is True
        )


def _sentence(error: Exception) -> str:
    """AMD SMI's errors come on several lines."""
    return f"AMD SMI: {' '.join(str(error).split()) or type(error).__name__}"
