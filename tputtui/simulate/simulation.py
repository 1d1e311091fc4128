"""What is simulated: a device by its datasheet, or by what a calibration measured of one. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tputtui.errors import UsageError
from tputtui.profile import EngineSpec, EngineValue
from tputtui.simulate.calibration import Calibration, calibration_at, is_calibration
from tputtui.simulate.cost import Cost, Roofline
from tputtui.simulate.devices import Device, device_named
from tputtui.simulate.sizes import Sizes

__all__ = ["Simulation", "simulation_of"]

_LARGE_GIB, _LARGER_GIB = 70, 160


@dataclass(frozen=True, slots=True)
class Simulation:
    """One of both: `device` by its datasheet, or `calibration`."""

    device: Device | None = None
    calibration: Calibration | None = None

    @property
    def title(self) -> str:
        """The device, in words."""
        if self.calibration is not None:
            return self.calibration.device
        assert self.device is not None
        return self.device.title

    def badge(self, vllm: str) -> str:
        """What has to be said wherever its figures are shown. vllm: the version that runs."""
        if self.calibration is not None:
            was = self.calibration.vllm
            other = f" on vLLM {was}" if was != vllm else ""
            return f"SIMULATED, calibrated ±{100 * self.calibration.error_frac:.0f} %{other}"
        return "SIMULATED, datasheet roofline, not calibrated"

    @property
    def overlapped(self) -> bool:
        """Whether steps are scheduled while one runs, where nobody says so: as vLLM does."""
        return self.calibration is None or self.calibration.overlapped

    @property
    def defaults(self) -> Mapping[str, EngineValue]:
        """Engine arguments that vLLM would settle by the device, were it here."""
        if self.calibration is not None:
            return self.calibration.defaults
        assert self.device is not None
        # vLLM 0.32, EngineArgs.get_batch_defaults, for its OpenAI server.
        memory = self.device.memory_gib
        large = memory >= _LARGE_GIB and not self.device.name.startswith("a100")
        tokens = 16384 if memory >= _LARGER_GIB else 8192 if large else 2048
        return {
            "block_size": 16,
            "max_num_seqs": 1024 if large else 256,
            "max_num_batched_tokens": tokens,
        }

    def check(self, spec: EngineSpec) -> None:
        """Raise UsageError where `spec` is not of what was calibrated."""
        if self.calibration is not None:
            self.calibration.check(spec)

    def check_configuration(self, sha256: str) -> None:
        """Raise UsageError where a model of that name has another configuration by now."""
        if self.calibration is not None and self.calibration.config_sha256 != sha256:
            raise UsageError(
                f"{self.calibration.model} is not as it was when it was calibrated: its "
                "configuration is another.",
                "Calibrate anew.",
            )

    def cost(self, sizes: Sizes) -> Cost:
        """What things take."""
        if self.calibration is not None:
            return self.calibration.fitted
        assert self.device is not None
        return Roofline(self.device, sizes)


def simulation_of(text: str) -> Simulation:
    """Of a device's name, or the file of a calibration. Raises UsageError."""
    if is_calibration(text):
        return Simulation(calibration=calibration_at(text))
    return Simulation(device=device_named(text))
