"""What is simulated: a device by its datasheet, or by what a calibration measured of one. Pure."""

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
        return {"block_size": 16}

    def check(self, model: str, args: Mapping[str, Any]) -> None:
        """Raise UsageError where a model with these arguments is not what was calibrated."""
        if self.calibration is not None:
            self.calibration.check(model, args)

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
