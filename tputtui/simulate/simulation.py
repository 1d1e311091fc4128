"""The simulated device: by its datasheet, or by a calibration measured on it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tputtui.errors import UsageError
from tputtui.profile import EngineValue
from tputtui.simulate.calibration import Calibration, calibration_at, is_calibration
from tputtui.simulate.cost import Cost, Roofline
from tputtui.simulate.devices import Device, device_named
from tputtui.simulate.sizes import Sizes

__all__ = ["Simulation", "simulation_of"]


@dataclass(frozen=True, slots=True)
class Simulation:
    """Exactly one of both is set: `device` with its datasheet, or `calibration`."""

    device: Device | None = None
    calibration: Calibration | None = None

    @property
    def title(self) -> str:
        """The name of the device."""
        if self.calibration is not None:
            return self.calibration.device
        assert self.device is not None
        return self.device.title

    def badge(self, vllm: str) -> str:
        """The notice beside all its figures. vllm: the version that runs."""
        if self.calibration is not None:
            was = self.calibration.vllm
            other = f" on vLLM {was}" if was != vllm else ""
            return f"SIMULATED, calibrated ±{100 * self.calibration.error_frac:.0f} %{other}"
        return "SIMULATED, datasheet roofline, not calibrated"

    @property
    def overlapped(self) -> bool:
        """Whether a step is scheduled while the previous one runs, by default."""
        return self.calibration is None or self.calibration.overlapped

    @property
    def defaults(self) -> Mapping[str, EngineValue]:
        """Engine arguments that vLLM would derive from the device."""
        if self.calibration is not None:
            return self.calibration.defaults
        return {"block_size": 16}

    def check(self, model: str, args: Mapping[str, Any]) -> None:
        """Raise UsageError if the calibration is not valid for this model and these arguments."""
        if self.calibration is not None:
            self.calibration.check(model, args)

    def check_configuration(self, sha256: str) -> None:
        """Raise UsageError if the model's configuration has changed since the calibration."""
        if self.calibration is not None and self.calibration.config_sha256 != sha256:
            raise UsageError(
                f"{self.calibration.model} is not as it was when it was calibrated: its "
                "configuration is another.",
                "Calibrate anew.",
            )

    def cost(self, sizes: Sizes) -> Cost:
        """The times of steps for a model of these sizes."""
        if self.calibration is not None:
            return self.calibration.fitted
        assert self.device is not None
        return Roofline(self.device, sizes)


def simulation_of(text: str) -> Simulation:
    """The simulation for a device's name or a calibration's file. Raises UsageError."""
    if is_calibration(text):
        return Simulation(calibration=calibration_at(text))
    return Simulation(device=device_named(text))
