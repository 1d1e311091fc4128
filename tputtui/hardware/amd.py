"""Read every AMD GPU of the machine through AMD SMI, if its Python package is installed.

`amdsmi` comes with ROCm and is no dependency: the first read imports it, on the sampler's GPU
thread.
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

# AMD calls them violations: a limit holds the clocks down at this moment.
_THROTTLE_WORDS = (
    ("active_ppt_pwr", "power cap"),
    ("active_socket_thrm", "thermal"),
    ("active_vr_thrm", "vr thermal"),
    ("active_hbm_thrm", "memory thermal"),
    ("active_prochot_thrm", "hw thermal"),
)


class AmdReader:
    """AMD SMI opened on the first read; one thread at a time may use it.

    `status` is "ok", or "AMD SMI: " and the reason. `installed` is False once the import of its
    package has failed, which is not tried again. After a failed reading the next one tries anew.
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
        self._asked = -1
        self._throttles: dict[int, tuple[str, ...]] = {}
        self.installed = True
        self.status = "waiting for AMD SMI"
        self.driver_version: str | None = None

    def read(self) -> tuple[GpuSample, ...]:
        """One sample per GPU in AMD SMI's order; () if there is none, and `status` says why."""
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
        # Exception: a call with another release's signature may raise any error of Python's.
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
        """Close AMD SMI; a later `read()` opens it again."""
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
            # Its import loads ROCm's library, and raises various exceptions without one.
            self.status = "AMD SMI: its library cannot be loaded"

    def _name(self, smi: Queries, gpu: Any, index: int) -> str:
        if index not in self._names:
            asic = Answer(smi.ask("amdsmi_get_gpu_asic_info", gpu))
            board = Answer(smi.ask("amdsmi_get_gpu_board_info", gpu))
            name = asic.text("market_name") or board.text("product_name")
            self._names[index] = name or f"GPU {index}"
        return self._names[index]

    def _setting(self) -> str | None:
        """The variable that selects the GPUs which HIP shows; vLLM sets one of the first two."""
        names = ("HIP_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES")
        return next((self._environ[name] for name in names if name in self._environ), None)

    def _look_at_limits(self, smi: Queries, gpus: list[Any]) -> None:
        """Ask one GPU at each reading, round robin: AMD SMI takes 0.1 s for an answer."""
        if not gpus:
            return
        self._asked = (self._asked + 1) % len(gpus)
        answer = Answer(smi.ask("amdsmi_get_violation_status", gpus[self._asked]))
        self._throttles[self._asked] = tuple(
            word for key, word in _THROTTLE_WORDS if answer.get(key) is True
        )


def _sentence(error: Exception) -> str:
    """AMD SMI's error, which has several lines, as one sentence."""
    return f"AMD SMI: {' '.join(str(error).split()) or type(error).__name__}"
