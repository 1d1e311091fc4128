"""A calibration as a small YAML file: what was measured of one model on one device. Pure."""

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
"""Arguments that make another model of it, as far as its time goes."""


class Residual(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One of the loads that were measured.

    off_frac: the time of its steps as the others predict it ÷ as it was, - 1.
    """

    load: str
    steps: int
    seconds: float
    off_frac: float


class Calibration(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What was measured, and of what.

    error_frac: half the width of the 95 % interval of a load's time that was not among those
    fitted, by the residuals. overlapped: whether that engine schedules ahead, where nobody says.
    engine: the arguments that it settled on by itself on that device.
    booted: those that it was given.
    """

    tputtui_calibration: int
    model: str
    config_sha256: str
    device: str
    vllm: str
    date: str
    error_frac: float
    overlapped: bool
    engine: dict[str, EngineValue]
    booted: dict[str, EngineValue]
    fitted: Fitted
    residuals: list[Residual]

    @property
    def defaults(self) -> dict[str, EngineValue]:
        """Engine arguments that make the engine that was measured."""
        given = {name: self.booted[name] for name in _OF_THE_MODEL if name in self.booted}
        return {**self.engine, **given}

    def check(self, model: str, args: Mapping[str, Any]) -> None:
        """Raise UsageError where this is another model, or another way of running it.

        args: as vLLM's parser has read them.
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
    """The calibration in a file. Raises ProfileError with the file and the place."""
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
    """As it stands in a file."""
    plain: dict[str, Any] = msgspec.to_builtins(calibration)
    plain["residuals"] = [Inline(each) for each in plain["residuals"]]
    return write_yaml(plain)


def save_calibration(calibration: Calibration, path: Path) -> Path:
    """Write it whole or not at all. Raises ProfileError; returns the absolute path."""
    return write_whole(path, calibration_text(calibration))
