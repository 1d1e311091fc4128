"""What `attach --for` prints about servers: a table for people, JSON for programs. Pure."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from typing import Any

from tputtui.attach.bucketed import Latency
from tputtui.attach.fleet import Looked
from tputtui.attach.span import ServerFigures
from tputtui.attach.track import Server
from tputtui.text.format import MISSING, compact, percent, rate, seconds

__all__ = ["fleet_text"]

VERSION = 1


def fleet_text(looked: Looked, format: str) -> str:
    """All servers in one text. format: "table" or "json"; figures are over each server's window."""
    if format == "json":
        document = {"version": VERSION, "servers": [_document(server) for server in looked.servers]}
        return json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    head = (
        f"{'server':<28} {'state':<10} {'tok/s':>8} {'prompt/s':>8} {'req/s':>7} {'run':>5} "
        f"{'wait':>5} {'KV':>5} {'TTFT mean':>9} {'p90':>9}"
    )
    return "\n".join([head, *(_line(server) for server in looked.servers)]) + "\n"


def _line(server: Server) -> str:
    window, ttft = server.window, server.latencies.get("ttft")
    line = (
        f"{server.address.name[:28]:<28} {server.standing.value:<10} "
        f"{compact(window.generated_per_s, 8)} {compact(window.prompt_per_s, 8)} "
        f"{rate(window.ended_per_s, 7)} {compact(window.running, 5)} {compact(window.waiting, 5)} "
        f"{percent(window.kv_frac, 5)} {seconds(ttft.mean if ttft else math.nan, 9)} "
        f"{ttft.p90.as_text() if ttft else MISSING:>9}"
    )
    return f"{line}  {server.why}".rstrip()


def _document(server: Server) -> dict[str, Any]:
    return {
        "name": server.address.name,
        "url": server.address.url,
        "socket": server.address.socket,
        "state": server.standing.value,
        "why": server.why,
        "kind": server.kind,
        "model": server.model,
        "version": server.about.version,
        "limits": dict(server.about.limits),
        "live_limits": dict(server.about.live),
        "restarts": server.restarts,
        "window_s": server.window_s,
        "figures": _figures(server.window),
        "engines": {name: _figures(each) for name, each in server.engines.items()},
        "latencies": {name: _latency(each) for name, each in server.latencies.items()},
    }


def _latency(latency: Latency) -> dict[str, Any]:
    """A latency in seconds; each percentile as the two bounds that it lies between."""
    document: dict[str, Any] = {"n": latency.n, "mean_s": _number(latency.mean)}
    for name in ("p50", "p90", "p99"):
        each = getattr(latency, name)
        document[f"{name}_bucketed_s"] = [_number(each.low), _number(each.high)]
    return document


def _figures(figures: ServerFigures) -> dict[str, Any]:
    found = asdict(figures) | {"tiers": dict(figures.tiers)}
    return {
        name: _number(value) if isinstance(value, float) else value for name, value in found.items()
    }


def _number(value: float) -> float | None:
    """`value`, or None for NaN and infinity, which JSON does not have."""
    return value if math.isfinite(value) else None
