"""Logs of gateways: a request with its time and the usage of its answer. Pure.

{"startTime": 1716…, "messages": […], "model_parameters": {…}, "completion_tokens": 52}  LiteLLM
{"timestamp": "2026-11-03T10:00:00Z", "request": {…}, "response": {"usage": {…}}}        OpenAI
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tputtui.load.requests.ask import Ask, BadLineError, whole
from tputtui.load.requests.bodies import body

__all__ = ["TIMES", "logged"]

TIMES = ("startTime", "start_time", "timestamp", "created", "created_at", "requestedAt", "time")
"""Keys of the time at which a request was sent, the first that is given counts."""
_BODIES = ("request", "request_body", "body", "proxy_server_request")
_OUTPUT = ("completion_tokens", "output_tokens")
_LATEST_S = 1e11
"""Seconds since 1970 are below this until the year 5138: larger numbers are ms, µs or ns."""


def logged(line: Mapping[str, Any]) -> Ask:
    """A line of a gateway's log. Raises BadLineError.

    Calls that failed are requests all the same: production sent them.
    """
    inner = next((line[key] for key in _BODIES if isinstance(line.get(key), dict)), line)
    if isinstance(inner.get("body"), dict):
        inner = inner["body"]
    request = {key: value for key, value in line.items() if key in ("messages", "prompt", "input")}
    request |= inner
    for key in ("model_parameters", "optional_params"):
        if isinstance(values := line.get(key), dict):
            request = {**values, **request}
    ask = body(request)
    turn = ask.turns[0]
    recorded = turn.output_tokens or _usage(line)
    return replace(ask, turns=(turn._replace(output_tokens=recorded),), at_s=_time(line))


def _usage(line: Mapping[str, Any]) -> int | None:
    """The tokens of the answer, as the log counts them; None where it does not."""
    response = line.get("response")
    inner = response.get("body", response) if isinstance(response, dict) else {}
    for place in (line, line.get("usage"), inner.get("usage") if isinstance(inner, dict) else None):
        if isinstance(place, dict) and (tokens := whole(place, _OUTPUT)) is not None:
            return tokens
    return None


def _time(line: Mapping[str, Any]) -> float:
    """When the request was sent, in s; NaN where that is not recorded."""
    for key in TIMES:
        value = line.get(key)
        if value is None:
            continue
        if isinstance(value, str):
            try:
                return datetime.datetime.fromisoformat(value.strip()).timestamp()
            except ValueError:
                raise BadLineError(f"{key}: no time as ISO 8601 writes it") from None
        if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
            raise BadLineError(f"{key}: expected a time")
        while value > _LATEST_S:
            value /= 1000
        return float(value)
    return math.nan
