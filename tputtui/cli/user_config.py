"""The user's own settings: `config.yaml`, read and checked.

theme: light
goal: ttft_p99=500ms,tpot_p99=50ms
price_per_hour: 2.5
engine: {gpu_memory_utilization: 0.85}      # below what a profile says
keys: {undo: z, load.toggle: "ctrl+l"}      # by their names, as `tputtui help keys` lists them
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tputtui.cli.settings import OPTIONS
from tputtui.errors import UsageError, nearest

__all__ = ["Config", "config_path", "read_config"]

_SECTIONS = ("engine", "keys")


@dataclass(frozen=True, slots=True)
class Config:
    """The config file.

    values: settings by name, as text. engine: vLLM arguments. keys: key by binding name.
    """

    path: Path
    values: Mapping[str, str] = field(default_factory=dict)
    engine: Mapping[str, Any] = field(default_factory=dict)
    keys: Mapping[str, str] = field(default_factory=dict)


def config_path() -> Path:
    """The config file: TPUTTUI_CONFIG, else the XDG config directory's tputtui/config.yaml."""
    if named := os.environ.get("TPUTTUI_CONFIG"):
        return Path(named).expanduser()
    base = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(base).expanduser() / "tputtui" / "config.yaml"


def read_config() -> Config:
    """The config file's contents, empty without a file. Raises UsageError for a mistake in it."""
    path = config_path()
    if not path.exists() and "TPUTTUI_CONFIG" not in os.environ:
        return Config(path)
    import yaml

    from tputtui.profile.explain import where
    from tputtui.profile.yamltext import read_yaml

    hint = f"`tputtui config show` lists what can stand there; the file is {path}."
    try:
        raw = read_yaml(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UsageError(f"{path}: not readable as YAML: {where(error)}.", hint) from None
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}.", hint) from None
    if raw is None:
        return Config(path)
    if not isinstance(raw, dict):
        raise UsageError(f"{path}: expected keys and values at the top.", hint)
    return _checked(path, raw, hint)


def _checked(path: Path, raw: Mapping[Any, Any], hint: str) -> Config:
    from tputtui.profile.spelling import canonical, dropped, repeated, replaced

    known = {setting.name: setting for setting in OPTIONS}
    former = {setting.former: setting.name for setting in OPTIONS if setting.former}
    values: dict[str, str] = {}
    for written, value in raw.items():
        name = str(written).replace("-", "_")
        name = former.get(name, name)
        if name in _SECTIONS:
            if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
                raise UsageError(f"{path}: {name}: expected keys and values.", hint)
        elif name not in known:
            near = nearest(name, (*known, *_SECTIONS))
            raise UsageError(f"{path}: there is no setting {written!r}.", near or hint)
        elif not isinstance(value, bool | int | float | str) or isinstance(value, bool) != (
            known[name].switch
        ):
            kind = "true or false" if known[name].switch else "a text or a number"
            raise UsageError(f"{path}: {name}: expected {kind}, found {value!r}.", hint)
        elif name in values:
            raise UsageError(f"{path}: {name} stands twice, as {written} as well.", "Keep one.")
        elif isinstance(value, bool):
            values[name] = "on" if value else "off"
        else:
            values[name] = str(value)
    engine = raw.get("engine") or {}
    if twice := repeated(engine):
        message = f"{path}: engine.{twice[0]} stands twice, as {twice[1]} as well."
        raise UsageError(message, "Keep one of them.")
    if lost := dropped(engine):
        raise UsageError(f"{path}: engine: {replaced(lost)}.")
    engine = canonical(engine)
    keys = {key: str(value) for key, value in (raw.get("keys") or {}).items()}
    return Config(path, values, engine, keys)
