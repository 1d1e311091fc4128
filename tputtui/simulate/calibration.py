"""A calibration as a small YAML file: measured times of one model on one device. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import yaml

from tputtui.errors import ProfileError, UsageError
from tputtui.profile import EngineValue
from tputtui.profile.explain import explain, keys_of, where
from tputtui.profile.files import read, write_whole
from tputtui.profile.spelling import flag_of
from tputtui.profile.yamltext import Inline, read_yaml, write_yaml
from tputtui.simulate.fitted import Fitted

__all__ = ["Calibration", "Residual", "calibration_at", "calibration_text", "is_calibration",
           "save_calibration"]  # fmt: skip

VERSION = 1
_HINT = "`tputtui calibrate MODEL -o FILE` writes one."
_OF_THE_MODEL = ("dtype", "quantization", "kv_cache_dtype", "tensor_parallel_size",
                 "pipeline_parallel_size", "enforce_eager")  # fmt: skip
"""Arguments that change the times of a model, so a calibration is valid only for its own."""


class Residual(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How well the fit predicts one of the measured loads.

    load: its label. seconds: total time of its `steps` steps. off_frac: their predicted time,
    fitted without this load, ÷ their measured time, - 1.
    """

    load: str
    steps: int
    seconds: float
    off_frac: float


class Calibration(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The fitted times, and the engine that was measured."""

    tputtui_calibration: int
    """Version of this format."""
    model: str
    config_sha256: str
    """Hash of the model's configuration."""
    device: str
    vllm: str
    """Version of vLLM."""
    date: str
    error_frac: float
    """Half the width of the 95 % interval for the time of a new load, from the residuals."""
    overlapped: bool
    """Whether that engine scheduled a step while the previous one ran, by default."""
    engine: dict[str, EngineValue]
    """Arguments that vLLM derived for that device."""
    booted: dict[str, EngineValue]
    """Arguments given at the boot."""
    fitted: Fitted
    residuals: list[Residual]

    @property
    def defaults(self) -> dict[str, EngineValue]:
        """Engine arguments that reproduce the measured engine."""
        given = {name: self.booted[name] for name in _OF_THE_MODEL if name in self.booted}
        return {**self.engine, **given}

    def check(self, model: str, args: Mapping[str, Any]) -> None:
        """Raise UsageError for another model, or for arguments that change its times.

        args: from vLLM's parser.
        """
        if model != self.model:
            raise UsageError(
                f"The calibration is of {self.model}, not of {model}.",
                f"`tputtui calibrate {model}` on such a device makes one.",
            )
        for name in _OF_THE_MODEL:
            asked, was = args.get(name), self.booted.get(name)
            if asked is not None and asked != was and asked != self.engine.get(name):
                flag = flag_of(name)
                raise UsageError(
                    f"The calibration was made {f'with {flag} {was}' if was else f'without {flag}'}"
                    f", not with {flag} {asked}.",
                    "Leave it as it was, or calibrate anew.",
                )


_KEYS = keys_of(Calibration)


def is_calibration(text: str) -> bool:
    """Whether `text` names a file rather than a device."""
    return text.endswith((".yaml", ".yml")) or "/" in text


def calibration_at(path: str | Path) -> Calibration:
    """Read the calibration in a file. Raises ProfileError with the file and the place."""
    path = Path(path).expanduser()
    try:
        raw = read_yaml(read(path))
    except ProfileError as error:
        raise ProfileError(error.message, _HINT) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ProfileError(f"{path}: not readable as YAML: {where(error)}.", _HINT) from None
    if not isinstance(raw, dict) or "tputtui_calibration" not in raw:
        raise ProfileError(f"{path} is no calibration.", _HINT)
    if raw["tputtui_calibration"] != VERSION:
        raise ProfileError(f"{path} is of another version of tputtui.", "Calibrate anew.")
    try:
        return msgspec.convert(raw, Calibration)
    except msgspec.ValidationError as error:
        raise ProfileError(*explain(str(error), raw, str(path), _KEYS)) from None


def calibration_text(calibration: Calibration) -> str:
    """The text of the calibration's file."""
    plain: dict[str, Any] = msgspec.to_builtins(calibration)
    plain["residuals"] = [Inline(each) for each in plain["residuals"]]
    return write_yaml(plain)


def save_calibration(calibration: Calibration, path: Path) -> Path:
    """Write the file completely or not at all; return its absolute path. Raises ProfileError."""
    return write_whole(path, calibration_text(calibration))
