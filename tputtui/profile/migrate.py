"""Converts profiles of older versions into the present version. Pure.

A new version needs an entry in `_STEPS` that converts a raw document from the version before it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["FORMER_KEYS", "VERSION", "migrated", "version_of"]

VERSION = 1
FORMER_KEYS = {"knobs": "limits"}
"""Keys as they were called once, and are still read, by section or not; to their names."""
_DRAFT = 0
"""A draft of the format: its version is 1 as well, but its evidence has no sections."""


def version_of(raw: Mapping[Any, Any]) -> int | None:
    """The version of a raw document; None without a valid one."""
    version = raw.get("tputtui")
    if not isinstance(version, int) or isinstance(version, bool) or version < VERSION:
        return None
    evidence = raw.get("evidence")
    if version == VERSION and isinstance(evidence, dict) and _is_draft(evidence):
        return _DRAFT
    return version


def migrated(raw: dict[Any, Any], version: int) -> dict[Any, Any]:
    """Convert the raw document of `version` into the present version; `raw` is not changed."""
    for step in _STEPS[version:]:
        raw = step(raw)
    return _with_limits(raw)


def _with_limits(raw: dict[Any, Any]) -> dict[Any, Any]:
    """`knobs`, as limits were called once, under their name of today; in the evidence too."""
    evidence = raw.get("evidence")
    if isinstance(evidence, dict):
        parts = {k: _renamed(v) if isinstance(v, dict) else v for k, v in evidence.items()}
        raw = {**raw, "evidence": parts}
    return _renamed(raw)


def _renamed(section: dict[Any, Any]) -> dict[Any, Any]:
    return {FORMER_KEYS.get(key, key): value for key, value in section.items()}


def _is_draft(evidence: Mapping[Any, Any]) -> bool:
    return bool(_FLAT & evidence.keys()) or not evidence


def _from_draft(raw: dict[Any, Any]) -> dict[Any, Any]:
    """Convert flat figures into sections; a draft has no intervals."""
    flat: dict[str, Any] = raw["evidence"]
    rest = {key: value for key, value in raw.items() if key != "evidence"}
    if not flat:
        return rest
    state = str(flat.get("state", ""))
    _, _, why = state.partition("; ")
    evidence: dict[str, Any] = {"state": "tuned live"}
    if why:
        evidence["note"] = why
    if "window_s" in flat:
        evidence["tuned"] = _measured(flat, raw)
    return {**rest, "evidence": evidence}


def _measured(flat: dict[str, Any], raw: dict[Any, Any]) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    for old, new in _FIGURES.items():
        if isinstance(flat.get(old), int | float):
            figures[new] = {"value": flat[old]}
    for name in ("ttft", "tpot", "itl", "e2e"):
        latencies = flat.get(f"{name}_s")
        for share in ("p50", "p90", "p99"):
            if isinstance(latencies, dict) and share in latencies:
                figures[f"{name}_{share}_s"] = {"value": latencies[share], "n": latencies.get("n")}
    goodput = flat.get("goodput")
    goodput = goodput if isinstance(goodput, dict) else {}
    if "requests_per_s" in goodput:
        figures["goodput_per_s"] = {
            "value": goodput["requests_per_s"], "n": goodput.get("n")
        }  # fmt: skip
    length_s = flat["window_s"]
    achieved = flat.get("requests_per_s", math.nan)
    plain = isinstance(achieved, int | float) and isinstance(length_s, int | float)
    requests = round(achieved * length_s) if plain and math.isfinite(achieved * length_s) else 0
    engine = raw.get("engine")
    load = raw.get("load")
    versions = flat.get("versions")
    return {
        "date": str(flat.get("saved", "")),
        "window": {
            "phase": flat.get("window", ""),
            "length_s": length_s,
            "requests": requests,
            "saturated": flat.get("saturated", False),
            "preemptions": flat.get("preemptions", 0),
        },
        "figures": figures,
        "limits": raw.get("limits", raw.get("knobs", {})),
        "ceilings": flat.get("ceilings", {}),
        "load": "",
        "seed": load.get("seed", 0) if isinstance(load, dict) else 0,
        "model": {"name": engine.get("model", "") if isinstance(engine, dict) else ""},
        "machine": {
            "device": flat.get("device", ""),
            "gpus": flat.get("gpus", []),
            "versions": versions if isinstance(versions, dict) else {},
        },
        "goals": _goals(goodput),
    }


def _goals(goodput: dict[str, Any]) -> dict[str, Any]:
    goals = goodput.get("goals")
    return {
        name: {
            "verdict": each.get("verdict", ""),
            "met_frac": each.get("met_frac"),
            "low": each["interval"][0],
            "high": each["interval"][1],
            "n": goodput.get("n", 0),
        }
        for name, each in (goals.items() if isinstance(goals, dict) else ())
        if isinstance(each, dict) and _is_pair(each.get("interval"))
    }


def _is_pair(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2


_FIGURES = {
    "generated_tokens_per_s": "tokens_per_s",
    "prompt_tokens_per_s": "prompt_tokens_per_s",
    "requests_per_s": "requests_per_s",
    "offered_requests_per_s": "offered_per_s",
    "sequences_frac": "sequences_frac",
    "batched_tokens_frac": "batched_tokens_frac",
    "prefix_hit_frac": "prefix_hit_frac",
    "tokens_per_joule": "tokens_per_joule",
    "cost_per_million_tokens": "cost_per_million_tokens",
}
_FLAT = frozenset((*_FIGURES, "window_s", "saved", "ceilings", "versions", "ttft_s"))

_STEPS: tuple[Callable[[dict[Any, Any]], dict[Any, Any]], ...] = (_from_draft,)
"""From version i to i + 1."""
