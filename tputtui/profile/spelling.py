"""Converts every spelling of vLLM's engine arguments into one. Pure.

canonical({"-tp": "02", "-cc.mode": 3, "no-async-scheduling": True})
    →  {"tensor_parallel_size": 2, "compilation_config": {"mode": 3}, "async_scheduling": False}

All arguments pass through here before they are compared, checked, saved or exported. The rules are
those of the parser of `vllm serve`, which decides at a boot; a test compares the tables with it.
This module does not import vLLM.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any, cast

from tputtui.knobs import whole_number
from tputtui.profile.flag_kinds import APPENDED, FRACTIONS, JSON_LISTS, SEVERAL, WHOLE

__all__ = [
    "OTHER_NAMES",
    "canonical",
    "ceiling_of",
    "dropped",
    "flag_of",
    "from_json",
    "named",
    "repeated",
    "replaced",
]

OTHER_NAMES: Mapping[str, str] = {
    "-O": "optimization_level",
    "-ac": "attention_config",
    "-asc": "api_server_count",
    "-cc": "compilation_config",
    "-dc": "diffusion_config",
    "-dcp": "decode_context_parallel_size",
    "-dp": "data_parallel_size",
    "-dpa": "data_parallel_address",
    "-dpb": "data_parallel_backend",
    "-dpe": "data_parallel_external_lb",
    "-dph": "data_parallel_hybrid_lb",
    "-dpl": "data_parallel_size_local",
    "-dpm": "data_parallel_multi_port_external_lb",
    "-dpn": "data_parallel_rank",
    "-dpp": "data_parallel_rpc_port",
    "-dpr": "data_parallel_start_rank",
    "-ep": "enable_expert_parallel",
    "-n": "nnodes",
    "-pcp": "prefill_context_parallel_size",
    "-pp": "pipeline_parallel_size",
    "-q": "quantization",
    "-r": "node_rank",
    "-sc": "speculative_config",
    "-tp": "tensor_parallel_size",
    "device_memory_utilization": "gpu_memory_utilization",
}
"""Short and alternative names to the name that a profile uses."""
_AUTOMATIC = -1
_SUFFIXED = re.compile(r"\d+(\.\d+)?[kKmMgGtT]")


def canonical(args: Mapping[str, Any]) -> dict[str, Any]:
    """`args` under their long names: numbers as numbers, `no_x: true` as `x: false`, keys inside an
    argument (`x.key`) and JSON as a mapping. Of two spellings the later one counts, as in vLLM."""
    plain: dict[str, Any] = {}
    inner: dict[str, dict[str, Any]] = {}
    for written, value in args.items():
        head, dot, path = written.partition(".")
        name, value = _switched(named(head), value)
        if not dot:
            plain.pop(name, None)
            plain[name] = _typed(name, value)
        elif path and value is not None:
            _put(inner.setdefault(head, {}), path, value)
    # The parser handles these after everything else, one for each spelling of the name, so they
    # replace the whole argument.
    return plain | {named(head): value for head, value in inner.items()}


def repeated(args: Mapping[str, Any]) -> tuple[str, str] | None:
    """Both names of an argument that is given twice in two spellings; None without one."""
    seen: dict[str, str] = {}
    for key, value in args.items():
        # `x` and `x.key` are one argument; vLLM uses the second.
        (name,) = canonical({key.partition(".")[0]: value})
        whole = seen.get(name, key)
        if whole != key and "." not in whole + key:
            return key, whole
        seen[name] = key
    return None


def dropped(args: Mapping[str, Any]) -> list[str]:
    """The keys inside an argument, as `x.key`, that `canonical` does not keep, as vLLM does not:
    keys of one spelling of the argument (`x.key`) replace those of `x` and of another spelling."""
    kept = canonical(args)
    return [
        f"{name}.{key}"
        for written, value in args.items()
        for name, inside in canonical({written: value}).items()
        if isinstance(inside, dict)
        for key in inside
        if not isinstance(now := kept.get(name), dict) or key not in now
    ]


def replaced(lost: list[str]) -> str:
    """A sentence on what `dropped` names."""
    name = lost[0].partition(".")[0]
    return (
        f"{', '.join(lost)}: left out, as by vLLM, where another spelling of {name} gives keys of "
        "its own; give them all in one spelling"
    )


def named(written: str) -> str:
    """The name of an argument for `-tp`, `--tensor-parallel-size` or `tensor_parallel_size`."""
    if written.startswith("-") and not written.startswith("--"):
        return OTHER_NAMES.get(written, written)
    name = written.removeprefix("--").replace("-", "_")
    return OTHER_NAMES.get(name, name)


def flag_of(name: str) -> str:
    """An argument's flag. vLLM replaces dashes by underscores in the flag, but not in a key inside
    its value (`--x.a_b`)."""
    if name.startswith("-"):
        return name
    head, dot, key = name.partition(".")
    return f"--{head.replace('_', '-')}{dot}{key}"


def ceiling_of(args: Mapping[str, Any], argument: str) -> int | None:
    """The number of an argument; None if vLLM chooses it (left out, or -1)."""
    value = args.get(argument)
    return int(value) if isinstance(value, int | float) and value > _AUTOMATIC else None


def _switched(name: str, value: Any) -> tuple[str, Any]:
    """Split a value from its letter (`-O3`), and turn `no_x` into x with the opposite value."""
    if name.startswith("-") and value is True and (whole := OTHER_NAMES.get(name[:2])):
        rest = name[2:]
        return whole, int(rest) if rest.isdecimal() else rest
    if name.startswith("no_") and isinstance(value, bool):
        return name[3:], not value
    return name, value


def _typed(name: str, value: Any) -> Any:
    """The value that vLLM's parser makes of it, if its kind is known here."""
    if isinstance(value, list) and len(value) == 1 and name in SEVERAL | APPENDED:
        value = value[0]
    if name in WHOLE:
        return _whole(value)
    if isinstance(value, str):
        if name in FRACTIONS:
            return _fraction(value)
        if value.startswith("{") or (name in JSON_LISTS and value.startswith("[")):
            return from_json(value)
    return value


def _whole(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if not isinstance(value, str):
        return value
    if value.strip().lower() == "auto":
        return _AUTOMATIC
    number = whole_number(value)
    return value if number is None else number


def _fraction(text: str) -> Any:
    try:
        number = float(text)
    except ValueError:
        return text
    if not math.isfinite(number):
        return text
    return int(number) if number.is_integer() and text.strip("+-").isdecimal() else number


def from_json(text: str) -> Any:
    """The value of a JSON text; the text itself if it is no JSON, or contains a value that YAML and
    other parsers lack (NaN)."""
    try:
        return json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return text


def _refuse(constant: str) -> Any:
    raise ValueError(constant)


def _put(into: dict[str, Any], path: str, value: Any) -> None:
    *folders, key = path.split(".")
    if key.endswith("+"):
        key, value = key[:-1], str(value).split(",")
    elif isinstance(value, str):
        value = _read(value)
    for folder in folders:
        there = into.setdefault(folder, {})
        if not isinstance(there, dict):
            there = into[folder] = {}
        into = cast("dict[str, Any]", there)
    if isinstance(value, list) and isinstance(before := into.get(key), list):
        value = [*before, *value]
    into[key] = value


def _read(word: str) -> Any:
    """The value of a dotted key, as vLLM reads it: JSON, a number with a suffix, or a word."""
    value = from_json(word)
    return whole_number(word) if value == word and _SUFFIXED.fullmatch(word) else value
